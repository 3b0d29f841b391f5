// SPDX-License-Identifier: LGPL-2.1-or-later
// Opens devices of the host, or finds the nodes that QEMU must open itself.
#include <fmt/format.h>

#include "qemu/host_devices.hpp"
#include "qemu/image_levels.hpp"
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
    opening.resources.claim("usb:" + file.path.substr(std::string_view{"/dev/bus/usb/"}.size()), hostdev.info.alias);
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
    if (!hostdev.shareable)
        opening.resources.claim(fmt::format("scsi:{}:{}:{}:{}", host, at->bus, at->target, at->unit),
                                hostdev.info.alias);
    opening.opened.files["scsi:" + hostdev.info.alias] = std::move(file);
}

/// The node of the group of a device below /sys/bus.
Task<> open_vfio(Opening& opening, std::string key, std::string device) {
    const auto group =
        co_await opening.work("looking for an assigned device",
                              [root = opening.options.host_root, device] { return find_vfio_group(root, device); });
    if (group.empty())
        refuse(fmt::format("device {} is in no IOMMU group of this host", device.substr(device.rfind('/') + 1)));
    opening.opened.files["vfio:" + key].path = group;
}

std::string text_of(const HostPciAddress& at) {
    return fmt::format("{:04x}:{:02x}:{:02x}.{:x}", at.domain, at.bus, at.slot, at.function);
}

/// A PCI device that the guest gets, and the key of its group's node.
struct WantedPci {
    PciRequest request;
    std::string key;
};

void want_hostdev(std::vector<WantedPci>& wanted, const Hostdev& hostdev) {
    const auto* at = address_of<HostPciAddress>(hostdev);
    if (!at || hostdev.type != HostdevType::pci || hostdev.mode != "subsystem") return;
    const std::string model = hostdev.driver ? hostdev.driver->model : "";
    const auto& alias = hostdev.info.alias;
    wanted.push_back(
        {{text_of(*at), alias, hostdev.managed.value_or(false), model.empty() ? "vfio-pci" : model}, alias});
}

void want_interface(std::vector<WantedPci>& wanted, const Interface& interface) {
    const auto* at =
        actual_type(interface) == InterfaceType::hostdev && interface.source && interface.source->host_address
            ? std::get_if<HostPciAddress>(&*interface.source->host_address)
            : nullptr;
    if (!at) return;
    const auto& alias = interface.info.alias;
    wanted.push_back({{text_of(*at), alias, interface.managed.value_or(false), "vfio-pci"}, alias});
}

void want_disk(std::vector<WantedPci>& wanted, const Disk& disk) {
    if (!disk.source || disk.target.tray == "open" || disk.type == StorageType::vhostuser) return;
    const auto chain = written_levels(disk);
    for (std::size_t level = 0; level < chain.levels.size(); ++level) {
        const auto* source = chain.levels[level].source;
        if (chain.levels[level].type != StorageType::nvme || !source || !source->address) continue;
        wanted.push_back({{text_of(*source->address), disk.info.alias, source->managed.value_or(false), "vfio-pci"},
                          level_key(disk, level)});
    }
}

Task<> open_pci(Opening& opening) {
    const auto& devices = opening.config.devices;
    std::vector<WantedPci> wanted;
    for (const auto& hostdev : devices.hostdevs) want_hostdev(wanted, hostdev);
    for (const auto& interface : devices.interfaces) want_interface(wanted, interface);
    for (const auto& disk : devices.disks) want_disk(wanted, disk);
    if (wanted.empty()) co_return;
    std::vector<PciRequest> requests;
    for (const auto& each : wanted) requests.push_back(each.request);
    co_await opening.resources.take_pci(std::move(requests));
    for (auto& each : wanted) co_await open_vfio(opening, each.key, "pci/devices/" + each.request.address);
}

Task<> open_hostdev(Opening& opening, const Hostdev& hostdev) {
    if (hostdev.type == HostdevType::usb) co_await open_usb(opening, hostdev);
    if (hostdev.type == HostdevType::scsi) co_await open_scsi(opening, hostdev);
    if (hostdev.type == HostdevType::scsi_host) {
        OpenedFile& file = opening.opened.files["vhost-scsi:" + hostdev.info.alias];
        file.path = "/dev/vhost-scsi";
        file.fd = co_await opening.resources.open_file(opening.options.host_root + file.path, Access::read_write);
    }
    if (const auto* at = address_of<HostMdevAddress>(hostdev); at && hostdev.type == HostdevType::mdev) {
        opening.resources.claim("mdev:" + at->uuid, hostdev.info.alias);
        co_await open_vfio(opening, hostdev.info.alias, "mdev/devices/" + at->uuid);
    }
}

}  // namespace

Task<> open_hostdevs(Opening& opening) {
    for (const auto& hostdev : opening.config.devices.hostdevs)
        if (hostdev.mode == "subsystem") co_await open_hostdev(opening, hostdev);
    co_await open_pci(opening);
}

}  // namespace virtbus::qemu
