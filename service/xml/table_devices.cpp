// SPDX-License-Identifier: LGPL-2.1-or-later
// Tables of the remaining devices: controllers, shared folders, host devices, memory, and those of a few words.
#include "service/xml/tables.hpp"
#include "virtbus/model/controller.hpp"
#include "virtbus/model/filesystem.hpp"
#include "virtbus/model/hostdev.hpp"
#include "virtbus/model/memory_device.hpp"
#include "virtbus/model/small_devices.hpp"
#include "virtbus/model/tpm.hpp"

namespace virtbus::xml {

namespace {

// ---- controller

constexpr Row controller_driver_rows[]{
    attribute<&ControllerDriver::queues>("queues").range(1, UINT32_MAX),
    attribute<&ControllerDriver::cmd_per_lun>("cmd_per_lun"),
    attribute<&ControllerDriver::max_sectors>("max_sectors"),
    attribute<&ControllerDriver::ioeventfd>("ioeventfd").on_off().host(),
    attribute<&ControllerDriver::iothread>("iothread").range(1, UINT32_MAX).host(),
    inlined<&ControllerDriver::virtio>(virtio_options_table),
};
constinit const Table controller_driver_table = table<ControllerDriver>(controller_driver_rows);
constexpr Row controller_target_rows[]{
    attribute<&ControllerTarget::chassis_nr>("chassisNr").range(1, 255),
    attribute<&ControllerTarget::chassis>("chassis").range(0, 255),
    attribute<&ControllerTarget::port>("port").range(0, 255).hex(),
    attribute<&ControllerTarget::bus_nr>("busNr").range(1, 254),
    attribute<&ControllerTarget::index>("index"),
    attribute<&ControllerTarget::hotplug>("hotplug").on_off(),
    leaf<&ControllerTarget::node>("node"),
};
constinit const Table controller_target_table = table<ControllerTarget>(controller_target_rows);
constexpr Row controller_rows[]{
    attribute<&Controller::type>("type").required(),
    attribute<&Controller::index>("index"),
    attribute<&Controller::model>("model"),
    attribute<&Controller::ports>("ports"),
    attribute<&Controller::vectors>("vectors"),
    attribute<&Controller::max_grant_frames>("maxGrantFrames"),
    attribute<&Controller::max_event_channels>("maxEventChannels"),
    leaf<&Controller::model_name>("model", "name"),
    element<&Controller::target>("target", controller_target_table),
    leaf<&Controller::serial>("serial"),
    element<&Controller::driver>("driver", controller_driver_table),
    inlined<&Controller::info>(device_info_table),
    leaf<&Controller::pcihole64>("pcihole64").scaled(),
};

/// The models a controller's type allows; those of a type not listed here are not checked.
struct Models {
    ControllerType type;
    std::string_view words;
};
constexpr Models controller_models[]{
    {ControllerType::pci,
     "pci-root|pcie-root|pci-bridge|dmi-to-pci-bridge|pcie-to-pci-bridge|pcie-root-port|pcie-switch-upstream-port|"
     "pcie-switch-downstream-port|pci-expander-bus|pcie-expander-bus"},
    {ControllerType::scsi,
     "auto|buslogic|lsilogic|lsisas1068|vmpvscsi|ibmvscsi|virtio-scsi|lsisas1078|virtio-transitional|"
     "virtio-non-transitional|ncr53c90|dc390|am53c974"},
    {ControllerType::usb,
     "piix3-uhci|piix4-uhci|ehci|ich9-ehci1|ich9-uhci1|ich9-uhci2|ich9-uhci3|vt82c686b-uhci|pci-ohci|nec-xhci|qusb1|"
     "qusb2|qemu-xhci|none"},
    {ControllerType::ide, "piix3|piix4|ich6"},
    {ControllerType::virtio_serial, "virtio|virtio-transitional|virtio-non-transitional"},
};
std::string check_controller(const void* object) {
    const auto& controller = *static_cast<const Controller*>(object);
    if (controller.model.empty()) return controller.type == ControllerType::pci ? "attribute 'model' is missing" : "";
    for (const auto& [type, words] : controller_models) {
        if (type != controller.type) continue;
        const auto list = "|" + std::string{words} + "|";
        if (list.find("|" + controller.model + "|") == list.npos)
            return "model='" + controller.model + "' is not allowed; allowed: " + std::string{words};
    }
    return "";
}

// ---- filesystem

constexpr Row fs_driver_rows[]{
    attribute<&FilesystemDriver::type>("type").one_of("path|handle|loop|nbd|ploop|virtiofs|mtp"),
    attribute<&FilesystemDriver::format>("format"),
    attribute<&FilesystemDriver::name>("name"),
    attribute<&FilesystemDriver::wrpolicy>("wrpolicy").one_of("immediate"),
    attribute<&FilesystemDriver::queue>("queue"),
    inlined<&FilesystemDriver::virtio>(virtio_options_table),
};
constinit const Table fs_driver_table = table<FilesystemDriver>(fs_driver_rows);
constexpr Row lock_rows[]{
    attribute<&FilesystemBinary::lock_posix>("posix").on_off(),
    attribute<&FilesystemBinary::lock_flock>("flock").on_off(),
};
constexpr Row binary_rows[]{
    attribute<&FilesystemBinary::path>("path"),
    attribute<&FilesystemBinary::xattr>("xattr").on_off(),
    leaf<&FilesystemBinary::cache_mode>("cache", "mode").one_of("none|always"),
    leaf<&FilesystemBinary::sandbox_mode>("sandbox", "mode").one_of("namespace|chroot|none"),
    group("lock", lock_rows),
    leaf<&FilesystemBinary::thread_pool_size>("thread_pool", "size"),
    leaf<&FilesystemBinary::openfiles_max>("openfiles", "max"),
};
constinit const Table binary_table = table<FilesystemBinary>(binary_rows);
constexpr Row fs_source_rows[]{
    attribute<&FilesystemSource::dir>("dir"),       attribute<&FilesystemSource::file>("file"),
    attribute<&FilesystemSource::dev>("dev"),       attribute<&FilesystemSource::name>("name"),
    attribute<&FilesystemSource::socket>("socket"), attribute<&FilesystemSource::pool>("pool"),
    attribute<&FilesystemSource::volume>("volume"), attribute<&FilesystemSource::usage>("usage"),
    attribute<&FilesystemSource::units>("units"),
};
constinit const Table fs_source_table = table<FilesystemSource>(fs_source_rows);
constexpr Row fs_idmap_rows[]{
    element<&Filesystem::idmap_uid>("uid", id_range_table),
    element<&Filesystem::idmap_gid>("gid", id_range_table),
};
constexpr Row filesystem_rows[]{
    attribute<&Filesystem::type>("type").one_of("mount|block|file|template|ram|bind|volume").host(),
    attribute<&Filesystem::accessmode>("accessmode").one_of("passthrough|mapped|squash").host(),
    attribute<&Filesystem::model>("model").one_of(virtio_models),
    attribute<&Filesystem::multidevs>("multidevs").one_of("default|remap|forbid|warn").host(),
    attribute<&Filesystem::fmode>("fmode").host(),
    attribute<&Filesystem::dmode>("dmode").host(),
    element<&Filesystem::driver>("driver", fs_driver_table),
    element<&Filesystem::binary>("binary", binary_table).host(),
    group("idmap", fs_idmap_rows).host(),
    element<&Filesystem::source>("source", fs_source_table).host(),
    leaf<&Filesystem::target_dir>("target", "dir").required(),
    flag<&Filesystem::readonly>("readonly"),
    inlined<&Filesystem::info>(device_info_table),
    leaf<&Filesystem::space_hard_limit>("space_hard_limit").scaled(Unit::bytes, 1).host(),
    leaf<&Filesystem::space_soft_limit>("space_soft_limit").scaled(Unit::bytes, 1).host(),
};
std::string check_filesystem(const void* object) {
    const auto& fs = *static_cast<const Filesystem*>(object);
    for (const auto& mode : {fs.fmode, fs.dmode})
        if (mode.size() > 4 || mode.find_first_not_of("01234567") != mode.npos)
            return "fmode and dmode are octal, at most 0777";
    return "";
}

// ---- hostdev

constexpr Row adapter_rows[]{attribute<&HostdevSource::adapter>("name")};
constexpr Row hostdev_initiator_rows[]{leaf<&HostdevSource::initiator_iqn>("iqn", "name")};
constexpr Row hostdev_source_rows[]{
    attribute<&HostdevSource::startup_policy>("startupPolicy").one_of("mandatory|requisite|optional"),
    attribute<&HostdevSource::write_filtering>("writeFiltering").yes_no(),
    attribute<&HostdevSource::guest_reset>("guestReset").one_of("off|uninitialized|on"),
    attribute<&HostdevSource::protocol>("protocol").one_of("adapter|iscsi|vhost"),
    attribute<&HostdevSource::name>("name"),
    attribute<&HostdevSource::wwpn>("wwpn"),
    leaf<&HostdevSource::vendor_id>("vendor", "id").range(0, 0xffff).hex(4),
    leaf<&HostdevSource::product_id>("product", "id").range(0, 0xffff).hex(4),
    group("adapter", adapter_rows),
    choice<&HostdevSource::address>("address", host_address_choice),
    element<&HostdevSource::hosts>("host", storage_host_table),
    element<&HostdevSource::auth>("auth", storage_auth_table),
    group("initiator", hostdev_initiator_rows),
    leaf<&HostdevSource::block>("block"),
    leaf<&HostdevSource::character>("char"),
    leaf<&HostdevSource::interface_name>("interface"),
};
constinit const Table hostdev_source_table = table<HostdevSource>(hostdev_source_rows);
constexpr Row hostdev_driver_rows[]{
    attribute<&HostdevDriver::name>("name").one_of("vfio|kvm|xen"),
    attribute<&HostdevDriver::model>("model"),
    attribute<&HostdevDriver::iommufd>("iommufd").yes_no(),
};
constinit const Table hostdev_driver_table = table<HostdevDriver>(hostdev_driver_rows);
constexpr Row hostdev_rows[]{
    attribute<&Hostdev::mode>("mode").one_of("subsystem|capabilities"),
    attribute<&Hostdev::type>("type").required(),
    attribute<&Hostdev::managed>("managed").yes_no().host(),
    attribute<&Hostdev::sgio>("sgio").one_of("filtered|unfiltered").host(),
    attribute<&Hostdev::rawio>("rawio").yes_no().host(),
    attribute<&Hostdev::model>("model").one_of(
        "vfio-pci|vfio-ccw|vfio-ap|virtio|virtio-transitional|virtio-non-transitional"),
    attribute<&Hostdev::display>("display").on_off(),
    attribute<&Hostdev::ramfb>("ramfb").on_off(),
    element<&Hostdev::driver>("driver", hostdev_driver_table).host(),
    element<&Hostdev::source>("source", hostdev_source_table).required().host(),
    element<&Hostdev::teaming>("teaming", teaming_table),
    element<&Hostdev::ips>("ip", ip_address_table).host(),
    element<&Hostdev::routes>("route", ip_route_table).host(),
    flag<&Hostdev::readonly>("readonly"),
    flag<&Hostdev::shareable>("shareable").host(),
    inlined<&Hostdev::info>(device_info_table),
};
std::string check_hostdev(const void* object) {
    const auto& device = *static_cast<const Hostdev*>(object);
    const auto& source = device.source;
    const auto has = [&]<class T>(std::type_identity<T>) {
        return source.address && std::holds_alternative<T>(*source.address);
    };
    switch (device.type) {
        case HostdevType::pci:
            return has(std::type_identity<HostPciAddress>{})
                       ? ""
                       : "type='pci' needs an <address> with bus, slot and function in <source>";
        case HostdevType::mdev:
            return has(std::type_identity<HostMdevAddress>{})
                       ? ""
                       : "type='mdev' needs an <address> with a uuid in <source>";
        case HostdevType::usb:
            return (source.vendor_id && source.product_id) || has(std::type_identity<HostUsbAddress>{})
                       ? ""
                       : "type='usb' needs <vendor> and <product>, or an <address> with bus and device, in <source>";
        case HostdevType::scsi:
            return source.protocol == "iscsi" || has(std::type_identity<HostScsiAddress>{})
                       ? ""
                       : "type='scsi' needs an <address> with bus, target and unit in <source>";
        case HostdevType::scsi_host:
            return source.wwpn.empty() ? "type='scsi_host' needs attribute 'wwpn' in <source>" : "";
        default:
            return "";
    }
}

// ---- tpm

constexpr Row tpm_source_rows[]{
    attribute<&TpmSource::type>("type").one_of("unix|file|dir").required(),
    attribute<&TpmSource::mode>("mode").one_of("connect"),
    attribute<&TpmSource::path>("path"),
};
constinit const Table tpm_source_table = table<TpmSource>(tpm_source_rows);
constexpr Row tpm_profile_rows[]{
    attribute<&TpmProfile::source>("source"),
    attribute<&TpmProfile::remove_disabled>("removeDisabled").one_of("check|fips-host"),
    attribute<&TpmProfile::name>("name"),
};
constinit const Table tpm_profile_table = table<TpmProfile>(tpm_profile_rows);
constexpr Row pcr_bank_rows[]{
    flag<&TpmBackend::sha1>("sha1"),
    flag<&TpmBackend::sha256>("sha256"),
    flag<&TpmBackend::sha384>("sha384"),
    flag<&TpmBackend::sha512>("sha512"),
};
constexpr Row tpm_backend_rows[]{
    attribute<&TpmBackend::type>("type").one_of("passthrough|emulator|external").required(),
    attribute<&TpmBackend::version>("version").one_of("1.2|2.0"),
    attribute<&TpmBackend::persistent_state>("persistent_state").yes_no().host(),
    attribute<&TpmBackend::debug>("debug").host(),
    leaf<&TpmBackend::device_path>("device", "path").host(),
    leaf<&TpmBackend::encryption_secret>("encryption", "secret").uuid().host(),
    group("active_pcr_banks", pcr_bank_rows),
    element<&TpmBackend::source>("source", tpm_source_table).host(),
    element<&TpmBackend::profile>("profile", tpm_profile_table),
};
constinit const Table tpm_backend_table = table<TpmBackend>(tpm_backend_rows);
constexpr Row tpm_rows[]{
    attribute<&Tpm::model>("model").one_of("tpm-tis|tpm-crb|tpm-spapr|spapr-tpm-proxy"),
    element<&Tpm::backend>("backend", tpm_backend_table).required(),
    inlined<&Tpm::info>(device_info_table),
};

// ---- memory

constexpr Row memory_source_rows[]{
    leaf<&MemoryDeviceSource::nodemask>("nodemask"), leaf<&MemoryDeviceSource::pagesize>("pagesize").scaled(),
    leaf<&MemoryDeviceSource::path>("path"),         leaf<&MemoryDeviceSource::alignsize>("alignsize").scaled(),
    flag<&MemoryDeviceSource::pmem>("pmem"),
};
constinit const Table memory_source_table = table<MemoryDeviceSource>(memory_source_rows);
constexpr Row label_rows[]{leaf<&MemoryDeviceTarget::label_size>("size").scaled()};
constexpr Row memory_target_rows[]{
    attribute<&MemoryDeviceTarget::dynamic_memslots>("dynamicMemslots").yes_no(),
    leaf<&MemoryDeviceTarget::size>("size").scaled().range(1, UINT64_MAX).required(),
    leaf<&MemoryDeviceTarget::node>("node"),
    group("label", label_rows),
    leaf<&MemoryDeviceTarget::block>("block").scaled(),
    leaf<&MemoryDeviceTarget::requested>("requested").scaled().host(),
    leaf<&MemoryDeviceTarget::current>("current").scaled().host(),
    flag<&MemoryDeviceTarget::readonly>("readonly"),
    leaf<&MemoryDeviceTarget::address_base>("address", "base").hex(),
};
constinit const Table memory_target_table = table<MemoryDeviceTarget>(memory_target_rows);
constexpr Row memory_device_rows[]{
    attribute<&MemoryDevice::model>("model").one_of("dimm|nvdimm|virtio-pmem|virtio-mem|sgx-epc").required(),
    attribute<&MemoryDevice::access>("access").one_of("shared|private").host(),
    attribute<&MemoryDevice::discard>("discard").yes_no().host(),
    leaf<&MemoryDevice::uuid>("uuid").uuid(),
    element<&MemoryDevice::source>("source", memory_source_table).host(),
    element<&MemoryDevice::target>("target", memory_target_table).required(),
    inlined<&MemoryDevice::info>(device_info_table),
};
constexpr Row memballoon_rows[]{
    attribute<&Memballoon::model>("model")
        .one_of("virtio|virtio-transitional|virtio-non-transitional|xen|none")
        .required(),
    attribute<&Memballoon::autodeflate>("autodeflate").on_off(),
    attribute<&Memballoon::free_page_reporting>("freePageReporting").on_off(),
    leaf<&Memballoon::stats_period>("stats", "period").host(),
    inlined<&Memballoon::info>(device_info_table),
    element<&Memballoon::driver>("driver", virtio_driver_table),
};

// ---- devices of a few words

constexpr Row hub_rows[]{
    attribute<&Hub::type>("type").one_of("usb").required(),
    inlined<&Hub::info>(device_info_table),
};
constexpr Row watchdog_rows[]{
    attribute<&Watchdog::model>("model").one_of("i6300esb|ib700|diag288|itco").required(),
    attribute<&Watchdog::action>("action").one_of("reset|shutdown|poweroff|pause|dump|none|inject-nmi").host(),
    inlined<&Watchdog::info>(device_info_table),
};
constexpr Row nvram_device_rows[]{inlined<&NvramDevice::info>(device_info_table)};
constexpr Row panic_rows[]{
    attribute<&Panic::model>("model").one_of("isa|hyperv|pseries|s390|pvpanic"),
    inlined<&Panic::info>(device_info_table),
};
constexpr Row server_rows[]{attribute<&ShmemServer::path>("path")};
constinit const Table server_table = table<ShmemServer>(server_rows);
constexpr Row msi_rows[]{
    attribute<&ShmemMsi::vectors>("vectors"),
    attribute<&ShmemMsi::ioeventfd>("ioeventfd").on_off(),
};
constinit const Table msi_table = table<ShmemMsi>(msi_rows);
constexpr Row shmem_rows[]{
    attribute<&Shmem::name>("name").required(),
    attribute<&Shmem::role>("role").one_of("master|peer"),
    leaf<&Shmem::model>("model", "type").one_of("ivshmem|ivshmem-plain|ivshmem-doorbell"),
    leaf<&Shmem::size>("size").scaled(Unit::mib_short, 1),
    element<&Shmem::server>("server", server_table).always().host(),
    element<&Shmem::msi>("msi", msi_table).always(),
    inlined<&Shmem::info>(device_info_table),
};
std::string check_shmem(const void* object) {
    return static_cast<const Shmem*>(object)->name.find('/') == std::string::npos ? "" : "name must not contain '/'";
}
constexpr Row crypto_backend_rows[]{
    attribute<&CryptoBackend::model>("model").one_of("builtin|lkcf").required(),
    attribute<&CryptoBackend::queues>("queues").range(1, UINT32_MAX),
};
constinit const Table crypto_backend_table = table<CryptoBackend>(crypto_backend_rows);
constexpr Row crypto_rows[]{
    attribute<&Crypto::model>("model").one_of("virtio").required(),
    attribute<&Crypto::type>("type").one_of("qemu").required(),
    element<&Crypto::backend>("backend", crypto_backend_table).required(),
    element<&Crypto::driver>("driver", virtio_driver_table),
    inlined<&Crypto::info>(device_info_table),
};
constexpr Row iommu_driver_rows[]{
    attribute<&IommuDriver::intremap>("intremap").on_off(),
    attribute<&IommuDriver::caching_mode>("caching_mode").on_off(),
    attribute<&IommuDriver::eim>("eim").on_off(),
    attribute<&IommuDriver::iotlb>("iotlb").on_off(),
    attribute<&IommuDriver::aw_bits>("aw_bits"),
    attribute<&IommuDriver::dma_translation>("dma_translation").on_off(),
    attribute<&IommuDriver::xtsup>("xtsup").on_off(),
    attribute<&IommuDriver::passthrough>("passthrough").on_off(),
    attribute<&IommuDriver::granule>("granule"),
};
constinit const Table iommu_driver_table = table<IommuDriver>(iommu_driver_rows);
constexpr Row iommu_rows[]{
    attribute<&Iommu::model>("model").one_of("intel|smmuv3|virtio|amd").required(),
    element<&Iommu::driver>("driver", iommu_driver_table),
    inlined<&Iommu::info>(device_info_table),
};
constexpr Row cid_rows[]{
    attribute<&VsockCid::automatic>("auto").yes_no(),
    attribute<&VsockCid::address>("address").range(3, UINT32_MAX).host(),
};
constinit const Table cid_table = table<VsockCid>(cid_rows);
constexpr Row vsock_rows[]{
    attribute<&Vsock::model>("model").one_of(virtio_models),
    element<&Vsock::cid>("cid", cid_table),
    inlined<&Vsock::info>(device_info_table),
    element<&Vsock::driver>("driver", virtio_driver_table),
};
constexpr Row pstore_rows[]{
    attribute<&Pstore::backend>("backend").one_of("acpi-erst").required(),
    leaf<&Pstore::path>("path").host(),
    leaf<&Pstore::size>("size").scaled(),
    inlined<&Pstore::info>(device_info_table),
};
constexpr Row lease_target_rows[]{
    attribute<&Lease::target_path>("path"),
    attribute<&Lease::target_offset>("offset"),
};
constexpr Row lease_rows[]{
    leaf<&Lease::lockspace>("lockspace"),
    leaf<&Lease::key>("key").required(),
    group("target", lease_target_rows).required(),
};

}  // namespace

constinit const Table controller_table = table<Controller>(controller_rows, check_controller);
constinit const Table filesystem_table = table<Filesystem>(filesystem_rows, check_filesystem);
constinit const Table hostdev_table = table<Hostdev>(hostdev_rows, check_hostdev);
constinit const Table tpm_table = table<Tpm>(tpm_rows);
constinit const Table memory_device_table = table<MemoryDevice>(memory_device_rows);
constinit const Table memballoon_table = table<Memballoon>(memballoon_rows);
constinit const Table hub_table = table<Hub>(hub_rows);
constinit const Table watchdog_table = table<Watchdog>(watchdog_rows);
constinit const Table nvram_device_table = table<NvramDevice>(nvram_device_rows);
constinit const Table panic_table = table<Panic>(panic_rows);
constinit const Table shmem_table = table<Shmem>(shmem_rows, check_shmem);
constinit const Table crypto_table = table<Crypto>(crypto_rows);
constinit const Table iommu_table = table<Iommu>(iommu_rows);
constinit const Table vsock_table = table<Vsock>(vsock_rows);
constinit const Table pstore_table = table<Pstore>(pstore_rows);
constinit const Table lease_table = table<Lease>(lease_rows);

}  // namespace virtbus::xml
