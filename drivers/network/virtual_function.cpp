// SPDX-License-Identifier: LGPL-2.1-or-later
#include "network/virtual_function.hpp"

#include <fmt/format.h>
#include <linux/if_link.h>
#include <netlink/addr.h>
#include <netlink/route/link/sriov.h>

#include <charconv>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <map>

#include "network/netlink.hpp"
#include "virtbus/error.hpp"

namespace virtbus::network {

namespace {

namespace fs = std::filesystem;

using Vf = std::unique_ptr<rtnl_link_vf, Free<rtnl_link_vf_put>>;

std::string target_name(const fs::path& link) {
    std::error_code error;
    const auto target = fs::read_symlink(link, error);
    return error ? std::string{} : target.filename().string();
}

/// The card's functions by the numbers in "virtfn3", the links that lead to them; the names are their addresses.
std::map<unsigned, std::string> numbered(const fs::path& card) {
    constexpr std::string_view prefix = "virtfn";
    std::map<unsigned, std::string> out;
    std::error_code error;
    for (const auto& entry : fs::directory_iterator{card, error}) {
        const auto name = entry.path().filename().string();
        unsigned number = 0;
        if (!name.starts_with(prefix)) continue;
        const char* const end = name.data() + name.size();
        const auto [rest, bad] = std::from_chars(name.data() + prefix.size(), end, number);
        if (bad == std::errc{} && rest == end) out[number] = target_name(entry.path());
    }
    return out;
}

std::optional<unsigned> number_in(const fs::path& card, const std::string& address) {
    for (const auto& [number, each] : numbered(card))
        if (each == address) return number;
    return std::nullopt;
}

/// Of a folder that has one entry at most.
std::string only_name_in(const fs::path& folder) {
    std::string name;
    std::error_code error;
    for (const auto& entry : fs::directory_iterator{folder, error}) name = entry.path().filename().string();
    return name;
}

/// "0000:03:10.1"
std::optional<HostPciAddress> parse_address(const std::string& text) {
    unsigned domain = 0, bus = 0, slot = 0, function = 0;
    char rest = 0;
    if (std::sscanf(text.c_str(), "%x:%x:%x.%x%c", &domain, &bus, &slot, &function, &rest) != 4) return std::nullopt;
    return HostPciAddress{.domain = domain, .bus = bus, .slot = slot, .function = function};
}

LinkObject get_parent(nl_sock* socket, const VirtualFunction& function) {
    auto link = find_link(socket, 0, function.parent);
    if (!link) throw Error{Code::hypervisor_failed, fmt::format("network device '{}' has gone away", function.parent)};
    return link;
}

}  // namespace

std::optional<VirtualFunction> find_virtual_function(const std::string& root, const std::string& address) {
    const fs::path device = root + "/sys/bus/pci/devices/" + address;
    std::error_code error;
    if (!fs::exists(device / "physfn", error)) return std::nullopt;
    const auto number = number_in(device / "physfn", address);
    const auto parent = only_name_in(device / "physfn" / "net");
    if (!number || parent.empty())
        throw Error{Code::unsupported_configuration,
                    fmt::format("PCI device {} is a virtual function of a card that has no network device at the "
                                "moment; its MAC address is set through that",
                                address)};
    return VirtualFunction{parent, *number};
}

std::vector<CardFunction> functions_of(const std::string& root, const std::string& card) {
    const fs::path device = root + "/sys/class/net/" + card;
    std::error_code error;
    if (card.empty() || card.find('/') != card.npos || !fs::exists(device, error))
        throw Error{Code::unsupported_configuration,
                    fmt::format("network device '{}' does not exist on this host", card)};
    std::vector<CardFunction> out;
    for (const auto& [number, address] : numbered(device / "device"))
        if (const auto parsed = parse_address(address))
            out.push_back({*parsed, only_name_in(device / "device" / fmt::format("virtfn{}", number) / "net")});
    return out;
}

VirtualFunctionState state_of(const VirtualFunction& function) {
    const Socket socket = connect_route();
    const LinkObject link = get_parent(socket.get(), function);
    const Vf vf{rtnl_link_vf_get(link.get(), function.number)};
    if (!vf)
        throw Error{Code::unsupported_configuration,
                    fmt::format("network device '{}' knows no virtual function {}", function.parent, function.number)};
    VirtualFunctionState state;
    nl_addr* address = nullptr;
    if (rtnl_link_vf_get_addr(vf.get(), &address) == 0 && nl_addr_get_len(address) == state.mac.size())
        std::memcpy(state.mac.data(), nl_addr_get_binary_addr(address), state.mac.size());
    nl_vf_vlans_t* vlans = nullptr;
    if (rtnl_link_vf_get_vlans(vf.get(), &vlans) == 0) {
        if (vlans->size > 0) state.vlan = vlans->vlans[0].vf_vlan;
        rtnl_link_vf_vlan_put(vlans);
    }
    return state;
}

void set_state(const VirtualFunction& function, const VirtualFunctionState& state) {
    const Socket socket = connect_route();
    const LinkObject link = get_parent(socket.get(), function);
    struct ifinfomsg header{};
    header.ifi_family = AF_UNSPEC;
    header.ifi_index = rtnl_link_get_ifindex(link.get());
    struct ifla_vf_mac mac{};
    mac.vf = function.number;
    std::memcpy(mac.mac, state.mac.data(), state.mac.size());
    struct ifla_vf_vlan vlan{};
    vlan.vf = function.number;
    vlan.vlan = state.vlan;
    Message message{nlmsg_alloc_simple(RTM_SETLINK, NLM_F_REQUEST)};
    if (!message) throw Error{Code::limits_exceeded, "no memory for a netlink message"};
    nlmsg_append(message.get(), &header, sizeof header, NLMSG_ALIGNTO);
    nlattr* list = nla_nest_start(message.get(), IFLA_VFINFO_LIST);
    nlattr* info = nla_nest_start(message.get(), IFLA_VF_INFO);
    nla_put(message.get(), IFLA_VF_MAC, sizeof mac, &mac);
    nla_put(message.get(), IFLA_VF_VLAN, sizeof vlan, &vlan);
    nla_nest_end(message.get(), info);
    nla_nest_end(message.get(), list);
    check(nl_send_sync(socket.get(), message.release()),
          fmt::format("setting the MAC address of virtual function {} of '{}'", function.number, function.parent));
}

}  // namespace virtbus::network
