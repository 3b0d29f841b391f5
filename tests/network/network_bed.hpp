// SPDX-License-Identifier: LGPL-2.1-or-later
// NetworkBed: the real daemon as root of a network namespace, with what makes networks there: real bridges, nftables
// and dnsmasq, and DHCP clients in namespaces beside it.
#pragma once

#include <sys/stat.h>

#include <filesystem>

#include "tests/bus/daemon.hpp"
#include "tests/network/place.hpp"

namespace virtbus::tests {

inline constexpr const char* network = "org.virtbus1.Network";

class NetworkBed : public ::testing::Test {
protected:
    static void SetUpTestSuite() { entered_ = enter_network_namespace(); }
    void SetUp() override {
        if (!entered_) GTEST_SKIP() << "a network namespace needs root";
        write_client_script();
        start();
    }
    void TearDown() override {
        if (!entered_ || !bed.daemon) return;
        for (const auto& path : made) client->call(path, network, "Stop", "a{sv}", 0);
        client.reset();
        EXPECT_EQ(bed.stop(), 0);
        if (HasFailure()) std::fprintf(stderr, "%s", read_file(bed.log()).c_str());
    }

    void start() {
        ASSERT_TRUE(bed.start()) << read_file(bed.log());
        client = bed.connect();
    }
    /// Ends the daemon without a word and starts the next.
    void restart(int signal) {
        client.reset();
        bed.stop(signal);
        start();
    }

    static std::string xml(const std::string& name, const std::string& more) {
        return "<network><name>" + name + "</name>" + more + "</network>";
    }
    std::string define(const std::string& text) {
        const auto path = text_of(client->call(root, manager, "DefineNetwork", "sa{sv}", text.c_str(), 0));
        made.push_back(path);
        return path;
    }
    Answer verb(const std::string& path, const char* name) { return client->call(path, network, name, "a{sv}", 0); }
    std::string up(const std::string& text) {
        const auto path = define(text);
        const auto answer = verb(path, "Start");
        EXPECT_TRUE(answer.ok()) << answer.error << ": " << answer.message;
        return path;
    }
    Answer update(const std::string& path, const char* command, const char* section, const std::string& part) {
        return client->call(path, network, "Update", "ssisa{sv}", command, section, -1, part.c_str(), 0);
    }
    bool active(const std::string& path) { return property(*client, path, network, "Active") == "1"; }
    std::string bridge(const std::string& path) { return property(*client, path, network, "Bridge"); }
    std::string leases(const std::string& path) {
        return Client::print(client->call(path, network, "GetLeases", "a{sv}", 0));
    }
    template <class Condition>
    bool eventually(Condition condition) {
        const auto tick = bed.loop_tick();
        return bed.loop.run_until(condition, patience);
    }

    /// Asks for an address until there is one. The kernel lets nothing through a new port of a bridge with STP for some
    /// seconds, so the client asks again and again.
    Said ask_for_address(const Place& place, const std::string& more = "") {
        return place.in("RESOLV=" + resolv(place) + " busybox udhcpc -f -n -q -t 20 -T 1 -A 1 -i eth0 -s " + script() +
                        " " + more);
    }
    std::string script() const { return bed.folder / "udhcpc.script"; }
    /// The DNS servers that the place was told.
    std::string resolv(const Place& place) const { return bed.folder / ("resolv." + std::to_string(place.pid())); }

    /// All that a network changes, as text.
    std::string host_state() const {
        return say("ip link | sed 's/^[0-9]*: //'; ip addr | grep -E 'inet|^[0-9]' | sed 's/^[0-9]*: //; s/ifindex "
                   "[0-9]*//'; ip route show table all; ip -6 route show table all; tc qdisc; nft list ruleset; "
                   "cat /proc/sys/net/ipv4/ip_forward /proc/sys/net/ipv6/conf/all/forwarding; find " +
                   (bed.folder / "RUNTIME") + " | sort")
            .text;
    }
    std::string dnsmasq_pid(const std::string& bridge) const {
        auto said =
            say("for p in /proc/[0-9]*; do [ \"$(readlink $p/ns/net)\" = \"$(readlink /proc/self/ns/net)\" ] && "
                "grep -qs '^dnsmasq' $p/comm && grep -rqs 'interface=" +
                bridge +
                "$' $(tr '\\0' '\\n' <$p/cmdline | sed -n 's/^--conf-file=//p') /dev/null && "
                "echo ${p#/proc/}; done");
        while (said.text.ends_with('\n')) said.text.pop_back();
        return said.text;
    }

    DaemonBed bed{false};
    std::unique_ptr<Client> client;
    std::vector<std::string> made;

private:
    void write_client_script() {
        std::ofstream{script()} << "#!/bin/sh\n"
                                   "[ \"$1\" = bound ] || [ \"$1\" = renew ] || exit 0\n"
                                   "busybox ip addr flush dev $interface\n"
                                   "busybox ip addr add $ip/$mask dev $interface\n"
                                   "[ -z \"$router\" ] || busybox ip route replace default via $router\n"
                                   "echo \"$dns\" >$RESOLV\n";
        ::chmod(script().c_str(), 0755);
    }
    static inline bool entered_ = false;
};

}  // namespace virtbus::tests
