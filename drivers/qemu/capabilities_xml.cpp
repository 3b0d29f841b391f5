// SPDX-License-Identifier: LGPL-2.1-or-later
#include "qemu/capabilities_xml.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <fnmatch.h>

#include <algorithm>
#include <map>

#include "qemu/capability_cache.hpp"
#include "qemu/host_topology.hpp"
#include "qemu/probe.hpp"
#include "qemu/xml_text.hpp"
#include "virtbus/error.hpp"

namespace virtbus::qemu {

namespace {

using Words = std::vector<std::string>;
using Attributes = XmlText::Attributes;

std::string yes_no(bool value) {
    return value ? "yes" : "no";
}

unsigned word_size(std::string_view arch) {
    return arch.find("64") != arch.npos || arch == "s390x" || arch == "alpha" ? 64 : 32;
}

bool is_x86(std::string_view arch) {
    return arch == "x86_64" || arch == "i686";
}

// ---- <capabilities>

void write_topology(XmlText& xml, const HostTopology& topology) {
    xml.element("topology", {}, [&] {
        xml.element("cells", {{"num", fmt::format("{}", topology.cells.size())}}, [&] {
            for (const auto& cell : topology.cells)
                xml.element("cell", {{"id", fmt::format("{}", cell.id)}}, [&] {
                    xml.element("memory", {{"unit", "KiB"}}, fmt::format("{}", cell.memory / 1024));
                    xml.element("cpus", {{"num", fmt::format("{}", cell.cpus.size())}}, [&] {
                        for (const auto& cpu : cell.cpus)
                            xml.element("cpu", {{"id", fmt::format("{}", cpu.id)},
                                                {"socket_id", fmt::format("{}", cpu.socket)},
                                                {"die_id", fmt::format("{}", cpu.die)},
                                                {"core_id", fmt::format("{}", cpu.core)},
                                                {"siblings", cpu.siblings}});
                    });
                });
        });
    });
}

void write_host(XmlText& xml) {
    const auto topology = read_host_topology();
    xml.element("host", {}, [&] {
        xml.element("cpu", {}, [&] {
            xml.element("arch", {}, host_arch());
            xml.element("topology", {{"sockets", fmt::format("{}", topology.sockets)},
                                     {"dies", fmt::format("{}", topology.dies)},
                                     {"cores", fmt::format("{}", topology.cores)},
                                     {"threads", fmt::format("{}", topology.threads)}});
        });
        write_topology(xml, topology);
    });
}

void write_machines(XmlText& xml, const Capabilities& known) {
    for (const auto& machine : known.machines) {
        Attributes attributes{{"maxCpus", fmt::format("{}", machine.max_cpus)}};
        if (machine.deprecated) attributes.emplace_back("deprecated", "yes");
        xml.element("machine", attributes, machine.name);
        if (machine.alias.empty()) continue;
        attributes.insert(attributes.begin(), {"canonical", machine.name});
        xml.element("machine", attributes, machine.alias);
    }
}

void write_guest(XmlText& xml, const Capabilities& known, const std::string& arch) {
    xml.element("guest", {}, [&] {
        xml.element("os_type", {}, "hvm");
        xml.element("arch", {{"name", arch}}, [&] {
            xml.element("wordsize", {}, fmt::format("{}", word_size(arch)));
            xml.element("emulator", {}, known.binary);
            write_machines(xml, known);
            if (known.has_tcg) xml.element("domain", {{"type", "qemu"}});
            if (known.has_kvm) xml.element("domain", {{"type", "kvm"}});
        });
        xml.element("features", {}, [&] {
            if (is_x86(arch)) {
                if (word_size(arch) == 32) xml.element("pae");
                xml.element("acpi", {{"default", "on"}, {"toggle", "yes"}});
                xml.element("apic", {{"default", "on"}, {"toggle", "no"}});
            }
            xml.element("cpuselection");
            xml.element("deviceboot");
        });
    });
}

// ---- <domainCapabilities>

void write_enum(XmlText& xml, std::string_view name, const Words& values) {
    xml.element("enum", {{"name", std::string{name}}}, [&] {
        for (const auto& value : values) xml.element("value", {}, value);
    });
}

using Enums = std::vector<std::pair<std::string_view, Words>>;

void write_device(XmlText& xml, std::string_view name, bool supported, const Enums& enums) {
    if (!supported) return xml.element(name, {{"supported", "no"}});
    xml.element(name, {{"supported", "yes"}}, [&] {
        for (const auto& [key, values] : enums) write_enum(xml, key, values);
    });
}

/// A word of the XML that is there when QEMU has one of the devices.
struct DeviceWord {
    const char* word;
    const char* device;
};

template <class List>
Words words_of(const Capabilities& known, const List& list) {
    Words result;
    for (const auto& [word, device] : list)
        if (known.has_device(device) && (result.empty() || result.back() != word)) result.emplace_back(word);
    return result;
}

constexpr DeviceWord disk_buses[] = {{"ide", "ide-hd"},
                                     {"fdc", "isa-fdc"},
                                     {"scsi", "scsi-hd"},
                                     {"virtio", "virtio-blk-pci"},
                                     {"virtio", "virtio-blk-device"},
                                     {"usb", "usb-storage"},
                                     {"sata", "ich9-ahci"},
                                     {"sata", "ide-hd"}};
constexpr DeviceWord videos[] = {
    {"vga", "VGA"},           {"cirrus", "cirrus-vga"},     {"vmvga", "vmware-svga"},   {"qxl", "qxl-vga"},
    {"virtio", "virtio-vga"}, {"virtio", "virtio-gpu-pci"}, {"bochs", "bochs-display"}, {"ramfb", "ramfb"}};
constexpr DeviceWord rngs[] = {{"virtio", "virtio-rng-pci"},
                               {"virtio-transitional", "virtio-rng-pci-transitional"},
                               {"virtio-non-transitional", "virtio-rng-pci-non-transitional"}};
constexpr DeviceWord disk_models[] = {{"virtio", "virtio-blk-pci"},
                                      {"virtio-transitional", "virtio-blk-pci-transitional"},
                                      {"virtio-non-transitional", "virtio-blk-pci-non-transitional"}};
constexpr DeviceWord panics[] = {{"isa", "pvpanic"}, {"pvpanic", "pvpanic-pci"}};

Words graphics_words(const Capabilities& known) {
    Words result;
    for (const auto* type : {"vnc", "spice", "egl-headless", "dbus"})
        if (known.has_display(type)) result.emplace_back(type);
    return result;
}

void write_devices(XmlText& xml, const Capabilities& known) {
    xml.element("devices", {}, [&] {
        write_device(xml, "disk", true,
                     {{"diskDevice", {"disk", "cdrom", "floppy", "lun"}},
                      {"bus", words_of(known, disk_buses)},
                      {"model", words_of(known, disk_models)}});
        const auto graphics = graphics_words(known);
        write_device(xml, "graphics", !graphics.empty(), {{"type", graphics}});
        auto video = words_of(known, videos);
        video.emplace_back("none");
        write_device(xml, "video", true, {{"modelType", video}});
        const bool vfio = known.has_device("vfio-pci");
        write_device(xml, "hostdev", vfio,
                     {{"mode", {"subsystem"}},
                      {"startupPolicy", {"default", "mandatory", "requisite", "optional"}},
                      {"subsysType", {"usb", "pci"}},
                      {"capsType", {}},
                      {"pciBackend", {"default", "vfio"}}});
        const auto rng = words_of(known, rngs);
        Words backends;
        for (const auto& [word, object] :
             {std::pair{"random", "rng-random"}, {"egd", "rng-egd"}, {"builtin", "rng-builtin"}})
            if (known.has_object(object)) backends.emplace_back(word);
        write_device(xml, "rng", !rng.empty(), {{"model", rng}, {"backendModel", backends}});
        Words shares;
        if (known.has_device("virtio-9p-pci")) shares.emplace_back("path");
        if (known.has_device("vhost-user-fs-pci")) shares.emplace_back("virtiofs");
        write_device(xml, "filesystem", !shares.empty(), {{"driverType", shares}});
        write_device(xml, "tpm", !known.tpm_models.empty(),
                     {{"model", known.tpm_models}, {"backendModel", known.tpm_types}});
        write_device(xml, "redirdev", known.has_device("usb-redir"), {{"bus", {"usb"}}});
        Words channels{"pty", "unix"};
        if (known.has_chardev("spicevmc")) channels.emplace_back("spicevmc");
        if (known.has_chardev("qemu-vdagent")) channels.emplace_back("qemu-vdagent");
        if (known.has_chardev("dbus")) channels.emplace_back("dbus");
        write_device(xml, "channel", true, {{"type", channels}});
        const auto panic = words_of(known, panics);
        write_device(xml, "panic", !panic.empty(), {{"model", panic}});
    });
}

const Machine& require_machine(const Capabilities& known, std::string_view name) {
    if (const auto* machine = known.find_machine(name)) return *machine;
    // Not every target has a default; the first is as good as any.
    if (name.empty() && !known.machines.empty()) return known.machines.front();
    Words names;
    for (const auto& machine : known.machines) names.push_back(machine.alias.empty() ? machine.name : machine.alias);
    throw Error{Code::unsupported_configuration,
                fmt::format("{} has no machine \"{}\"; it has {}", known.binary, name, fmt::join(names, ", "))};
}

std::string choose_type(const Capabilities& known, std::string_view type) {
    if (type.empty()) return known.has_kvm ? "kvm" : "qemu";
    if (type == "kvm" ? known.has_kvm : type == "qemu" && known.has_tcg) return std::string{type};
    throw Error{Code::unsupported_configuration,
                fmt::format("{} runs no domains of type {} here; it runs {}", known.binary, type,
                            known.has_kvm && known.has_tcg ? "qemu and kvm"
                            : known.has_kvm                ? "kvm"
                                                           : "qemu")};
}

bool fits(const Firmware& firmware, const Capabilities& known, const Machine& machine) {
    const auto target = target_of_arch(known.arch);
    return std::ranges::any_of(firmware.targets, [&](const FirmwareTarget& each) {
        return each.arch == target && std::ranges::any_of(each.machines, [&](const std::string& pattern) {
                   return ::fnmatch(pattern.c_str(), machine.name.c_str(), 0) == 0;
               });
    });
}

void write_os(XmlText& xml, const Capabilities& known, const Machine& machine, const std::vector<Firmware>& firmwares) {
    Words kinds, loaders;
    bool secure = false;
    for (const auto& firmware : firmwares) {
        if (!fits(firmware, known, machine)) continue;
        for (const auto& [has, word] : {std::pair{firmware.uefi, "efi"}, {firmware.bios, "bios"}})
            if (has && std::ranges::find(kinds, word) == kinds.end()) kinds.emplace_back(word);
        if (std::ranges::find(loaders, firmware.executable) == loaders.end()) loaders.push_back(firmware.executable);
        secure = secure || firmware.has("secure-boot");
    }
    xml.element("os", {{"supported", "yes"}}, [&] {
        write_enum(xml, "firmware", kinds);
        xml.element("loader", {{"supported", "yes"}}, [&] {
            for (const auto& loader : loaders) xml.element("value", {}, loader);
            write_enum(xml, "type", {"rom", "pflash"});
            write_enum(xml, "readonly", {"yes", "no"});
            write_enum(xml, "secure", secure ? Words{"yes", "no"} : Words{"no"});
        });
    });
}

/// Versions of a model and QEMU's own special models are not names for a definition.
bool is_public_model(const std::string& name) {
    if (name == "host" || name == "max" || name == "base") return false;
    const auto dash = name.rfind("-v");
    return dash == std::string::npos || name.find_first_not_of("0123456789", dash + 2) != std::string::npos;
}

void write_cpu(XmlText& xml, const Capabilities& known, const std::string& type) {
    const bool kvm = type == "kvm";
    xml.element("cpu", {}, [&] {
        if (kvm)
            xml.element("mode", {{"name", "host-passthrough"}, {"supported", "yes"}},
                        [&] { write_enum(xml, "hostPassthroughMigratable", {"on", "off"}); });
        else
            xml.element("mode", {{"name", "host-passthrough"}, {"supported", "no"}});
        xml.element("mode", {{"name", "maximum"}, {"supported", yes_no(known.find_cpu(type, "max"))}});
        xml.element("mode",
                    {{"name", "host-model"}, {"supported", yes_no(known.find_cpu(type, kvm ? "host" : "max"))}});
        xml.element("mode", {{"name", "custom"}, {"supported", "yes"}}, [&] {
            for (const auto& cpu : known.cpus(type)) {
                if (!is_public_model(cpu.name)) continue;
                Attributes attributes{{"usable", yes_no(cpu.usable)}};
                if (cpu.deprecated) attributes.emplace_back("deprecated", "yes");
                xml.element("model", attributes, cpu.name);
                if (cpu.blockers.empty()) continue;
                xml.element("blockers", {{"model", cpu.name}}, [&] {
                    for (const auto& feature : cpu.blockers) xml.element("feature", {{"name", feature}});
                });
            }
        });
    });
}

void write_features(XmlText& xml, const Capabilities& known) {
    xml.element("features", {}, [&] {
        xml.element("gic", {{"supported", "no"}});
        xml.element("vmcoreinfo", {{"supported", yes_no(known.has_device("vmcoreinfo"))}});
        xml.element("genid", {{"supported", yes_no(known.has_device("vmgenid"))}});
        xml.element("backingStoreInput", {{"supported", "yes"}});
        xml.element("backup", {{"supported", "no"}});
        xml.element("sev", {{"supported", "no"}});
    });
}

}  // namespace

std::string capabilities_xml(const std::vector<std::shared_ptr<const Capabilities>>& emulators) {
    XmlText xml;
    xml.element("capabilities", {}, [&] {
        write_host(xml);
        std::vector<std::string> seen;  // the first emulator of an architecture is the one a definition gets
        for (const auto& known : emulators) {
            if (std::ranges::find(seen, known->arch) != seen.end()) continue;
            seen.push_back(known->arch);
            write_guest(xml, *known, known->arch);
        }
        const auto has = [&](const char* arch) { return std::ranges::find(seen, arch) != seen.end(); };
        if (has("x86_64") && !has("i686"))
            for (const auto& known : emulators)
                if (known->arch == "x86_64") {
                    write_guest(xml, *known, "i686");
                    break;
                }
    });
    return xml.take();
}

std::string domain_capabilities_xml(const Capabilities& known, std::string_view machine_name,
                                    std::string_view type_name, const std::vector<Firmware>& firmwares) {
    const auto& machine = require_machine(known, machine_name);
    const auto type = choose_type(known, type_name);
    XmlText xml;
    xml.element("domainCapabilities", {}, [&] {
        xml.element("path", {}, known.binary);
        xml.element("domain", {}, type);
        xml.element("machine", {}, machine.name);
        xml.element("arch", {}, known.arch);
        xml.element("vcpu", {{"max", fmt::format("{}", machine.max_cpus)}});
        xml.element("iothreads", {{"supported", yes_no(known.has_object("iothread"))}});
        write_os(xml, known, machine, firmwares);
        write_cpu(xml, known, type);
        Words sources;
        for (const auto& [word, object] : {std::pair{"file", "memory-backend-file"},
                                           {"anonymous", "memory-backend-ram"},
                                           {"memfd", "memory-backend-memfd"}})
            if (known.has_object(object)) sources.emplace_back(word);
        write_device(xml, "memoryBacking", true, {{"sourceType", sources}});
        write_devices(xml, known);
        write_features(xml, known);
    });
    return xml.take();
}

}  // namespace virtbus::qemu
