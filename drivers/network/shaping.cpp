// SPDX-License-Identifier: LGPL-2.1-or-later
#include "network/shaping.hpp"

#include <fmt/format.h>
#include <netlink/route/class.h>
#include <netlink/route/qdisc.h>
#include <netlink/route/qdisc/htb.h>
#include <netlink/route/tc.h>

#include <algorithm>

#include "network/netlink.hpp"
#include "virtbus/error.hpp"

namespace virtbus::network {

namespace {

using Qdisc = std::unique_ptr<rtnl_qdisc, Free<rtnl_qdisc_put>>;
using Class = std::unique_ptr<rtnl_class, Free<rtnl_class_put>>;

constexpr std::uint32_t only_class = 1;
constexpr std::uint64_t most_kib = UINT32_MAX / 1024;  // the buckets' sizes are 32-bit numbers of bytes

std::uint64_t in_bytes(std::uint64_t kib, const char* what, const std::string& name) {
    if (kib > most_kib)
        throw Error{Code::unsupported_configuration,
                    fmt::format("limiting '{}': {} of {} KiB; {} is the most", name, what, kib, most_kib)};
    return kib * 1024;
}

/// A tenth of a second's worth and never less than two large frames, as the kernel counts in whole frames.
std::uint32_t bucket(std::uint64_t rate) {
    return static_cast<std::uint32_t>(std::clamp<std::uint64_t>(rate / 10, 131072, UINT32_MAX));
}

void add_root(nl_sock* socket, int index, const std::string& name) {
    const Qdisc root{rtnl_qdisc_alloc()};
    if (!root) throw Error{Code::limits_exceeded, "no memory for a netlink message"};
    rtnl_tc_set_ifindex(TC_CAST(root.get()), index);
    rtnl_tc_set_parent(TC_CAST(root.get()), TC_H_ROOT);
    rtnl_tc_set_handle(TC_CAST(root.get()), TC_HANDLE(1, 0));
    const auto doing = fmt::format("limiting '{}'", name);
    check(rtnl_tc_set_kind(TC_CAST(root.get()), "htb"), doing);
    check(rtnl_htb_set_defcls(root.get(), only_class), doing);
    check(rtnl_qdisc_add(socket, root.get(), NLM_F_CREATE | NLM_F_REPLACE), doing);
}

}  // namespace

void limit_inbound(int index, const std::string& name, const BandwidthLimit& limit) {
    const std::uint64_t rate = in_bytes(limit.average.value_or(0), "an average", name);
    if (rate == 0)
        throw Error{Code::invalid_xml, fmt::format("limiting '{}': <inbound> needs an average above 0", name)};
    const std::uint64_t peak = limit.peak ? in_bytes(*limit.peak, "a peak", name) : rate;
    const std::uint64_t burst = limit.burst ? in_bytes(*limit.burst, "a burst", name) : 0;
    const Socket socket = connect_route();
    add_root(socket.get(), index, name);
    const Class one{rtnl_class_alloc()};
    if (!one) throw Error{Code::limits_exceeded, "no memory for a netlink message"};
    rtnl_tc_set_ifindex(TC_CAST(one.get()), index);
    rtnl_tc_set_parent(TC_CAST(one.get()), TC_HANDLE(1, 0));
    rtnl_tc_set_handle(TC_CAST(one.get()), TC_HANDLE(1, only_class));
    const auto doing = fmt::format("limiting '{}' to {} KiB a second", name, rate / 1024);
    check(rtnl_tc_set_kind(TC_CAST(one.get()), "htb"), doing);
    check(rtnl_htb_set_rate(one.get(), static_cast<std::uint32_t>(rate)), doing);
    check(rtnl_htb_set_ceil(one.get(), static_cast<std::uint32_t>(std::max(peak, rate))), doing);
    check(rtnl_htb_set_rbuffer(one.get(), burst ? static_cast<std::uint32_t>(burst) : bucket(rate)), doing);
    check(rtnl_htb_set_cbuffer(one.get(), bucket(std::max(peak, rate))), doing);
    check(rtnl_class_add(socket.get(), one.get(), NLM_F_CREATE), doing);
}

}  // namespace virtbus::network
