// SPDX-License-Identifier: LGPL-2.1-or-later
#include "network/shaping.hpp"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <linux/if_ether.h>
#include <linux/pkt_cls.h>
#include <linux/pkt_sched.h>
#include <netlink/errno.h>
#include <netlink/route/class.h>
#include <netlink/route/qdisc.h>
#include <netlink/route/qdisc/htb.h>
#include <netlink/route/tc.h>

#include <algorithm>
#include <array>
#include <cstddef>

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

// ---- policing, for which libnl 3.7 has no words

constexpr std::uint32_t ingress_handle = 0xffff0000;
constexpr unsigned cells = 256;
constexpr unsigned cell_log = 9;                            // cells of 512 bytes: the largest frame is in the table
constexpr std::uint32_t largest_frame = cells << cell_log;  // with what hardware would have cut, 64 KiB and more
constexpr std::uint64_t nanoseconds = 1'000'000'000, tick = 64;  // the kernel counts time in 64 ns

/// How long so many bytes take, in the kernel's ticks.
std::uint32_t ticks(std::uint64_t bytes, std::uint64_t rate) {
    const auto time = static_cast<std::uint64_t>(static_cast<double>(bytes) * nanoseconds / static_cast<double>(rate));
    return static_cast<std::uint32_t>(std::min<std::uint64_t>(time / tick, UINT32_MAX));
}

tc_ratespec speed(std::uint32_t rate) {
    tc_ratespec spec{};
    spec.rate = rate;
    spec.cell_log = cell_log;
    spec.cell_align = -1;
    spec.linklayer = TC_LINKLAYER_ETHERNET;
    return spec;
}

using Table = std::array<std::uint32_t, cells>;

Table table_of(std::uint32_t rate) {
    Table table{};
    for (unsigned i = 0; i < cells; ++i) table[i] = ticks((i + 1ULL) << cell_log, rate);
    return table;
}

void add_ingress(nl_sock* socket, int index, const std::string& name) {
    const Qdisc entry{rtnl_qdisc_alloc()};
    if (!entry) throw Error{Code::limits_exceeded, "no memory for a netlink message"};
    rtnl_tc_set_ifindex(TC_CAST(entry.get()), index);
    rtnl_tc_set_parent(TC_CAST(entry.get()), TC_H_INGRESS);
    rtnl_tc_set_handle(TC_CAST(entry.get()), ingress_handle);
    const auto doing = fmt::format("limiting what comes from '{}'", name);
    check(rtnl_tc_set_kind(TC_CAST(entry.get()), "ingress"), doing);
    check(rtnl_qdisc_add(socket, entry.get(), NLM_F_CREATE | NLM_F_EXCL), doing);
}

}  // namespace

Message police_request(int index, std::uint32_t rate, std::uint32_t burst, std::uint32_t peak) {
    tcmsg header{};
    header.tcm_family = AF_UNSPEC;
    header.tcm_ifindex = index;
    header.tcm_parent = ingress_handle;
    header.tcm_info = TC_H_MAKE(1U << 16, htons(ETH_P_ALL));
    tc_police police{};
    police.action = TC_POLICE_SHOT;
    police.mtu = largest_frame;
    police.burst = ticks(burst, rate);
    police.rate = speed(rate);
    if (peak) police.peakrate = speed(peak);
    // Every frame: no bit of its first word is looked at.
    std::array<char, sizeof(tc_u32_sel) + sizeof(tc_u32_key)> all{};
    all[offsetof(tc_u32_sel, flags)] = TC_U32_TERMINAL;
    all[offsetof(tc_u32_sel, nkeys)] = 1;
    Message message{nlmsg_alloc_simple(RTM_NEWTFILTER, NLM_F_REQUEST | NLM_F_CREATE | NLM_F_EXCL)};
    if (!message) throw Error{Code::limits_exceeded, "no memory for a netlink message"};
    nlmsg_append(message.get(), &header, sizeof header, NLMSG_ALIGNTO);
    nla_put_string(message.get(), TCA_KIND, "u32");
    nlattr* options = nla_nest_start(message.get(), TCA_OPTIONS);
    nla_put(message.get(), TCA_U32_SEL, all.size(), all.data());
    nlattr* act = nla_nest_start(message.get(), TCA_U32_POLICE);
    nla_put(message.get(), TCA_POLICE_TBF, sizeof police, &police);
    const Table table = table_of(rate);
    nla_put(message.get(), TCA_POLICE_RATE, sizeof table, table.data());
    if (peak) {
        const Table fastest = table_of(peak);
        nla_put(message.get(), TCA_POLICE_PEAKRATE, sizeof fastest, fastest.data());
    }
    nla_nest_end(message.get(), act);
    nla_nest_end(message.get(), options);
    return message;
}

void limit_outbound(int index, const std::string& name, const BandwidthLimit& limit) {
    const std::uint64_t rate = in_bytes(limit.average.value_or(0), "an average", name);
    if (rate == 0)
        throw Error{Code::invalid_xml, fmt::format("limiting '{}': <outbound> needs an average above 0", name)};
    const std::uint64_t peak = limit.peak ? in_bytes(*limit.peak, "a peak", name) : 0;
    // A second's worth, as libvirt gives, when nothing is said.
    const std::uint64_t burst = limit.burst ? in_bytes(*limit.burst, "a burst", name) : rate;
    const Socket socket = connect_route();
    add_ingress(socket.get(), index, name);
    Message request = police_request(index, static_cast<std::uint32_t>(rate),
                                     static_cast<std::uint32_t>(std::max<std::uint64_t>(burst, largest_frame)),
                                     static_cast<std::uint32_t>(peak > rate ? peak : 0));
    const int status = nl_send_sync(socket.get(), request.release());
    if (status == -NLE_OBJ_NOTFOUND || status == -NLE_OPNOTSUPP)
        throw Error{Code::unsupported_configuration,
                    fmt::format("limiting what comes from '{}': this kernel has no traffic policing (the modules "
                                "'cls_u32' and 'act_police')",
                                name)};
    check(status, fmt::format("limiting what comes from '{}' to {} KiB a second", name, rate / 1024));
}

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
