// SPDX-License-Identifier: LGPL-2.1-or-later
#include "network/traffic_control.hpp"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <linux/if_ether.h>
#include <linux/pkt_cls.h>
#include <linux/pkt_sched.h>
#include <linux/tc_act/tc_mirred.h>
#include <netlink/errno.h>
#include <netlink/route/class.h>
#include <netlink/route/qdisc.h>
#include <netlink/route/qdisc/htb.h>
#include <netlink/route/tc.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstring>
#include <span>

#include "virtbus/error.hpp"

namespace virtbus::network {

namespace {

using Qdisc = std::unique_ptr<rtnl_qdisc, Free<rtnl_qdisc_put>>;
using Class = std::unique_ptr<rtnl_class, Free<rtnl_class_put>>;

constexpr std::uint64_t most_kib = UINT32_MAX / 1024;  // the buckets' sizes are 32-bit numbers of bytes
constexpr std::uint32_t major = 1;
constexpr std::uint32_t ingress_handle = 0xffff0000;
constexpr std::uint32_t only_class = 1;

std::string doing(const Shaped& device) {
    return fmt::format("limiting '{}'", device.name);
}

std::uint32_t clamped(std::uint64_t value) {
    return static_cast<std::uint32_t>(std::min<std::uint64_t>(value, UINT32_MAX));
}

/// A tenth of a second's worth and never less than two large frames, as the kernel counts in whole frames.
std::uint32_t bucket(std::uint64_t rate) {
    return clamped(std::max<std::uint64_t>(rate / 10, 131072));
}

Message tc_message(int type, int flags, const tcmsg& header) {
    Message message{nlmsg_alloc_simple(type, NLM_F_REQUEST | flags)};
    if (!message) throw Error{Code::limits_exceeded, "no memory for a netlink message"};
    nlmsg_append(message.get(), const_cast<tcmsg*>(&header), sizeof header, NLMSG_ALIGNTO);
    return message;
}

void check_absent(int status, const std::string& what) {
    if (status != -NLE_OBJ_NOTFOUND && status != -NLE_INVAL && status != -NLE_NODEV) check(status, what);
}

/// At the root or at the entry; what is not there is no error.
void remove_qdisc(const Shaped& device, std::uint32_t parent, std::uint32_t handle) {
    tcmsg header{};
    header.tcm_ifindex = device.index;
    header.tcm_parent = parent;
    header.tcm_handle = handle;
    check_absent(nl_send_sync(device.socket, tc_message(RTM_DELQDISC, 0, header).release()),
                 fmt::format("removing limits of '{}'", device.name));
}

Class class_of(const Shaped& device, const RateClass& one) {
    Class made{rtnl_class_alloc()};
    if (!made) throw Error{Code::limits_exceeded, "no memory for a netlink message"};
    rtnl_tc_set_ifindex(TC_CAST(made.get()), device.index);
    rtnl_tc_set_parent(TC_CAST(made.get()), TC_HANDLE(major, one.parent));
    rtnl_tc_set_handle(TC_CAST(made.get()), TC_HANDLE(major, one.id));
    check(rtnl_tc_set_kind(TC_CAST(made.get()), "htb"), doing(device));
    return made;
}

// ---- filters, for which libnl 3.7 has no words

void put_selector(nl_msg* message, std::span<const tc_u32_key> keys) {
    std::vector<char> bytes(sizeof(tc_u32_sel) + keys.size_bytes());
    bytes[offsetof(tc_u32_sel, flags)] = TC_U32_TERMINAL;
    bytes[offsetof(tc_u32_sel, nkeys)] = static_cast<char>(keys.size());
    std::memcpy(bytes.data() + sizeof(tc_u32_sel), keys.data(), keys.size_bytes());
    nla_put(message, TCA_U32_SEL, static_cast<int>(bytes.size()), bytes.data());
}

/// Every frame: no bit of its first word is looked at.
void put_everything(nl_msg* message) {
    constexpr std::array<tc_u32_key, 1> nothing{};
    put_selector(message, nothing);
}

/// Words of the frame, counted from where its payload begins: the address begins 14 bytes before that.
std::array<tc_u32_key, 2> keys_of(const MacAddress& mac) {
    constexpr std::array<std::uint8_t, 4> half{0, 0, 0xff, 0xff}, whole{0xff, 0xff, 0xff, 0xff};
    const std::array<std::uint8_t, 4> head{0, 0, mac[0], mac[1]}, tail{mac[2], mac[3], mac[4], mac[5]};
    std::array<tc_u32_key, 2> keys{};
    std::memcpy(&keys[0].mask, half.data(), half.size());
    std::memcpy(&keys[0].val, head.data(), head.size());
    keys[0].off = -16;
    std::memcpy(&keys[1].mask, whole.data(), whole.size());
    std::memcpy(&keys[1].val, tail.data(), tail.size());
    keys[1].off = -12;
    return keys;
}

tcmsg filter_header(int index, std::uint32_t parent, std::uint32_t priority) {
    tcmsg header{};
    header.tcm_family = AF_UNSPEC;
    header.tcm_ifindex = index;
    header.tcm_parent = parent;
    header.tcm_info = TC_H_MAKE(priority << 16, htons(ETH_P_ALL));
    return header;
}

// ---- policing

constexpr unsigned cells = 256;
constexpr unsigned cell_log = 9;                            // cells of 512 bytes: the largest frame is in the table
constexpr std::uint32_t largest_frame = cells << cell_log;  // with what hardware would have cut, 64 KiB and more
constexpr std::uint64_t nanoseconds = 1'000'000'000, tick = 64;  // the kernel counts time in 64 ns

/// How long so many bytes take, in the kernel's ticks.
std::uint32_t ticks(std::uint64_t bytes, std::uint64_t rate) {
    const auto time = static_cast<std::uint64_t>(static_cast<double>(bytes) * nanoseconds / static_cast<double>(rate));
    return clamped(time / tick);
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

void add_ingress(const Shaped& device) {
    const Qdisc entry{rtnl_qdisc_alloc()};
    if (!entry) throw Error{Code::limits_exceeded, "no memory for a netlink message"};
    rtnl_tc_set_ifindex(TC_CAST(entry.get()), device.index);
    rtnl_tc_set_parent(TC_CAST(entry.get()), TC_H_INGRESS);
    rtnl_tc_set_handle(TC_CAST(entry.get()), ingress_handle);
    const auto what = fmt::format("limiting what comes from '{}'", device.name);
    check(rtnl_tc_set_kind(TC_CAST(entry.get()), "ingress"), what);
    check(rtnl_qdisc_add(device.socket, entry.get(), NLM_F_CREATE | NLM_F_EXCL), what);
}

// ---- by way of another device

/// A device's index is its own in the network namespace, so this name is as well.
std::string intermediate_name(int index) {
    return fmt::format("vifb{}", index);
}

LinkObject make_intermediate(const Shaped& device) {
    constexpr unsigned queue_length = 1000;  // ifb's own 32 would drop what a short burst brings
    const auto name = intermediate_name(device.index);
    const LinkObject link{rtnl_link_alloc()};
    if (!link) throw Error{Code::limits_exceeded, "no memory for a netlink message"};
    rtnl_link_set_name(link.get(), name.c_str());
    rtnl_link_set_txqlen(link.get(), queue_length);
    rtnl_link_set_flags(link.get(), IFF_UP);
    const auto what = fmt::format("making device '{}', which limits what comes from '{}'", name, device.name);
    check(rtnl_link_set_type(link.get(), "ifb"), what);
    const int status = rtnl_link_add(device.socket, link.get(), NLM_F_CREATE | NLM_F_EXCL);
    if (status == -NLE_OPNOTSUPP)
        throw Error{Code::unsupported_configuration,
                    fmt::format("limiting what comes from '{}': this kernel has no traffic policing (the module "
                                "'act_police') and no device that could do the same ('ifb')",
                                device.name)};
    check(status, what);
    return find_link(device.socket, 0, name);
}

/// All that comes in goes through the other device first.
Message redirect_request(int index, int to) {
    Message message = tc_message(RTM_NEWTFILTER, NLM_F_CREATE | NLM_F_EXCL, filter_header(index, ingress_handle, 1));
    nla_put_string(message.get(), TCA_KIND, "u32");
    nlattr* options = nla_nest_start(message.get(), TCA_OPTIONS);
    put_everything(message.get());
    nlattr* actions = nla_nest_start(message.get(), TCA_U32_ACT);
    nlattr* first = nla_nest_start(message.get(), 1);
    nla_put_string(message.get(), TCA_ACT_KIND, "mirred");
    nlattr* action = nla_nest_start(message.get(), TCA_ACT_OPTIONS);
    tc_mirred mirred{};
    mirred.action = TC_ACT_STOLEN;
    mirred.eaction = TCA_EGRESS_REDIR;
    mirred.ifindex = static_cast<std::uint32_t>(to);
    nla_put(message.get(), TCA_MIRRED_PARMS, sizeof mirred, &mirred);
    nla_nest_end(message.get(), action);
    nla_nest_end(message.get(), first);
    nla_nest_end(message.get(), actions);
    nla_nest_end(message.get(), options);
    return message;
}

void redirect_ingress(const Shaped& device, const Rate& limit, std::uint64_t peak) {
    const LinkObject other = make_intermediate(device);
    if (!other) throw Error{Code::hypervisor_failed, fmt::format("{}: the device went away at once", doing(device))};
    try {
        const Shaped through{device.socket, rtnl_link_get_ifindex(other.get()), intermediate_name(device.index)};
        make_root(through, only_class);
        set_rate_class(through, {only_class, 0, {limit.rate, std::max(peak, limit.rate), limit.burst}});
        const int status = nl_send_sync(device.socket, redirect_request(device.index, through.index).release());
        if (status == -NLE_OBJ_NOTFOUND || status == -NLE_OPNOTSUPP)
            throw Error{Code::unsupported_configuration,
                        fmt::format("limiting what comes from '{}': this kernel has neither traffic policing (the "
                                    "module 'act_police') nor redirection ('act_mirred')",
                                    device.name)};
        check(status, fmt::format("limiting what comes from '{}'", device.name));
    } catch (...) {
        remove_intermediate(device.socket, device.index);
        throw;
    }
}

}  // namespace

std::uint64_t kib_in_bytes(std::uint64_t kib, const char* what, const std::string& name) {
    if (kib > most_kib)
        throw Error{Code::unsupported_configuration,
                    fmt::format("limiting '{}': {} of {} KiB; {} is the most", name, what, kib, most_kib)};
    return kib * 1024;
}

Rate rate_of(const BandwidthLimit& limit, const std::string& name, const char* element) {
    Rate out;
    out.rate = kib_in_bytes(limit.average.value_or(0), "an average", name);
    if (out.rate == 0)
        throw Error{Code::invalid_xml, fmt::format("limiting '{}': <{}> needs an average above 0", name, element)};
    out.ceiling = std::max(out.rate, limit.peak ? kib_in_bytes(*limit.peak, "a peak", name) : 0);
    out.burst = limit.burst ? kib_in_bytes(*limit.burst, "a burst", name) : 0;
    return out;
}

bool has_root(const Shaped& device) {
    return std::ranges::any_of(rate_classes(device), [](auto& each) { return each.parent == 0; });
}

void remove_root(const Shaped& device) {
    remove_qdisc(device, TC_H_ROOT, 0);
}

void make_root(const Shaped& device, std::uint32_t default_class) {
    const Qdisc root{rtnl_qdisc_alloc()};
    if (!root) throw Error{Code::limits_exceeded, "no memory for a netlink message"};
    rtnl_tc_set_ifindex(TC_CAST(root.get()), device.index);
    rtnl_tc_set_parent(TC_CAST(root.get()), TC_H_ROOT);
    rtnl_tc_set_handle(TC_CAST(root.get()), TC_HANDLE(major, 0));
    check(rtnl_tc_set_kind(TC_CAST(root.get()), "htb"), doing(device));
    check(rtnl_htb_set_defcls(root.get(), default_class), doing(device));
    // One that is there is no htb that could be changed, or holds classes of before.
    remove_root(device);
    check(rtnl_qdisc_add(device.socket, root.get(), NLM_F_CREATE | NLM_F_REPLACE), doing(device));
}

void set_rate_class(const Shaped& device, const RateClass& one) {
    const Class made = class_of(device, one);
    const auto what = fmt::format("limiting '{}' to {} KiB a second", device.name, one.rate.rate / 1024);
    const std::uint64_t ceiling = std::max(one.rate.rate, one.rate.ceiling);
    check(rtnl_htb_set_rate(made.get(), clamped(one.rate.rate)), what);
    check(rtnl_htb_set_ceil(made.get(), clamped(ceiling)), what);
    check(rtnl_htb_set_rbuffer(made.get(), one.rate.burst ? clamped(one.rate.burst) : bucket(one.rate.rate)), what);
    check(rtnl_htb_set_cbuffer(made.get(), bucket(ceiling)), what);
    check(rtnl_class_add(device.socket, made.get(), NLM_F_CREATE | NLM_F_REPLACE), what);
}

void remove_rate_class(const Shaped& device, std::uint32_t id) {
    tcmsg header{};
    header.tcm_ifindex = device.index;
    header.tcm_parent = TC_HANDLE(major, 0);
    header.tcm_handle = TC_HANDLE(major, id);
    check_absent(nl_send_sync(device.socket, tc_message(RTM_DELTCLASS, 0, header).release()),
                 fmt::format("removing class 1:{} of '{}'", id, device.name));
}

std::vector<RateClass> rate_classes(const Shaped& device) {
    nl_cache* found = nullptr;
    check(rtnl_class_alloc_cache(device.socket, device.index, &found),
          fmt::format("looking at the limits of '{}'", device.name));
    const std::unique_ptr<nl_cache, Free<nl_cache_free>> cache{found};
    std::vector<RateClass> out;
    for (nl_object* each = nl_cache_get_first(found); each; each = nl_cache_get_next(each)) {
        auto* one = reinterpret_cast<rtnl_class*>(each);
        const char* kind = rtnl_tc_get_kind(TC_CAST(one));
        const auto handle = rtnl_tc_get_handle(TC_CAST(one)), parent = rtnl_tc_get_parent(TC_CAST(one));
        if (!kind || std::strcmp(kind, "htb") != 0 || TC_H_MAJ(handle) != TC_HANDLE(major, 0)) continue;
        // The kernel calls the root of classes the root of all.
        out.push_back({TC_H_MIN(handle),
                       parent == TC_H_ROOT ? 0 : TC_H_MIN(parent),
                       {rtnl_htb_get_rate(one), rtnl_htb_get_ceil(one), rtnl_htb_get_rbuffer(one)}});
    }
    return out;
}

void lead_to_class(const Shaped& device, const MacAddress& mac, std::uint32_t id) {
    forget_filter(device, id);
    // The priority is the filter's name, as it can be removed by that.
    Message message =
        tc_message(RTM_NEWTFILTER, NLM_F_CREATE | NLM_F_EXCL, filter_header(device.index, TC_HANDLE(major, 0), id));
    nla_put_string(message.get(), TCA_KIND, "u32");
    nlattr* options = nla_nest_start(message.get(), TCA_OPTIONS);
    nla_put_u32(message.get(), TCA_U32_CLASSID, TC_HANDLE(major, id));
    put_selector(message.get(), keys_of(mac));
    nla_nest_end(message.get(), options);
    const int status = nl_send_sync(device.socket, message.release());
    if (status == -NLE_OBJ_NOTFOUND || status == -NLE_OPNOTSUPP)
        throw Error{Code::unsupported_configuration,
                    fmt::format("{}: this kernel cannot tell guests apart by their addresses (the module 'cls_u32')",
                                doing(device))};
    check(status, doing(device));
}

void forget_filter(const Shaped& device, std::uint32_t id) {
    const auto header = filter_header(device.index, TC_HANDLE(major, 0), id);
    check_absent(nl_send_sync(device.socket, tc_message(RTM_DELTFILTER, 0, header).release()), doing(device));
}

Message police_request(int index, std::uint32_t rate, std::uint32_t burst, std::uint32_t peak) {
    tc_police police{};
    police.action = TC_POLICE_SHOT;
    police.mtu = largest_frame;
    police.burst = ticks(burst, rate);
    police.rate = speed(rate);
    if (peak) police.peakrate = speed(peak);
    Message message = tc_message(RTM_NEWTFILTER, NLM_F_CREATE | NLM_F_EXCL, filter_header(index, ingress_handle, 1));
    nla_put_string(message.get(), TCA_KIND, "u32");
    nlattr* options = nla_nest_start(message.get(), TCA_OPTIONS);
    put_everything(message.get());
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

void limit_ingress(const Shaped& device, const Rate& limit, std::uint64_t peak) {
    remove_ingress(device);
    add_ingress(device);
    // A second's worth, as libvirt gives, when nothing is said.
    const auto burst = std::max<std::uint64_t>(limit.burst ? limit.burst : limit.rate, largest_frame);
    const int status = nl_send_sync(device.socket, police_request(device.index, clamped(limit.rate), clamped(burst),
                                                                  clamped(peak > limit.rate ? peak : 0))
                                                       .release());
    if (status == -NLE_OBJ_NOTFOUND || status == -NLE_OPNOTSUPP)
        return redirect_ingress(device, {limit.rate, limit.rate, burst}, peak);
    check(status, fmt::format("limiting what comes from '{}' to {} KiB a second", device.name, limit.rate / 1024));
}

void remove_ingress(const Shaped& device) {
    remove_qdisc(device, TC_H_INGRESS, ingress_handle);
    remove_intermediate(device.socket, device.index);
}

void remove_intermediate(nl_sock* socket, int index) {
    const auto name = intermediate_name(index);
    const LinkObject link = find_link(socket, 0, name);
    const char* type = link ? rtnl_link_get_type(link.get()) : nullptr;
    if (!type || std::strcmp(type, "ifb") != 0) return;
    check(rtnl_link_delete(socket, link.get()), fmt::format("removing device '{}'", name));
}

}  // namespace virtbus::network
