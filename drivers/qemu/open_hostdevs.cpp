// SPDX-License-Identifier: LGPL-2.1-or-later
// Opens devices of the host, or finds the nodes that QEMU must open itself.
#include <fmt/format.h>

#include "qemu/host_devices.hpp"
#include "qemu/opening.hpp"
#include "virtbus/error.hpp"

namespace virtbus::qemu {

namespace {

[[noreturn]] void refuse(const std::string& why) {
    throw Error{Code::unsupported_configuration, why};
}

template <class Kind>
const Kind* address_of(const Hostdev& hostdev) {
    return hostdev.source.address ? std::get_if<Kind>(&*hostdev.source.address) : nullptr;
}

std::string words_of(const HostdevSource& source, const HostUsbAddress* at) {
    std::string out = "USB device";
    if (source.vendor_id) out += fmt::format(" {:04x}:{:04x}", *source.vendor_id, source.product_id.value_or(0));
    if (at && at->bus) out += fmt::format(" on bus {} number {}", *at->bus, at->device.value_or(0));
    return out;
}

/// The node of the one device that fits; "" when it is missing and may be.
std::string choose_usb(const std::vector<UsbDevice>& found, const Hostdev& hostdev) {
    const auto* at = address_of<HostUsbAddress>(hostdev);
    if (found.size() == 1) return found.front().node();
    if (found.size() > 1)
        refuse(fmt::format("{} is there {} times; give <address bus= device=> to choose one",
                           words_of(hostdev.source, at), found.size()));
    if (hostdev.source.startup_policy != "optional") refuse(words_of(hostdev.source, at) + " is not there");
    return {};
}

Task<> open_usb(Opening& opening, const Hostdev& hostdev) {
    const auto& source = hostdev.source;
    const auto* at = address_of<HostUsbAddress>(hostdev);
    const auto bus = at ? at->bus : std::nullopt, device = at ? at->device : std::nullopt;
    if (!source.vendor_id && !bus) throw Error{Code::invalid_xml, "a USB <hostdev> names no device"};
    const auto found =
        co_await opening.work("looking for USB devices",
                              [root = opening.options.host_root, vendor = source.vendor_id, product = source.product_id,
                               bus, device] { return find_usb_devices(root, vendor, product, bus, device); });
    OpenedFile file;
    file.path = choose_usb(found, hostdev);
    if (file.path.empty()) co_return;
    file.fd = co_await opening.resources.open_file(opening.options.host_root + file.path, Access::read_write);
    opening.opened.files["usb:" + hostdev.info.alias] = std::move(file);
}

unsigned host_number(const std::string& adapter) {
    constexpr std::string_view prefix = "scsi_host";
    if (!adapter.starts_with(prefix) || adapter.size() == prefix.size() || adapter.size() > prefix.size() + 6 ||
        adapter.find_first_not_of("0123456789", prefix.size()) != adapter.npos)
        refuse(fmt::format("'{}' is no SCSI adapter; it is 'scsi_host' and a number", adapter));
    return static_cast<unsigned>(std::stoul(adapter.substr(prefix.size())));
}

Task<> open_scsi(Opening& opening, const Hostdev& hostdev) {
    if (hostdev.source.protocol == "iscsi") {
        if (hostdev.source.auth && hostdev.source.auth->secret)
            co_await open_secret(opening, "hostdev:" + hostdev.info.alias + ":auth", *hostdev.source.auth->secret);
        co_return;
    }
    const auto* at = address_of<HostScsiAddress>(hostdev);
    if (!at) throw Error{Code::invalid_xml, "a SCSI <hostdev> has no <address bus= target= unit=> in its <source>"};
    const unsigned host = host_number(hostdev.source.adapter);
    OpenedFile file;
    file.path =
        co_await opening.work("looking for SCSI devices", [root = opening.options.host_root, host, address = *at] {
            return find_scsi_generic(root, host, address.bus, address.target, address.unit);
        });
    if (file.path.empty())
        refuse(fmt::format("SCSI device {}:{}:{}:{} is not there, or has no node of the driver 'sg'", host, at->bus,
                           at->target, at->unit));
    opening.opened.files["scsi:" + hostdev.info.alias] = std::move(file);
}

Task<> open_vfio(Opening& opening, std::string alias, std::string device, bool pci) {
    struct Found {
        std::string group, driver;
    };
    const auto found =
        co_await opening.work("looking for an assigned device", [root = opening.options.host_root, device] {
            return Found{find_vfio_group(root, device), find_bound_driver(root, device)};
        });
    const std::string name = device.substr(device.rfind('/') + 1);
    if (pci && !found.driver.starts_with("vfio"))
        refuse(
            fmt::format("PCI device {} is {}, not bound to vfio-pci, and virtbus does not take it from its driver; say "
                        "'driverctl set-override {} vfio-pci'",
                        name, found.driver.empty() ? "bound to no driver" : "used by " + found.driver, name));
    if (found.group.empty()) refuse(fmt::format("device {} is in no IOMMU group of this host", name));
    opening.opened.files["vfio:" + alias].path = found.group;
}

Task<> open_hostdev(Opening& opening, const Hostdev& hostdev) {
    if (hostdev.type == HostdevType::usb) co_await open_usb(opening, hostdev);
    if (hostdev.type == HostdevType::scsi) co_await open_scsi(opening, hostdev);
    if (hostdev.type == HostdevType::scsi_host) {
        OpenedFile& file = opening.opened.files["vhost-scsi:" + hostdev.info.alias];
        file.path = "/dev/vhost-scsi";
        file.fd = co_await opening.resources.open_file(opening.options.host_root + file.path, Access::read_write);
    }
    if (const auto* at = address_of<HostMdevAddress>(hostdev); at && hostdev.type == HostdevType::mdev)
        co_await open_vfio(opening, hostdev.info.alias, "mdev/devices/" + at->uuid, false);
    if (const auto* at = address_of<HostPciAddress>(hostdev); at && hostdev.type == HostdevType::pci)
        co_await open_vfio(
            opening, hostdev.info.alias,
            fmt::format("pci/devices/{:04x}:{:02x}:{:02x}.{:x}", at->domain, at->bus, at->slot, at->function), true);
}

}  // namespace

Task<> open_hostdevs(Opening& opening) {
    for (const auto& hostdev : opening.config.devices.hostdevs)
        if (hostdev.mode == "subsystem") co_await open_hostdev(opening, hostdev);
}

}  // namespace virtbus::qemu
