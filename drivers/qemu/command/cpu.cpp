// SPDX-License-Identifier: LGPL-2.1-or-later
// -cpu: the model with its features, and what hypervisors are pretended to the guest.
#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "qemu/command/families.hpp"

namespace virtbus::qemu {

namespace {

/// libvirt's word for a feature in QEMU's spelling.
std::string feature_name(const std::string& name) {
    if (name == "pclmuldq") return "pclmulqdq";
    std::string out = require_word(name, "CPU feature");
    std::replace(out.begin(), out.end(), '_', '-');
    return out;
}

std::string model_name(const Argv& line) {
    const DomainConfig& config = line.config;
    const bool kvm = config.type == "kvm";
    if (!config.cpu) return {};
    const Cpu& cpu = *config.cpu;
    if (cpu.mode == "host-passthrough" || cpu.mode == "host-model") return kvm ? "host" : "max";
    if (cpu.mode == "maximum") return "max";
    return cpu.model && !cpu.model->name.empty() ? require_word(cpu.model->name, "CPU model") : "";
}

void add_if(KeyValues& cpu, const char* name, const std::optional<Feature>& feature) {
    if (feature && feature->on()) cpu.add(name, true);
}

void add_hyperv_detail(KeyValues& cpu, const HypervFeatures& hyperv) {
    if (hyperv.spinlocks && hyperv.spinlocks->state.value_or(true))
        cpu.add("hv-spinlocks", fmt::format("{:#x}", hyperv.spinlocks->retries.value_or(4095)));
    if (hyperv.stimer && hyperv.stimer->state.value_or(true)) {
        cpu.add("hv-stimer", true);
        add_if(cpu, "hv-stimer-direct", hyperv.stimer->direct);
    }
    if (hyperv.vendor_id && hyperv.vendor_id->state.value_or(true)) cpu.add("hv-vendor-id", hyperv.vendor_id->value);
    if (hyperv.tlbflush && hyperv.tlbflush->state.value_or(true)) {
        cpu.add("hv-tlbflush", true);
        add_if(cpu, "hv-tlbflush-direct", hyperv.tlbflush->direct);
        add_if(cpu, "hv-tlbflush-ext", hyperv.tlbflush->extended);
    }
}

void add_hyperv(KeyValues& cpu, const HypervFeatures& hyperv) {
    if (hyperv.mode == "passthrough") cpu.add("hv-passthrough", true);
    struct Flag {
        const char* name;
        const std::optional<Feature>& feature;
    };
    const Flag flags[]{{"hv-relaxed", hyperv.relaxed},
                       {"hv-vapic", hyperv.vapic},
                       {"hv-vpindex", hyperv.vpindex},
                       {"hv-runtime", hyperv.runtime},
                       {"hv-synic", hyperv.synic},
                       {"hv-reset", hyperv.reset},
                       {"hv-frequencies", hyperv.frequencies},
                       {"hv-reenlightenment", hyperv.reenlightenment},
                       {"hv-ipi", hyperv.ipi},
                       {"hv-evmcs", hyperv.evmcs},
                       {"hv-avic", hyperv.avic},
                       {"hv-emsr-bitmap", hyperv.emsr_bitmap},
                       {"hv-xmm-input", hyperv.xmm_input}};
    for (const auto& flag : flags) add_if(cpu, flag.name, flag.feature);
    add_hyperv_detail(cpu, hyperv);
}

void add_kvm(KeyValues& cpu, const KvmFeatures& kvm) {
    if (kvm.hidden && kvm.hidden->on()) cpu.add("kvm", false);
    add_if(cpu, "kvm-hint-dedicated", kvm.hint_dedicated);
    add_if(cpu, "kvm-poll-control", kvm.poll_control);
    if (kvm.pv_ipi) cpu.add("kvm-pv-ipi", kvm.pv_ipi->on());
}

void add_timers(KeyValues& cpu, const DomainConfig& config) {
    if (!config.clock) return;
    for (const auto& timer : config.clock->timers) {
        if (timer.name == "kvmclock" && timer.present) cpu.add("kvmclock", *timer.present);
        if (timer.name == "hypervclock" && timer.present.value_or(false)) cpu.add("hv-time", true);
        if (timer.name == "tsc" && timer.frequency) cpu.add("tsc-frequency", *timer.frequency);
    }
}

void add_features(KeyValues& out, const Cpu& cpu) {
    if (cpu.mode == "host-passthrough") out.add("migratable", cpu.migratable);
    if (!cpu.vendor.empty() && cpu.mode == "custom")
        out.add("vendor", cpu.vendor == "Intel" ? "GenuineIntel"
                          : cpu.vendor == "AMD" ? "AuthenticAMD"
                                                : cpu.vendor.c_str());
    else if (cpu.model)
        out.add_text("vendor", cpu.model->vendor_id);
    for (const auto& feature : cpu.features) {
        const bool on = feature.policy.empty() || feature.policy == "require" || feature.policy == "force";
        const bool off = feature.policy == "disable" || feature.policy == "forbid";
        if (on || off) out.add(feature_name(feature.name), on);
    }
    if (cpu.cache) {
        if (cpu.cache->mode == "disable") out.add("l3-cache", false);
        if (cpu.cache->mode == "emulate") out.add("l3-cache", true);
        const bool like_host = cpu.mode == "host-passthrough" || cpu.mode == "maximum";
        if (cpu.cache->mode == "passthrough" && like_host) out.add("host-cache-info", true).add("l3-cache", false);
    }
    if (cpu.maxphysaddr) {
        if (cpu.maxphysaddr->mode == "passthrough")
            out.add("host-phys-bits", true).add("host-phys-bits-limit", cpu.maxphysaddr->limit);
        if (cpu.maxphysaddr->mode == "emulate") out.add("phys-bits", cpu.maxphysaddr->bits);
    }
}

}  // namespace

void add_cpu(Argv& line) {
    const DomainConfig& config = line.config;
    const std::string model = model_name(line);
    KeyValues cpu{model};
    if (config.cpu) add_features(cpu, *config.cpu);
    if (line.chipset.x86()) {
        add_timers(cpu, config);
        if (config.features) {
            if (config.features->apic && config.features->apic->eoi) cpu.add("kvm-pv-eoi", *config.features->apic->eoi);
            if (config.features->pvspinlock) cpu.add("kvm-pv-unhalt", config.features->pvspinlock->on());
            if (config.features->hyperv) add_hyperv(cpu, *config.features->hyperv);
            if (config.features->kvm) add_kvm(cpu, *config.features->kvm);
        }
    }
    if (config.features && config.features->pmu) cpu.add("pmu", config.features->pmu->on());
    if (!model.empty()) line.arg("-cpu", cpu);
}

}  // namespace virtbus::qemu
