// SPDX-License-Identifier: LGPL-2.1-or-later
#include "network/netlink.hpp"

#include <fmt/format.h>
#include <netlink/errno.h>

#include "virtbus/error.hpp"

namespace virtbus::network {

void check(int status, const std::string& doing) {
    if (status >= 0) return;
    if (status == -NLE_PERM)
        throw Error{Code::access_denied, fmt::format("{}: not permitted; it takes the right CAP_NET_ADMIN", doing)};
    throw Error{Code::hypervisor_failed, fmt::format("{}: {}", doing, nl_geterror(status))};
}

Socket connect_route() {
    Socket socket{nl_socket_alloc()};
    if (!socket) throw Error{Code::limits_exceeded, "no memory for a netlink socket"};
    check(nl_connect(socket.get(), NETLINK_ROUTE), "connecting to the kernel's network configuration");
    return socket;
}

LinkObject find_link(nl_sock* socket, int index, const std::string& name) {
    rtnl_link* found = nullptr;
    const int status = rtnl_link_get_kernel(socket, index, index ? nullptr : name.c_str(), &found);
    if (status == -NLE_NODEV || status == -NLE_OBJ_NOTFOUND) return nullptr;
    check(status, fmt::format("looking for network device '{}'", name));
    return LinkObject{found};
}

}  // namespace virtbus::network
