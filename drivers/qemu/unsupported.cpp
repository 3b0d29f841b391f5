// SPDX-License-Identifier: LGPL-2.1-or-later
#include "qemu/unsupported.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "qemu/chipset.hpp"
#include "qemu/command_line.hpp"
#include "qemu/unsupported_parts.hpp"
#include "virtbus/error.hpp"

namespace virtbus::qemu {

namespace {

void check_accelerator(const DomainConfig& config, const Capabilities& known, Problems& problems) {
    if (config.type == "kvm" && !known.has_kvm)
        problems.push_back(fmt::format("type kvm: {} has no KVM here; type qemu runs without it", known.binary));
    if (config.type == "qemu" && !known.has_tcg)
        problems.push_back(fmt::format("type qemu: {} does not emulate processors; type kvm runs them", known.binary));
}

void check_machine(const DomainConfig& config, const Capabilities& known, Problems& problems) {
    const auto* machine = known.find_machine(config.os.machine);
    if (!machine)
        problems.push_back(fmt::format("machine {}: {} does not have it", config.os.machine, known.binary));
    else if (config.vcpu.value_or(1) > machine->max_cpus)
        problems.push_back(
            fmt::format("{} vcpus: machine {} takes {}", *config.vcpu, machine->name, machine->max_cpus));
}

void check_displays(const DomainConfig& config, const Capabilities& known, Problems& problems) {
    for (const auto& graphics : config.devices.graphics) {
        if (!known.has_display(word(graphics.type)))
            problems.push_back(fmt::format("graphics type {}: {} does not have it{}", word(graphics.type), known.binary,
                                           graphics.type == GraphicsType::sdl ? " (package qemu-system-gui)" : ""));
        if (graphics.type == GraphicsType::sdl && graphics.display.empty())
            problems.emplace_back("graphics sdl: which X server draws it is not said; name it, e.g. display=':0'");
    }
}

void check_contradictions(const DomainConfig& config, const Capabilities&, Problems& problems) {
    const bool x86 = chipset_of(config).x86();
    const bool acpi = config.features && config.features->acpi && config.features->acpi->on();
    if (x86 && !acpi && (config.os.firmware == "efi" || (config.os.loader && config.os.loader->type == "pflash")))
        problems.emplace_back("UEFI: needs <features><acpi/> on this machine");
    for (const auto& memory : config.devices.memories)
        if (x86 && !acpi && memory.model.ends_with("dimm")) {
            problems.push_back(fmt::format("memory device {}: needs <features><acpi/>", memory.model));
            break;
        }
    for (const auto& vcpu : config.vcpus)
        if (vcpu.enabled != (vcpu.id < config.vcpu_current.value_or(config.vcpu.value_or(1)))) {
            problems.emplace_back(
                "vcpus: those that are enabled are the first ones here; none between them is left out");
            break;
        }
    const auto isa = std::ranges::count_if(
        config.devices.serials, [](auto& serial) { return serial.target && serial.target->type == "isa-serial"; });
    if (isa > 4)
        problems.push_back(fmt::format("{} ISA serial ports: QEMU takes 4; the others may be of type pci-serial", isa));
    const std::size_t cells = config.cpu && config.cpu->numa ? config.cpu->numa->cells.size() : 0;
    for (const auto& controller : config.devices.controllers)
        if (controller.target && controller.target->node && *controller.target->node >= cells)
            problems.push_back(fmt::format("PCI controller {}: there is no NUMA cell {}", controller.index.value_or(0),
                                           *controller.target->node));
    constexpr unsigned most_short_ids = 255;  // CPUs that interrupts reach without extended mode
    const bool extended = std::ranges::any_of(
        config.devices.iommus, [](auto& iommu) { return iommu.driver && iommu.driver->eim.value_or(false); });
    if (config.vcpu.value_or(1) > most_short_ids && chipset_of(config).kind == Chipset::Kind::q35 && !extended)
        problems.push_back(
            fmt::format("{} vcpus: more than {} need <iommu model='intel'><driver intremap='on' "
                        "eim='on'/></iommu> and <features><ioapic driver='qemu'/>",
                        *config.vcpu, most_short_ids));
    for (const auto& iommu : config.devices.iommus)
        if (iommu.driver && iommu.driver->eim.value_or(false) &&
            (config.type != "kvm" || !config.features || config.features->ioapic_driver != "qemu"))
            problems.emplace_back("iommu with eim: needs type kvm and <features><ioapic driver='qemu'/>");
}

/// The value of a member of a flat JSON object that the command line wrote.
std::string_view member_of(std::string_view json, std::string_view name) {
    const auto key = fmt::format("\"{}\":\"", name);
    const auto at = json.find(key);
    if (at == json.npos) return {};
    json.remove_prefix(at + key.size());
    return json.substr(0, json.find('"'));
}

/// Every device, object and back end on the line must be one the emulator has.
void check_line(const DomainConfig& config, const Capabilities& known, Problems& problems) {
    std::vector<std::string> argv;
    try {
        argv = standalone_command(config, known, false);
    } catch (const Error& error) {
        problems.emplace_back(error.what());
        return;
    }
    const auto check = [&](const Capabilities::Names& names, std::string_view name, const char* what) {
        if (!names.empty() && !name.empty() && !names.contains(name))
            problems.push_back(fmt::format("{} {}: {} does not have it", what, name, known.binary));
    };
    for (std::size_t i = 1; i < argv.size(); ++i) {
        const std::string& option = argv[i - 1];
        if (option == "-device") check(known.devices, member_of(argv[i], "driver"), "device");
        if (option == "-object") check(known.objects, member_of(argv[i], "qom-type"), "object");
        if (option == "-chardev")
            check(known.chardevs, std::string_view{argv[i]}.substr(0, argv[i].find(',')), "character device back end");
    }
    std::ranges::sort(problems);
    problems.erase(std::unique(problems.begin(), problems.end()), problems.end());
}

}  // namespace

std::vector<std::string> unsupported(const DomainConfig& config, const Capabilities& capabilities) {
    Problems problems;
    check_accelerator(config, capabilities, problems);
    check_machine(config, capabilities, problems);
    check_cpu(config, capabilities, problems);
    check_hypervisor_features(config, capabilities, problems);
    check_clock(config, capabilities, problems);
    check_memory(config, capabilities, problems);
    check_interfaces(config, capabilities, problems);
    check_small_devices(config, capabilities, problems);
    check_displays(config, capabilities, problems);
    check_contradictions(config, capabilities, problems);
    check_labels(config, capabilities, problems);
    check_line(config, capabilities, problems);
    return problems;
}

}  // namespace virtbus::qemu
