// SPDX-License-Identifier: LGPL-2.1-or-later
// LinkBed: links of domains in network and mount namespaces of the test's own, with a sysfs that shows them.
#pragma once

#include <gtest/gtest.h>
#include <net/if.h>
#include <sched.h>
#include <sys/mount.h>

#include <cstdio>
#include <cstdlib>
#include <string>

#include "network/links.hpp"
#include "service/host/loop.hpp"
#include "service/host/spawner.hpp"
#include "service/host/workers.hpp"
#include "tests/support/run.hpp"
#include "tests/support/shell.hpp"
#include "virtbus/error.hpp"

namespace virtbus::tests {

/// The namespaces must be entered before the worker threads start, as each thread has its own.
inline bool enter_namespaces() {
    static const bool entered =
        ::unshare(CLONE_NEWNET | CLONE_NEWNS) == 0 &&
        ::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0 &&
        ::mount("sysfs", "/sys", "sysfs", 0, nullptr) == 0 &&
        std::system(
            "ip link set lo up && ip link add br0 type bridge && ip link set br0 up && "
            "ip link add card0 type veth peer name card1 && ip link set card0 up && ip link set card1 up") == 0;
    return entered;
}

inline bool is_there(const std::string& device) {
    return ::if_nametoindex(device.c_str()) != 0;
}

/// Not every kernel has the modules.
inline bool has_policing() {
    static const bool has =
        std::system(
            "(ip tuntap add dev probe0 mode tap && tc qdisc add dev probe0 ingress && tc filter add dev probe0 "
            "parent ffff: protocol all u32 match u32 0 0 police rate 1mbit burst 128kb drop) >/dev/null 2>&1") == 0;
    (void)std::system("ip link del probe0 >/dev/null 2>&1");
    return has;
}

struct LinkBed : ::testing::Test {
    void SetUp() override {
        if (!entered) GTEST_SKIP() << "a network namespace needs root";
    }
    LinkRequest request(InterfaceType type) {
        LinkRequest wanted;
        wanted.domain_name = "web";
        wanted.domain_uuid = "0a1b2c3d-0000-4000-8000-000000000001";
        wanted.interface.type = type;
        wanted.interface.mac = "52:54:00:01:02:03";
        wanted.interface.source.emplace();
        if (type == InterfaceType::bridge) wanted.interface.source->bridge = "br0";
        if (type == InterfaceType::direct) wanted.interface.source->dev = "card0";
        return wanted;
    }
    Link open(LinkRequest wanted) { return run(loop, links.open_link(std::move(wanted), in(patience), {})); }
    void close(const Link& link) { run(loop, links.close_link(link.undo_key)); }
    void reconnect(const Link& link, LinkRequest wanted) {
        run(loop, links.reconnect_link(link.undo_key, std::move(wanted), in(patience)));
    }
    Code refusal(LinkRequest wanted) {
        words.clear();
        try {
            open(std::move(wanted));
        } catch (const Error& error) {
            words = error.what();
            EXPECT_NE(words.find("web"), std::string::npos) << words;
            return error.code();
        }
        return Code::internal;
    }

    bool entered = enter_namespaces();
    host::MainLoop loop;
    host::ThreadPool workers{loop, 2};
    host::ChildSpawner spawner{loop};
    network::TapLinks links{workers, &spawner};
    std::string words;  ///< of the last refusal
};

}  // namespace virtbus::tests
