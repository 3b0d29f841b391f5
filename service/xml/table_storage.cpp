// SPDX-License-Identifier: LGPL-2.1-or-later
// Tables of disks and of the sources that disks, backing files and variable stores share.
#include "service/xml/tables.hpp"
#include "virtbus/model/disk.hpp"

namespace virtbus::xml {

namespace {

constexpr const char* image_formats =
    "raw|dir|bochs|cloop|dmg|iso|vpc|vdi|fat|vhd|ploop|luks|cow|qcow|qcow2|qed|vmdk|aio|vhdx|parallels";

// ---- sources

constexpr Row secret_rows[]{
    attribute<&SecretRef::type>("type").one_of("passphrase|volume|ceph|iscsi|tls|vtpm"),
    attribute<&SecretRef::usage>("usage"),
    attribute<&SecretRef::uuid>("uuid").uuid(),
};
constinit const Table secret_table = table<SecretRef>(secret_rows);

constexpr Row auth_rows[]{
    attribute<&StorageAuth::username>("username").required(),
    element<&StorageAuth::secret>("secret", secret_table),
};

constexpr Row cipher_rows[]{
    attribute<&EncryptionCipher::name>("name"),
    attribute<&EncryptionCipher::size>("size"),
    attribute<&EncryptionCipher::mode>("mode"),
    attribute<&EncryptionCipher::hash>("hash"),
};
constinit const Table cipher_table = table<EncryptionCipher>(cipher_rows);
constexpr Row ivgen_rows[]{
    attribute<&EncryptionIvgen::name>("name"),
    attribute<&EncryptionIvgen::hash>("hash"),
};
constinit const Table ivgen_table = table<EncryptionIvgen>(ivgen_rows);
constexpr Row encryption_rows[]{
    attribute<&StorageEncryption::format>("format").one_of("default|qcow|luks|luks2|luks-any").required(),
    attribute<&StorageEncryption::engine>("engine").one_of("qemu|librbd"),
    element<&StorageEncryption::secrets>("secret", secret_table),
    element<&StorageEncryption::cipher>("cipher", cipher_table),
    element<&StorageEncryption::ivgen>("ivgen", ivgen_table),
};

std::string check_host(const void* object) {
    const auto& host = *static_cast<const StorageHost*>(object);
    if (host.transport == "unix" && host.socket.empty()) return "transport='unix' needs attribute 'socket'";
    if (host.transport != "unix" && host.name.empty()) return "attribute 'name' is missing";
    return "";
}
constexpr Row host_rows[]{
    attribute<&StorageHost::name>("name"),
    attribute<&StorageHost::port>("port"),
    attribute<&StorageHost::transport>("transport").one_of("tcp|rdma|unix"),
    attribute<&StorageHost::socket>("socket"),
};

constexpr Row reconnect_rows[]{
    attribute<&Reconnect::enabled>("enabled").yes_no(),
    attribute<&Reconnect::timeout>("timeout"),
    attribute<&Reconnect::delay>("delay"),
};

constexpr Row reservations_source_rows[]{
    attribute<&Reservations::type>("type").one_of("unix"),
    attribute<&Reservations::path>("path"),
    attribute<&Reservations::mode>("mode").one_of("client|server"),
};
constexpr Row reservations_rows[]{
    attribute<&Reservations::managed>("managed").yes_no(),
    group("source", reservations_source_rows),
};
constinit const Table reservations_table = table<Reservations>(reservations_rows);

constexpr Row slice_rows[]{
    attribute<&StorageSlice::type>("type").one_of("storage").required(),
    attribute<&StorageSlice::offset>("offset").required(),
    attribute<&StorageSlice::size>("size").range(1, UINT64_MAX).required(),
};
constinit const Table slice_table = table<StorageSlice>(slice_rows);
constexpr Row slices_rows[]{element<&StorageSource::slices>("slice", slice_table)};

constexpr Row cookie_rows[]{
    attribute<&StorageCookie::name>("name").required(),
    text<&StorageCookie::value>(),
};
constinit const Table cookie_table = table<StorageCookie>(cookie_rows);
constexpr Row cookies_rows[]{element<&StorageSource::cookies>("cookie", cookie_table).secret()};

constexpr Row initiator_rows[]{leaf<&StorageSource::initiator_iqn>("iqn", "name")};
constexpr Row identity_rows[]{
    attribute<&StorageSource::identity_user>("user"),           attribute<&StorageSource::identity_group>("group"),
    attribute<&StorageSource::identity_username>("username"),   attribute<&StorageSource::identity_keyfile>("keyfile"),
    attribute<&StorageSource::identity_agentsock>("agentsock"),
};

constexpr Row source_rows[]{
    attribute<&StorageSource::type>("type").one_of("pci|unix"),
    attribute<&StorageSource::file>("file"),
    attribute<&StorageSource::dev>("dev"),
    attribute<&StorageSource::dir>("dir"),
    attribute<&StorageSource::protocol>("protocol")
        .one_of("nbd|rbd|sheepdog|gluster|iscsi|http|https|ftp|ftps|tftp|ssh|vxhs|nfs"),
    attribute<&StorageSource::name>("name"),
    attribute<&StorageSource::query>("query"),
    attribute<&StorageSource::tls>("tls").yes_no(),
    attribute<&StorageSource::tls_hostname>("tlsHostname"),
    attribute<&StorageSource::pool>("pool"),
    attribute<&StorageSource::volume>("volume"),
    attribute<&StorageSource::mode>("mode").one_of("host|direct"),
    attribute<&StorageSource::managed>("managed").yes_no(),
    attribute<&StorageSource::nvme_namespace>("namespace").range(1, UINT32_MAX),
    attribute<&StorageSource::path>("path"),
    attribute<&StorageSource::fd_group>("fdgroup"),
    attribute<&StorageSource::startup_policy>("startupPolicy").one_of("mandatory|requisite|optional"),
    attribute<&StorageSource::index>("index"),
    element<&StorageSource::hosts>("host", storage_host_table),
    group("identity", identity_rows),
    leaf<&StorageSource::snapshot>("snapshot", "name"),
    leaf<&StorageSource::config>("config", "file"),
    leaf<&StorageSource::known_hosts>("knownHosts", "path"),
    group("initiator", initiator_rows),
    element<&StorageSource::address>("address", host_pci_address_table),
    element<&StorageSource::reconnect>("reconnect", reconnect_table),
    leaf<&StorageSource::ssl_verify>("ssl", "verify").yes_no(),
    group("cookies", cookies_rows),
    leaf<&StorageSource::readahead>("readahead", "size"),
    leaf<&StorageSource::timeout>("timeout", "seconds"),
    group("slices", slices_rows),
    element<&StorageSource::security_labels>("seclabel", source_seclabel_table),
    element<&StorageSource::auth>("auth", storage_auth_table),
    element<&StorageSource::encryption>("encryption", storage_encryption_table),
    element<&StorageSource::reservations>("reservations", reservations_table),
};

constexpr Row max_size_rows[]{leaf<&StorageFormat::metadata_cache_max_size>("max_size").scaled(Unit::bytes, 1)};
constexpr Row format_rows[]{
    attribute<&StorageFormat::type>("type").one_of(image_formats).required(),
    group("metadata_cache", max_size_rows),
};

std::string check_depth(const void* object) {
    return static_cast<const BackingStore*>(object)->backing_store.size() > 1 ? "only one <backingStore> may lie below"
                                                                              : "";
}
extern const Table backing_store_table;
constexpr Row backing_store_rows[]{
    attribute<&BackingStore::type>("type"),
    attribute<&BackingStore::index>("index"),
    element<&BackingStore::format>("format", storage_format_table),
    element<&BackingStore::source>("source", storage_source_table),
    element<&BackingStore::backing_store>("backingStore", backing_store_table),
};
constinit const Table backing_store_table = table<BackingStore>(backing_store_rows, check_depth);

// ---- disks

constexpr Row iothread_queue_rows[]{attribute<&DiskIothreadQueue::id>("id").required()};
constinit const Table iothread_queue_table = table<DiskIothreadQueue>(iothread_queue_rows);
constexpr Row iothread_rows[]{
    attribute<&DiskIothread::id>("id").range(1, UINT32_MAX).required(),
    element<&DiskIothread::queues>("queue", iothread_queue_table),
};
constinit const Table disk_iothread_table = table<DiskIothread>(iothread_rows);
constexpr Row iothreads_rows[]{element<&DiskDriver::iothreads>("iothread", disk_iothread_table)};
constexpr Row statistics_rows[]{leaf<&DiskDriver::statistics>("statistic", "interval")};
constexpr Row driver_cache_rows[]{leaf<&DiskDriver::metadata_cache_max_size>("max_size").scaled(Unit::bytes, 1)};

constexpr Row driver_rows[]{
    attribute<&DiskDriver::name>("name").host(),
    attribute<&DiskDriver::type>("type").one_of(image_formats).host(),
    attribute<&DiskDriver::cache>("cache").one_of("default|none|writeback|writethrough|directsync|unsafe").host(),
    attribute<&DiskDriver::error_policy>("error_policy").one_of("stop|report|ignore|enospace").host(),
    attribute<&DiskDriver::rerror_policy>("rerror_policy").one_of("stop|report|ignore").host(),
    attribute<&DiskDriver::io>("io").one_of("threads|native|io_uring").host(),
    attribute<&DiskDriver::ioeventfd>("ioeventfd").on_off().host(),
    attribute<&DiskDriver::event_idx>("event_idx").on_off(),
    attribute<&DiskDriver::copy_on_read>("copy_on_read").on_off().host(),
    attribute<&DiskDriver::discard>("discard").one_of("unmap|ignore").host(),
    attribute<&DiskDriver::iothread>("iothread").range(1, UINT32_MAX).host(),
    attribute<&DiskDriver::detect_zeroes>("detect_zeroes").one_of("off|on|unmap").host(),
    attribute<&DiskDriver::discard_no_unref>("discard_no_unref").on_off().host(),
    attribute<&DiskDriver::queues>("queues").range(1, UINT32_MAX),
    attribute<&DiskDriver::queue_size>("queue_size").range(1, UINT32_MAX),
    inlined<&DiskDriver::virtio>(virtio_options_table),
    group("iothreads", iothreads_rows).host(),
    group("statistics", statistics_rows).host(),
    group("metadata_cache", driver_cache_rows).host(),
};
constinit const Table driver_table = table<DiskDriver>(driver_rows);

std::string check_target(const void* object) {
    const auto& dev = static_cast<const DiskTarget*>(object)->dev;
    constexpr std::string_view allowed = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_:";
    return dev.find_first_not_of(allowed) == dev.npos ? "" : "dev is a name such as vda, sdb or hdc";
}
constexpr Row target_rows[]{
    attribute<&DiskTarget::dev>("dev").required(),
    attribute<&DiskTarget::bus>("bus").one_of("ide|fdc|scsi|virtio|xen|usb|uml|sata|sd|nvme"),
    attribute<&DiskTarget::tray>("tray").one_of("open|closed").host(),
    attribute<&DiskTarget::removable>("removable").on_off(),
    attribute<&DiskTarget::rotation_rate>("rotation_rate").range(1, 65534),
    attribute<&DiskTarget::dpofua>("dpofua").on_off(),
};
constinit const Table target_table = table<DiskTarget>(target_rows, check_target);

constexpr Row iotune_rows[]{
    leaf<&DiskIoTune::total_bytes_sec>("total_bytes_sec"),
    leaf<&DiskIoTune::read_bytes_sec>("read_bytes_sec"),
    leaf<&DiskIoTune::write_bytes_sec>("write_bytes_sec"),
    leaf<&DiskIoTune::total_iops_sec>("total_iops_sec"),
    leaf<&DiskIoTune::read_iops_sec>("read_iops_sec"),
    leaf<&DiskIoTune::write_iops_sec>("write_iops_sec"),
    leaf<&DiskIoTune::total_bytes_sec_max>("total_bytes_sec_max"),
    leaf<&DiskIoTune::read_bytes_sec_max>("read_bytes_sec_max"),
    leaf<&DiskIoTune::write_bytes_sec_max>("write_bytes_sec_max"),
    leaf<&DiskIoTune::total_iops_sec_max>("total_iops_sec_max"),
    leaf<&DiskIoTune::read_iops_sec_max>("read_iops_sec_max"),
    leaf<&DiskIoTune::write_iops_sec_max>("write_iops_sec_max"),
    leaf<&DiskIoTune::size_iops_sec>("size_iops_sec"),
    leaf<&DiskIoTune::group_name>("group_name"),
    leaf<&DiskIoTune::total_bytes_sec_max_length>("total_bytes_sec_max_length"),
    leaf<&DiskIoTune::read_bytes_sec_max_length>("read_bytes_sec_max_length"),
    leaf<&DiskIoTune::write_bytes_sec_max_length>("write_bytes_sec_max_length"),
    leaf<&DiskIoTune::total_iops_sec_max_length>("total_iops_sec_max_length"),
    leaf<&DiskIoTune::read_iops_sec_max_length>("read_iops_sec_max_length"),
    leaf<&DiskIoTune::write_iops_sec_max_length>("write_iops_sec_max_length"),
};
std::string check_iotune(const void* object) {
    const auto& tune = *static_cast<const DiskIoTune*>(object);
    const auto both = [](const auto& total, const auto& read, const auto& write) {
        return total.value_or(0) && (read.value_or(0) || write.value_or(0));
    };
    if (both(tune.total_bytes_sec, tune.read_bytes_sec, tune.write_bytes_sec) ||
        both(tune.total_bytes_sec_max, tune.read_bytes_sec_max, tune.write_bytes_sec_max))
        return "total and read/write bytes_sec exclude each other";
    if (both(tune.total_iops_sec, tune.read_iops_sec, tune.write_iops_sec) ||
        both(tune.total_iops_sec_max, tune.read_iops_sec_max, tune.write_iops_sec_max))
        return "total and read/write iops_sec exclude each other";
    return "";
}

constexpr Row throttle_filter_rows[]{attribute<&ThrottleFilter::group>("group").required()};
constinit const Table throttle_filter_table = table<ThrottleFilter>(throttle_filter_rows);
constexpr Row throttle_filters_rows[]{element<&Disk::throttle_filters>("throttlefilter", throttle_filter_table)};

constexpr Row geometry_rows[]{
    attribute<&DiskGeometry::cyls>("cyls").required(),
    attribute<&DiskGeometry::heads>("heads").required(),
    attribute<&DiskGeometry::secs>("secs").required(),
    attribute<&DiskGeometry::trans>("trans").one_of("auto|none|lba"),
};
constinit const Table geometry_table = table<DiskGeometry>(geometry_rows);

constexpr Row blockio_rows[]{
    attribute<&DiskBlockIo::logical_block_size>("logical_block_size"),
    attribute<&DiskBlockIo::physical_block_size>("physical_block_size"),
    attribute<&DiskBlockIo::discard_granularity>("discard_granularity"),
};
constinit const Table blockio_table = table<DiskBlockIo>(blockio_rows);

constexpr Row mirror_rows[]{
    attribute<&DiskMirror::type>("type"),
    attribute<&DiskMirror::file>("file"),
    attribute<&DiskMirror::format_attribute>("format"),
    attribute<&DiskMirror::job>("job").one_of("copy|active-commit"),
    attribute<&DiskMirror::ready>("ready").one_of("yes|abort|pivot"),
    element<&DiskMirror::format>("format", storage_format_table),
    element<&DiskMirror::source>("source", storage_source_table),
    element<&DiskMirror::backing_store>("backingStore", backing_store_table),
};
constinit const Table mirror_table = table<DiskMirror>(mirror_rows);

constexpr Row transient_rows[]{attribute<&Transient::share_backing>("shareBacking").yes_no()};
constinit const Table transient_table = table<Transient>(transient_rows);

constexpr Row disk_rows[]{
    attribute<&Disk::type>("type").host(),
    attribute<&Disk::device>("device"),
    attribute<&Disk::model>("model").one_of("virtio|virtio-transitional|virtio-non-transitional|usb-storage|usb-bot"),
    attribute<&Disk::rawio>("rawio").yes_no().host(),
    attribute<&Disk::sgio>("sgio").one_of("filtered|unfiltered").host(),
    attribute<&Disk::snapshot>("snapshot").one_of("no|internal|external|manual").host(),
    element<&Disk::driver>("driver", driver_table),
    element<&Disk::auth>("auth", storage_auth_table).host(),
    element<&Disk::source>("source", storage_source_table).host(),
    element<&Disk::backing_store>("backingStore", backing_store_table).host(),
    leaf<&Disk::backenddomain>("backenddomain", "name").host(),
    element<&Disk::geometry>("geometry", geometry_table),
    element<&Disk::blockio>("blockio", blockio_table),
    element<&Disk::mirror>("mirror", mirror_table).host(),
    element<&Disk::target>("target", target_table).required(),
    element<&Disk::iotune>("iotune", disk_iotune_table).host(),
    group("throttlefilters", throttle_filters_rows).host(),
    flag<&Disk::readonly>("readonly"),
    flag<&Disk::shareable>("shareable").host(),
    element<&Disk::transient>("transient", transient_table).always().host(),
    leaf<&Disk::serial>("serial"),
    leaf<&Disk::wwn>("wwn"),
    leaf<&Disk::vendor>("vendor"),
    leaf<&Disk::product>("product"),
    element<&Disk::encryption>("encryption", storage_encryption_table).host(),
    inlined<&Disk::info>(device_info_table),
};

/// What the source must say, by type: the other attributes are kept but mean nothing.
std::string check_disk(const void* object) {
    const auto& disk = *static_cast<const Disk*>(object);
    if (disk.backing_store.size() > 1) return "only one <backingStore> is allowed";
    const bool removable = disk.device == DiskDevice::cdrom || disk.device == DiskDevice::floppy;
    if (!disk.target.tray.empty() && !removable) return "tray is for cdrom and floppy only";
    if (disk.device == DiskDevice::lun && disk.type != StorageType::block && disk.type != StorageType::network &&
        disk.type != StorageType::volume)
        return "device='lun' needs type block, network or volume";
    if (!disk.source) return "";
    const auto& source = *disk.source;
    switch (disk.type) {
        case StorageType::network:
            if (source.protocol.empty()) return "type='network' needs attribute 'protocol' in <source>";
            break;
        case StorageType::volume:
            if (source.pool.empty() != source.volume.empty())
                return "type='volume' needs 'pool' and 'volume' in <source>";
            break;
        case StorageType::nvme:
            if (!source.address || !source.nvme_namespace)
                return "type='nvme' needs 'namespace' and an <address> in <source>";
            break;
        case StorageType::vhostuser:
            if (source.path.empty()) return "type='vhostuser' needs attribute 'path' in <source>";
            break;
        default:
            break;
    }
    return "";
}

}  // namespace

constinit const Table storage_host_table = table<StorageHost>(host_rows, check_host);
constinit const Table storage_auth_table = table<StorageAuth>(auth_rows);
constinit const Table storage_encryption_table = table<StorageEncryption>(encryption_rows);
constinit const Table reconnect_table = table<Reconnect>(reconnect_rows);
constinit const Table storage_source_table = table<StorageSource>(source_rows);
constinit const Table storage_format_table = table<StorageFormat>(format_rows);
constinit const Table disk_iotune_table = table<DiskIoTune>(iotune_rows, check_iotune);
constinit const Table disk_table = table<Disk>(disk_rows, check_disk);

}  // namespace virtbus::xml
