// SPDX-License-Identifier: LGPL-2.1-or-later
// Tables of the machine itself: how it boots, its features, its processor, its clock.
#include "service/xml/tables.hpp"
#include "virtbus/model/clock.hpp"
#include "virtbus/model/cpu.hpp"
#include "virtbus/model/features.hpp"
#include "virtbus/model/os.hpp"

namespace virtbus::xml {

namespace {

// ---- os

constexpr Row os_type_rows[]{
    attribute<&Os::arch>("arch"),
    attribute<&Os::machine>("machine"),
    text<&Os::type>(),
};
constexpr Row firmware_feature_rows[]{
    attribute<&FirmwareFeature::enabled>("enabled").yes_no().required(),
    attribute<&FirmwareFeature::name>("name").one_of("enrolled-keys|secure-boot").required(),
};
constinit const Table firmware_feature_table = table<FirmwareFeature>(firmware_feature_rows);
constexpr Row firmware_rows[]{element<&Os::firmware_features>("feature", firmware_feature_table)};
constexpr Row initenv_rows[]{
    attribute<&InitEnv::name>("name").required(),
    text<&InitEnv::value>(),
};
constinit const Table initenv_table = table<InitEnv>(initenv_rows);
constexpr Row loader_rows[]{
    attribute<&Loader::readonly>("readonly").yes_no(),        attribute<&Loader::secure>("secure").yes_no(),
    attribute<&Loader::type>("type").one_of("rom|pflash"),    attribute<&Loader::stateless>("stateless").yes_no(),
    attribute<&Loader::format>("format").one_of("raw|qcow2"), text<&Loader::path>(),
};
constinit const Table loader_table = table<Loader>(loader_rows);
constexpr Row nvram_rows[]{
    attribute<&Nvram::type>("type"),
    attribute<&Nvram::template_path>("template"),
    attribute<&Nvram::template_format>("templateFormat").one_of("raw|qcow2"),
    attribute<&Nvram::format>("format").one_of("raw|qcow2"),
    text<&Nvram::path>(),
    element<&Nvram::source>("source", storage_source_table),
};
std::string check_nvram(const void* object) {
    const auto& nvram = *static_cast<const Nvram*>(object);
    return nvram.type && !nvram.source ? "with attribute 'type' an element <source> is needed" : "";
}
constinit const Table nvram_table = table<Nvram>(nvram_rows, check_nvram);
constexpr Row acpi_table_rows[]{
    attribute<&AcpiTable::type>("type").one_of("slic|msdm|raw|rawset").required(),
    text<&AcpiTable::path>().required(),
};
constinit const Table acpi_table_table = table<AcpiTable>(acpi_table_rows);
constexpr Row acpi_rows[]{element<&Os::acpi_tables>("table", acpi_table_table)};
constexpr Row bootmenu_rows[]{
    attribute<&BootMenu::enable>("enable").yes_no(),
    attribute<&BootMenu::timeout>("timeout").range(0, 65535),
};
constinit const Table bootmenu_table = table<BootMenu>(bootmenu_rows);
constexpr Row bios_rows[]{
    attribute<&Bios::useserial>("useserial").yes_no(),
    attribute<&Bios::reboot_timeout>("rebootTimeout").range(-1, 65535),
};
constinit const Table bios_table = table<Bios>(bios_rows);

constexpr Row os_rows[]{
    attribute<&Os::firmware>("firmware").one_of("bios|efi"),
    group("type", os_type_rows),
    group("firmware", firmware_rows),
    leaf<&Os::init>("init"),
    leaf<&Os::initargs>("initarg"),
    element<&Os::initenv>("initenv", initenv_table),
    leaf<&Os::initdir>("initdir"),
    leaf<&Os::inituser>("inituser"),
    leaf<&Os::initgroup>("initgroup"),
    element<&Os::loader>("loader", loader_table),
    element<&Os::nvram>("nvram", nvram_table).host(),
    leaf<&Os::kernel>("kernel").host(),
    leaf<&Os::initrd>("initrd").host(),
    leaf<&Os::cmdline>("cmdline").host(),
    leaf<&Os::dtb>("dtb").host(),
    leaf<&Os::shim>("shim").host(),
    group("acpi", acpi_rows),
    leaf<&Os::boot_devices>("boot", "dev").one_of("hd|fd|cdrom|network").host(),
    element<&Os::bootmenu>("bootmenu", bootmenu_table).host(),
    element<&Os::bios>("bios", bios_table).host(),
    leaf<&Os::smbios_mode>("smbios", "mode").one_of("emulate|host|sysinfo"),
};

// ---- features

constexpr Row feature_rows[]{attribute<&Feature::state>("state").on_off()};
constinit const Table feature_table = table<Feature>(feature_rows);

constexpr Row spinlocks_rows[]{
    attribute<&HypervSpinlocks::state>("state").on_off(),
    attribute<&HypervSpinlocks::retries>("retries").range(4095, UINT32_MAX),
};
constinit const Table spinlocks_table = table<HypervSpinlocks>(spinlocks_rows);
constexpr Row stimer_rows[]{
    attribute<&HypervStimer::state>("state").on_off(),
    element<&HypervStimer::direct>("direct", feature_table).always(),
};
constinit const Table stimer_table = table<HypervStimer>(stimer_rows);
constexpr Row tlbflush_rows[]{
    attribute<&HypervTlbflush::state>("state").on_off(),
    element<&HypervTlbflush::direct>("direct", feature_table).always(),
    element<&HypervTlbflush::extended>("extended", feature_table).always(),
};
constinit const Table tlbflush_table = table<HypervTlbflush>(tlbflush_rows);
constexpr Row vendor_id_rows[]{
    attribute<&HypervVendorId::state>("state").on_off(),
    attribute<&HypervVendorId::value>("value"),
};
std::string check_vendor_id(const void* object) {
    const auto& value = static_cast<const HypervVendorId*>(object)->value;
    return value.size() > 12 || value.find(',') != value.npos ? "value has at most 12 characters and no comma" : "";
}
constinit const Table vendor_id_table = table<HypervVendorId>(vendor_id_rows, check_vendor_id);
constexpr Row hyperv_rows[]{
    attribute<&HypervFeatures::mode>("mode").one_of("custom|passthrough|host-model"),
    element<&HypervFeatures::relaxed>("relaxed", feature_table).always(),
    element<&HypervFeatures::vapic>("vapic", feature_table).always(),
    element<&HypervFeatures::spinlocks>("spinlocks", spinlocks_table).always(),
    element<&HypervFeatures::vpindex>("vpindex", feature_table).always(),
    element<&HypervFeatures::runtime>("runtime", feature_table).always(),
    element<&HypervFeatures::synic>("synic", feature_table).always(),
    element<&HypervFeatures::stimer>("stimer", stimer_table).always(),
    element<&HypervFeatures::reset>("reset", feature_table).always(),
    element<&HypervFeatures::vendor_id>("vendor_id", vendor_id_table).always(),
    element<&HypervFeatures::frequencies>("frequencies", feature_table).always(),
    element<&HypervFeatures::reenlightenment>("reenlightenment", feature_table).always(),
    element<&HypervFeatures::tlbflush>("tlbflush", tlbflush_table).always(),
    element<&HypervFeatures::ipi>("ipi", feature_table).always(),
    element<&HypervFeatures::evmcs>("evmcs", feature_table).always(),
    element<&HypervFeatures::avic>("avic", feature_table).always(),
    element<&HypervFeatures::emsr_bitmap>("emsr_bitmap", feature_table).always(),
    element<&HypervFeatures::xmm_input>("xmm_input", feature_table).always(),
};
constinit const Table hyperv_table = table<HypervFeatures>(hyperv_rows);
constexpr Row dirty_ring_rows[]{
    attribute<&KvmDirtyRing::state>("state").on_off(),
    attribute<&KvmDirtyRing::size>("size").range(1024, 65536),
};
constinit const Table dirty_ring_table = table<KvmDirtyRing>(dirty_ring_rows);
constexpr Row kvm_rows[]{
    element<&KvmFeatures::hidden>("hidden", feature_table).always(),
    element<&KvmFeatures::hint_dedicated>("hint-dedicated", feature_table).always(),
    element<&KvmFeatures::poll_control>("poll-control", feature_table).always(),
    element<&KvmFeatures::pv_ipi>("pv-ipi", feature_table).always(),
    element<&KvmFeatures::dirty_ring>("dirty-ring", dirty_ring_table).always(),
};
constinit const Table kvm_table = table<KvmFeatures>(kvm_rows);
constexpr Row xen_passthrough_rows[]{
    attribute<&XenPassthrough::state>("state").on_off(),
    attribute<&XenPassthrough::mode>("mode").one_of("sync_pt|share_pt"),
};
constinit const Table xen_passthrough_table = table<XenPassthrough>(xen_passthrough_rows);
constexpr Row xen_rows[]{
    element<&XenFeatures::e820_host>("e820_host", feature_table).always(),
    element<&XenFeatures::passthrough>("passthrough", xen_passthrough_table).always(),
};
constinit const Table xen_table = table<XenFeatures>(xen_rows);
constexpr Row apic_rows[]{attribute<&ApicFeature::eoi>("eoi").on_off()};
constinit const Table apic_table = table<ApicFeature>(apic_rows);
constexpr Row smm_rows[]{
    attribute<&SmmFeature::state>("state").on_off(),
    leaf<&SmmFeature::tseg>("tseg").scaled(Unit::best, 1024 * 1024),
};
constinit const Table smm_table = table<SmmFeature>(smm_rows);
constexpr Row gic_rows[]{attribute<&GicFeature::version>("version").one_of("host|2|3")};
constinit const Table gic_table = table<GicFeature>(gic_rows);
constexpr Row hpt_rows[]{
    attribute<&HptFeature::resizing>("resizing").one_of("enabled|disabled|required"),
    leaf<&HptFeature::maxpagesize>("maxpagesize").scaled(),
};
constinit const Table hpt_table = table<HptFeature>(hpt_rows);
constexpr Row tcg_rows[]{leaf<&TcgFeatures::tb_cache>("tb-cache").scaled(Unit::kib, 1024 * 1024)};
constinit const Table tcg_table = table<TcgFeatures>(tcg_rows);

constexpr Row teardown_rows[]{attribute<&Feature::state>("enabled").yes_no()};
constinit const Table teardown_table = table<Feature>(teardown_rows);

constexpr Row features_rows[]{
    element<&Features::acpi>("acpi", feature_table).always(),
    element<&Features::apic>("apic", apic_table).always(),
    element<&Features::pae>("pae", feature_table).always(),
    element<&Features::hap>("hap", feature_table).always(),
    element<&Features::viridian>("viridian", feature_table).always(),
    element<&Features::privnet>("privnet", feature_table).always(),
    element<&Features::hyperv>("hyperv", hyperv_table).always(),
    element<&Features::kvm>("kvm", kvm_table),
    element<&Features::pvspinlock>("pvspinlock", feature_table).always(),
    element<&Features::pmu>("pmu", feature_table).always(),
    element<&Features::vmport>("vmport", feature_table).always(),
    element<&Features::gic>("gic", gic_table).always(),
    element<&Features::smm>("smm", smm_table).always(),
    leaf<&Features::ioapic_driver>("ioapic", "driver").one_of("kvm|qemu"),
    element<&Features::hpt>("hpt", hpt_table),
    element<&Features::vmcoreinfo>("vmcoreinfo", feature_table).always(),
    element<&Features::htm>("htm", feature_table).always(),
    element<&Features::nested_hv>("nested-hv", feature_table).always(),
    leaf<&Features::msrs_unknown>("msrs", "unknown").one_of("ignore|fault"),
    element<&Features::ccf_assist>("ccf-assist", feature_table).always(),
    element<&Features::xen>("xen", xen_table),
    leaf<&Features::cfpc>("cfpc", "value").one_of("broken|workaround|fixed"),
    leaf<&Features::sbbc>("sbbc", "value").one_of("broken|workaround|fixed"),
    leaf<&Features::ibs>("ibs", "value").one_of("broken|workaround|fixed-ibs|fixed-ccd|fixed-na"),
    element<&Features::tcg>("tcg", tcg_table),
    element<&Features::async_teardown>("async-teardown", teardown_table).always().host(),
    element<&Features::ras>("ras", feature_table).always(),
    element<&Features::ps2>("ps2", feature_table).always(),
    leaf<&Features::aia>("aia", "value").one_of("none|aplic|aplic-imsic"),
};

// ---- cpu

constexpr Row cpu_model_rows[]{
    attribute<&CpuModel::fallback>("fallback").one_of("allow|forbid").host(),
    attribute<&CpuModel::vendor_id>("vendor_id"),
    text<&CpuModel::name>(),
};
std::string check_cpu_model(const void* object) {
    const auto& vendor = static_cast<const CpuModel*>(object)->vendor_id;
    return vendor.empty() || (vendor.size() == 12 && vendor.find(',') == vendor.npos)
               ? ""
               : "vendor_id has exactly 12 characters and no comma";
}
constinit const Table cpu_model_table = table<CpuModel>(cpu_model_rows, check_cpu_model);
constexpr Row topology_rows[]{
    attribute<&CpuTopology::sockets>("sockets").range(1, UINT32_MAX).required(),
    attribute<&CpuTopology::dies>("dies").range(1, UINT32_MAX),
    attribute<&CpuTopology::clusters>("clusters").range(1, UINT32_MAX),
    attribute<&CpuTopology::cores>("cores").range(1, UINT32_MAX).required(),
    attribute<&CpuTopology::threads>("threads").range(1, UINT32_MAX).required(),
};
constinit const Table topology_table = table<CpuTopology>(topology_rows);
constexpr Row cpu_cache_rows[]{
    attribute<&CpuCache::level>("level").range(1, 3),
    attribute<&CpuCache::mode>("mode").one_of("emulate|passthrough|disable").required(),
};
constinit const Table cpu_cache_table = table<CpuCache>(cpu_cache_rows);
constexpr Row maxphysaddr_rows[]{
    attribute<&CpuMaxPhysAddr::mode>("mode").one_of("emulate|passthrough").required(),
    attribute<&CpuMaxPhysAddr::bits>("bits"),
    attribute<&CpuMaxPhysAddr::limit>("limit"),
};
constinit const Table maxphysaddr_table = table<CpuMaxPhysAddr>(maxphysaddr_rows);
constexpr Row cpu_feature_rows[]{
    attribute<&CpuFeature::policy>("policy").one_of("force|require|optional|disable|forbid"),
    attribute<&CpuFeature::name>("name").required(),
};
constinit const Table cpu_feature_table = table<CpuFeature>(cpu_feature_rows);

constexpr Row cpu_property_rows[]{
    attribute<&CpuProperty::name>("name").required(),
    attribute<&CpuProperty::value>("value").required(),
};
constinit const Table cpu_property_table = table<CpuProperty>(cpu_property_rows);

constexpr Row sibling_rows[]{
    attribute<&NumaDistance::id>("id").required(),
    attribute<&NumaDistance::value>("value").range(10, 255).required(),
};
constinit const Table sibling_table = table<NumaDistance>(sibling_rows);
constexpr Row distances_rows[]{element<&NumaCell::distances>("sibling", sibling_table)};
constexpr Row numa_cache_size_rows[]{attribute<&NumaCache::size>("value").scaled().required()};
constexpr Row numa_cache_line_rows[]{attribute<&NumaCache::line>("value").scaled(Unit::b, 1).required()};
constexpr Row numa_cache_rows[]{
    attribute<&NumaCache::level>("level").required(),
    attribute<&NumaCache::associativity>("associativity").one_of("none|direct|full").required(),
    attribute<&NumaCache::policy>("policy").one_of("none|writeback|writethrough").required(),
    group("size", numa_cache_size_rows).required(),
    group("line", numa_cache_line_rows).required(),
};
constinit const Table numa_cache_table = table<NumaCache>(numa_cache_rows);
constexpr Row cell_rows[]{
    attribute<&NumaCell::id>("id"),
    attribute<&NumaCell::cpus>("cpus"),
    attribute<&NumaCell::memory>("memory").scaled().required(),
    attribute<&NumaCell::mem_access>("memAccess").one_of("shared|private").host(),
    attribute<&NumaCell::discard>("discard").yes_no().host(),
    group("distances", distances_rows),
    element<&NumaCell::caches>("cache", numa_cache_table),
};
constinit const Table cell_table = table<NumaCell>(cell_rows);
constexpr Row interconnect_rows[]{
    attribute<&NumaInterconnect::initiator>("initiator").required(),
    attribute<&NumaInterconnect::target>("target").required(),
    attribute<&NumaInterconnect::cache>("cache"),
    attribute<&NumaInterconnect::type>("type").one_of("access|read|write").required(),
};
constexpr Row latency_rows[]{interconnect_rows[0], interconnect_rows[1], interconnect_rows[2], interconnect_rows[3],
                             attribute<&NumaInterconnect::value>("value").required()};
constinit const Table latency_table = table<NumaInterconnect>(latency_rows);
constexpr Row bandwidth_rows[]{interconnect_rows[0], interconnect_rows[1], interconnect_rows[2], interconnect_rows[3],
                               attribute<&NumaInterconnect::value>("value").scaled().required()};
constinit const Table bandwidth_table = table<NumaInterconnect>(bandwidth_rows);
constexpr Row interconnects_rows[]{
    element<&CpuNuma::latencies>("latency", latency_table),
    element<&CpuNuma::bandwidths>("bandwidth", bandwidth_table),
};
constexpr Row numa_rows[]{
    element<&CpuNuma::cells>("cell", cell_table),
    group("interconnects", interconnects_rows),
};
constinit const Table numa_table = table<CpuNuma>(numa_rows);

constexpr Row cpu_rows[]{
    attribute<&Cpu::mode>("mode").one_of("custom|host-model|host-passthrough|maximum"),
    attribute<&Cpu::match>("match").one_of("minimum|exact|strict"),
    attribute<&Cpu::check>("check").one_of("none|partial|full").host(),
    attribute<&Cpu::migratable>("migratable").on_off(),
    attribute<&Cpu::deprecated_features>("deprecated_features").on_off(),
    element<&Cpu::model>("model", cpu_model_table),
    leaf<&Cpu::vendor>("vendor"),
    element<&Cpu::topology>("topology", topology_table),
    element<&Cpu::cache>("cache", cpu_cache_table),
    element<&Cpu::maxphysaddr>("maxphysaddr", maxphysaddr_table),
    element<&Cpu::properties>("property", cpu_property_table),
    element<&Cpu::features>("feature", cpu_feature_table),
    element<&Cpu::numa>("numa", numa_table),
};

// ---- clock

constexpr Row catchup_rows[]{
    attribute<&TimerCatchup::threshold>("threshold"),
    attribute<&TimerCatchup::slew>("slew"),
    attribute<&TimerCatchup::limit>("limit"),
};
constinit const Table catchup_table = table<TimerCatchup>(catchup_rows);
constexpr Row timer_rows[]{
    attribute<&Timer::name>("name").one_of("platform|pit|rtc|hpet|tsc|kvmclock|hypervclock|armvtimer").required(),
    attribute<&Timer::present>("present").yes_no(),
    attribute<&Timer::tickpolicy>("tickpolicy").one_of("delay|catchup|merge|discard").host(),
    attribute<&Timer::track>("track").one_of("boot|guest|wall|realtime").host(),
    attribute<&Timer::frequency>("frequency"),
    attribute<&Timer::mode>("mode").one_of("auto|native|emulate|paravirt|smpsafe"),
    element<&Timer::catchup>("catchup", catchup_table).host(),
};
constinit const Table timer_table = table<Timer>(timer_rows);
constexpr Row clock_rows[]{
    attribute<&GuestClock::offset>("offset").one_of("utc|localtime|variable|timezone|absolute").host(),
    attribute<&GuestClock::adjustment>("adjustment").host(),
    attribute<&GuestClock::basis>("basis").one_of("utc|localtime").host(),
    attribute<&GuestClock::timezone>("timezone").host(),
    attribute<&GuestClock::start>("start").host(),
    element<&GuestClock::timers>("timer", timer_table),
};
std::string check_clock(const void* object) {
    const auto& clock = *static_cast<const GuestClock*>(object);
    if (clock.offset == "timezone" && clock.timezone.empty()) return "offset='timezone' needs attribute 'timezone'";
    if (clock.offset == "absolute" && !clock.start) return "offset='absolute' needs attribute 'start'";
    if (clock.adjustment.empty() || clock.adjustment == "reset") return "";
    const auto digits = clock.adjustment.find_first_not_of("+-");
    const bool number = digits != std::string::npos && digits <= 1 && clock.adjustment.size() - digits <= 18 &&
                        clock.adjustment.find_first_not_of("0123456789", digits) == std::string::npos;
    return number ? "" : "adjustment is a number of seconds or reset";
}

}  // namespace

constinit const Table os_table = table<Os>(os_rows);
constinit const Table features_table = table<Features>(features_rows);
constinit const Table cpu_table = table<Cpu>(cpu_rows);
constinit const Table clock_table = table<GuestClock>(clock_rows, check_clock);

}  // namespace virtbus::xml
