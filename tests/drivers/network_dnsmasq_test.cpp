// SPDX-License-Identifier: LGPL-2.1-or-later
// The real dnsmasq on a bridge, with a DHCP client in a second network namespace.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "network/dnsmasq.hpp"
#include "systemd/plain_units.hpp"
#include "tests/drivers/host_bed.hpp"
#include "tests/support/shell.hpp"

namespace virtbus::network {
namespace {

using namespace std::chrono_literals;
using ::testing::HasSubstr;
using ::testing::Not;
using tests::content;
using tests::output_of;

constexpr const char* reserved_mac = "52:54:00:00:00:01";
constexpr const char* other_mac = "52:54:00:00:00:02";

/// A process that does nothing but keep a network namespace.
pid_t make_client() {
    std::array<int, 2> ends{};
    if (::pipe(ends.data()) != 0) return -1;
    const pid_t child = ::fork();
    if (child == 0) {
        ::prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (::unshare(CLONE_NEWNET) != 0) ::_exit(1);
        ::close(ends[1]);
        for (;;) ::pause();
    }
    ::close(ends[1]);
    char byte = 0;
    (void)!::read(ends[0], &byte, 1);
    ::close(ends[0]);
    return child;
}

struct Namespaces {
    bool made = false;
    pid_t client = -1;
};

int shell(const std::string& command) {
    return std::system(command.c_str());
}

/// Entered before any thread starts, as each has its own.
const Namespaces& namespaces() {
    static const Namespaces all = [] {
        Namespaces result;
        if (::unshare(CLONE_NEWNET) != 0) return result;
        result.client = make_client();
        const auto client = std::to_string(result.client);
        result.made = result.client > 0 &&
                      shell(
                          "ip link set lo up && ip link add br0 type bridge && ip addr add 192.168.77.1/24 dev br0 && "
                          "ip addr add fd00:77::1/64 dev br0 nodad && ip link set br0 up && "
                          "ip link add v0 type veth peer name v1 && ip link set v0 master br0 up && "
                          "ip link set v1 netns " +
                          client) == 0 &&
                      shell("nsenter -t " + client + " -n ip link set lo up") == 0;
        return result;
    }();
    return all;
}

/// What the client's namespace says to a command.
std::string in_client(const std::string& command) {
    return output_of("nsenter -t " + std::to_string(namespaces().client) + " -n " + command);
}

void kill_and_wait(pid_t process) {
    const Fd pidfd{static_cast<int>(::syscall(SYS_pidfd_open, process, 0))};
    ::kill(process, SIGKILL);
    pollfd end{pidfd.get(), POLLIN, 0};
    ::poll(&end, 1, -1);
}

struct KeptLog final : Log {
    void write(Priority priority, std::string_view message, const Fields&) override {
        (priority == Priority::error ? errors : warnings).emplace_back(message);
    }
    std::vector<std::string> errors, warnings;
};

struct NetworkDnsmasqTest : ::testing::Test {
    void SetUp() override {
        if (!spaces.made) GTEST_SKIP() << "network namespaces need root";
        ::umask(0077);  // the service's own
        // The server is another user and has to get here.
        std::filesystem::permissions(bed.folder.path(), std::filesystem::perms{0755});
        std::filesystem::permissions(bed.ports.folders.runtime, std::filesystem::perms{0755});
        config.name = "test net";
        config.bridge.emplace().name = "br0";
        config.forward.emplace().mode = ForwardMode::nat;
        config.domain.emplace().name = "example.test";
        auto& ip = config.ips.emplace_back();
        ip.address = "192.168.77.1";
        ip.prefix = 24;
        ip.dhcp.emplace().ranges.push_back({"192.168.77.10", "192.168.77.10", {}, {}});
        ip.dhcp->hosts.push_back({reserved_mac, "", "web", "192.168.77.50", {}, {}});
        config.dns.emplace().hosts.push_back({"192.168.77.1", {"gate"}, {}});
        config.dnsmasq_options = {"no-ping"};  // it would wait for seconds whether somebody has the address
        remake();
    }
    void TearDown() override {
        if (dnsmasq) bed.run(dnsmasq->stop(soon()));
    }
    static Deadline soon() { return in(tests::patience); }

