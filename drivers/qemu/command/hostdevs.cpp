// SPDX-License-Identifier: LGPL-2.1-or-later
// Devices of the host given to the guest, and folders shared with it.
#include <fmt/format.h>

#include "qemu/command/families.hpp"
#include "virtbus/error.hpp"

namespace virtbus::qemu {

namespace {

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

Json pci_device(Argv& line, const std::string& host, const DeviceInfo& info) {
    Json device;
    device.set("driver", "vfio-pci").set("host", host);
    line.place(device, info);
    return device.set("bootindex", line.boot_index(info, ""));
}

Json usb_device(Argv& line, const Hostdev& hostdev) {
    Json device;
    device.set("driver", "usb-host");
    const auto& source = hostdev.source;
    const auto* address = source.address ? std::get_if<HostUsbAddress>(&*source.address) : nullptr;
    if (address && address->bus) {
        const auto node = fmt::format("/dev/bus/usb/{:03}/{:03}", *address->bus, address->device.value_or(0));
        device.set("hostdevice", node);
        line.out.devices.push_back(node);
    } else {
        device.set("vendorid", source.vendor_id).set("productid", source.product_id);
    }
    if (!source.guest_reset.empty()) {
        device.set("guest-reset", source.guest_reset != "off");
        if (source.guest_reset != "off") device.set("guest-resets-all", source.guest_reset == "on");
    }
    line.place(device, hostdev.info);
    return device.set("bootindex", hostdev.info.boot_order);
}

Json mediated_device(Argv& line, const Hostdev& hostdev) {
    Json device;
    const std::string& uuid = get<HostMdevAddress>(hostdev.source.address, "a mediated <hostdev>").uuid;
    device.set("driver", hostdev.model == "vfio-ccw"  ? "vfio-ccw"
                         : hostdev.model == "vfio-ap" ? "vfio-ap"
                                                      : "vfio-pci");
    device.set("sysfsdev", "/sys/bus/mdev/devices/" + require_word(uuid, "UUID of a mediated device"));
    if (hostdev.display) device.set("display", *hostdev.display ? "on" : "off");
    line.place(device, hostdev.info);
    return device;
}

void add_hostdev(Argv& line, const Hostdev& hostdev) {
    if (hostdev.mode != "subsystem")
        throw Error{Code::unsupported_configuration, "host devices of mode 'capabilities' are for containers"};
    if (line.runnable()) return;
    switch (hostdev.type) {
        case HostdevType::pci:
            line.out.devices.emplace_back("/dev/vfio/vfio");
            return line.device(
                pci_device(line, text_of(get<HostPciAddress>(hostdev.source.address, "a PCI <hostdev>")), hostdev.info),
                hostdev.info.alias);
        case HostdevType::usb:
            return line.device(usb_device(line, hostdev), hostdev.info.alias);
        case HostdevType::mdev:
            line.out.devices.emplace_back("/dev/vfio/vfio");
            return line.device(mediated_device(line, hostdev), hostdev.info.alias);
        default:
            throw Error{Code::unsupported_configuration,
                        fmt::format("host devices of type '{}' are not supported yet", word(hostdev.type))};
    }
}

void add_virtiofs(Argv& line, const Filesystem& filesystem) {
    if (line.runnable()) return;
    const auto& source = filesystem.source;
    if (!source || source->socket.empty())
        throw Error{Code::unsupported_configuration,
                    fmt::format("filesystem '{}': virtiofs needs <source socket=> of a virtiofsd that runs already",
                                filesystem.target_dir)};
    const std::string id = "chr-vu-" + filesystem.info.alias;
    line.arg("-chardev", KeyValues{"socket"}.add("id", id).add("path", source->socket));
    Json device;
    device.set("driver", line.virtio_driver("vhost-user-fs", filesystem.model, filesystem.info)).set("chardev", id);
    if (filesystem.driver) device.set("queue-size", filesystem.driver->queue);
    device.set("tag", filesystem.target_dir);
    if (filesystem.driver) set_virtio(device, filesystem.driver->virtio);
    line.place(device, filesystem.info);
    device.set("bootindex", filesystem.info.boot_order);
    line.device(device, filesystem.info.alias);
}

void add_9p(Argv& line, const Filesystem& filesystem) {
    const std::string id = "fsdev-" + filesystem.info.alias;
    KeyValues backend{line.runnable() ? "synth" : "local"};
    backend.add("id", id);
    if (!line.runnable()) {
        const std::string access = filesystem.accessmode;
        backend.add("security_model", access == "mapped" ? "mapped" : access == "squash" ? "none" : "passthrough");
        backend.add_text("multidevs", filesystem.multidevs == "default" ? "" : filesystem.multidevs);
        if (!filesystem.fmode.empty()) backend.add("fmode", filesystem.fmode);
        if (!filesystem.dmode.empty()) backend.add("dmode", filesystem.dmode);
        backend.add("path", filesystem.source ? filesystem.source->dir : "");
        if (filesystem.driver)
            backend.add_text("writeout", filesystem.driver->wrpolicy == "immediate" ? "immediate" : "");
        if (filesystem.readonly) backend.add("readonly", true);
    }
    line.arg("-fsdev", backend);
    Json device;
    device.set("driver", line.virtio_driver("virtio-9p", filesystem.model, filesystem.info));
    if (filesystem.driver) set_virtio(device, filesystem.driver->virtio);
    device.set("fsdev", id).set("mount_tag", filesystem.target_dir);
    line.place(device, filesystem.info);
    line.device(device, filesystem.info.alias);
}

}  // namespace

void add_hostdevs(Argv& line) {
    for (const auto& hostdev : line.config.devices.hostdevs) add_hostdev(line, hostdev);
    for (const auto& interface : line.config.devices.interfaces) {
        if (interface.type != InterfaceType::hostdev || line.runnable()) continue;
        const auto host = text_of(get<HostPciAddress>(interface.source ? interface.source->host_address : std::nullopt,
                                                      "an <interface type='hostdev'>"));
        line.out.devices.emplace_back("/dev/vfio/vfio");
        line.device(pci_device(line, host, interface.info), interface.info.alias);
    }
}

void add_filesystems(Argv& line) {
    for (const auto& filesystem : line.config.devices.filesystems) {
        const std::string driver = filesystem.driver ? filesystem.driver->type : "path";
        if (driver == "virtiofs")
            add_virtiofs(line, filesystem);
        else if (driver == "path" && filesystem.type == "mount")
            add_9p(line, filesystem);
        else
            throw Error{Code::unsupported_configuration,
                        fmt::format("filesystem '{}': type '{}' with driver '{}' is not supported; use 'mount' with "
                                    "'path' or 'virtiofs'",
                                    filesystem.target_dir, filesystem.type, driver)};
    }
}

}  // namespace virtbus::qemu
