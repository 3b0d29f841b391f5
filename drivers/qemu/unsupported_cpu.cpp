// SPDX-License-Identifier: LGPL-2.1-or-later
// What the host's processor, hypervisor and clocks cannot do of a definition.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "qemu/chipset.hpp"
#include "qemu/cpu_features.hpp"
#include "qemu/unsupported_parts.hpp"

namespace virtbus::qemu {

namespace {

bool wanted(const CpuFeature& feature) {
    return feature.policy.empty() || feature.policy == "require";
}

const CpuFeature* find_feature(const Cpu& cpu, std::string_view name) {
    for (const auto& feature : cpu.features)
        if (feature_name(feature.name) == name) return &feature;
    return nullptr;
}

std::string here(const DomainConfig& config) {
    return config.type == "kvm" ? "this host's CPU" : "TCG";
}

/// What the model and the features ask for and this host does not have.
void check_features(const DomainConfig& config, const Capabilities& known, Problems& problems) {
    const Cpu& cpu = *config.cpu;
    const CpuExpansion& host = known.host_cpu(config.type);
    std::vector<std::string> missing;
    const bool custom = cpu.mode == "custom" && cpu.model;
    if (const auto* model = custom ? known.find_cpu(config.type, cpu.model->name) : nullptr)
        for (const auto& blocker : model->blockers)
            if (!find_feature(cpu, blocker)) missing.push_back(blocker);
    for (const auto& feature : cpu.features) {
        const auto name = feature_name(feature.name);
        if (name.empty() || !host.known()) continue;
        if (wanted(feature) && tells_of_host(name) && !host.has(name)) missing.push_back(name);
        if (feature.policy == "forbid" && host.has(name))
            problems.push_back(fmt::format("cpu feature {}: it is forbidden, and {} has it", name, here(config)));
    }
    std::ranges::sort(missing);
    missing.erase(std::unique(missing.begin(), missing.end()), missing.end());
    if (!missing.empty())
        problems.push_back(fmt::format("cpu{}: {} does not have {}; check='none' starts without",
                                       custom ? " model " + cpu.model->name : std::string{}, here(config),
                                       fmt::join(missing, ", ")));
}

void check_model(const DomainConfig& config, const Capabilities& known, Problems& problems) {
    const Cpu& cpu = *config.cpu;
    const CpuExpansion& host = known.host_cpu(config.type);
    if (cpu.model && cpu.mode == "custom" && !known.cpus(config.type).empty() &&
        !known.find_cpu(config.type, cpu.model->name))
        problems.push_back(fmt::format("cpu model {}: {} does not have it", cpu.model->name, known.binary));
    if (cpu.mode == "custom" && cpu.match == "strict" && cpu.check != "none" && !host.known())
        problems.push_back(fmt::format(
            "cpu match strict: {} does not tell what this host has beyond the model; use match exact", known.binary));
    const auto vendor = host.words.find("vendor");
    const std::string_view name = cpu.vendor == "Intel"   ? "GenuineIntel"
                                  : cpu.vendor == "AMD"   ? "AuthenticAMD"
                                  : cpu.vendor == "Hygon" ? "HygonGenuine"
                                                          : std::string_view{cpu.vendor};
    if (config.type == "kvm" && !name.empty() && vendor != host.words.end() && vendor->second != name)
        problems.push_back(fmt::format("cpu vendor {}: this host's is {}", cpu.vendor, vendor->second));
}

/// Those that QEMU refuses to give without another.
void check_enlightenments(const DomainConfig& config, Problems& problems) {
    const HypervFeatures& hyperv = *config.features->hyperv;
    const auto on = [](const auto& feature) { return feature && feature->state.value_or(true); };
    const bool time = config.clock && std::ranges::any_of(config.clock->timers, [](const Timer& timer) {
                          return timer.name == "hypervclock" && timer.present.value_or(true);
                      });
    struct Need {
        const char* name;
        bool asked;
        const char* other;
        bool there;
    };
    const Need needs[]{{"stimer", on(hyperv.stimer), "vpindex", on(hyperv.vpindex)},
                       {"stimer", on(hyperv.stimer), "synic", on(hyperv.synic)},
                       {"stimer", on(hyperv.stimer), "<timer name='hypervclock'/>", time},
                       {"synic", on(hyperv.synic), "vpindex", on(hyperv.vpindex)},
                       {"tlbflush", on(hyperv.tlbflush), "vpindex", on(hyperv.vpindex)},
                       {"ipi", on(hyperv.ipi), "vpindex", on(hyperv.vpindex)},
                       {"evmcs", on(hyperv.evmcs), "vapic", on(hyperv.vapic)}};
    for (const auto& need : needs)
        if (need.asked && !need.there)
            problems.push_back(fmt::format("features hyperv {}: needs {} too", need.name, need.other));
}

}  // namespace

void check_cpu(const DomainConfig& config, const Capabilities& known, Problems& problems) {
    if (!config.cpu) return;
    const Cpu& cpu = *config.cpu;
    const bool x86 = chipset_of(config).x86();
    if (cpu.mode == "host-passthrough" && config.type != "kvm")
        problems.emplace_back("cpu mode host-passthrough: needs type kvm; mode maximum is what type qemu can do");
    check_model(config, known, problems);
    if (cpu.check != "none") check_features(config, known, problems);
    const bool like_host = cpu.mode == "host-passthrough" || cpu.mode == "maximum";
    if (cpu.cache && cpu.cache->mode == "passthrough" && !like_host)
        problems.emplace_back("cpu cache mode passthrough: needs cpu mode host-passthrough or maximum");
    if (cpu.cache && cpu.cache->mode == "passthrough" && cpu.cache->level)
        problems.emplace_back("cpu cache mode passthrough: is for all levels; leave the level out");
    if (cpu.maxphysaddr && cpu.maxphysaddr->mode == "passthrough" && cpu.maxphysaddr->bits)
        problems.emplace_back("cpu maxphysaddr mode passthrough: takes the host's bits; a limit may lower them");
    if (cpu.cache && !x86) problems.emplace_back("cpu cache: QEMU lets it be chosen on x86 only");
    if (cpu.cache && cpu.cache->level && cpu.cache->mode == "emulate" && *cpu.cache->level != 3)
        problems.emplace_back("cpu cache mode emulate: QEMU emulates level 3 only");
    if (cpu.maxphysaddr && !x86) problems.emplace_back("cpu maxphysaddr: QEMU lets it be chosen on x86 only");
    if (cpu.maxphysaddr && cpu.maxphysaddr->mode == "passthrough" && config.type != "kvm")
        problems.emplace_back("cpu maxphysaddr mode passthrough: needs type kvm");
    if (cpu.deprecated_features)
        problems.push_back(fmt::format("cpu deprecated_features: {} does not tell which they are", known.binary));
    if (cpu.topology && cpu.topology->dies.value_or(1) > 1 && !x86)
        problems.emplace_back("cpu topology: dies are for x86 machines only");
    if (cpu.topology && chipset_of(config).kind == Chipset::Kind::pseries &&
        config.vcpu_current.value_or(0) % cpu.topology->threads)
        problems.push_back(fmt::format("{} vcpus at the start: on pseries cores come as a whole, of {} threads",
                                       *config.vcpu_current, cpu.topology->threads));
    const auto* sve = find_feature(cpu, "sve");
    if (sve && !wanted(*sve) && std::ranges::any_of(cpu.features, [&](auto& feature) {
            return &feature != sve && feature.name.starts_with("sve") && wanted(feature);
        }))
        problems.emplace_back("cpu features: vector lengths (sve...) are required, but sve is disabled");
    if (cpu.topology && cpu.topology->threads > 1 && config.type != "kvm" &&
        chipset_of(config).kind == Chipset::Kind::pseries)
        problems.emplace_back("cpu topology: TCG has one thread a core on pseries");
    if (cpu.topology && cpu.topology->clusters.value_or(1) > 1 && chipset_of(config).kind != Chipset::Kind::virt)
        problems.emplace_back("cpu topology: QEMU 7.2 has clusters on the machine virt only");
}

void check_hypervisor_features(const DomainConfig& config, const Capabilities& known, Problems& problems) {
    if (!config.features) return;
    const Features& features = *config.features;
    const bool kvm = config.type == "kvm";
    const bool x86 = chipset_of(config).x86();
    if (kvm && features.hyperv && features.hyperv->mode == "host-model")
        problems.emplace_back("features hyperv mode host-model: use mode passthrough, or name the features");
    if (!features.msrs_unknown.empty())
        problems.emplace_back("features msrs: KVM decides that for all guests (kvm.ignore_msrs), not per guest");
    if (features.ras && features.ras->on() && chipset_of(config).kind != Chipset::Kind::virt)
        problems.emplace_back("features ras: for the machine virt only");
    if (features.async_teardown && features.async_teardown->on() && known.version < 7002000)
        problems.push_back(fmt::format("features async-teardown: {} does not have it", known.binary));
    if (features.smm && features.smm->tseg && chipset_of(config).kind != Chipset::Kind::q35)
        problems.emplace_back("features smm with tseg: for the machine q35 only");
    if (features.smm && features.smm->tseg && *features.smm->tseg % (1 << 20))
        problems.emplace_back("features smm: the size of tseg is in whole MiB");
    if (features.smm && features.smm->tseg && !features.smm->on())
        problems.emplace_back("features smm: tseg is given, but smm is off");
    const bool of_pseries = features.hpt || features.htm || features.nested_hv || features.ccf_assist ||
                            !features.cfpc.empty() || !features.sbbc.empty() || !features.ibs.empty();
    if (of_pseries && chipset_of(config).kind != Chipset::Kind::pseries)
        problems.emplace_back(
            "features hpt, htm, nested-hv, ccf-assist, cfpc, sbbc, ibs: for the machine pseries only");
    const bool acpi = features.acpi && features.acpi->on();
    if (acpi && config.os.arch == "riscv64" && known.version < 8000000)
        problems.push_back(fmt::format("features acpi: {} has no ACPI for riscv64; it needs QEMU 8.0", known.binary));
    if (features.gic && !features.gic->version.empty() && chipset_of(config).kind != Chipset::Kind::virt)
        problems.emplace_back("features gic: for the machine virt of ARM only");
    if (features.gic && features.gic->version == "host" && !kvm)
        problems.emplace_back("features gic version host: needs type kvm");
    if (!x86 && features.hyperv) problems.emplace_back("features hyperv: for x86 guests only");
    const bool like_host = config.cpu && (config.cpu->mode == "host-passthrough" || config.cpu->mode == "maximum");
    if (features.kvm && features.kvm->hint_dedicated && features.kvm->hint_dedicated->on() && !like_host)
        problems.emplace_back("features kvm hint-dedicated: needs cpu mode host-passthrough or maximum");
    if (features.tcg && kvm) problems.emplace_back("features tcg: need type qemu");
    if (features.kvm && features.kvm->dirty_ring && features.kvm->dirty_ring->state.value_or(true)) {
        const auto size = features.kvm->dirty_ring->size.value_or(0);
        if (!kvm) problems.emplace_back("features kvm dirty-ring: needs type kvm");
        if (size == 0 || (size & (size - 1)) != 0)
            problems.emplace_back("features kvm dirty-ring: its size is a power of two from 1024 to 65536");
    }
    if (kvm && features.hyperv && features.hyperv->mode != "passthrough") check_enlightenments(config, problems);
}

void check_clock(const DomainConfig& config, const Capabilities&, Problems& problems) {
    if (!config.clock) return;
    const bool x86 = chipset_of(config).x86();
    for (const auto& timer : config.clock->timers) {
        const auto& policy = timer.tickpolicy;
        const auto refuse = [&](const std::string& why) {
            problems.push_back(fmt::format("timer {}: {}", timer.name, why));
        };
        const bool of_x86 = timer.name == "pit" || timer.name == "rtc" || timer.name == "hpet" || timer.name == "tsc" ||
                            timer.name == "kvmclock" || timer.name == "hypervclock";
        if (of_x86 && !x86) refuse("for x86 guests only");
        if (timer.name == "platform") refuse("QEMU has none");
        if (timer.name == "pit" && policy == "merge") refuse("QEMU has no tickpolicy merge");
        if (timer.name == "rtc" && (policy == "merge" || policy == "discard"))
            refuse(fmt::format("QEMU has no tickpolicy {}", policy));
        if (timer.name == "rtc" && timer.track == "boot")
            refuse("QEMU cannot track boot; guest, wall and realtime are");
        if (timer.name == "hpet" && !policy.empty() && policy != "delay")
            refuse(fmt::format("QEMU has no tickpolicy {}", policy));
        if (timer.name == "armvtimer" && (chipset_of(config).kind != Chipset::Kind::virt || config.type != "kvm"))
            refuse("for ARM guests of type kvm only");
        if (timer.name == "armvtimer" && !timer.present.value_or(true)) refuse("it cannot be taken away");
    }
}

}  // namespace virtbus::qemu
