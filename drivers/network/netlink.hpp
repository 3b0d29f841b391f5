// SPDX-License-Identifier: LGPL-2.1-or-later
// libnl's objects with owners, and its failures as Error.
#pragma once

#include <net/if.h>
#include <netlink/msg.h>
#include <netlink/netlink.h>
#include <netlink/route/link.h>

#include <memory>
#include <string>

namespace virtbus::network {

template <auto free_it>
struct Free {
    template <class T>
    void operator()(T* object) const {
        free_it(object);
    }
};
using Socket = std::unique_ptr<nl_sock, Free<nl_socket_free>>;
using LinkObject = std::unique_ptr<rtnl_link, Free<rtnl_link_put>>;
using Message = std::unique_ptr<nl_msg, Free<nlmsg_free>>;

Socket connect_route();
/// nullptr when there is none of that name (index 0) or index.
LinkObject find_link(nl_sock* socket, int index, const std::string& name);
/// `status` is what libnl returned; throws Error when it is a failure.
void check(int status, const std::string& doing);

}  // namespace virtbus::network
