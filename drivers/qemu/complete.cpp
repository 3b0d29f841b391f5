// SPDX-License-Identifier: LGPL-2.1-or-later
#include "qemu/complete.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "qemu/addresses.hpp"
#include "qemu/chipset.hpp"
#include "qemu/complete_devices.hpp"
#include "virtbus/error.hpp"

namespace virtbus::qemu {

namespace {

[[noreturn]] void refuse(const std::string& why) {
    throw Error{Code::unsupported_configuration, why};
}

void default_to(std::string& value, std::string_view fallback) {
    if (value.empty()) value = fallback;
}

void complete_machine(DomainConfig& config, const Capabilities& capabilities) {
    default_to(config.os.type, "hvm");
    if (config.os.type != "hvm")
        refuse(fmt::format("<os><type> is '{}'; the driver qemu runs 'hvm' only", config.os.type));
    default_to(config.os.arch, capabilities.arch);
    const bool narrow = config.os.arch == "i686" && capabilities.arch == "x86_64";
    if (config.os.arch != capabilities.arch && !narrow)
        refuse(fmt::format("the emulator '{}' is for the architecture {}, not {}", capabilities.binary,
                           capabilities.arch, config.os.arch));
    default_to(config.devices.emulator, capabilities.binary);
    if (const Machine* machine = capabilities.find_machine(config.os.machine))
        config.os.machine = machine->name;
    else if (config.os.machine.empty())
        refuse(fmt::format("the emulator '{}' has no default machine; name one in <os><type machine=>",
                           capabilities.binary));
    else if (chipset_of(config).kind == Chipset::Kind::other)
        refuse(fmt::format("the emulator '{}' has no machine '{}', and of what family that is cannot be told",
                           capabilities.binary, config.os.machine));
    // Another one this emulator does not know stays in the definition: another host may have it.
}

void complete_boot(DomainConfig& config) {
    const auto ordered = [](const auto& list) {
        return std::any_of(list.begin(), list.end(), [](auto& device) { return device.info.boot_order.has_value(); });
    };
    const Devices& devices = config.devices;
    const bool by_device = ordered(devices.disks) || ordered(devices.interfaces) || ordered(devices.hostdevs) ||
                           ordered(devices.redirdevs) || ordered(devices.filesystems);
    if (by_device && !config.os.boot_devices.empty())
        refuse("both <os><boot dev=> and <boot order=> of a device are given; only one of them may be");
    if (!by_device && config.os.boot_devices.empty()) config.os.boot_devices = {"hd"};
}

void complete_general(DomainConfig& config) {
    if (!config.memory && config.cpu && config.cpu->numa) {
        std::uint64_t sum = 0;
        for (const auto& cell : config.cpu->numa->cells) sum += cell.memory;
        config.memory = sum;
    }
    if (!config.memory || *config.memory == 0)
        throw Error{Code::invalid_xml, "<memory> is missing or zero; a machine needs memory"};
    if (!config.current_memory) config.current_memory = config.memory;
    if (!config.vcpu) config.vcpu = 1;
    if (*config.vcpu == 0) throw Error{Code::invalid_xml, "<vcpu> is 0; a machine needs a CPU"};
    default_to(config.vcpu_placement, "static");
    if (!config.clock) config.clock.emplace();
    default_to(config.clock->offset, "utc");
    default_to(config.on_poweroff, "destroy");
    default_to(config.on_reboot, "restart");
    default_to(config.on_crash, "destroy");
}

/// The machine's own default, as libvirt writes it.
void complete_cpu(DomainConfig& config, const Capabilities& capabilities) {
    if (!config.cpu) config.cpu.emplace();
    Cpu& cpu = *config.cpu;
    if (cpu.mode.empty() && !cpu.model) {
        const Machine* machine = capabilities.find_machine(config.os.machine);
        std::string name = machine ? machine->default_cpu_type : "";
        // A QOM type: "qemu64-x86_64-cpu", "cortex-a15-arm-cpu".
        if (name.ends_with("-cpu")) name.resize(name.size() - 4);
        if (const auto at = name.rfind('-'); at != name.npos) name.resize(at);
        if (!name.empty()) {
            cpu.mode = "custom";
            default_to(cpu.match, "exact");
            default_to(cpu.check, "none");
            cpu.model.emplace();
            cpu.model->name = name;
            cpu.model->fallback = "forbid";
        }
    }
    if (cpu.mode.empty() && cpu.model) cpu.mode = "custom";
    if (cpu.mode == "custom" && cpu.model) {
        default_to(cpu.match, "exact");
        default_to(cpu.check, "partial");
    }
    if (cpu.mode == "host-passthrough" || cpu.mode == "maximum") {
        default_to(cpu.check, "none");
        // Only x86 has a switch for it.
        if (!cpu.migratable && chipset_of(config).x86()) cpu.migratable = true;
    }
    if (cpu.mode == "host-model") default_to(cpu.check, "partial");
    if (cpu == Cpu{}) config.cpu.reset();
}

/// As libvirt writes it: which one KVM has is the host's to know.
void complete_gic(DomainConfig& config) {
    const bool arm = config.os.arch == "aarch64" || config.os.arch == "armv7l";
    if (!arm || chipset_of(config).kind != Chipset::Kind::virt || config.type == "kvm") return;
    if (!config.features) config.features.emplace();
    auto& gic = config.features->gic;
    if (!gic) gic.emplace();
    constexpr unsigned most_of_version_2 = 8;
    default_to(gic->version, *config.vcpu <= most_of_version_2 ? "2" : "3");
}

void check_topology(const DomainConfig& config) {
    if (config.vcpu_current && *config.vcpu_current > *config.vcpu)
        refuse(fmt::format("<vcpu current='{}'> is more than the maximum of {}", *config.vcpu_current, *config.vcpu));
    if (!config.cpu || !config.cpu->topology) return;
    const auto& topology = *config.cpu->topology;
    const std::uint64_t product = std::uint64_t{topology.sockets} * topology.dies.value_or(1) *
                                  topology.clusters.value_or(1) * topology.cores * topology.threads;
    if (product != *config.vcpu)
        refuse(fmt::format("the CPU topology makes {} CPUs, but <vcpu> says {}", product, *config.vcpu));
}

void complete_nvram(DomainConfig& config, const Firmware* firmware, const Surroundings& surroundings) {
    if (!config.os.loader) return;
    const bool flash = config.os.loader->type == "pflash", stateless = config.os.loader->stateless.value_or(false);
    if (config.os.nvram && (!flash || stateless))
        refuse(fmt::format("<nvram> is given, but the loader '{}' {}", config.os.loader->path,
                           stateless ? "is stateless: it keeps no variables" : "is no flash: it can have no store"));
    if (!flash || stateless) return;
    if (!config.os.loader->readonly.value_or(true)) return;  // variables and code are one file
    const bool fresh = !config.os.nvram;
    if (fresh) config.os.nvram.emplace();
    Nvram& nvram = *config.os.nvram;
    if (firmware) {
        default_to(nvram.template_path, firmware->nvram_template);
        if (!firmware->nvram_template.empty() && nvram.template_path == firmware->nvram_template)
            default_to(nvram.template_format, firmware->template_format);
    }
    if (nvram.template_path.empty()) nvram.template_path = known_template(config.os.loader->path);
    if (nvram.source || !nvram.path.empty()) {
        default_to(nvram.format, nvram.path.ends_with(".qcow2") ? "qcow2" : "raw");
        return;
    }
    // qcow2 so that an internal snapshot of a running guest can include the store.
    default_to(nvram.format, "qcow2");
    if (!surroundings.nvram_folder.empty() && !config.uuid.empty())
        nvram.path = fmt::format("{}/{}_VARS.{}", surroundings.nvram_folder, config.uuid,
                                 nvram.format == "qcow2" ? "qcow2" : "fd");
}

/// What was chosen, so that it is chosen again when the definition is moved to another host.
void name_features(Os& os, const Firmware& firmware) {
    std::vector<FirmwareFeature> features;
    for (const char* name : {"enrolled-keys", "secure-boot"}) {
        const auto said = std::ranges::find(os.firmware_features, name, &FirmwareFeature::name);
        features.push_back(said != os.firmware_features.end() ? *said : FirmwareFeature{firmware.has(name), name, {}});
    }
    os.firmware_features = std::move(features);
}

/// Without a word of it the file is the guest's own to write, unless it is known to be everybody's.
void complete_readonly(Os& os, const Firmware* firmware) {
    Loader& loader = *os.loader;
    if (loader.type != "pflash" || loader.readonly) return;
    loader.readonly = firmware || os.nvram || loader.stateless.value_or(false) || !known_template(loader.path).empty();
}

void complete_firmware(DomainConfig& config, const Chipset& chipset, const Surroundings& surroundings) {
    Os& os = config.os;
    const Firmware* firmware = nullptr;
    require_sound_firmware(os, config.features ? &*config.features : nullptr, chipset);
    if (!os.firmware.empty()) {
        firmware = choose_firmware(surroundings.firmwares, os, config.features ? &*config.features : nullptr);
        if (firmware && os.firmware == "efi") {
            if (!os.loader) os.loader.emplace();
            const bool flash = firmware->device == "flash";
            default_to(os.loader->path, firmware->executable);
            default_to(os.loader->type, flash ? "pflash" : "rom");
            if (flash && firmware->executable_format != "raw")
                default_to(os.loader->format, firmware->executable_format);
            if (!os.loader->readonly && flash) os.loader->readonly = true;
            if (!os.loader->secure) os.loader->secure = firmware->has("secure-boot");
            if (firmware->mode == "stateless") os.loader->stateless = true;
            name_features(os, *firmware);
        }
        if (firmware && os.firmware == "bios" && firmware->device == "memory" && !os.loader) {
            os.loader.emplace();
            os.loader->path = firmware->executable;
        }
        if (os.loader && os.firmware == "bios") default_to(os.loader->type, "rom");
    } else if (os.loader) {
        default_to(os.loader->type, "rom");
        firmware = find_firmware(surroundings.firmwares, os.loader->path);
        complete_readonly(os, firmware);
    }
    const bool wants_smm = firmware && firmware->has("requires-smm") && os.loader && os.loader->type == "pflash";
    if (wants_smm && !(config.features && config.features->smm)) {
        if (!config.features) config.features.emplace();
        config.features->smm.emplace().state = true;
    }
    complete_nvram(config, firmware, surroundings);
}

}  // namespace

void complete(DomainConfig& config, const DomainConfig* previous, const Capabilities& capabilities,
              const Surroundings& surroundings) {
    complete_machine(config, capabilities);
    const Chipset& chipset = chipset_of(config);
    complete_general(config);
    complete_cpu(config, capabilities);
    complete_gic(config);
    check_topology(config);
    complete_devices(config, chipset, capabilities);
    complete_boot(config);
    complete_firmware(config, chipset, surroundings);
    if (previous) follow_addresses(config, *previous);
    assign_drive_addresses(config);
    complete_controllers(config, chipset, capabilities);
    if (previous) {
        follow_addresses(config, *previous);
        follow_buses(config, *previous);
    }
    assign_addresses(config, chipset);
    complete_pci_controllers(config, chipset);
}

}  // namespace virtbus::qemu
