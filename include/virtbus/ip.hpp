// SPDX-License-Identifier: LGPL-2.1-or-later
// IP addresses and ranges of them, of both families, as values. Who has which is not known here.
#pragma once

#include <array>
#include <compare>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace virtbus {

struct Ip {
    bool v6 = false;
    std::array<std::uint8_t, 16> bytes{};  ///< in the order of the network; an IPv4 address has the first four

    /// One address in numbers, nothing else: no name, no zone, no prefix.
    static std::optional<Ip> parse(std::string_view text);
    std::string text() const;
    unsigned bits() const { return v6 ? 128 : 32; }
    auto operator<=>(const Ip&) const = default;
};

/// An address with the length of its network's prefix: "192.168.122.1/24".
struct IpNet {
    Ip address;
    unsigned prefix = 0;

    /// With "/prefix"; without one the whole address counts.
    static std::optional<IpNet> parse(std::string_view text);
    std::string text() const;
    /// The network's own address: what is behind the prefix is zero.
    IpNet network() const;
    /// The last address of the network; of an IPv4 network its broadcast address.
    Ip last() const;
    bool contains(const Ip& other) const;
    bool overlaps(const IpNet& other) const;
    bool operator==(const IpNet&) const = default;
};

/// 24 of "255.255.255.0"; nothing for what is no netmask.
std::optional<unsigned> prefix_of_netmask(const Ip& mask);
/// How many addresses from `first` to `last`, both counted, at most UINT64_MAX; 0 when there are none or the families
/// differ.
std::uint64_t count_between(const Ip& first, const Ip& last);

}  // namespace virtbus
