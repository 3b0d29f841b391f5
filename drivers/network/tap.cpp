// SPDX-License-Identifier: LGPL-2.1-or-later
#include "network/tap.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/ethtool.h>
#include <linux/if_link.h>
#include <linux/if_tun.h>
#include <linux/sockios.h>
#include <netlink/addr.h>
#include <sys/ioctl.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>

#include "network/bridge_vlans.hpp"
#include "network/macvtap.hpp"
#include "network/netlink.hpp"
#include "virtbus/error.hpp"

namespace virtbus::network {

namespace {

constexpr unsigned most_queues = 256;  // the kernel's own limit

Fd open_tun() {
    Fd fd{::open("/dev/net/tun", O_RDWR | O_CLOEXEC)};
    if (!fd)
        throw Error{Code::unsupported_configuration,
                    fmt::format("opening /dev/net/tun for a tap device: {}; is the module 'tun' loaded?",
                                std::strerror(errno))};
    return fd;
}

[[noreturn]] void fail_to_set(const std::string& name) {
    const int error = errno;
    const std::string shown = name.find('%') == name.npos ? fmt::format(" '{}'", name) : "";
    if (error == EPERM)
        throw Error{Code::access_denied, fmt::format("making tap device{}: not permitted; it takes the right "
                                                     "CAP_NET_ADMIN (use interface type 'user' without it)",
                                                     shown)};
    if (error == EBUSY || error == EEXIST)
        throw Error{Code::device_in_use,
                    fmt::format("tap device{} exists already; choose another <target dev=>, or managed='no' to use an "
                                "existing one",
                                shown)};
    throw Error{Code::hypervisor_failed, fmt::format("making tap device{}: {}", shown, std::strerror(error))};
}

/// Gives the descriptor a queue of the device and returns the name the kernel made of `name`.
std::string set_interface(int fd, const std::string& name, int flags) {
    struct ifreq request{};
    if (name.size() >= sizeof request.ifr_name)
        throw Error{Code::invalid_xml, fmt::format("network device name '{}' is longer than 15 bytes", name)};
    std::memcpy(request.ifr_name, name.data(), name.size());
    request.ifr_flags = static_cast<short>(flags);
    if (::ioctl(fd, TUNSETIFF, &request) != 0) fail_to_set(name);
    return request.ifr_name;
}

int tap_flags(unsigned queues, bool vnet_header) {
    return IFF_TAP | IFF_NO_PI | (vnet_header ? IFF_VNET_HDR : 0) | (queues > 1 ? IFF_MULTI_QUEUE : 0);
}

void require_queues(unsigned queues) {
    if (queues == 0 || queues > most_queues)
        throw Error{Code::unsupported_configuration,
                    fmt::format("{} queues asked of a tap device; 1 to {} are possible", queues, most_queues)};
}

LinkObject get_bridge(nl_sock* socket, const std::string& name) {
    LinkObject bridge = find_link(socket, 0, name);
    if (!bridge)
        throw Error{Code::unsupported_configuration, fmt::format("bridge '{}' does not exist on this host", name)};
    const char* type = rtnl_link_get_type(bridge.get());
    if (!type || std::strcmp(type, "bridge") != 0)
        throw Error{Code::unsupported_configuration,
                    fmt::format("network device '{}' is no bridge of the kernel (it is of type '{}')", name,
                                type ? type : "physical")};
    return bridge;
}

/// libnl 3.7 has no setter for this flag of a bridge's port.
void isolate_port(nl_sock* socket, const Tap& tap, bool isolated) {
    struct ifinfomsg header{};
    header.ifi_family = AF_BRIDGE;
    header.ifi_index = tap.index;
    Message message{nlmsg_alloc_simple(RTM_SETLINK, NLM_F_REQUEST)};
    if (!message) throw Error{Code::limits_exceeded, "no memory for a netlink message"};
    nlmsg_append(message.get(), &header, sizeof header, NLMSG_ALIGNTO);
    nlattr* port = nla_nest_start(message.get(), IFLA_PROTINFO | NLA_F_NESTED);
    nla_put_u8(message.get(), IFLA_BRPORT_ISOLATED, isolated ? 1 : 0);
    nla_nest_end(message.get(), port);
    check(nl_send_sync(socket, message.release()),
          fmt::format("setting whether tap device '{}' is isolated on its bridge", tap.name));
}

void configure(const Tap& tap, const TapRequest& request, bool again = false) {
    const Socket socket = connect_route();
    const LinkObject now = find_link(socket.get(), tap.index, tap.name);
    if (!now) throw Error{Code::hypervisor_failed, fmt::format("tap device '{}' went away at once", tap.name)};
    const LinkObject change{rtnl_link_alloc()};
    const std::unique_ptr<nl_addr, Free<nl_addr_put>> mac{
        nl_addr_build(AF_LLC, request.mac.data(), request.mac.size())};
    if (request.mac != MacAddress{}) rtnl_link_set_addr(change.get(), mac.get());
    unsigned mtu = request.mtu;
    if (!request.bridge.empty()) {
        const LinkObject bridge = get_bridge(socket.get(), request.bridge);
        if (!mtu) mtu = rtnl_link_get_mtu(bridge.get());
        rtnl_link_set_master(change.get(), rtnl_link_get_ifindex(bridge.get()));
    }
    if (mtu) rtnl_link_set_mtu(change.get(), mtu);
    if (request.up)
        rtnl_link_set_flags(change.get(), IFF_UP);
    else
        rtnl_link_unset_flags(change.get(), IFF_UP);
    const auto doing = request.bridge.empty()
                           ? fmt::format("setting up tap device '{}'", tap.name)
                           : fmt::format("putting tap device '{}' on bridge '{}'", tap.name, request.bridge);
    check(rtnl_link_change(socket.get(), now.get(), change.get(), 0), doing);
    if (request.bridge.empty()) return;
    if (request.isolated || again) isolate_port(socket.get(), tap, request.isolated);
    if (!request.vlans.empty()) set_port_vlans(socket.get(), tap.index, tap.name, request.bridge, request.vlans);
}

}  // namespace

MacAddress parse_mac(const std::string& text) {
    MacAddress mac{};
    const char* at = text.data();
    const char* const end = at + text.size();
    for (std::size_t i = 0; i < mac.size(); ++i) {
        if (i > 0 && (at == end || *at++ != ':')) at = nullptr;
        const auto [next, error] =
            at ? std::from_chars(at, end, mac[i], 16) : std::from_chars_result{nullptr, std::errc::invalid_argument};
        if (error != std::errc{} || next - at > 2)
            throw Error{Code::invalid_xml,
                        fmt::format("'{}' is no MAC address; it is written 52:54:00:aa:bb:cc", text)};
        at = next;
    }
    if (at != end)
        throw Error{Code::invalid_xml, fmt::format("'{}' is no MAC address; it is written 52:54:00:aa:bb:cc", text)};
    return mac;
}

MacAddress host_mac(MacAddress guest) {
    guest[0] = guest[0] == 0xFE ? 0xFA : 0xFE;
    return guest;
}

Tap make_tap(const TapRequest& request) {
    require_queues(request.queues);
    const int flags = tap_flags(request.queues, request.vnet_header);
    Tap tap;
    tap.fds.push_back(open_tun());
    tap.name = set_interface(tap.fds[0].get(), request.name.empty() ? "vnet%d" : request.name, flags | IFF_TUN_EXCL);
    while (tap.fds.size() < request.queues) {
        tap.fds.push_back(open_tun());
        set_interface(tap.fds.back().get(), tap.name, flags);
    }
    tap.index = static_cast<int>(::if_nametoindex(tap.name.c_str()));
    if (request.guard) request.guard(tap.name, tap.index);
    configure(tap, request);
    return tap;
}

bool reconnect_tap(const std::string& name, int index, const TapRequest& request) {
    {
        const Socket socket = connect_route();
        const LinkObject link = find_link(socket.get(), index, name);
        if (!link || name != rtnl_link_get_name(link.get())) return false;
    }
    if (request.guard) request.guard(name, index);
    configure(Tap{{}, name, index}, request, true);
    return true;
}

Tap attach_tap(const std::string& name, unsigned queues, bool vnet_header) {
    require_queues(queues);
    const Socket socket = connect_route();
    const LinkObject link = find_link(socket.get(), 0, name);
    if (!link)
        throw Error{Code::unsupported_configuration,
                    fmt::format("tap device '{}' does not exist, and managed='no' says not to make it", name)};
    const char* type = rtnl_link_get_type(link.get());
    Tap tap{{}, name, rtnl_link_get_ifindex(link.get())};
    const bool macvtap = type && std::strcmp(type, "macvtap") == 0;
    if (!macvtap && (!type || std::strcmp(type, "tun") != 0))
        throw Error{Code::unsupported_configuration, fmt::format("network device '{}' is no tap device", name)};
    while (tap.fds.size() < queues) {
        if (macvtap) {
            tap.fds.push_back(open_macvtap_queue(tap.index, name, queues, vnet_header));
            continue;
        }
        tap.fds.push_back(open_tun());
        set_interface(tap.fds.back().get(), name, tap_flags(queues, vnet_header));
    }
    return tap;
}

bool is_bridge_port(const std::string& name, int index) {
    const Socket socket = connect_route();
    const LinkObject link = find_link(socket.get(), index, name);
    const int master = link ? rtnl_link_get_master(link.get()) : 0;
    const LinkObject bridge = master ? find_link(socket.get(), master, "") : nullptr;
    const char* type = bridge ? rtnl_link_get_type(bridge.get()) : nullptr;
    return type && std::strcmp(type, "bridge") == 0;
}

void set_coalesced_frames(const std::string& name, unsigned frames) {
    constexpr unsigned most_frames = 64;  // more the kernel would take as 64 without a word
    if (frames > most_frames)
        throw Error{Code::unsupported_configuration,
                    fmt::format("<coalesce> of {} frames on '{}'; {} is the most", frames, name, most_frames)};
    const Fd socket{::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0)};
    struct ethtool_coalesce settings{};
    struct ifreq request{};
    std::memcpy(request.ifr_name, name.data(), std::min(name.size(), sizeof request.ifr_name - 1));
    request.ifr_data = reinterpret_cast<char*>(&settings);
    settings.cmd = ETHTOOL_GCOALESCE;
    int status = ::ioctl(socket.get(), SIOCETHTOOL, &request);
    settings.cmd = ETHTOOL_SCOALESCE;
    settings.rx_max_coalesced_frames = frames;
    if (status == 0) status = ::ioctl(socket.get(), SIOCETHTOOL, &request);
    if (status != 0)
        throw Error{Code::hypervisor_failed,
                    fmt::format("setting how many frames '{}' gathers: {}", name, std::strerror(errno))};
}

void remove_tap(const std::string& name, int index) {
    const Socket socket = connect_route();
    const LinkObject link = find_link(socket.get(), index, name);
    if (!link || name != rtnl_link_get_name(link.get())) return;
    check(rtnl_link_delete(socket.get(), link.get()), fmt::format("removing tap device '{}'", name));
}

}  // namespace virtbus::network
