// SPDX-License-Identifier: LGPL-2.1-or-later
// The tables of libvirt's <domain> and its kin, one per element that has a struct of its own and is used in more than
// one file.
#pragma once

#include "service/xml/table.hpp"

namespace virtbus::xml {

extern const Table domain_table, devices_table;

// common.cpp
extern const Table device_info_table, virtio_options_table, virtio_driver_table, id_range_table;
extern const Table seclabel_table, source_seclabel_table, host_pci_address_table;
extern const Choice host_address_choice;

// storage.cpp
extern const Table storage_source_table, storage_host_table, storage_auth_table, storage_encryption_table,
    storage_format_table, reconnect_table;
extern const Table disk_table, disk_iotune_table;

// machine.cpp
extern const Table os_table, features_table, cpu_table, clock_table;

// resources.cpp
extern const Table blkiotune_table, memtune_table, memory_backing_table, vcpu_table, iothread_table,
    default_iothread_table, throttle_group_table, cputune_table, numatune_table;

// network.cpp
extern const Table interface_table, teaming_table, filterref_table, ip_address_table, ip_route_table;
extern const Table virtual_port_table, bandwidth_table, bandwidth_limit_table, vlan_table;

// networks.cpp
extern const Table network_table, network_ip_table, network_forward_table, forward_card_table, forward_interface_table,
    network_bridge_table, network_domain_table, dns_txt_table, dns_srv_table, dns_host_table, dhcp_range_table,
    dhcp_host_table, port_group_table;

// chardevs.cpp
extern const Table chardev_backend_table;
extern const Table serial_table, parallel_table, console_table, channel_table, smartcard_table, redirdev_table,
    redirfilter_table, rng_table;

// displays.cpp
extern const Table graphics_table, video_table, sound_table, audio_table, input_table;

// devices.cpp
extern const Table controller_table, filesystem_table, hostdev_table, tpm_table, hub_table, watchdog_table,
    memballoon_table, nvram_device_table, panic_table, shmem_table, memory_device_table, crypto_table, iommu_table,
    vsock_table, pstore_table, lease_table;

// moments.cpp
extern const Table snapshot_table, checkpoint_table, backup_table;

inline constexpr const char* virtio_models = "virtio|virtio-transitional|virtio-non-transitional";

}  // namespace virtbus::xml
