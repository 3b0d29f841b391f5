// SPDX-License-Identifier: LGPL-2.1-or-later
// dnsmasq of a network as a transient service of a real systemd, in its sandbox. Runs only in the throwaway container.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sdbus-c++/sdbus-c++.h>
#include <sys/stat.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "network/dnsmasq.hpp"
#include "systemd/manager_bus.hpp"
#include "systemd/transient_units.hpp"
#include "tests/drivers/host_bed.hpp"
#include "tests/support/shell.hpp"

namespace virtbus::network {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using tests::content;
using tests::output_of;

struct NetworkServerTest : ::testing::Test {
    static std::unique_ptr<Units> make_units(Loop& loop) {
        return std::make_unique<systemd::TransientUnits>(
            loop, std::make_unique<systemd::ManagerBus>(loop, sdbus::createSystemBusConnection()),
            systemd::TransientUnits::Options{LAUNCHER, systemd::Account{65534, 65534, {65534}}, true});
    }
    void SetUp() override {
        static const bool made = std::system(
                                     "ip link add br0 type bridge && ip addr add 192.168.77.1/24 dev br0 && "
                                     "ip addr add fd00:77::1/64 dev br0 nodad && ip link set br0 up") == 0;
        ASSERT_TRUE(made);
        ::umask(0077);  // the service's own
        std::filesystem::create_directory("/run/virtbus-test");
        std::filesystem::permissions("/run/virtbus-test", std::filesystem::perms{0755});
        config.name = "test-net";
        config.bridge.emplace().name = "br0";
        auto& v4 = config.ips.emplace_back();
        v4.address = "192.168.77.1";
        v4.prefix = 24;
        v4.dhcp.emplace().ranges.push_back({"192.168.77.10", "192.168.77.20", {}, {}});
        auto& v6 = config.ips.emplace_back();
        v6.family = "ipv6";
        v6.address = "fd00:77::1";
        v6.prefix = 64;
        v6.dhcp.emplace().ranges.push_back({"fd00:77::10", "fd00:77::20", {}, {}});
        config.dns.emplace().hosts.push_back({"192.168.77.99", {"gate"}, {}});
    }
    static Deadline soon() { return in(tests::patience); }
    std::uint32_t pid() const { return dnsmasq.record().pid; }
    std::string status() const { return content("/proc/" + std::to_string(pid()) + "/status"); }

    tests::HostBed bed{make_units};
    // Not in /tmp, of which a unit has its own.
    const std::string folder = "/run/virtbus-test/network/x";
    std::vector<std::string> problems;
    NetworkConfig config;
    Dnsmasq dnsmasq{
        {bed.ports, folder, 3, "test-net", "", {}, {}, [this](const std::string& text) { problems.push_back(text); }}};
};

TEST_F(NetworkServerTest, ItServesFromItsSandbox) {
    bed.run(dnsmasq.start(config, soon()));
    const auto unit = dnsmasq.record().unit;
    EXPECT_EQ(unit, "virtbus-network-3-test\\x2dnet.service");
    EXPECT_THAT(content("/proc/" + std::to_string(pid()) + "/cgroup"), HasSubstr("system.slice/" + unit));
    EXPECT_THAT(status(), Not(HasSubstr("Uid:\t0")));
    EXPECT_THAT(status(), HasSubstr("CapPrm:\t0000000000003400"));
    EXPECT_THAT(status(), HasSubstr("CapBnd:\t0000000000003400"));
    EXPECT_THAT(status(), HasSubstr("NoNewPrivs:\t1"));
    EXPECT_THAT(output_of("timeout 20 busybox nslookup -type=a gate 192.168.77.1"), HasSubstr("192.168.77.99"));
    EXPECT_THAT(output_of("machinectl list --no-legend --no-pager"), Not(HasSubstr("test-net")));
    {
        Dnsmasq later{{bed.ports, folder, 3, "test-net", "", {}, {}, {}}};
        bed.run(later.adopt(config, {}, soon()));
        EXPECT_EQ(later.record(), dnsmasq.record()) << "found without a record";
    }
    const auto first = pid();
    config.dns->hosts[0].ip = "192.168.77.98";
    bed.run(dnsmasq.update(config, soon()));
    EXPECT_EQ(pid(), first);
    EXPECT_THAT(output_of("timeout 20 busybox nslookup -type=a gate 192.168.77.1"), HasSubstr("192.168.77.98"));
    ASSERT_EQ(::kill(static_cast<pid_t>(first), SIGKILL), 0);
    bed.run_until([&] { return pid() != first || !problems.empty(); });
    EXPECT_EQ(dnsmasq.record().unit, unit) << "a unit of the same name";
    EXPECT_TRUE(problems.empty());
    bed.run(dnsmasq.stop(soon()));
    EXPECT_FALSE(std::filesystem::exists(folder));
    bed.run_until([&] { return output_of("systemctl show -P LoadState -- '" + unit + "'") == "not-found\n"; });
}

TEST_F(NetworkServerTest, AStartThatFailsSaysWhy) {
    config.dnsmasq_options = {"no-such-option"};
    try {
        bed.run(dnsmasq.start(config, soon()));
        ADD_FAILURE() << "it started";
    } catch (const Error& error) {
        EXPECT_THAT(error.what(), HasSubstr("bad option"));
    }
    EXPECT_FALSE(std::filesystem::exists(folder));
}

/// Says what it costs as a unit; asserts no time.
TEST_F(NetworkServerTest, TheCostIsShown) {
    using Clock = std::chrono::steady_clock;
    std::vector<double> starts, stops;
    for (int round = 0; round < 9; ++round) {
        const auto begin = Clock::now();
        bed.run(dnsmasq.start(config, soon()));
        const auto middle = Clock::now();
        bed.run(dnsmasq.stop(soon()));
        starts.push_back(std::chrono::duration<double, std::milli>(middle - begin).count());
        stops.push_back(std::chrono::duration<double, std::milli>(Clock::now() - middle).count());
    }
    std::ranges::sort(starts);
    std::ranges::sort(stops);
    std::printf("as a unit: start %.1f ms, stop %.1f ms (medians)\n", starts[4], stops[4]);
}

}  // namespace
}  // namespace virtbus::network
