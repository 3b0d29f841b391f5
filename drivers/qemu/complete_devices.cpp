// SPDX-License-Identifier: LGPL-2.1-or-later
#include "qemu/complete_devices.hpp"

#include <fmt/format.h>
#include <sys/random.h>

#include <algorithm>
#include <array>
#include <set>

#include "qemu/addresses.hpp"
#include "qemu/device_list.hpp"
#include "qemu/device_rules.hpp"
#include "qemu/hostdev_rules.hpp"
#include "virtbus/error.hpp"

namespace virtbus::qemu {

namespace {

[[noreturn]] void refuse(const std::string& why) {
    throw Error{Code::unsupported_configuration, why};
}

void default_to(std::string& value, std::string_view fallback) {
    if (value.empty()) value = fallback;
}

template <class T>
T& made(std::optional<T>& value) {
    return value ? *value : value.emplace();
}

// ---- disks

std::string_view bus_of_target(std::string_view target) {
    struct Prefix {
        std::string_view prefix, bus;
    };
    constexpr std::array prefixes{Prefix{"vd", "virtio"}, Prefix{"sd", "scsi"}, Prefix{"hd", "ide"},
                                  Prefix{"fd", "fdc"}};
    for (const auto& each : prefixes)
        if (target.starts_with(each.prefix)) return each.bus;
    return {};
}

void complete_backing(std::vector<BackingStore>& chain) {
    for (auto& level : chain) {
        if (!level.type) continue;
        if (!level.format || level.format->type.empty()) made(level.format).type = "raw";
        complete_backing(level.backing_store);
    }
}

void require_kind_of_address(const Disk& disk) {
    if (!disk.info.address) return;
    const auto& bus = disk.target.bus;
    const bool drive = disk.info.address_as<DriveAddress>(), usb = disk.info.address_as<UsbAddress>();
    if (drive != (bus == "ide" || bus == "sata" || bus == "scsi" || bus == "fdc" || bus == "nvme") ||
        usb != (bus == "usb"))
        refuse(fmt::format("{}: its <address> is of another type than its bus '{}'", name_of(disk), bus));
}

void complete_disk(Disk& disk) {
    if (disk.target.dev.empty()) throw Error{Code::invalid_xml, "a <disk> has no <target dev=>"};
    if (disk.target.bus.empty()) {
        disk.target.bus = bus_of_target(disk.target.dev);
        if (disk.target.bus.empty())
            refuse(fmt::format("{}: the bus cannot be told from the target's name; give <target bus=>", name_of(disk)));
    }
    require_kind_of_address(disk);
    if (disk.target.bus != "nvme" && index_of_target(disk.target.dev) < 0)
        refuse(fmt::format("{}: its target is called like 'vda': letters for the kind, one to four for the number",
                           name_of(disk)));
    if (disk.device == DiskDevice::floppy && disk.target.bus != "fdc")
        refuse(fmt::format("{}: a floppy is on the bus 'fdc', not '{}'", name_of(disk), disk.target.bus));
    if (disk.device == DiskDevice::cdrom && disk.target.bus == "virtio")
        refuse(fmt::format("{}: there are no CD-ROMs on the bus 'virtio'; use 'sata', 'scsi' or 'ide'", name_of(disk)));
    if (disk.device == DiskDevice::cdrom) disk.readonly = true;
    DiskDriver& driver = made(disk.driver);
    default_to(driver.name, "qemu");
    // Never probed: a guest can write any header into its disk.
    const bool has_format = disk.type != StorageType::vhostuser && disk.type != StorageType::volume;
    if (has_format) default_to(driver.type, disk.type == StorageType::dir ? "fat" : "raw");
    complete_backing(disk.backing_store);
}

void complete_disks(DomainConfig& config) {
    std::set<std::string> targets;
    for (auto& disk : config.devices.disks) {
        complete_disk(disk);
        if (!targets.insert(disk.target.dev).second)
            refuse(fmt::format("two disks have the target '{}'", disk.target.dev));
    }
}

// ---- interfaces

std::string make_mac() {
    std::array<unsigned char, 3> random{};
    if (::getrandom(random.data(), random.size(), 0) != static_cast<ssize_t>(random.size()))
        throw Error{Code::internal, "the kernel gives no random bytes for a MAC address"};
    return fmt::format("52:54:00:{:02x}:{:02x}:{:02x}", random[0], random[1], random[2]);
}

std::string_view interface_model(const Chipset& chipset, const Capabilities& capabilities) {
    constexpr std::array choices{"rtl8139", "e1000"};
    if (chipset.network != "rtl8139") return chipset.network;
    for (const auto* choice : choices)
        if (capabilities.has_device(choice)) return choice;
    return "virtio";
}

void complete_interfaces(DomainConfig& config, const Chipset& chipset, const Capabilities& capabilities) {
    std::set<std::string> macs;
    for (auto& interface : config.devices.interfaces) {
        if (interface.mac.empty()) interface.mac = make_mac();
        if (interface.type == InterfaceType::direct && interface.source) default_to(interface.source->mode, "vepa");
        macs.insert(interface.mac);
        if (interface.type == InterfaceType::vdpa) default_to(interface.model, "virtio");
        if (interface.model.empty() && interface.type != InterfaceType::hostdev)
            interface.model = interface_model(chipset, capabilities);
    }
}

// ---- serial ports, consoles, channels

std::string_view serial_model(std::string_view type, const Chipset& chipset) {
    if (type == chipset.serial) return chipset.serial_model;
    if (type == "isa-debug") return "isa-debugcon";
    constexpr std::array same{"isa-serial", "usb-serial", "pci-serial"};
    const auto found = std::find(same.begin(), same.end(), type);
    return found == same.end() ? std::string_view{} : *found;
}

void complete_serial_target(Serial& serial, const Chipset& chipset, unsigned number) {
    SerialTarget& target = made(serial.target);
    if (target.type.empty()) {
        if (serial.info.address_as<UsbAddress>()) target.type = "usb-serial";
        if (serial.info.address_as<PciAddress>()) target.type = "pci-serial";
        default_to(target.type, chipset.serial);
    }
    default_to(target.model, serial_model(target.type, chipset));
    if (!target.port) target.port = number;
}

bool is_serial(const Console& console) {
    return !console.target || console.target->type.empty() || console.target->type == "serial";
}

/// The first console is the first serial port, told twice; each makes the other when it is missing.
void pair_console(DomainConfig& config, const Chipset& chipset) {
    auto& serials = config.devices.serials;
    auto& consoles = config.devices.consoles;
    if (chipset.serial.empty() || (consoles.empty() && serials.empty())) return;
    if (serials.empty()) {
        if (!is_serial(consoles.front())) return;
        Serial serial;
        serial.type = consoles.front().type;
        serial.backend = consoles.front().backend;
        serial.info = consoles.front().info;
        serials.push_back(std::move(serial));
        complete_serial_target(serials.front(), chipset, 0);
    }
    if (serials.front().target->type == "isa-debug") return;
    if (consoles.empty()) consoles.emplace_back();
    if (!is_serial(consoles.front())) return;
    Console& console = consoles.front();
    console.type = serials.front().type;
    console.backend = serials.front().backend;
    console.info.alias = serials.front().info.alias;
    made(console.target).type = "serial";
}

void complete_consoles(DomainConfig& config, const Chipset& chipset) {
    unsigned number = 0;
    for (auto& serial : config.devices.serials) complete_serial_target(serial, chipset, number++);
    number = 0;
    for (auto& parallel : config.devices.parallels) {
        if (!made(parallel.target).port) parallel.target->port = number;
        ++number;
    }
    pair_console(config, chipset);
    number = 0;
    for (auto& console : config.devices.consoles) {
        default_to(made(console.target).type, "serial");
        if (!console.target->port) console.target->port = number;
        ++number;
    }
}

void complete_channels(DomainConfig& config) {
    std::set<std::string> names;
    for (auto& channel : config.devices.channels) {
        ChannelTarget& target = made(channel.target);
        default_to(target.type, "virtio");
        if (channel.type == ChardevType::spicevmc || channel.type == ChardevType::qemu_vdagent)
            default_to(target.name, "com.redhat.spice.0");
        if (channel.type == ChardevType::unix_socket) default_to(channel.backend.make_source().mode, "bind");
        if (target.type == "virtio" && !target.name.empty() && !names.insert(target.name).second)
            refuse(fmt::format("two channels have the name '{}'", target.name));
    }
}

// ---- what a person sees, hears and types on

void complete_graphics(DomainConfig& config) {
    for (auto& graphics : config.devices.graphics) {
        const bool server = graphics.type == GraphicsType::vnc || graphics.type == GraphicsType::spice;
        if (!server) continue;
        const bool by_socket =
            !graphics.socket.empty() ||
            (!graphics.listens.empty() && (graphics.listens[0].type == "socket" || graphics.listens[0].type == "none"));
        if (!graphics.autoport && !by_socket)
            graphics.autoport =
                !(graphics.port && *graphics.port > 0) && !(graphics.tls_port && *graphics.tls_port > 0);
        if (!graphics.port && graphics.autoport.value_or(false)) graphics.port = -1;
        if (!graphics.listens.empty() || by_socket) continue;
        GraphicsListen listen;
        listen.type = "address";
        listen.address = graphics.listen;
        graphics.listens.push_back(std::move(listen));
    }
}

std::string_view video_type(const Chipset& chipset, const Capabilities& capabilities) {
    if (chipset.video != "cirrus") return chipset.video.empty() ? "virtio" : chipset.video;
    return capabilities.has_device("cirrus-vga") ? "cirrus" : "vga";
}

void complete_video(Video& video, const Chipset& chipset, const Capabilities& capabilities) {
    VideoModel& model = video.model;
    if (model.type.empty() || model.type == "default") model.type = video_type(chipset, capabilities);
    constexpr std::uint32_t mib = 1024;  // in KiB
    if (model.type == "qxl") {
        if (!model.ram) model.ram = 64 * mib;
        if (!model.vram) model.vram = 64 * mib;
        if (!model.vgamem) model.vgamem = 16 * mib;
    }
    constexpr std::array simple{"vga", "cirrus", "vmvga", "bochs"};
    if (std::find(simple.begin(), simple.end(), model.type) != simple.end() && !model.vram) model.vram = 16 * mib;
    if (!model.heads && model.type != "none" && model.type != "ramfb") model.heads = 1;
}

void complete_videos(DomainConfig& config, const Chipset& chipset, const Capabilities& capabilities) {
    auto& videos = config.devices.videos;
    const bool seen = std::any_of(config.devices.graphics.begin(), config.devices.graphics.end(),
                                  [](auto& g) { return g.type != GraphicsType::headless; });
    if (videos.empty() && seen && (chipset.pci() || chipset.isa)) videos.emplace_back();
    if (videos.empty()) return;
    for (auto& video : videos) complete_video(video, chipset, capabilities);
    const auto is_primary = [](const Video& video) { return video.model.primary.value_or(false); };
    if (std::count_if(videos.begin(), videos.end(), is_primary) > 1)
        refuse("more than one video card is said to be primary");
    const auto primary = std::find_if(videos.begin(), videos.end(), is_primary);
    if (primary != videos.end()) std::rotate(videos.begin(), primary, primary + 1);
    if (videos.front().model.type != "none") videos.front().model.primary = true;
    const bool none = std::any_of(videos.begin(), videos.end(), [](auto& v) { return v.model.type == "none"; });
    if (none && videos.size() > 1) refuse("a video card of type 'none' is there beside others");
}

void complete_inputs(DomainConfig& config, const Chipset& chipset) {
    auto& inputs = config.devices.inputs;
    const bool ps2 = chipset.ps2 && !(config.features && config.features->ps2 && !config.features->ps2->on());
    for (auto& input : inputs) {
        const bool plain = input.type == "mouse" || input.type == "keyboard";
        if (input.type == "passthrough") default_to(input.bus, "virtio");
        if (input.type == "evdev") continue;
        default_to(input.bus, plain && ps2 ? "ps2" : chipset.kind == Chipset::Kind::s390 ? "virtio" : "usb");
        if (input.bus == "ps2" && !ps2)
            refuse(fmt::format("input '{}' is on the bus 'ps2', which this machine has not", input.type));
    }
    const auto add = [&](const char* type, const char* bus) {
        if (std::any_of(inputs.begin(), inputs.end(), [&](auto& i) { return i.type == type && i.bus == bus; })) return;
        Input input;
        input.type = type;
        input.bus = bus;
        inputs.push_back(std::move(input));
    };
    if (ps2) {
        add("mouse", "ps2");
        add("keyboard", "ps2");
    }
    const auto& controllers = config.devices.controllers;
    const bool no_usb = std::any_of(controllers.begin(), controllers.end(), [](auto& controller) {
        return controller.type == ControllerType::usb && controller.model == "none";
    });
    if (chipset.kind != Chipset::Kind::pseries || config.devices.graphics.empty() || no_usb) return;
    add("keyboard", "usb");
    add("mouse", "usb");
}

void complete_audio(DomainConfig& config, const Chipset& chipset) {
    for (auto& sound : config.devices.sounds) default_to(sound.model, chipset.pcie() ? "ich9" : "ich6");
    if (!config.devices.audios.empty()) return;
    Audio audio;
    audio.id = 1;
    audio.type = "none";
    for (const auto& graphics : config.devices.graphics)
        if (graphics.type == GraphicsType::spice) audio.type = "spice";
    config.devices.audios.push_back(std::move(audio));
}

// ---- small ones

void complete_small(DomainConfig& config, const Chipset& chipset) {
    Devices& devices = config.devices;
    if (!devices.memballoon && chipset.memballoon) devices.memballoon.emplace();
    if (devices.memballoon) default_to(devices.memballoon->model, "virtio");
    for (auto& watchdog : devices.watchdogs) {
        default_to(watchdog.model, chipset.kind == Chipset::Kind::s390 ? "diag288" : "i6300esb");
        default_to(watchdog.action, "reset");
    }
    if (devices.panics.empty() && chipset.panic_always) devices.panics.emplace_back();
    for (auto& panic : devices.panics) {
        if (panic.model.empty() && chipset.panic.empty()) refuse("a <panic> device needs a model on this machine");
        default_to(panic.model, chipset.panic);
    }
    for (auto& rng : devices.rngs) {
        default_to(rng.model, "virtio");
        if (rng.backend.model == "random") default_to(rng.backend.path, "/dev/urandom");
    }
    for (auto& tpm : devices.tpms) {
        default_to(tpm.model, chipset.kind == Chipset::Kind::pseries ? "tpm-spapr" : "tpm-tis");
        if (tpm.backend.type == "emulator") default_to(tpm.backend.version, "2.0");
    }
    if (devices.vsock) default_to(devices.vsock->model, "virtio");
    for (auto& filesystem : devices.filesystems) {
        default_to(filesystem.model, "virtio");
        const bool path = filesystem.type == "mount" && !(filesystem.driver && !filesystem.driver->type.empty());
        if (path) default_to(made(filesystem.driver).type, "path");
        if (filesystem.driver && filesystem.driver->type == "path") default_to(filesystem.accessmode, "passthrough");
    }
    for (auto& shmem : devices.shmems) {
        default_to(shmem.model, "ivshmem-plain");
        if (!shmem.size && !shmem.server) shmem.size = 4 << 20;
    }
    for (auto& memory : devices.memories)
        if (memory.target.size == 0) throw Error{Code::invalid_xml, "a <memory> device has no size"};
}

}  // namespace

void complete_devices(DomainConfig& config, const Chipset& chipset, const Capabilities& capabilities) {
    complete_disks(config);
    complete_interfaces(config, chipset, capabilities);
    complete_consoles(config, chipset);
    complete_channels(config);
    complete_graphics(config);
    complete_videos(config, chipset, capabilities);
    complete_inputs(config, chipset);
    complete_audio(config, chipset);
    complete_small(config, chipset);
    require_sound_devices(config, chipset);
    require_sound_hostdevs(config, chipset);
}

}  // namespace virtbus::qemu
