// SPDX-License-Identifier: LGPL-2.1-or-later
#include "qemu/hostdev_rules.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <set>

#include "virtbus/error.hpp"

namespace virtbus::qemu {

namespace {

template <class... Args>
[[noreturn]] void refuse(fmt::format_string<Args...> text, Args&&... args) {
    throw Error{Code::unsupported_configuration, fmt::format(text, std::forward<Args>(args)...)};
}

/// Which device of the host it is; "" when that is known at the start only.
std::string place_of(const Hostdev& hostdev) {
    if (!hostdev.source.address) return "";
    const auto& at = *hostdev.source.address;
    if (const auto* pci = std::get_if<HostPciAddress>(&at))
        return fmt::format("pci {:04x}:{:02x}:{:02x}.{:x}", pci->domain, pci->bus, pci->slot, pci->function);
    if (const auto* usb = std::get_if<HostUsbAddress>(&at); usb && usb->bus && usb->device)
        return fmt::format("usb {:03}:{:03}", *usb->bus, *usb->device);
    if (const auto* scsi = std::get_if<HostScsiAddress>(&at))
        return fmt::format("scsi {}:{}:{}:{}", hostdev.source.adapter, scsi->bus, scsi->target, scsi->unit);
    if (const auto* mdev = std::get_if<HostMdevAddress>(&at)) return "mdev " + mdev->uuid;
    return "";
}

std::string name_of(const Hostdev& hostdev) {
    const std::string place = place_of(hostdev);
    return fmt::format("hostdev ({})", place.empty() ? std::string{word(hostdev.type)} : place);
}

/// A kind of device, and the transport that its address must be of.
struct Kind {
    std::string_view model;
    bool (*fits)(const DeviceInfo& info);
    std::string_view address;
    bool boots;
};
constexpr std::array mediated{
    Kind{"vfio-pci", [](const DeviceInfo& info) { return info.address_as<PciAddress>() != nullptr; }, "pci", true},
    Kind{"vfio-ccw", [](const DeviceInfo& info) { return info.address_as<CcwAddress>() != nullptr; }, "ccw", true},
    Kind{"vfio-ap", [](const DeviceInfo&) { return false; }, "none", false},
};

void check_mediated(const Hostdev& hostdev) {
    const std::string_view model = hostdev.model.empty() ? std::string_view{"vfio-pci"} : hostdev.model;
    const auto kind = std::ranges::find(mediated, model, &Kind::model);
    if (kind == mediated.end()) return;
    if (hostdev.info.address && !kind->fits(hostdev.info))
        refuse("{}: its <address> is of another type than a {} has ({})", name_of(hostdev), model, kind->address);
    if (hostdev.info.boot_order && !kind->boots) refuse("{}: nothing can boot from a {}", name_of(hostdev), model);
    if (hostdev.display.value_or(false) && model != "vfio-pci")
        refuse("{}: a {} shows nothing (display='on')", name_of(hostdev), model);
}

void check_scsi_host(const Hostdev& hostdev) {
    if (hostdev.rawio.value_or(false) || !hostdev.sgio.empty())
        refuse("{}: rawio and sgio are for host devices of type 'scsi'", name_of(hostdev));
}

}  // namespace

void require_sound_hostdevs(const DomainConfig& config, const Chipset& chipset) {
    std::set<std::string> seen;
    bool framebuffer = false;
    const auto& graphics = config.devices.graphics;
    const bool seen_by_somebody = !graphics.empty();
    for (const auto& hostdev : config.devices.hostdevs) {
        if (hostdev.mode != "subsystem") continue;
        if (const auto place = place_of(hostdev); !place.empty() && !seen.insert(place).second)
            refuse("{} is given to the machine twice", name_of(hostdev));
        if (hostdev.type == HostdevType::mdev) check_mediated(hostdev);
        if (hostdev.type == HostdevType::scsi_host) check_scsi_host(hostdev);
        if (hostdev.display.value_or(false) && !seen_by_somebody)
            refuse("{}: display='on' needs <graphics> to be seen in", name_of(hostdev));
        if (hostdev.ramfb.value_or(false) && framebuffer)
            refuse("{}: only one device can have ramfb", name_of(hostdev));
        framebuffer |= hostdev.ramfb.value_or(false);
        const auto* at = hostdev.info.address_as<PciAddress>();
        if (at && (at->zpci_uid || at->zpci_fid) && chipset.kind != Chipset::Kind::s390)
            refuse("{}: <zpci> is of s390x", name_of(hostdev));
    }
}

}  // namespace virtbus::qemu
