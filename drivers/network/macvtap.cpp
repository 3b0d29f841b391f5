// SPDX-License-Identifier: LGPL-2.1-or-later
#include "network/macvtap.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/if_link.h>
#include <linux/if_tun.h>
#include <netlink/addr.h>
#include <netlink/errno.h>
#include <netlink/route/link/macvtap.h>
#include <poll.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <map>
#include <optional>

#include "network/netlink.hpp"
#include "virtbus/error.hpp"

namespace virtbus::network {

namespace {

using Address = std::unique_ptr<nl_addr, Free<nl_addr_put>>;
using Clock = std::chrono::steady_clock;

constexpr std::chrono::seconds node_patience{5};

std::uint32_t mode_of(const std::string& word) {
    static const std::map<std::string, std::uint32_t> modes{{"", MACVLAN_MODE_VEPA},
                                                            {"vepa", MACVLAN_MODE_VEPA},
                                                            {"bridge", MACVLAN_MODE_BRIDGE},
                                                            {"private", MACVLAN_MODE_PRIVATE},
                                                            {"passthrough", MACVLAN_MODE_PASSTHRU}};
    const auto found = modes.find(word);
    if (found == modes.end())
        throw Error{Code::invalid_xml,
                    fmt::format("mode '{}' of a direct interface; 'vepa', 'bridge', 'private' and 'passthrough' are "
                                "possible",
                                word)};
    return found->second;
}

MacAddress mac_of(rtnl_link* link) {
    MacAddress mac{};
    const nl_addr* address = rtnl_link_get_addr(link);
    if (address && nl_addr_get_len(address) == mac.size())
        std::memcpy(mac.data(), nl_addr_get_binary_addr(address), mac.size());
    return mac;
}

void set_mac(nl_sock* socket, rtnl_link* link, const MacAddress& mac, const std::string& doing) {
    const LinkObject change{rtnl_link_alloc()};
    const Address address{nl_addr_build(AF_LLC, mac.data(), mac.size())};
    rtnl_link_set_addr(change.get(), address.get());
    check(rtnl_link_change(socket, link, change.get(), 0), doing);
}

LinkObject get_lower(nl_sock* socket, const std::string& name) {
    LinkObject lower = find_link(socket, 0, name);
    if (!lower)
        throw Error{Code::unsupported_configuration,
                    fmt::format("network device '{}' does not exist on this host", name)};
    return lower;
}

int add_named(nl_sock* socket, rtnl_link* lower, const MacvtapRequest& request, const std::string& name) {
    const LinkObject link{rtnl_link_macvtap_alloc()};
    if (!link) throw Error{Code::limits_exceeded, "no memory for a netlink message"};
    rtnl_link_set_link(link.get(), rtnl_link_get_ifindex(lower));
    rtnl_link_set_name(link.get(), name.c_str());
    rtnl_link_macvtap_set_mode(link.get(), mode_of(request.mode));
    const Address address{nl_addr_build(AF_LLC, request.mac.data(), request.mac.size())};
    rtnl_link_set_addr(link.get(), address.get());
    if (request.mtu) rtnl_link_set_mtu(link.get(), request.mtu);
    return rtnl_link_add(socket, link.get(), NLM_F_CREATE | NLM_F_EXCL);
}

[[noreturn]] void fail_to_add(int status, const MacvtapRequest& request, const std::string& name) {
    const auto doing = fmt::format("making macvtap device '{}' on '{}'", name, request.lower);
    if (status == -NLE_BUSY || status == -NLE_INVAL)
        throw Error{
            Code::device_in_use,
            fmt::format("{}: the kernel refuses; is '{}' a port of a bridge or a bond, or does it serve a guest "
                        "in mode 'passthrough', which has it alone? An mtu must not exceed the device's either",
                        doing, request.lower)};
    if (status == -NLE_EXIST)
        throw Error{Code::device_in_use, fmt::format("{}: a device of that name exists already", doing)};
    if (status == -NLE_OPNOTSUPP)
        throw Error{Code::unsupported_configuration,
                    fmt::format("{}: this kernel has no macvtap (the module 'macvtap')", doing)};
    check(status, doing);
    throw Error{Code::hypervisor_failed, doing};
}

/// The name it was made under.
std::string add(nl_sock* socket, rtnl_link* lower, const MacvtapRequest& request) {
    constexpr unsigned most_names = 65536;
    if (request.name.size() >= IFNAMSIZ)
        throw Error{Code::invalid_xml, fmt::format("network device name '{}' is longer than 15 bytes", request.name)};
    // The kernel would make a name of its own of it.
    if (request.name.find('%') != request.name.npos)
        throw Error{Code::invalid_xml, fmt::format("'{}' is no name of a network device", request.name)};
    if (!request.name.empty()) {
        if (const int status = add_named(socket, lower, request, request.name); status < 0)
            fail_to_add(status, request, request.name);
        return request.name;
    }
    for (unsigned number = 0; number < most_names; ++number) {
        const auto name = fmt::format("macvtap{}", number);
        if (::if_nametoindex(name.c_str()) != 0) continue;
        const int status = add_named(socket, lower, request, name);
        if (status >= 0) return name;
        if (status != -NLE_EXIST) fail_to_add(status, request, name);
    }
    throw Error{Code::limits_exceeded, "no name is left for a macvtap device"};
}

// ---- the character device

/// What sysfs says the node must be; nothing when it does not show this network namespace.
std::optional<dev_t> number_of(int index, const std::string& name) {
    std::ifstream file{fmt::format("/sys/class/net/{}/tap{}/dev", name, index)};
    unsigned major = 0, minor = 0;
    char colon = 0;
    if (!(file >> major >> colon >> minor)) return std::nullopt;
    return makedev(major, minor);
}

/// Nodes of another network namespace's devices have the same names.
Fd open_node(const std::string& path, const std::optional<dev_t>& number) {
    Fd fd{::open(path.c_str(), O_RDWR | O_CLOEXEC)};
    struct stat facts{};
    if (fd && number && (::fstat(fd.get(), &facts) != 0 || facts.st_rdev != *number)) {
        errno = ENOENT;
        return {};
    }
    return fd;
}

/// Where nobody makes nodes, e.g. in a container, and we may.
Fd open_own_node(const std::optional<dev_t>& number) {
    if (!number) {
        errno = ENOENT;
        return {};
    }
    for (std::string folder : {"/dev/.virtbus-XXXXXX", "/tmp/.virtbus-XXXXXX"}) {
        if (!::mkdtemp(folder.data())) continue;
        const auto path = folder + "/tap";
        Fd fd;
        if (::mknod(path.c_str(), S_IFCHR | 0600, *number) == 0) fd = open_node(path, number);
        const int error = errno;
        ::unlink(path.c_str());
        ::rmdir(folder.c_str());
        errno = error;
        if (fd) return fd;
    }
    return {};
}

/// The host's device manager may take its time.
Fd wait_for_node(const std::string& path, const std::optional<dev_t>& number) {
    const Fd watch{::inotify_init1(IN_CLOEXEC | IN_NONBLOCK)};
    ::inotify_add_watch(watch.get(), "/dev", IN_CREATE | IN_ATTRIB | IN_MOVED_TO);
    const auto end = Clock::now() + node_patience;
    for (;;) {
        if (Fd fd = open_node(path, number)) return fd;
        const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(end - Clock::now()).count();
        struct pollfd wait{watch.get(), POLLIN, 0};
        if (left <= 0 || ::poll(&wait, 1, static_cast<int>(left)) <= 0) return {};
        alignas(struct inotify_event) char events[4096];
        while (::read(watch.get(), events, sizeof events) > 0) {
        }
    }
}

}  // namespace

Fd open_macvtap_queue(int index, const std::string& name, unsigned queues, bool vnet_header) {
    const auto path = fmt::format("/dev/tap{}", index);
    const auto number = number_of(index, name);
    Fd fd = open_node(path, number);
    if (!fd) fd = open_own_node(number);
    if (!fd) fd = wait_for_node(path, number);
    if (!fd)
        throw Error{
            Code::unsupported_configuration,
            fmt::format("macvtap device '{}' is there, but its character device {} did not appear; /dev must be "
                        "the host's, or a folder for which the right CAP_MKNOD is held, as it is not by the "
                        "daemon's unit",
                        name, path)};
    struct ifreq request{};
    const int flags = IFF_TAP | IFF_NO_PI | (vnet_header ? IFF_VNET_HDR : 0) | (queues > 1 ? IFF_MULTI_QUEUE : 0);
    request.ifr_flags = static_cast<short>(flags);
    if (::ioctl(fd.get(), TUNSETIFF, &request) != 0)
        throw Error{Code::hypervisor_failed,
                    fmt::format("setting up {} of macvtap device '{}': {}", path, name, std::strerror(errno))};
    return fd;
}

Macvtap make_macvtap(const MacvtapRequest& request) {
    const Socket socket = connect_route();
    const LinkObject lower = get_lower(socket.get(), request.lower);
    const bool alone = request.mode == "passthrough";
    Macvtap out;
    out.lower_mac = mac_of(lower.get());
    out.tap.name = add(socket.get(), lower.get(), request);
    out.tap.index = static_cast<int>(::if_nametoindex(out.tap.name.c_str()));
    try {
        const LinkObject link = find_link(socket.get(), out.tap.index, out.tap.name);
        if (!link)
            throw Error{Code::hypervisor_failed, fmt::format("macvtap device '{}' went away at once", out.tap.name)};
        // The kernel lets it begin with the lower device's; setting it sets both.
        if (alone)
            set_mac(socket.get(), link.get(), request.mac,
                    fmt::format("giving '{}' the guest's MAC address", request.lower));
        while (out.tap.fds.size() < request.queues)
            out.tap.fds.push_back(open_macvtap_queue(out.tap.index, out.tap.name, request.queues, request.vnet_header));
        const LinkObject change{rtnl_link_alloc()};
        rtnl_link_set_flags(change.get(), IFF_UP);
        check(rtnl_link_change(socket.get(), link.get(), change.get(), 0),
              fmt::format("switching macvtap device '{}' on", out.tap.name));
    } catch (...) {
        if (alone)
            remove_passthrough(out.tap.name, out.tap.index, request.lower, out.lower_mac);
        else
            remove_tap(out.tap.name, out.tap.index);
        throw;
    }
    return out;
}

void remove_passthrough(const std::string& name, int index, const std::string& lower, const MacAddress& before) {
    remove_tap(name, index);
    const Socket socket = connect_route();
    const LinkObject link = find_link(socket.get(), 0, lower);
    // Kernels since 4.14 have done it by themselves.
    if (link && mac_of(link.get()) != before)
        set_mac(socket.get(), link.get(), before, fmt::format("giving '{}' its own MAC address back", lower));
}

}  // namespace virtbus::network