    Dnsmasq::Setting setting() {
        Dnsmasq::Setting result{ports, folder(), 7, "test net", "6e1c0ab0-52e2-4a61-b0a3-2c6b1d1c1f00", {}, {}, {}};
        result.moved = [this] { ++moved; };
        result.leases_changed = [this] { ++lease_changes; };
        result.problem = [this](const std::string& text) { problems.push_back(text); };
        return result;
    }
    std::string folder() const { return ports.folders.runtime + "/network/" + "6e1c0ab0"; }
    void remake() { dnsmasq = std::make_unique<Dnsmasq>(setting()); }
    void start() {
        bed.run(dnsmasq->start(config, soon()));
        EXPECT_EQ(std::exchange(moved, 0), 1) << "before it returns";
    }
    void update() { bed.run(dnsmasq->update(config, soon())); }
    std::uint32_t pid() const { return dnsmasq->record().pid; }

    /// Runs a DHCP client; what it was told, or "" when it got nothing.
    std::string lease_for(const std::string& mac, const std::string& more = "") {
        const auto told = bed.folder.path() + "/told", script = bed.folder.path() + "/script";
        std::filesystem::remove(told);
        std::ofstream{script} << "#!/bin/sh\n[ \"$1\" = bound ] || exit 0\nip addr flush dev $interface\n"
                                 "ip addr add $ip/$mask dev $interface\n"
                                 "echo \"$ip/$mask router=$router dns=$dns domain=$domain name=$hostname\" >" +
                                     told + "\n";
        std::filesystem::permissions(script, std::filesystem::perms{0755});
        in_client("ip link set v1 down");
        in_client("ip link set v1 address " + mac + " up");
        const auto said = in_client("busybox udhcpc -i v1 -f -q -n -t 20 -T 1 -s " + script + " " + more);
        return content(told);
    }
    std::string resolved(const std::string& name) {
        return in_client("timeout 20 busybox nslookup -type=a " + name + " 192.168.77.1");
    }
    const DhcpLease* find_lease(const std::string& mac) {
        const auto& all = dnsmasq->leases();
        const auto found = std::ranges::find(all, mac, &DhcpLease::mac);
        return found == all.end() ? nullptr : &*found;
    }
    /// Kills it and waits until something has come of that.
    void murder() {
        const auto victim = pid();
        const auto before = problems.size();
        ASSERT_EQ(::kill(static_cast<pid_t>(victim), SIGKILL), 0);
        bed.run_until([&] { return pid() != victim || problems.size() != before; });
    }
    static bool runs(std::uint32_t pid) { return content("/proc/" + std::to_string(pid) + "/comm") == "dnsmasq\n"; }

