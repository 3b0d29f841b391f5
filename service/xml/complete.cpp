// SPDX-License-Identifier: LGPL-2.1-or-later
// What any hypervisor would fill in, and the rules that span elements.
#include <fmt/format.h>

#include <algorithm>
#include <random>
#include <set>

#include "service/xml/check_tuning.hpp"
#include "service/xml/domain_xml.hpp"
#include "virtbus/error.hpp"

namespace virtbus::xml {

namespace {

constexpr std::size_t longest_name = 255;

template <class... T>
[[noreturn]] void broken(fmt::format_string<T...> format, T&&... values) {
    throw Error{Code::invalid_xml, fmt::format(format, std::forward<T>(values)...)};
}

std::uint64_t whole_kib(std::uint64_t bytes) {
    return bytes / 1024 * 1024 + (bytes % 1024 ? 1024 : 0);
}

void complete_identity(DomainConfig& config) {
    require_name(config.name);
    if (config.title.find_first_of("\r\n") != std::string::npos) broken("the title must be one line");
    if (config.uuid.empty()) config.uuid = random_uuid();
    if (config.genid && config.genid->uuid.empty()) config.genid->uuid = random_uuid();
    // Empty ones are not written, and must not count as a difference to what was.
    for (auto& info : config.sysinfos)
        for (auto* block : {&info.bios, &info.system, &info.chassis, &info.oem_strings})
            if (*block == SysinfoBlock{}) block->reset();
}

// ---- memory

std::uint64_t add(std::uint64_t a, std::uint64_t b) {
    std::uint64_t sum = 0;
    if (__builtin_add_overflow(a, b, &sum)) broken("the sizes of memory are too large");
    return sum;
}

/// <memory> is the sum of what is there at the start and the memory devices; NUMA cells overrule it.
void complete_memory(DomainConfig& config) {
    std::uint64_t devices = 0, cells = 0;
    for (const auto& device : config.devices.memories) devices = add(devices, device.target.size);
    if (config.cpu && config.cpu->numa)
        for (const auto& cell : config.cpu->numa->cells) cells = add(cells, cell.memory);
    if (cells) config.memory = add(cells, devices);
    if (!config.memory && config.max_memory) config.memory = config.max_memory->size;
    if (!config.memory || *config.memory == 0)
        broken("<memory> is missing or zero; it needs a size, e.g. <memory unit='MiB'>512</memory>");
    config.memory = whole_kib(*config.memory);
    if (devices > *config.memory) broken("the memory devices have more memory than <memory> says");
    const auto any_of = [&](auto test) {
        return std::any_of(config.devices.memories.begin(), config.devices.memories.end(), test);
    };
    const bool plugged = any_of([](const auto& m) { return m.model.ends_with("dimm"); });
    if (config.max_memory && config.max_memory->size < *config.memory) broken("<maxMemory> is less than <memory>");
    if (plugged && !(config.max_memory && config.max_memory->slots))
        broken("memory devices need a <maxMemory> with slots");
    if (!config.max_memory && any_of([](const auto& m) { return m.model == "virtio-mem"; }))
        broken("memory devices need a <maxMemory>");
    if (!config.current_memory || *config.current_memory == 0 || *config.current_memory > *config.memory)
        config.current_memory = config.memory;
    config.current_memory = whole_kib(*config.current_memory);
}

// ---- CPUs

void complete_vcpus(DomainConfig& config) {
    if (!config.vcpu) config.vcpu = 1;
    // Where each is listed the list tells how many there are.
    if (!config.vcpus.empty()) {
        const auto there = std::count_if(config.vcpus.begin(), config.vcpus.end(), [](auto& v) { return v.enabled; });
        for (const auto& vcpu : config.vcpus)
            if (vcpu.id == 0 && !vcpu.enabled) broken("<vcpus>: vCPU 0 must be enabled");
        config.vcpu_current = static_cast<std::uint32_t>(std::max<std::ptrdiff_t>(there, 1));
    }
    if (config.vcpu_current && *config.vcpu_current > *config.vcpu)
        broken("<vcpu>: current='{}' is more than the maximum of {}", *config.vcpu_current, *config.vcpu);
    if (config.vcpu_current == config.vcpu) config.vcpu_current.reset();
    if (config.vcpu_placement.empty()) config.vcpu_placement = "static";
    std::set<std::uint32_t> ids;
    for (const auto& vcpu : config.vcpus) {
        if (vcpu.id >= *config.vcpu) broken("<vcpus>: there is no vCPU {}; the maximum is {}", vcpu.id, *config.vcpu);
        if (!ids.insert(vcpu.id).second) broken("<vcpus>: vCPU {} occurs twice", vcpu.id);
    }
    if (const auto known = config.iothreadids.size(); known && config.iothreads.value_or(0) < known)
        config.iothreads = static_cast<std::uint32_t>(known);
}

void complete_numa(CpuNuma& numa, std::uint32_t vcpus) {
    std::set<std::uint32_t> ids;
    CpuSet taken;
    for (std::size_t i = 0; i < numa.cells.size(); ++i) {
        auto& cell = numa.cells[i];
        if (!cell.id) cell.id = static_cast<std::uint32_t>(i);
        if (!ids.insert(*cell.id).second) broken("<numa>: cell id {} occurs twice", *cell.id);
        if (!cell.cpus) continue;
        for (auto cpu : cell.cpus->numbers) {
            if (cpu >= vcpus) broken("<numa>: cell {} names vCPU {}, but there are {}", *cell.id, cpu, vcpus);
            if (taken.contains(cpu)) broken("<numa>: vCPU {} is in two cells", cpu);
        }
        taken.numbers.insert(taken.numbers.end(), cell.cpus->numbers.begin(), cell.cpus->numbers.end());
        std::sort(taken.numbers.begin(), taken.numbers.end());
    }
}

void complete_cpu(DomainConfig& config) {
    if (!config.cpu) return;
    auto& cpu = *config.cpu;
    if (cpu.numa == CpuNuma{}) cpu.numa.reset();
    if (cpu.model && cpu.mode.empty()) cpu.mode = "custom";
    if (cpu.model && cpu.mode == "custom") {
        if (cpu.match.empty()) cpu.match = "exact";
        if (cpu.model->fallback.empty()) cpu.model->fallback = "allow";
    }
    if (cpu.mode == "custom" && !cpu.model && !cpu.features.empty())
        broken("<cpu mode='custom'> has features but no <model>");
    std::set<std::string> names;
    for (auto& feature : cpu.features) {
        if (feature.policy.empty()) feature.policy = "require";
        if (!names.insert(feature.name).second) broken("<cpu>: feature '{}' occurs twice", feature.name);
    }
    if (const auto& t = cpu.topology) {
        const auto product = 1ULL * t->sockets * t->dies.value_or(1) % (1ULL << 40) * t->clusters.value_or(1) %
                             (1ULL << 40) * t->cores % (1ULL << 40) * t->threads;
        if (product != *config.vcpu) broken("<topology> has {} CPUs, but <vcpu> says {}", product, *config.vcpu);
    }
    if (cpu.numa) complete_numa(*cpu.numa, *config.vcpu);
}

// ---- devices

std::string bus_of(std::string_view dev) {
    constexpr std::pair<std::string_view, std::string_view> buses[]{{"xvd", "xen"},  {"ubd", "uml"}, {"fd", "fdc"},
                                                                    {"hd", "ide"},   {"sd", "scsi"}, {"vd", "virtio"},
                                                                    {"nvme", "nvme"}};
    for (const auto& [prefix, bus] : buses)
        if (dev.starts_with(prefix)) return std::string{bus};
    return "";
}

/// Of two disks of one bus: vdb comes before vdaa.
bool is_earlier(std::string_view one, std::string_view other) {
    const auto letters = [](std::string_view dev) {
        for (const std::string_view prefix : {"xvd", "ubd", "nvme", "fd", "hd", "sd", "vd"})
            if (dev.starts_with(prefix)) return dev.substr(prefix.size());
        return dev;
    };
    one = letters(one), other = letters(other);
    return std::pair{one.size(), one} < std::pair{other.size(), other};
}

/// The disks of a bus stand together, in the order of their targets: so libvirt numbers them, and boots from the first.
void sort_disks(std::vector<Disk>& disks) {
    std::vector<std::string> buses;
    const auto place = [&](const Disk& disk) { return std::find(buses.begin(), buses.end(), disk.target.bus); };
    for (const auto& disk : disks)
        if (place(disk) == buses.end()) buses.push_back(disk.target.bus);
    std::sort(disks.begin(), disks.end(), [&](const Disk& one, const Disk& other) {
        if (one.target.bus != other.target.bus) return place(one) < place(other);
        return is_earlier(one.target.dev, other.target.dev);
    });
}

void complete_disks(DomainConfig& config) {
    std::set<std::string> targets;
    for (auto& disk : config.devices.disks) {
        auto& target = disk.target;
        if (target.dev.empty()) broken("<disk>: <target> needs a dev such as vda");
        if (!targets.insert(target.dev).second) broken("<disk>: target dev='{}' occurs twice", target.dev);
        if (target.bus.empty()) target.bus = bus_of(target.dev);
        if (disk.device == DiskDevice::cdrom) disk.readonly = true;
        if (disk.source == StorageSource{}) disk.source.reset();  // <source file=''/>: an empty drive
        if (disk.source && disk.source->auth && disk.auth)
            broken("<disk> '{}': <auth> both inside and beside <source>", target.dev);
        if (disk.source && disk.source->encryption && disk.encryption)
            broken("<disk> '{}': <encryption> both inside and beside <source>", target.dev);
    }
    sort_disks(config.devices.disks);
}

void complete_interfaces(DomainConfig& config) {
    for (auto& interface : config.devices.interfaces)
        if (interface.mac.empty()) interface.mac = random_mac();
}

/// Those without a port follow the highest one given.
template <class T>
void number_ports(std::vector<T>& devices) {
    std::uint32_t next = 0;
    for (auto& device : devices) {
        if (!device.target) device.target.emplace();
        if (device.target->port) next = std::max(next, *device.target->port + 1);
    }
    for (auto& device : devices)
        if (!device.target->port) device.target->port = next++;
}

template <class T>
void complete_protocols(std::vector<T>& devices) {
    for (auto& device : devices)
        if (device.type == ChardevType::tcp && device.backend.protocol.empty()) device.backend.protocol = "raw";
}

/// A machine's first console is its first serial port: each is made from the other when one is missing.
void pair_console(Devices& devices) {
    const auto is_serial = [](const Console& console) {
        return !console.target || console.target->type.empty() || console.target->type == "serial";
    };
    if (devices.serials.empty() && !devices.consoles.empty() && is_serial(devices.consoles.front())) {
        auto& console = devices.consoles.front();
        auto& serial = devices.serials.emplace_back();
        serial.type = console.type;
        serial.backend = console.backend;
        if (serial.type == ChardevType::pty && serial.backend.sources.empty() && !console.tty.empty())
            serial.backend.make_source().path = console.tty;
    } else if (!devices.serials.empty() && (devices.consoles.empty() || !is_serial(devices.consoles.front()))) {
        Console console;
        console.type = devices.serials.front().type;
        console.backend = devices.serials.front().backend;
        devices.consoles.insert(devices.consoles.begin(), std::move(console));
    }
}

void complete_chardevs(DomainConfig& config) {
    auto& d = config.devices;
    if (config.os.type == "hvm") pair_console(d);
    complete_protocols(d.serials), complete_protocols(d.parallels), complete_protocols(d.consoles);
    complete_protocols(d.channels), complete_protocols(d.redirdevs);
    number_ports(d.serials), number_ports(d.parallels), number_ports(d.consoles);
    for (auto& console : d.consoles)
        if (console.target->type.empty()) console.target->type = "serial";
}

/// The attributes "listen" and "socket" are the old spelling of the first <listen>.
void complete_listen(Graphics& graphics) {
    const bool listens = graphics.type == GraphicsType::vnc || graphics.type == GraphicsType::spice ||
                         graphics.type == GraphicsType::rdp;
    if (!listens) return;
    if (graphics.listens.empty()) {
        GraphicsListen listen;
        listen.type = graphics.socket.empty() ? "address" : "socket";
        listen.socket = graphics.socket;
        if (graphics.socket.empty()) listen.address = graphics.listen;
        graphics.listens.push_back(std::move(listen));
    }
    const auto& first = graphics.listens.front();
    if (first.type == "address") {
        if (!graphics.listen.empty() && !first.address.empty() && graphics.listen != first.address)
            broken("<graphics>: listen='{}' and <listen address='{}'> contradict each other", graphics.listen,
                   first.address);
        if (graphics.listens.front().address.empty()) graphics.listens.front().address = graphics.listen;
        graphics.listen = graphics.listens.front().address;
    } else {
        graphics.listen.clear();
    }
    const bool has_port = graphics.port.value_or(-1) > 0 || graphics.tls_port.value_or(-1) > 0;
    if (!graphics.autoport && first.type != "socket" && first.type != "none") graphics.autoport = !has_port;
    if (graphics.autoport.value_or(false) && !graphics.port && graphics.type == GraphicsType::vnc) graphics.port = -1;
}

void complete_others(DomainConfig& config) {
    auto& d = config.devices;
    for (auto& graphics : d.graphics) complete_listen(graphics);
    for (auto& hostdev : d.hostdevs)
        if (hostdev.mode == "subsystem" && !hostdev.managed) hostdev.managed = false;
    std::set<std::string> targets;
    for (auto& filesystem : d.filesystems) {
        if (filesystem.accessmode.empty()) filesystem.accessmode = "passthrough";
        if (!targets.insert(filesystem.target_dir).second)
            broken("<filesystem>: target dir='{}' occurs twice", filesystem.target_dir);
    }
    std::set<std::pair<ControllerType, std::uint32_t>> controllers;
    for (const auto& controller : d.controllers) {
        if (!controller.index || controller.info.usb_master_startport || controller.model.starts_with("ich9-uhci"))
            continue;  // a companion shares its master's index
        if (!controllers.insert({controller.type, *controller.index}).second)
            broken("<controller type='{}'>: index {} occurs twice", word(controller.type), *controller.index);
    }
}

// ---- boot order and aliases, over all devices

template <class Visit>
void each_info(DomainConfig& config, Visit&& visit) {
    auto& d = config.devices;
    const auto all = [&](auto&... lists) {
        const auto one = [&](auto& list) {
            for (auto& device : list) visit(device.info);
        };
        (one(lists), ...);
    };
    all(d.disks, d.controllers, d.filesystems, d.interfaces, d.smartcards, d.serials, d.parallels, d.consoles,
        d.channels, d.inputs, d.tpms, d.sounds, d.videos, d.hostdevs, d.redirdevs, d.hubs, d.watchdogs, d.rngs,
        d.panics, d.shmems, d.memories, d.cryptos, d.iommus);
    if (d.memballoon) visit(d.memballoon->info);
    if (d.vsock) visit(d.vsock->info);
    if (d.nvram) visit(d.nvram->info);
    if (d.pstore) visit(d.pstore->info);
}

/// Other names are replaced by ones that the driver makes up.
bool is_alias(std::string_view name) {
    constexpr std::string_view allowed = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-";
    return name.find_first_not_of(allowed) == name.npos || !name.starts_with("ua-");
}

/// Eight characters of those that the firmware of s390x knows.
bool is_loadparm(std::string_view text) {
    constexpr std::string_view allowed = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789. ";
    return text.size() <= 8 && text.find_first_not_of(allowed) == text.npos;
}

void complete_boot(DomainConfig& config) {
    std::set<std::uint32_t> orders;
    std::set<std::string> aliases;
    const auto& d = config.devices;
    // The first console is the first serial port told twice, with its name.
    const DeviceInfo* twin = d.serials.empty() || d.consoles.empty() ? nullptr : &d.consoles.front().info;
    each_info(config, [&](DeviceInfo& info) {
        if (!is_alias(info.alias)) info.alias.clear();
        if (&info == twin && info.alias == d.serials.front().info.alias) return;
        if (info.boot_order && !orders.insert(*info.boot_order).second)
            broken("boot order {} is given to two devices", *info.boot_order);
        if (!is_loadparm(info.loadparm))
            broken("<boot loadparm='{}'>: it is of up to 8 letters, digits, dots and spaces", info.loadparm);
        if (info.alias.starts_with("ua-") && !aliases.insert(info.alias).second)
            broken("alias '{}' is given to two devices", info.alias);
    });
    auto& os = config.os;
    if (!orders.empty() && !os.boot_devices.empty())
        broken("<boot dev=''/> in <os> and <boot order=''/> in devices exclude each other");
    if (os.type == "hvm" && orders.empty() && os.boot_devices.empty()) os.boot_devices = {"hd"};
}

template <class Label>
void require_one_of_a_model(const std::vector<Label>& labels, std::string_view whose) {
    std::set<std::string> models;
    for (const auto& label : labels)
        if (!models.insert(label.model).second)
            broken("<seclabel>: {} has two {}", whose,
                   label.model.empty() ? "without a model" : fmt::format("of the model '{}'", label.model));
}

void require_labels(const DomainConfig& config) {
    require_one_of_a_model(config.security_labels, "the domain");
    for (const auto& disk : config.devices.disks)
        if (disk.source)
            require_one_of_a_model(disk.source->security_labels, fmt::format("disk '{}'", disk.target.dev));
}

void complete_lifecycle(DomainConfig& config) {
    if (config.on_poweroff.empty()) config.on_poweroff = "destroy";
    if (config.on_reboot.empty()) config.on_reboot = "restart";
    if (config.on_crash.empty()) config.on_crash = "destroy";
    if (!config.clock) config.clock.emplace();
}

std::string hexadecimal(std::size_t bytes) {
    static std::random_device device;
    std::string text;
    while (text.size() < 2 * bytes) text += fmt::format("{:08x}", device());
    text.resize(2 * bytes);
    return text;
}

}  // namespace

void complete_generic(DomainConfig& config) {
    complete_identity(config);
    complete_vcpus(config);
    check_tuning(config);
    complete_cpu(config);
    complete_memory(config);
    complete_disks(config);
    complete_interfaces(config);
    complete_chardevs(config);
    complete_others(config);
    complete_boot(config);
    complete_lifecycle(config);
    require_labels(config);
}

void require_name(std::string_view name, std::string_view what) {
    const auto refuse = [&](std::string_view why) { broken("the {}'s name {}", what, why); };
    if (name.empty()) refuse("is missing or empty");
    if (name.size() > longest_name)
        refuse(fmt::format("has {} bytes; at most {} are allowed", name.size(), longest_name));
    if (name == "." || name == "..") refuse("must not be '.' or '..'");
    if (name.find('/') != name.npos) refuse("must not contain '/'");
    if (std::any_of(name.begin(), name.end(), [](unsigned char c) { return c < 0x20 || c == 0x7f; }))
        refuse("must not contain control characters or line breaks");
}

std::string random_uuid() {
    auto text = hexadecimal(16);
    text[12] = '4';  // version 4, variant 1
    text[16] = "89ab"[static_cast<unsigned char>(text[16]) % 4];
    for (std::size_t at : {8U, 13U, 18U, 23U}) text.insert(at, 1, '-');
    return text;
}

std::string random_mac() {
    const auto text = hexadecimal(3);
    return fmt::format("52:54:00:{}:{}:{}", text.substr(0, 2), text.substr(2, 2), text.substr(4, 2));
}

}  // namespace virtbus::xml
