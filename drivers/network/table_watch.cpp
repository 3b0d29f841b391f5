// SPDX-License-Identifier: LGPL-2.1-or-later
#include "network/table_watch.hpp"

#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netlink.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <cstring>

namespace virtbus::network {

namespace {

/// Of a table, a chain or rules for bridges.
bool takes_away(const nlmsghdr& header) {
    const unsigned type = header.nlmsg_type;
    if (type >> 8 != NFNL_SUBSYS_NFTABLES || header.nlmsg_len < NLMSG_LENGTH(sizeof(nfgenmsg))) return false;
    const unsigned what = type & 0xff;
    if (what != NFT_MSG_DELTABLE && what != NFT_MSG_DELCHAIN && what != NFT_MSG_DELRULE) return false;
    nfgenmsg about{};
    std::memcpy(&about, NLMSG_DATA(&header), sizeof about);
    return about.nfgen_family == NFPROTO_BRIDGE;
}

}  // namespace

TableWatch::TableWatch(Loop& loop, std::function<void()> taken_away) : taken_away_{std::move(taken_away)} {
    socket_ = Fd{::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_NETFILTER)};
    if (!socket_) return;
    // Without a bind nothing is told, whatever groups the socket is a member of.
    sockaddr_nl address{};
    address.nl_family = AF_NETLINK;
    address.nl_groups = 1U << (NFNLGRP_NFTABLES - 1);
    if (::bind(socket_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) return;
    watch_ = loop.watch(socket_.get(), readable, [this](unsigned) { read_all(); });
}

void TableWatch::read_all() {
    bool taken = false;
    alignas(nlmsghdr) std::array<char, 1 << 16> buffer;
    for (;;) {
        const auto size = ::recv(socket_.get(), buffer.data(), buffer.size(), 0);
        // What did not fit was lost, so nobody knows.
        if (size < 0 && errno == ENOBUFS) taken = true;
        if (size < 0 && errno != ENOBUFS && errno != EINTR) break;
        auto left = size;
        const auto* header = reinterpret_cast<const nlmsghdr*>(buffer.data());
        for (; left > 0 && NLMSG_OK(header, left); header = NLMSG_NEXT(header, left)) taken |= takes_away(*header);
    }
    if (taken) taken_away_();
}

}  // namespace virtbus::network
