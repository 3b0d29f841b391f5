// SPDX-License-Identifier: LGPL-2.1-or-later
// The tables of <domain> itself and of <devices>.
#include "service/xml/tables.hpp"
#include "virtbus/model/domain.hpp"

namespace virtbus::xml {

namespace {

// ---- devices

constexpr Row devices_rows[]{
    leaf<&Devices::emulator>("emulator").host(),
    element<&Devices::disks>("disk", disk_table),
    element<&Devices::controllers>("controller", controller_table),
    element<&Devices::leases>("lease", lease_table).host(),
    element<&Devices::filesystems>("filesystem", filesystem_table),
    element<&Devices::interfaces>("interface", interface_table),
    element<&Devices::smartcards>("smartcard", smartcard_table),
    element<&Devices::serials>("serial", serial_table),
    element<&Devices::parallels>("parallel", parallel_table),
    element<&Devices::consoles>("console", console_table),
    element<&Devices::channels>("channel", channel_table),
    element<&Devices::inputs>("input", input_table),
    element<&Devices::tpms>("tpm", tpm_table),
    element<&Devices::graphics>("graphics", graphics_table).host(),
    element<&Devices::sounds>("sound", sound_table),
    element<&Devices::audios>("audio", audio_table).host(),
    element<&Devices::videos>("video", video_table),
    element<&Devices::hostdevs>("hostdev", hostdev_table),
    element<&Devices::redirdevs>("redirdev", redirdev_table),
    element<&Devices::redirfilter>("redirfilter", redirfilter_table),
    element<&Devices::hubs>("hub", hub_table),
    element<&Devices::watchdogs>("watchdog", watchdog_table),
    element<&Devices::memballoon>("memballoon", memballoon_table).always(),
    element<&Devices::rngs>("rng", rng_table),
    element<&Devices::nvram>("nvram", nvram_device_table).always(),
    element<&Devices::panics>("panic", panic_table),
    element<&Devices::shmems>("shmem", shmem_table),
    element<&Devices::memories>("memory", memory_device_table),
    element<&Devices::cryptos>("crypto", crypto_table),
    element<&Devices::iommus>("iommu", iommu_table),
    element<&Devices::vsock>("vsock", vsock_table).always(),
    element<&Devices::pstore>("pstore", pstore_table).always(),
};

// ---- memory and CPUs

/// Only DIMMs take slots.
bool has_slots(const MaxMemory& memory) {
    return memory.slots > 0;
}
constexpr Row max_memory_rows[]{
    attribute<&MaxMemory::slots>("slots").only_when<MaxMemory, has_slots>().range(1, UINT32_MAX),
    text<&MaxMemory::size>().scaled().required(),
};
constinit const Table max_memory_table = table<MaxMemory>(max_memory_rows);
constexpr Row memory_rows[]{
    attribute<&DomainConfig::memory_dump_core>("dumpCore").on_off().host(),
    text<&DomainConfig::memory>().scaled(),
};
constexpr Row vcpu_count_rows[]{
    attribute<&DomainConfig::vcpu_placement>("placement").one_of("static|auto").host(),
    attribute<&DomainConfig::vcpu_cpuset>("cpuset").host(),
    attribute<&DomainConfig::vcpu_current>("current").range(1, 65535).host(),
    text<&DomainConfig::vcpu>().range(1, 65535),
};
constexpr Row vcpus_rows[]{element<&DomainConfig::vcpus>("vcpu", vcpu_table)};
constexpr Row iothreadids_rows[]{element<&DomainConfig::iothreadids>("iothread", iothread_table)};
constexpr Row throttle_groups_rows[]{element<&DomainConfig::throttle_groups>("throttlegroup", throttle_group_table)};

// ---- small elements

constexpr Row genid_rows[]{text<&Genid::uuid>().uuid()};
constinit const Table genid_table = table<Genid>(genid_rows);
constexpr Row resource_rows[]{
    leaf<&Resource::partition>("partition"),
    leaf<&Resource::fibrechannel_appid>("fibrechannel", "appid"),
};
constinit const Table resource_table = table<Resource>(resource_rows);
constexpr Row idmap_rows[]{
    element<&IdMap::uid>("uid", id_range_table),
    element<&IdMap::gid>("gid", id_range_table),
};
constinit const Table idmap_table = table<IdMap>(idmap_rows);
constexpr Row pm_rows[]{
    leaf<&PowerManagement::suspend_to_mem>("suspend-to-mem", "enabled").yes_no(),
    leaf<&PowerManagement::suspend_to_disk>("suspend-to-disk", "enabled").yes_no(),
};
constinit const Table pm_table = table<PowerManagement>(pm_rows);
constexpr Row event_rows[]{
    attribute<&PerfEvent::name>("name").required(),
    attribute<&PerfEvent::enabled>("enabled").yes_no().required(),
};
constinit const Table event_table = table<PerfEvent>(event_rows);
constexpr Row perf_rows[]{element<&DomainConfig::perf>("event", event_table)};

// ---- sysinfo

constexpr Row entry_rows[]{
    attribute<&SysinfoEntry::name>("name"),
    attribute<&SysinfoEntry::file>("file"),
    text<&SysinfoEntry::value>(),
};
constinit const Table entry_table = table<SysinfoEntry>(entry_rows);
constexpr Row block_rows[]{element<&SysinfoBlock::entries>("entry", entry_table)};
constinit const Table block_table = table<SysinfoBlock>(block_rows);
constexpr Row sysinfo_rows[]{
    attribute<&Sysinfo::type>("type").one_of("smbios|fwcfg").required(),
    element<&Sysinfo::bios>("bios", block_table),
    element<&Sysinfo::system>("system", block_table),
    element<&Sysinfo::base_boards>("baseBoard", block_table),
    element<&Sysinfo::chassis>("chassis", block_table),
    element<&Sysinfo::oem_strings>("oemStrings", block_table),
    element<&Sysinfo::entries>("entry", entry_table),
};
constinit const Table sysinfo_table = table<Sysinfo>(sysinfo_rows);

// ---- encryption of the guest

constexpr Row cipher_rows[]{
    attribute<&KeywrapCipher::name>("name").one_of("aes|dea").required(),
    attribute<&KeywrapCipher::state>("state").on_off().required(),
};
constinit const Table cipher_table = table<KeywrapCipher>(cipher_rows);
constexpr Row keywrap_rows[]{element<&Keywrap::ciphers>("cipher", cipher_table)};
constinit const Table keywrap_table = table<Keywrap>(keywrap_rows);
constexpr Row launch_security_rows[]{
    attribute<&LaunchSecurity::type>("type").one_of("sev|sev-snp|s390-pv|tdx").required(),
    attribute<&LaunchSecurity::kernel_hashes>("kernelHashes").yes_no(),
    attribute<&LaunchSecurity::author_key>("authorKey").yes_no(),
    attribute<&LaunchSecurity::vcek>("vcek").yes_no(),
    leaf<&LaunchSecurity::cbitpos>("cbitpos"),
    leaf<&LaunchSecurity::reduced_phys_bits>("reducedPhysBits"),
    leaf<&LaunchSecurity::policy>("policy").hex(4),
    leaf<&LaunchSecurity::guest_visible_workarounds>("guestVisibleWorkarounds"),
    leaf<&LaunchSecurity::id_block>("idBlock"),
    leaf<&LaunchSecurity::id_auth>("idAuth"),
    leaf<&LaunchSecurity::host_data>("hostData"),
    leaf<&LaunchSecurity::dh_cert>("dhCert"),
    leaf<&LaunchSecurity::session>("session"),
    leaf<&LaunchSecurity::mr_config_id>("mrConfigId"),
    leaf<&LaunchSecurity::mr_owner>("mrOwner"),
    leaf<&LaunchSecurity::mr_owner_config>("mrOwnerConfig"),
};
constinit const Table launch_security_table = table<LaunchSecurity>(launch_security_rows);

// ---- QEMU's namespace

constexpr Row env_rows[]{
    attribute<&QemuEnv::name>("name").required(),
    attribute<&QemuEnv::value>("value"),
};
constinit const Table env_table = table<QemuEnv>(env_rows);
constexpr Row commandline_rows[]{
    leaf<&QemuCommandline::args>("qemu:arg", "value"),
    element<&QemuCommandline::envs>("qemu:env", env_table),
};
constinit const Table commandline_table = table<QemuCommandline>(commandline_rows);
constexpr Row capabilities_rows[]{
    leaf<&QemuCapabilities::add>("qemu:add", "capability"),
    leaf<&QemuCapabilities::del>("qemu:del", "capability"),
};
constinit const Table capabilities_table = table<QemuCapabilities>(capabilities_rows);
constexpr Row property_rows[]{
    attribute<&QemuProperty::name>("name").required(),
    attribute<&QemuProperty::type>("type").one_of("string|signed|unsigned|bool|remove").required(),
    attribute<&QemuProperty::value>("value"),
};
constinit const Table property_table = table<QemuProperty>(property_rows);
constexpr Row frontend_rows[]{element<&QemuDeviceOverride::frontend>("qemu:property", property_table)};
constexpr Row device_override_rows[]{
    attribute<&QemuDeviceOverride::alias>("alias").required(),
    group("qemu:frontend", frontend_rows),
};
constinit const Table device_override_table = table<QemuDeviceOverride>(device_override_rows);
constexpr Row override_rows[]{element<&QemuOverride::devices>("qemu:device", device_override_table)};
constinit const Table override_table = table<QemuOverride>(override_rows);

// ---- domain

constexpr const char* lifecycle_actions = "destroy|restart|preserve|rename-restart";

constexpr Row domain_rows[]{
    attribute<&DomainConfig::type>("type").required(),
    attribute<&DomainConfig::id>("id").host(),
    leaf<&DomainConfig::name>("name").required().host(),
    leaf<&DomainConfig::uuid>("uuid").uuid(),
    element<&DomainConfig::genid>("genid", genid_table).always().host(),
    leaf<&DomainConfig::title>("title").host(),
    leaf<&DomainConfig::description>("description").host(),
    verbatim<&DomainConfig::metadata>("metadata"),
    element<&DomainConfig::max_memory>("maxMemory", max_memory_table),
    group("memory", memory_rows),
    leaf<&DomainConfig::current_memory>("currentMemory").scaled().host(),
    element<&DomainConfig::blkiotune>("blkiotune", blkiotune_table).host(),
    element<&DomainConfig::memtune>("memtune", memtune_table).host(),
    element<&DomainConfig::memory_backing>("memoryBacking", memory_backing_table).host(),
    group("vcpu", vcpu_count_rows),
    group("vcpus", vcpus_rows).host(),
    leaf<&DomainConfig::iothreads>("iothreads").host(),
    group("iothreadids", iothreadids_rows).host(),
    element<&DomainConfig::default_iothread>("defaultiothread", default_iothread_table).host(),
    group("throttlegroups", throttle_groups_rows).host(),
    element<&DomainConfig::cputune>("cputune", cputune_table).host(),
    element<&DomainConfig::numatune>("numatune", numatune_table).host(),
    element<&DomainConfig::resource>("resource", resource_table).host(),
    element<&DomainConfig::sysinfos>("sysinfo", sysinfo_table),
    leaf<&DomainConfig::bootloader>("bootloader").host(),
    leaf<&DomainConfig::bootloader_args>("bootloader_args").host(),
    element<&DomainConfig::os>("os", os_table).required(),
    element<&DomainConfig::idmap>("idmap", idmap_table).host(),
    element<&DomainConfig::features>("features", features_table),
    element<&DomainConfig::cpu>("cpu", cpu_table),
    element<&DomainConfig::clock>("clock", clock_table),
    leaf<&DomainConfig::on_poweroff>("on_poweroff").one_of(lifecycle_actions).host(),
    leaf<&DomainConfig::on_reboot>("on_reboot").one_of(lifecycle_actions).host(),
    leaf<&DomainConfig::on_crash>("on_crash")
        .one_of("destroy|restart|preserve|rename-restart|coredump-destroy|coredump-restart")
        .host(),
    leaf<&DomainConfig::on_lockfailure>("on_lockfailure").one_of("poweroff|restart|pause|ignore").host(),
    element<&DomainConfig::pm>("pm", pm_table),
    group("perf", perf_rows).host(),
    element<&DomainConfig::devices>("devices", devices_table),
    element<&DomainConfig::security_labels>("seclabel", seclabel_table).host(),
    element<&DomainConfig::keywrap>("keywrap", keywrap_table),
    element<&DomainConfig::launch_security>("launchSecurity", launch_security_table),
    element<&DomainConfig::qemu_commandline>("qemu:commandline", commandline_table).always().host(),
    element<&DomainConfig::qemu_capabilities>("qemu:capabilities", capabilities_table).always().host(),
    element<&DomainConfig::qemu_override>("qemu:override", override_table).always().host(),
    leaf<&DomainConfig::qemu_deprecation>("qemu:deprecation", "behavior").one_of("none|omit|reject|crash").host(),
};

}  // namespace

constinit const Table devices_table = table<Devices>(devices_rows);
constinit const Table domain_table = table<DomainConfig>(domain_rows);

}  // namespace virtbus::xml