    const Namespaces& spaces = namespaces();
    tests::HostBed bed{[](Loop& loop) { return std::make_unique<systemd::PlainUnits>(loop, LAUNCHER, std::nullopt); }};
    KeptLog log;
    Ports ports{bed.loop, bed.clock,  bed.workers,       bed.files, bed.spawner,
                log,      *bed.units, bed.ports.folders, "boot",    true};
    NetworkConfig config;
    std::unique_ptr<Dnsmasq> dnsmasq;
    int moved = 0, lease_changes = 0;
    std::vector<std::string> problems;
};

TEST_F(NetworkDnsmasqTest, GuestsGetAddressesAndNames) {
    start();
    EXPECT_EQ(lease_for(reserved_mac),
              "192.168.77.50/24 router=192.168.77.1 dns=192.168.77.1 domain=example.test name=web\n");
    EXPECT_THAT(lease_for(other_mac, "-x hostname:dyn"), HasSubstr("192.168.77.10/24"));
    bed.run_until([&] { return find_lease(reserved_mac) && find_lease(other_mac); });
    EXPECT_GT(lease_changes, 0);
    EXPECT_EQ(find_lease(other_mac)->address, "192.168.77.10");
    EXPECT_EQ(find_lease(other_mac)->prefix, 24u);
    EXPECT_EQ(find_lease(other_mac)->hostname, "dyn");
    EXPECT_GT(find_lease(other_mac)->expires, bed.clock.now());
    EXPECT_THAT(resolved("gate.example.test"), HasSubstr("Address: 192.168.77.1\n"));
    EXPECT_THAT(resolved("dyn.example.test"), HasSubstr("Address: 192.168.77.10\n"));
    EXPECT_THAT(resolved("web.example.test"), HasSubstr("Address: 192.168.77.50\n"));
}

TEST_F(NetworkDnsmasqTest, ItIsNotRootAndHasTheCapabilitiesItNeedsOnly) {
    start();
    const auto status = content("/proc/" + std::to_string(pid()) + "/status");
    EXPECT_THAT(status, Not(HasSubstr("Uid:\t0")));
    EXPECT_THAT(status, HasSubstr("CapEff:\t0000000000001400")) << "NET_ADMIN, NET_BIND_SERVICE";
    struct stat facts{};
    ASSERT_EQ(::stat((folder() + "/conf").c_str(), &facts), 0);
    EXPECT_EQ(facts.st_uid, 0u) << "it cannot change what it is told";
    ASSERT_EQ(::stat((folder() + "/run/leases").c_str(), &facts), 0);
    EXPECT_NE(facts.st_uid, 0u);
}

TEST_F(NetworkDnsmasqTest, HostsComeAndGoWithoutANewProcess) {
    start();
    const auto before = pid();
    config.ips[0].dhcp->hosts.push_back({other_mac, "", "db", "192.168.77.51", {}, {}});
    config.dns->hosts.push_back({"192.168.77.99", {"added"}, {}});
    update();
    EXPECT_EQ(pid(), before);
    EXPECT_THAT(lease_for(other_mac), HasSubstr("192.168.77.51/24"));
    EXPECT_THAT(resolved("added.example.test"), HasSubstr("Address: 192.168.77.99\n"));
    config.ips[0].dhcp->hosts.pop_back();
    config.dns->hosts.pop_back();
    update();
    EXPECT_EQ(pid(), before);
    EXPECT_THAT(lease_for(other_mac), HasSubstr("192.168.77.10/24"));
    EXPECT_THAT(resolved("added.example.test"), Not(HasSubstr("192.168.77.99")));
    update();
    EXPECT_EQ(pid(), before) << "nothing differs";
}

TEST_F(NetworkDnsmasqTest, AnotherRangeKeepsTheLeases) {
    start();
    const auto before = pid();
    EXPECT_THAT(lease_for(other_mac), HasSubstr("192.168.77.10/24"));
    bed.run_until([&] { return find_lease(other_mac) != nullptr; });
    config.ips[0].dhcp->ranges[0] = {"192.168.77.10", "192.168.77.30", {}, {}};
    update();
    EXPECT_NE(pid(), before);
    EXPECT_FALSE(runs(before));
    EXPECT_EQ(moved, 1);
    ASSERT_NE(find_lease(other_mac), nullptr);
    EXPECT_THAT(content(folder() + "/run/leases"), HasSubstr(other_mac));
    EXPECT_THAT(lease_for(other_mac, "-r 192.168.77.10"), HasSubstr("192.168.77.10/24"));
    EXPECT_TRUE(problems.empty());
}

TEST_F(NetworkDnsmasqTest, KilledItComesBackAndIsGivenUpTheFourthTime) {
    start();
    for (int time = 1; time <= 3; ++time) {
        murder();
        EXPECT_TRUE(runs(pid())) << time;
        EXPECT_TRUE(problems.empty());
        bed.run_until([&] { return moved == time; });
    }
    EXPECT_EQ(log.warnings.size(), 3u);
    EXPECT_THAT(log.warnings.back(), HasSubstr("killed by signal 9"));
    EXPECT_THAT(lease_for(reserved_mac), HasSubstr("192.168.77.50/24"));
    murder();
    ASSERT_EQ(problems.size(), 1u);
    EXPECT_THAT(dnsmasq->problem(), HasSubstr("ended 4 times within a minute"));
    EXPECT_EQ(log.errors.size(), 1u);
    update();
    EXPECT_TRUE(runs(pid()));
    bed.run_until([&] { return problems.size() == 2; });
    EXPECT_EQ(problems.back(), "");
    murder();
    EXPECT_TRUE(runs(pid())) << "it is counted anew";
}

TEST_F(NetworkDnsmasqTest, ALaterDaemonFindsIt) {
    start();
    const auto record = dnsmasq->record();
    remake();
    EXPECT_TRUE(runs(record.pid)) << "it lives on";
    bed.run(dnsmasq->adopt(config, record, soon()));
    EXPECT_EQ(dnsmasq->record(), record);
    update();
    EXPECT_EQ(pid(), record.pid) << "it is as it was told";
    murder();
    EXPECT_TRUE(runs(pid()));
    const auto unrecorded = dnsmasq->record();
    remake();
    bed.run(dnsmasq->adopt(config, record, soon()));
    EXPECT_EQ(dnsmasq->record(), unrecorded) << "its folder speaks of it";
    bed.run_until([&] { return moved > 0; });
}

TEST_F(NetworkDnsmasqTest, OneThatEndedWhileNobodyLookedIsStartedWithItsLeases) {
    start();
    lease_for(reserved_mac);
    bed.run_until([&] { return find_lease(reserved_mac) != nullptr; });
    const auto record = dnsmasq->record();
    remake();
    kill_and_wait(static_cast<pid_t>(record.pid));
    bed.run(dnsmasq->adopt(config, record, soon()));
    EXPECT_NE(pid(), record.pid);
    EXPECT_TRUE(runs(pid()));
    EXPECT_NE(find_lease(reserved_mac), nullptr);
    EXPECT_TRUE(problems.empty());
}

TEST_F(NetworkDnsmasqTest, OneOfARecordOnlyIsStopped) {
    start();
    const auto record = dnsmasq->record();
    remake();
    dnsmasq->set_record(record);
    bed.run(dnsmasq->stop(soon()));
    EXPECT_FALSE(runs(record.pid));
    EXPECT_FALSE(std::filesystem::exists(folder()));
    start();
    const auto unrecorded = pid();
    remake();
    dnsmasq->begin_stop();
    bed.run(dnsmasq->stop(soon()));
    EXPECT_FALSE(runs(unrecorded)) << "the daemon died before it was on record";
    bed.run(dnsmasq->stop(soon()));
}

TEST_F(NetworkDnsmasqTest, AStartThatFailsSaysWhyAndLeavesNothing) {
    config.dnsmasq_options = {"no-such-option"};
    try {
        start();
        ADD_FAILURE() << "it started";
    } catch (const Error& error) {
        EXPECT_EQ(error.code(), Code::hypervisor_failed);
        EXPECT_THAT(error.what(), HasSubstr("bad option"));
        EXPECT_THAT(error.what(), HasSubstr("exit code 1"));
    }
    EXPECT_FALSE(std::filesystem::exists(folder()));
    config.dnsmasq_options.clear();
    config.ips[0].tftp_root = "/nowhere/at/all";
    try {
        start();
        ADD_FAILURE() << "it started";
    } catch (const Error& error) {
        EXPECT_EQ(error.code(), Code::unsupported_configuration);
        EXPECT_THAT(error.what(), HasSubstr("/nowhere/at/all"));
    }
    std::stop_source stop;
    stop.request_stop();
    config.ips[0].tftp_root.clear();
    EXPECT_THROW(bed.run(dnsmasq->start(config, soon(), stop.get_token())), Cancelled);
    EXPECT_FALSE(std::filesystem::exists(folder()));
}

TEST_F(NetworkDnsmasqTest, AFolderThatItCannotReachIsRefusedAtOnce) {
    std::filesystem::permissions(bed.folder.path(), std::filesystem::perms{0700});
    try {
        start();
        ADD_FAILURE() << "it started";
    } catch (const Error& error) {
        EXPECT_THAT(error.what(), HasSubstr("pass through " + bed.folder.path() + " (chmod o+x)"));
    }
    std::filesystem::permissions(bed.folder.path(), std::filesystem::perms{0755});
    std::filesystem::create_directory(ports.folders.runtime + "/network");
    std::filesystem::permissions(ports.folders.runtime + "/network", std::filesystem::perms{0700});
    start();
}

TEST_F(NetworkDnsmasqTest, AChangeThatFailsLeavesWhatWasServed) {
    start();
    const auto good = config;
    config.dnsmasq_options.emplace_back("no-such-option");
    EXPECT_THROW(update(), Error);
    EXPECT_TRUE(runs(pid()));
    EXPECT_THAT(content(folder() + "/conf"), Not(HasSubstr("no-such-option")));
    EXPECT_THAT(lease_for(reserved_mac), HasSubstr("192.168.77.50/24"));
    const auto after = pid();
    config = good;
    update();
    EXPECT_EQ(pid(), after);
    config.bridge->name = "a b";
    EXPECT_THROW(update(), Error);
    EXPECT_EQ(pid(), after) << "what cannot be written is refused before anything is done";
}

TEST_F(NetworkDnsmasqTest, AHostileClientChangesNothing) {
    start();
    lease_for(other_mac, "-x 12:'\"a b;*\"'");
    bed.run_until([&] { return find_lease(other_mac) != nullptr; });
    EXPECT_EQ(find_lease(other_mac)->hostname, "");
    std::filesystem::remove(folder() + "/run/leases");
    std::filesystem::create_symlink("/etc/passwd", folder() + "/run/leases");
    bed.run_until([&] { return dnsmasq->leases().empty(); });
}

TEST_F(NetworkDnsmasqTest, GuestsGetIpv6Addresses) {
    auto& ip = config.ips.emplace_back();
    ip.family = "ipv6";
    ip.address = "fd00:77::1";
    ip.prefix = 64;
    in_client("ip link set v1 down");
    // Listens before anything can come.
    auto* monitor = ::popen(
        ("echo $$; exec nsenter -t " + std::to_string(spaces.client) + " -n timeout 30 ip -6 -o monitor address")
            .c_str(),
        "re");
    ASSERT_NE(monitor, nullptr);
    start();
    in_client("ip link set v1 up");
    std::array<char, 512> line{};
    ASSERT_TRUE(std::fgets(line.data(), line.size(), monitor));
    const auto process = std::stoi(line.data());
    std::string seen;
    while (seen.find("fd00:77::") == std::string::npos && std::fgets(line.data(), line.size(), monitor))
        seen += line.data();
    EXPECT_THAT(seen, HasSubstr("fd00:77::"));
    ::kill(process, SIGTERM);
    ::pclose(monitor);
}

TEST_F(NetworkDnsmasqTest, ManyStartAtOnce) {
    constexpr int count = 30;
    struct One {
        NetworkConfig config;
        std::unique_ptr<Dnsmasq> dnsmasq;
        bool done = false;
    };
    std::vector<One> all(count);
    const auto run_one = [](One& one, bool start, Deadline deadline) -> Task<> {
        try {
            if (start)
                co_await one.dnsmasq->start(one.config, deadline);
            else
                co_await one.dnsmasq->stop(deadline);
        } catch (const Error& error) {
            ADD_FAILURE() << error.what();
        }
        one.done = true;
    };
    for (int i = 0; i < count; ++i) {
        const auto bridge = "many" + std::to_string(i), net = "10.77." + std::to_string(i) + ".";
        ASSERT_EQ(shell("ip link add " + bridge + " type bridge && ip addr add " + net + "1/24 dev " + bridge +
                        " && ip link set " + bridge + " up"),
                  0);
        auto place = setting();
        place.folder += "-" + std::to_string(i);
        place.id = static_cast<std::uint32_t>(i);
        all[static_cast<std::size_t>(i)] = {config, std::make_unique<Dnsmasq>(std::move(place))};
        auto& one = all[static_cast<std::size_t>(i)].config;
        one.bridge->name = bridge;
        one.ips[0].address = net + "1";
        one.ips[0].dhcp->ranges = {{net + "10", net + "20", {}, {}}};
        one.ips[0].dhcp->hosts.clear();
    }
    for (const bool start : {true, false}) {
        Scope scope;
        for (auto& one : all) one.done = false;
        for (auto& one : all) scope.spawn(run_one(one, start, soon()));
        bed.run_until([&] { return std::ranges::all_of(all, &One::done); });
        for (const auto& one : all) EXPECT_EQ(runs(one.dnsmasq->record().pid), start);
    }
    EXPECT_TRUE(problems.empty());
    for (int i = 0; i < count; ++i) shell("ip link del many" + std::to_string(i));
}

/// Says what supervision costs over the program alone; asserts no time.
TEST_F(NetworkDnsmasqTest, TheCostOfAStartIsShown) {
    using Clock = std::chrono::steady_clock;
    const auto median = [](std::vector<double> times) {
        std::ranges::sort(times);
        return times[times.size() / 2];
    };
    const auto milliseconds = [](Clock::time_point begin) {
        return std::chrono::duration<double, std::milli>(Clock::now() - begin).count();
    };
    std::vector<double> starts, reloads, stops, alone, ends;
    for (int round = 0; round < 9; ++round) {
        auto begin = Clock::now();
        start();
        starts.push_back(milliseconds(begin));
        config.dns->hosts[0].hostnames = {"gate" + std::to_string(round)};
        begin = Clock::now();
        update();
        reloads.push_back(milliseconds(begin));
        const auto files = folder();
        std::filesystem::copy(
            files, bed.folder.path() + "/copy",
            std::filesystem::copy_options::recursive | std::filesystem::copy_options::overwrite_existing);
        begin = Clock::now();
        bed.run(dnsmasq->stop(soon()));
        stops.push_back(milliseconds(begin));
        // Alone it forks when its sockets are bound, and its parent ends.
        std::filesystem::copy(bed.folder.path() + "/copy", files, std::filesystem::copy_options::recursive);
        begin = Clock::now();
        ASSERT_EQ(shell("exec dnsmasq --conf-file=" + files + "/conf"), 0);
        alone.push_back(milliseconds(begin));
        const auto daemon = std::stoi(content(files + "/run/pid"));
        begin = Clock::now();
        kill_and_wait(daemon);
        ends.push_back(milliseconds(begin));
        std::filesystem::remove_all(files);
    }
    std::printf("start %.1f ms (dnsmasq alone %.1f), reload %.1f ms, stop %.1f ms (its end alone %.1f); medians\n",
                median(starts), median(alone), median(reloads), median(stops), median(ends));
}

}  // namespace
}  // namespace virtbus::network
