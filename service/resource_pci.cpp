// SPDX-License-Identifier: LGPL-2.1-or-later
// Devices of the host that serve one guest: who has them, and PCI devices on their way from a driver and back.
#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "service/claims.hpp"
#include "service/resource_broker.hpp"
#include "virtbus/error.hpp"

namespace virtbus {

namespace {

constexpr Duration return_patience{30'000};
constexpr std::array<std::string_view, 4> kinds{"pci:", "usb:", "mdev:", "scsi:"};
constexpr std::string_view pci_kind = kinds[0];

/// The word behind " name=" in a claim.
std::string word_of(std::string_view key, std::string_view name) {
    const auto mark = fmt::format(" {}=", name);
    const auto at = key.find(mark);
    if (at == key.npos) return {};
    key.remove_prefix(at + mark.size());
    return std::string{key.substr(0, key.find(' '))};
}

bool is_driver_name(const std::string& name) {
    return !name.empty() && name.size() < 64 &&
           std::ranges::all_of(
               name,
               [](char c) {
                   return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
                          c == '_';
               });
}

/// The drivers that hand a device on to QEMU: vfio-pci and its variants, e.g. mlx5_vfio_pci.
bool hands_on(const std::string& driver) {
    return driver.find("vfio") != driver.npos;
}

[[noreturn]] void refuse(Code code, const PciRequest& wanted, const std::string& why) {
    throw Error{code, fmt::format("PCI device {} {}", wanted.address, why)};
}

void require_takeable(const PciRequest& wanted, const PciFacts& facts) {
    constexpr auto bad = Code::unsupported_configuration;
    if (!facts.there) refuse(bad, wanted, "is not there");
    if (facts.bridge) refuse(bad, wanted, "is a bridge; only what is behind it can be given to a guest");
    if (facts.group.empty())
        refuse(bad, wanted,
               "is in no IOMMU group of this host; its IOMMU must be on (firmware, intel_iommu=on or amd_iommu=on)");
    if (!is_driver_name(wanted.driver)) refuse(bad, wanted, fmt::format("shall have no driver '{}'", wanted.driver));
    if (wanted.managed || hands_on(facts.driver)) return;
    refuse(bad, wanted,
           fmt::format("is {}, not bound to vfio-pci, and managed='no' leaves that to you; say managed='yes', or "
                       "'driverctl set-override {} vfio-pci'",
                       facts.driver.empty() ? "bound to no driver" : "used by " + facts.driver, wanted.address));
}

}  // namespace

bool is_claim(std::string_view key) {
    return std::ranges::any_of(kinds, [&](auto kind) { return key.starts_with(kind); });
}

std::string_view claimed(std::string_view key) {
    return key.substr(0, key.find(' '));
}

std::string taken_claim(std::string_view device, const std::string& bound, const PciFacts& before) {
    return fmt::format("{} bound={} driver={} override={}", device, bound, before.driver, before.override_name);
}

Task<> release_claim(PciDevices* pci, std::string key) {
    const auto bound = word_of(key, "bound");
    if (!pci || !key.starts_with(pci_kind) || bound.empty()) co_return;
    PciFacts before;
    before.driver = word_of(key, "driver");
    before.override_name = word_of(key, "override");
    co_await pci->give_back(std::string{claimed(key).substr(pci_kind.size())}, bound, before, in(return_patience));
}

bool ResourceBroker::holds(const std::string& device) const {
    return std::ranges::any_of(links_, [&](auto& link) { return is_claim(link.key) && claimed(link.key) == device; });
}

void ResourceBroker::claim(std::string device, std::string alias) {
    if (const auto other = setting_.holder ? setting_.holder(device) : std::string{}; !other.empty())
        throw Error{Code::device_in_use, fmt::format("device {} of the host is in use by domain '{}'", device, other)};
    if (holds(device))
        throw Error{Code::device_in_use, fmt::format("device {} of the host is given to this guest twice", device)};
    links_.push_back({std::move(device), std::move(alias)});
    setting_.recorded();
}

/// The kernel lets a guest have a device when no other driver and nobody else has one of its group.
void ResourceBroker::require_group_is_free(const PciRequest& wanted, const PciFacts& facts) const {
    for (const auto& member : facts.members) {
        const auto device = fmt::format("{}{}", pci_kind, member.address);
        if (member.bridge || holds(device)) continue;
        const auto other = setting_.holder ? setting_.holder(device) : std::string{};
        if (!other.empty())
            refuse(
                Code::device_in_use, wanted,
                fmt::format("is in IOMMU group {} with {}, which is in use by domain '{}'; a group goes to one guest",
                            facts.group, member.address, other));
        if (member.driver.empty() || hands_on(member.driver) || member.driver == "pci-stub") continue;
        refuse(Code::device_in_use, wanted,
               fmt::format("is in IOMMU group {} with {}, which this host uses with its driver '{}'; give that to the "
                           "guest, too, or take it from its driver",
                           facts.group, member.address, member.driver));
    }
}

/// On record before it happens: a later daemon can undo what this one did not live to finish.
Task<> ResourceBroker::take_from_driver(PciRequest wanted, PciFacts before) {
    const auto device = fmt::format("{}{}", pci_kind, wanted.address);
    for (auto& link : links_)
        if (link.key == device) link.key = taken_claim(device, wanted.driver, before);
    setting_.recorded();
    co_await setting_.pci->bind(wanted.address, wanted.driver, deadline_, stop_);
}

Task<> ResourceBroker::take_pci(std::vector<PciRequest> wanted) {
    if (wanted.empty()) co_return;
    if (!setting_.pci) throw Error{Code::unsupported, "no PCI device of this host can be taken here"};
    // All are claimed before the first wait, so that of two guests one is refused.
    for (const auto& each : wanted) claim(fmt::format("{}{}", pci_kind, each.address), each.alias);
    std::vector<PciFacts> facts;
    for (const auto& each : wanted) facts.push_back(co_await setting_.pci->look(each.address, deadline_, stop_));
    for (std::size_t i = 0; i < wanted.size(); ++i) {
        require_takeable(wanted[i], facts[i]);
        require_group_is_free(wanted[i], facts[i]);
    }
    for (std::size_t i = 0; i < wanted.size(); ++i)
        if (wanted[i].managed && !hands_on(facts[i].driver)) co_await take_from_driver(wanted[i], facts[i]);
}

}  // namespace virtbus
