// SPDX-License-Identifier: LGPL-2.1-or-later
// Name, machine, accelerator, CPU count, clock, power management and boot.
#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <ctime>

#include "qemu/command/families.hpp"
#include "virtbus/error.hpp"

namespace virtbus::qemu {

namespace {

void add_switch(KeyValues& machine, const char* name, const std::optional<Feature>& feature) {
    if (feature) machine.add(name, feature->on());
}

bool has_nvdimm(const DomainConfig& config) {
    return std::any_of(config.devices.memories.begin(), config.devices.memories.end(),
                       [](auto& memory) { return memory.model == "nvdimm"; });
}

bool has_hmat(const DomainConfig& config) {
    if (!config.cpu || !config.cpu->numa) return false;
    const auto& numa = *config.cpu->numa;
    return !numa.latencies.empty() || !numa.bandwidths.empty() ||
           std::any_of(numa.cells.begin(), numa.cells.end(), [](auto& cell) { return !cell.caches.empty(); });
}

const Timer* find_timer(const DomainConfig& config, std::string_view name) {
    if (!config.clock) return nullptr;
    for (const auto& timer : config.clock->timers)
        if (timer.name == name) return &timer;
    return nullptr;
}

void add_x86(const Argv& line, KeyValues& machine) {
    const DomainConfig& config = line.config;
    if (config.features && config.features->smm && line.chipset.kind == Chipset::Kind::q35)
        machine.add("smm", config.features->smm->on());
    if (config.features) add_switch(machine, "vmport", config.features->vmport);
    if (const Timer* hpet = find_timer(config, "hpet"); hpet && line.chipset.pci())
        machine.add("hpet", hpet->present.value_or(true));
    const bool no_ps2 = config.features && config.features->ps2 && !config.features->ps2->on();
    if (no_ps2) machine.add("i8042", false);
    // The firmware talks to the first serial port.
    if (config.os.bios && config.os.bios->useserial.value_or(false)) machine.add("graphics", false);
}

/// What the firmware of s390x loads from the device that it boots first.
std::string loadparm_of(const DomainConfig& config) {
    const DeviceInfo* first = nullptr;
    const auto look = [&](const auto& list) {
        for (const auto& device : list)
            if (device.info.boot_order && (!first || *device.info.boot_order < *first->boot_order))
                first = &device.info;
    };
    look(config.devices.disks), look(config.devices.interfaces), look(config.devices.hostdevs);
    return first ? first->loadparm : std::string{};
}

void add_features(const Argv& line, KeyValues& machine) {
    const DomainConfig& config = line.config;
    const Features none;
    const Features& features = config.features ? *config.features : none;
    if (line.chipset.x86()) add_x86(line, machine);
    if (line.chipset.kind == Chipset::Kind::virt && features.gic)
        machine.add_text("gic-version", features.gic->version);
    const bool knows_acpi = line.chipset.kind == Chipset::Kind::pc || line.chipset.kind == Chipset::Kind::q35 ||
                            (line.chipset.kind == Chipset::Kind::virt &&
                             (config.os.arch != "riscv64" || line.capabilities.version >= 8000000));
    if (knows_acpi) machine.add("acpi", features.acpi && features.acpi->on());
    if (!features.ioapic_driver.empty())
        machine.add("kernel_irqchip", features.ioapic_driver == "kvm" ? "on" : "split");
    if (line.chipset.kind == Chipset::Kind::pseries) {
        if (features.hpt)
            machine.add_text("resize-hpt", features.hpt->resizing)
                .add("cap-hpt-max-page-size", features.hpt->maxpagesize);
        // A host CPU that plays an older one.
        if (config.cpu && config.cpu->mode == "host-model" && config.cpu->model)
            machine.add_text("max-cpu-compat", config.cpu->model->name);
        add_switch(machine, "cap-htm", features.htm);
        add_switch(machine, "cap-nested-hv", features.nested_hv);
        add_switch(machine, "cap-ccf-assist", features.ccf_assist);
        for (const auto& [name, value] :
             {std::pair{"cap-cfpc", features.cfpc}, {"cap-sbbc", features.sbbc}, {"cap-ibs", features.ibs}})
            machine.add_text(name, value);
    }
    if (line.chipset.kind == Chipset::Kind::s390 && !has_own_loadparm(line.capabilities))
        machine.add_text("loadparm", loadparm_of(config));
    if (line.chipset.kind == Chipset::Kind::s390 && config.keywrap)
        for (const auto& cipher : config.keywrap->ciphers)
            if (cipher.name == "aes" || cipher.name == "dea") machine.add(cipher.name + "-key-wrap", cipher.state);
    if (line.chipset.kind == Chipset::Kind::virt) {
        add_switch(machine, "ras", features.ras);
        machine.add_text("aia", features.aia);
    }
}

/// True when the guest's memory is to be encrypted.
bool add_launch_security(Argv& line) {
    const auto& security = line.config.launch_security;
    if (!security || line.runnable()) return false;
    if (security->type == "s390-pv") {
        line.object(Json{}.set("qom-type", "s390-pv-guest").set("id", "lsec0"));
        return true;
    }
    Json object;
    if (security->type == "tdx") {
        object.set("qom-type", "tdx-guest").set("id", "lsec0").set("attributes", security->policy);
        object.set_text("mrconfigid", security->mr_config_id).set_text("mrowner", security->mr_owner);
        line.object(object.set_text("mrownerconfig", security->mr_owner_config));
        return true;
    }
    const bool snp = security->type == "sev-snp";
    object.set("qom-type", snp ? "sev-snp-guest" : "sev-guest").set("id", "lsec0").set("cbitpos", security->cbitpos);
    if (snp) {
        object.set_text("guest-visible-workarounds", security->guest_visible_workarounds);
        object.set_text("id-block", security->id_block).set_text("id-auth", security->id_auth);
        object.set_text("host-data", security->host_data).set("author-key-enabled", security->author_key);
        if (security->vcek) object.set("vcek-disabled", !*security->vcek);
    }
    object.set("reduced-phys-bits", security->reduced_phys_bits).set("policy", security->policy);
    const auto add_file = [&](const char* option, const std::string& text, const std::string& key) {
        if (text.empty()) return;
        if (line.by_path()) line.opened.files[key].path = key + ".base64";
        if (OpenedFile* file = line.find(key)) object.set(option, line.proc_path(*file));
    };
    add_file("dh-cert-file", security->dh_cert, "sev-dh-cert");
    add_file("session-file", security->session, "sev-session");
    object.set("kernel-hashes", security->kernel_hashes);
    line.object(object);
    line.out.devices.emplace_back("/dev/sev");
    return true;
}

void add_accelerator(Argv& line) {
    const DomainConfig& config = line.config;
    if (config.type == "kvm") {
        KeyValues accel{"kvm"};
        if (config.features && config.features->kvm && config.features->kvm->dirty_ring &&
            config.features->kvm->dirty_ring->state.value_or(true))
            accel.add("dirty-ring-size", config.features->kvm->dirty_ring->size);
        line.arg("-accel", accel);
        line.out.devices.emplace_back("/dev/kvm");
        return;
    }
    KeyValues accel{"tcg"};
    if (config.features && config.features->tcg && config.features->tcg->tb_cache)
        accel.add("tb-size", *config.features->tcg->tb_cache >> 20);
    line.arg("-accel", accel);
}

std::string moment(std::time_t seconds) {
    std::tm parts{};
    ::gmtime_r(&seconds, &parts);
    return fmt::format("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}", parts.tm_year + 1900, parts.tm_mon + 1, parts.tm_mday,
                       parts.tm_hour, parts.tm_min, parts.tm_sec);
}

/// Where the guest's clock stands. A clock that runs beside the host's depends on when it starts, so the stand-alone
/// form leaves the difference out.
std::string clock_base(Argv& line, const GuestClock& clock) {
    if (clock.offset == "absolute" && clock.start) return moment(static_cast<std::time_t>(*clock.start));
    if (clock.offset == "timezone") line.out.environment["TZ"] = clock.timezone;
    const bool local = clock.offset == "localtime" || clock.offset == "timezone" ||
                       (clock.offset == "variable" && clock.basis == "localtime");
    long seconds = 0;
    std::from_chars(clock.adjustment.data(), clock.adjustment.data() + clock.adjustment.size(), seconds);
    if (seconds == 0 || line.by_path()) return local ? "localtime" : "utc";
    const std::time_t now = std::time(nullptr);
    std::tm here{};
    ::localtime_r(&now, &here);
    return moment(now + seconds + (local ? here.tm_gmtoff : 0));
}

void add_timers(Argv& line) {
    const auto& smm = line.config.features ? line.config.features->smm : std::nullopt;
    if (smm && smm->on() && smm->tseg && line.chipset.kind == Chipset::Kind::q35)
        line.arg("-global", fmt::format("mch.extended-tseg-mbytes={}", *smm->tseg >> 20));
    const Timer* pit = find_timer(line.config, "pit");
    if (!pit || !line.chipset.x86()) return;
    if (line.config.type == "kvm") {
        if (pit->tickpolicy == "delay" || pit->tickpolicy.empty())
            line.arg("-global", "kvm-pit.lost_tick_policy=delay");
        if (pit->tickpolicy == "discard") line.arg("-global", "kvm-pit.lost_tick_policy=discard");
    }
}

}  // namespace

void add_machine(Argv& line) {
    const DomainConfig& config = line.config;
    line.arg("-name", KeyValues{}.add("guest", config.name).add("debug-threads", true));
    line.arg("-S");
    add_firmware_images(line);
    KeyValues machine{require_word(config.os.machine, "machine type")};
    machine.add("usb", false).add("dump-guest-core", config.memory_dump_core.value_or(false));
    add_features(line, machine);
    if (has_nvdimm(config)) machine.add("nvdimm", true);
    if (has_hmat(config)) machine.add("hmat", true);
    if (config.memory_backing && config.memory_backing->nosharepages) machine.add("mem-merge", false);
    if (add_launch_security(line)) machine.add("confidential-guest-support", "lsec0");
    for (const auto& [property, node] :
         {std::pair{"pflash0", "libvirt-pflash0-format"}, {"pflash1", "libvirt-pflash1-format"}})
        if ((property[6] == '0' ? line.find("loader") : line.find("nvram")) && config.os.loader->type == "pflash")
            machine.add(property, node);
    add_epc_sections(line, machine);
    const std::string memory = main_memory_backend(line);
    machine.add_text("memory-backend", memory);
    line.arg("-machine", machine);
    add_accelerator(line);
    if (config.features && config.features->async_teardown && config.features->async_teardown->on())
        line.arg("-async-teardown");
}

void add_smp(Argv& line) {
    const DomainConfig& config = line.config;
    const unsigned all = config.vcpu.value_or(1);
    KeyValues smp{std::to_string(config.vcpu_current.value_or(all))};
    if (config.vcpu_current && *config.vcpu_current != all) smp.add("maxcpus", all);
    if (config.cpu && config.cpu->topology) {
        const auto& topology = *config.cpu->topology;
        smp.add("sockets", topology.sockets).add("dies", topology.dies).add("clusters", topology.clusters);
        smp.add("cores", topology.cores).add("threads", topology.threads);
    } else {
        smp.add("sockets", all).add("cores", 1).add("threads", 1);
    }
    line.arg("-smp", smp);
}

void add_clock(Argv& line) {
    KeyValues rtc;
    rtc.add("base", clock_base(line, *line.config.clock));
    if (const Timer* timer = find_timer(line.config, "rtc")) {
        if (timer->track == "guest") rtc.add("clock", "vm");
        if (timer->track == "wall") rtc.add("clock", "host");
        if (timer->track == "realtime") rtc.add("clock", "rt");
        if (timer->tickpolicy == "catchup") rtc.add("driftfix", "slew");
        if (timer->tickpolicy == "delay") rtc.add("driftfix", "none");
    }
    line.arg("-rtc", rtc);
    add_timers(line);
}

void add_power_and_boot(Argv& line) {
    const DomainConfig& config = line.config;
    line.arg("-no-shutdown");
    const char* device = line.chipset.kind == Chipset::Kind::q35  ? "ICH9-LPC"
                         : line.chipset.kind == Chipset::Kind::pc ? "PIIX4_PM"
                                                                  : nullptr;
    if (config.pm && device) {
        const auto disable = [&](const char* what, const std::optional<bool>& enabled) {
            if (enabled) line.arg("-global", fmt::format("{}.disable_{}={}", device, what, *enabled ? 0 : 1));
        };
        disable("s3", config.pm->suspend_to_mem);
        disable("s4", config.pm->suspend_to_disk);
    }
    if (line.chipset.kind == Chipset::Kind::pc)
        for (const auto& controller : config.devices.controllers)
            if (controller.type == ControllerType::pci && controller.index.value_or(0) == 0 && controller.target &&
                controller.target->hotplug)
                line.arg("-global",
                         fmt::format("PIIX4_PM.acpi-root-pci-hotplug={}", *controller.target->hotplug ? "on" : "off"));
    KeyValues boot;
    if (config.os.bootmenu && config.os.bootmenu->enable) {
        boot.add("menu", *config.os.bootmenu->enable);
        if (*config.os.bootmenu->enable) boot.add("splash-time", config.os.bootmenu->timeout);
    }
    if (config.os.bios) boot.add("reboot-timeout", config.os.bios->reboot_timeout);
    boot.add("strict", true);
    line.arg("-boot", boot);
    if (config.features && config.features->vmcoreinfo && config.features->vmcoreinfo->on())
        line.device(Json{}.set("driver", "vmcoreinfo"), "");
}

}  // namespace virtbus::qemu
