// SPDX-License-Identifier: LGPL-2.1-or-later
// Devices of the host given to the guest, and folders shared with it.
#include <fmt/format.h>

#include <algorithm>

#include "qemu/check_disks.hpp"
#include "qemu/command/families.hpp"
#include "qemu/command/storage.hpp"
#include "virtbus/error.hpp"

namespace virtbus::qemu {

namespace {

[[noreturn]] void refuse(const std::string& why) {
    throw Error{Code::unsupported_configuration, why};
}

/// The host's address of that kind; InvalidXML when there is none.
template <class Kind>
const Kind& get(const std::optional<HostAddress>& address, const char* what) {
    const auto* found = address ? std::get_if<Kind>(&*address) : nullptr;
    if (!found) throw Error{Code::invalid_xml, fmt::format("{} has no <address> of its kind in its <source>", what)};
    return *found;
}

std::string text_of(const HostPciAddress& address) {
    return fmt::format("{:04x}:{:02x}:{:02x}.{:x}", address.domain, address.bus, address.slot, address.function);
}

Json pci_device(Argv& line, const char* driver, const std::string& host, const DeviceInfo& info) {
    Json device;
    device.set("driver", driver).set("host", host);
    line.place(device, info);
    return device.set("bootindex", line.boot_index(info, ""));
}

/// With a framebuffer of its own, which is there before its driver is, a device cannot be plugged.
const char* vfio_driver(const Hostdev& hostdev) {
    if (!hostdev.ramfb.value_or(false)) return "vfio-pci";
    if (!hostdev.display.value_or(false)) refuse("a host device with ramfb='on' needs display='on'");
    return "vfio-pci-nohotplug";
}

void set_display(Json& device, const Hostdev& hostdev) {
    if (hostdev.display) device.set("display", *hostdev.display ? "on" : "off");
    if (hostdev.ramfb.value_or(false)) device.set("ramfb", true);
}

void add_pci(Argv& line, const Hostdev& hostdev) {
    if (hostdev.driver && !hostdev.driver->name.empty() && hostdev.driver->name != "vfio")
        refuse(fmt::format("PCI devices are assigned by the driver 'vfio', not '{}'", hostdev.driver->name));
    if (hostdev.driver && hostdev.driver->iommufd.value_or(false))
        refuse("host devices are opened through their VFIO group; <driver iommufd='yes'> is not served");
    if (hostdev.info.address_as<UnassignedAddress>()) return;  // kept from the host, not shown to the guest
    take_vfio(line, hostdev.info.alias);
    Json device = pci_device(line, vfio_driver(hostdev),
                             text_of(get<HostPciAddress>(hostdev.source.address, "a PCI <hostdev>")), hostdev.info);
    set_display(device, hostdev);
    if (hostdev.teaming && hostdev.teaming->type == "transient")
        device.set("failover_pair_id", hostdev.teaming->persistent);
    line.device(device, hostdev.info.alias);
}

void add_usb(Argv& line, const Hostdev& hostdev) {
    Json device;
    device.set("driver", "usb-host");
    const auto& source = hostdev.source;
    const auto* address = source.address ? std::get_if<HostUsbAddress>(&*source.address) : nullptr;
    if (OpenedFile* file = line.find("usb:" + hostdev.info.alias))
        device.set("hostdevice", line.fdset(*file));
    else if (!line.by_path())
        return;  // it may be missing, and is
    else if (address && address->bus)
        device.set("hostdevice", fmt::format("/dev/bus/usb/{:03}/{:03}", *address->bus, address->device.value_or(0)));
    else
        device.set("vendorid", source.vendor_id).set("productid", source.product_id);
    if (!source.guest_reset.empty()) {
        device.set("guest-reset", source.guest_reset != "off");
        if (source.guest_reset != "off") device.set("guest-resets-all", source.guest_reset == "on");
    }
    line.place(device, hostdev.info);
    line.device(device.set("bootindex", hostdev.info.boot_order), hostdev.info.alias);
}

void add_mediated(Argv& line, const Hostdev& hostdev) {
    Json device;
    const std::string& uuid = get<HostMdevAddress>(hostdev.source.address, "a mediated <hostdev>").uuid;
    const bool pci = hostdev.model.empty() || hostdev.model == "vfio-pci";
    device.set("driver", pci ? vfio_driver(hostdev) : hostdev.model.c_str());
    device.set("sysfsdev", "/sys/bus/mdev/devices/" + require_word(uuid, "UUID of a mediated device"));
    set_display(device, hostdev);
    take_vfio(line, hostdev.info.alias);
    line.place(device, hostdev.info);
    line.device(device.set("bootindex", hostdev.info.boot_order), hostdev.info.alias);
}

/// A LUN of the host or of an iSCSI target, with its SCSI commands passed through.
void add_scsi(Argv& line, const Hostdev& hostdev) {
    const auto& source = hostdev.source;
    const std::string alias = hostdev.info.alias, node = fmt::format("libvirt-{}-backend", alias);
    Json backend;
    if (source.protocol == "iscsi") {
        const SourcePlace place{fmt::format("host device '{}'", alias), "hostdev:" + alias, node};
        backend = iscsi_storage(line, place, source.hosts, source.name, source.initiator_iqn,
                                source.auth ? &*source.auth : nullptr);
        line.out.needs_network = true;
    } else {
        const auto& at = get<HostScsiAddress>(source.address, "a SCSI <hostdev>");
        const OpenedFile* found = line.find("scsi:" + alias);
        // QEMU asks the name what kind of file it is, so it takes no descriptor here.
        const std::string path =
            found ? found->path : fmt::format("/dev/sg-of-{}:{}:{}:{}", source.adapter, at.bus, at.target, at.unit);
        line.out.devices.push_back(path);
        backend.set("driver", "host_device").set("filename", path);
    }
    line.blockdev(backend.set("node-name", node).set("read-only", hostdev.readonly));
    const auto* at = hostdev.info.address_as<DriveAddress>();
    if (!at) refuse(fmt::format("host device '{}' has no place on a SCSI bus", alias));
    Json device;
    line.place_scsi(device.set("driver", "scsi-generic"), *at);
    device.set("drive", node).set("id", alias).set("bootindex", hostdev.info.boot_order);
    if (hostdev.shareable) device.set("share-rw", true);
    line.device(device, alias);
}

void add_scsi_host(Argv& line, const Hostdev& hostdev) {
    const auto& source = hostdev.source;
    if (source.protocol != "vhost") refuse("a SCSI host adapter is passed through by protocol 'vhost'");
    const std::string& wwpn = source.wwpn;
    const auto hex = [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F'); };
    if (wwpn.size() != 20 || !wwpn.starts_with("naa.") || !std::all_of(wwpn.begin() + 4, wwpn.end(), hex))
        refuse(fmt::format("'{}' is no wwpn; it is 'naa.' and 16 hexadecimal digits", wwpn));
    Json device;
    device.set("driver", line.virtio_driver("vhost-scsi", hostdev.model, hostdev.info)).set("wwpn", wwpn);
    if (OpenedFile* file = line.find("vhost-scsi:" + hostdev.info.alias); file && !line.by_path())
        device.set("vhostfd", std::to_string(line.give(std::move(file->fd))));
    line.place(device, hostdev.info);
    line.device(device.set("bootindex", hostdev.info.boot_order), hostdev.info.alias);
}

void add_hostdev(Argv& line, const Hostdev& hostdev) {
    if (hostdev.mode != "subsystem") refuse("host devices of mode 'capabilities' are for containers");
    if (line.runnable()) return;
    switch (hostdev.type) {
        case HostdevType::pci:
            return add_pci(line, hostdev);
        case HostdevType::usb:
            return add_usb(line, hostdev);
        case HostdevType::mdev:
            return add_mediated(line, hostdev);
        case HostdevType::scsi:
            return add_scsi(line, hostdev);
        case HostdevType::scsi_host:
            return add_scsi_host(line, hostdev);
        default:
            refuse(fmt::format("host devices of type '{}' are not supported", word(hostdev.type)));
    }
}

}  // namespace

void add_hostdevs(Argv& line) {
    for (const auto& hostdev : line.config.devices.hostdevs) add_hostdev(line, hostdev);
    for (const auto& interface : line.config.devices.interfaces) {
        if (actual_type(interface) != InterfaceType::hostdev || line.runnable()) continue;
        const auto host = text_of(get<HostPciAddress>(interface.source ? interface.source->host_address : std::nullopt,
                                                      "an <interface type='hostdev'>"));
        take_vfio(line, interface.info.alias);
        Json device = pci_device(line, "vfio-pci", host, interface.info);
        if (interface.teaming && interface.teaming->type == "transient")
            device.set("failover_pair_id", interface.teaming->persistent);
        line.device(device, interface.info.alias);
    }
}

}  // namespace virtbus::qemu
