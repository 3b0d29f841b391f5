// SPDX-License-Identifier: LGPL-2.1-or-later
// -cpu: the model with its features, and what hypervisors are pretended to the guest.
#include <fmt/format.h>

#include <algorithm>

#include "qemu/command/families.hpp"
#include "qemu/cpu_features.hpp"
#include "virtbus/error.hpp"

namespace virtbus::qemu {

namespace {

/// -cpu knows no way to say a comma in a value.
bool fits_cpu_option(std::string_view value) {
    return value.find(',') == value.npos;
}

/// The host's own model, or what TCG can do at most; named by QEMU itself so that it says what the guest gets.
KeyValues like_host(const Argv& line) {
    const bool kvm = line.config.type == "kvm";
    const CpuExpansion& host = line.capabilities.host_cpu(line.config.type);
    if (!kvm || !host.known()) return KeyValues{kvm ? "host" : "max"};
    KeyValues cpu{require_word(host.base, "CPU model")};
    for (const auto& [name, value] : host.words)
        if (fits_cpu_option(value)) cpu.add(require_word(name, "CPU property"), value);
    for (const auto& feature : host.features) cpu.add(require_word(feature, "CPU feature"), true);
    return cpu;
}

bool follows_host(const Cpu& cpu) {
    return cpu.mode == "host-model" || (cpu.mode == "custom" && cpu.match == "minimum");
}

KeyValues model_of(const Argv& line) {
    const DomainConfig& config = line.config;
    const Cpu& cpu = *config.cpu;
    if (cpu.mode == "host-passthrough") {
        KeyValues out{config.type == "kvm" ? "host" : "max"};
        // A 32-bit guest of a 64-bit ARM host.
        if (config.os.arch == "armv7l" && config.type == "kvm") out.add("aarch64", false);
        return out.add("migratable", cpu.migratable);
    }
    if (cpu.mode == "maximum") return KeyValues{"max"}.add("migratable", cpu.migratable);
    if (follows_host(cpu)) return like_host(line);
    return KeyValues{cpu.model ? require_word(cpu.model->name, "CPU model") : ""};
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

void add_timers(KeyValues& cpu, const Argv& line) {
    if (!line.config.clock) return;
    const bool x86 = line.chipset.x86();
    for (const auto& timer : line.config.clock->timers) {
        if (x86 && timer.name == "kvmclock" && timer.present) cpu.add("kvmclock", *timer.present);
        if (x86 && timer.name == "hypervclock" && timer.present.value_or(true)) cpu.add("hv-time", true);
        if (x86 && timer.name == "tsc" && timer.frequency) cpu.add("tsc-frequency", *timer.frequency);
        const bool arm = timer.name == "armvtimer" && line.config.type == "kvm";
        if (arm && (timer.tickpolicy == "delay" || timer.tickpolicy == "discard"))
            cpu.add("kvm-no-adjvtime", timer.tickpolicy == "delay");
    }
}

void add_sizes(KeyValues& out, const Cpu& cpu) {
    if (cpu.cache) {
        if (cpu.cache->mode == "disable") out.add("l3-cache", false);
        if (cpu.cache->mode == "emulate") out.add("l3-cache", true);
        if (cpu.cache->mode == "passthrough") out.add("host-cache-info", true).add("l3-cache", false);
    }
    if (cpu.maxphysaddr) {
        if (cpu.maxphysaddr->mode == "passthrough")
            out.add("host-phys-bits", true).add("host-phys-bits-limit", cpu.maxphysaddr->limit);
        if (cpu.maxphysaddr->mode == "emulate") out.add("phys-bits", cpu.maxphysaddr->bits);
    }
}

void add_features(KeyValues& out, const Argv& line) {
    const Cpu& cpu = *line.config.cpu;
    const CpuExpansion& host = line.capabilities.host_cpu(line.config.type);
    if (cpu.model) out.add_text("vendor", cpu.model->vendor_id);
    for (const auto& property : cpu.properties)
        if (fits_cpu_option(property.value)) out.add(require_word(property.name, "CPU property"), property.value);
    for (const auto& feature : cpu.features) {
        const std::string name = feature_name(feature.name);
        if (name.empty()) continue;
        const bool on = feature.policy.empty() || feature.policy == "require" || feature.policy == "force";
        const bool off = feature.policy == "disable" || feature.policy == "forbid";
        if (on || off) out.add(name, on);
        // What is optional depends on the host; one that does not tell leaves it to the model.
        if (feature.policy == "optional" && host.known() && tells_of_host(name)) out.add(name, host.has(name));
    }
    // Under check='full' the guest gets exactly what is named, or does not start.
    if (cpu.check == "full" && line.chipset.x86() && !line.runnable()) out.add("enforce", true);
}

}  // namespace

void add_cpu(Argv& line) {
    const DomainConfig& config = line.config;
    KeyValues cpu = config.cpu ? model_of(line) : KeyValues{};
    if (cpu.empty()) return;
    add_features(cpu, line);
    add_timers(cpu, line);
    if (line.chipset.x86()) {
        add_sizes(cpu, *config.cpu);
        if (config.features) {
            if (config.features->apic && config.features->apic->eoi) cpu.add("kvm-pv-eoi", *config.features->apic->eoi);
            if (config.features->pvspinlock) cpu.add("kvm-pv-unhalt", config.features->pvspinlock->on());
            if (config.features->hyperv) add_hyperv(cpu, *config.features->hyperv);
            if (config.features->kvm) add_kvm(cpu, *config.features->kvm);
        }
    }
    for (const auto& panic : config.devices.panics)
        if (panic.model == "hyperv") cpu.add("hv-crash", true);
    if (config.features && config.features->pmu) cpu.add("pmu", config.features->pmu->on());
    line.arg("-cpu", cpu);
    const auto model = cpu.text().substr(0, cpu.text().find(','));
    const auto add_global = [&](const std::string& name, const std::string& value) {
        if (!fits_cpu_option(value))
            line.arg("-global", KeyValues{}
                                    .add("driver", fmt::format("{}-{}-cpu", model, config.os.arch))
                                    .add("property", require_word(name, "CPU property"))
                                    .add("value", value));
    };
    if (!config.cpu) return;
    const CpuExpansion& host = line.capabilities.host_cpu(config.type);
    if (config.type == "kvm" && host.known() && follows_host(*config.cpu))
        for (const auto& [name, value] : host.words) add_global(name, value);
    for (const auto& property : config.cpu->properties) add_global(property.name, property.value);
}

}  // namespace virtbus::qemu
