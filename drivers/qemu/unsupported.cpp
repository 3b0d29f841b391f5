// SPDX-License-Identifier: LGPL-2.1-or-later
#include "qemu/unsupported.hpp"

#include <fmt/format.h>

namespace virtbus::qemu {

namespace {

using Problems = std::vector<std::string>;

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

void check_cpu(const DomainConfig& config, const Capabilities& known, Problems& problems) {
    if (!config.cpu) return;
    const auto& mode = config.cpu->mode;
    if (mode == "host-passthrough" && config.type != "kvm")
        problems.emplace_back("cpu mode host-passthrough: needs type kvm; mode maximum is what type qemu can do");
    if ((mode.empty() || mode == "custom") && config.cpu->model &&
        !known.find_cpu(config.type, config.cpu->model->name))
        problems.push_back(fmt::format("cpu model {}: {} does not have it", config.cpu->model->name, known.binary));
}

void check_displays(const DomainConfig& config, const Capabilities& known, Problems& problems) {
    for (const auto& graphics : config.devices.graphics)
        if (!known.has_display(word(graphics.type)))
            problems.push_back(
                fmt::format("graphics type {}: {} was built without it", word(graphics.type), known.binary));
}

}  // namespace

std::vector<std::string> unsupported(const DomainConfig& config, const Capabilities& capabilities) {
    Problems problems;
    check_accelerator(config, capabilities, problems);
    check_machine(config, capabilities, problems);
    check_cpu(config, capabilities, problems);
    check_displays(config, capabilities, problems);
    return problems;
}

}  // namespace virtbus::qemu
