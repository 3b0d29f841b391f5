// SPDX-License-Identifier: LGPL-2.1-or-later
// User networks through the real passt, in a network namespace of the test's own: seen by a guest, plugged and
// unplugged, gone with the guest, taken up by a later daemon; and stand-ins for it that misbehave.
#include <arpa/inet.h>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <poll.h>
#include <sys/stat.h>

#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>

#include "qemu/helpers/passt.hpp"
#include "tests/qemu/linux_bed.hpp"
#include "tests/support/network_namespace.hpp"

namespace virtbus {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

class PasstTest : public tests::LinuxBed {
protected:
    static void SetUpTestSuite() {
        LinuxBed::SetUpTestSuite();
        // What passt takes for the way out; nobody is at the other end.
        entered_ = tests::enter_network_namespace() &&
                   tests::succeeds(
                       "ip link add out0 type veth peer name out1 && ip addr add 192.0.2.1/24 dev out0 && "
                       "ip link set out1 up && ip link set out0 up && ip route add default via 192.0.2.254");
    }
    void SetUp() override {
        LinuxBed::SetUp();
        if (::access(programs_.passt.c_str(), X_OK) != 0) GTEST_SKIP() << "no passt (package passt)";
        if (!entered_) GTEST_SKIP() << "a network namespace needs root";
    }
    void TearDown() override {
        if (HasFailure() && terminal_) std::fprintf(stderr, "%s\n", terminal_->said.c_str());
    }
    static Interface passt(const char* mac = "52:54:00:01:02:03") {
        Interface interface;
        interface.type = InterfaceType::user;
        interface.model = "virtio";
        interface.mac = mac;
        interface.backend.emplace().type = "passt";
        return interface;
    }
    static Interface forwarding(std::uint32_t from, std::uint32_t to) {
        auto interface = passt();
        auto& forward = interface.port_forwards.emplace_back();
        forward.proto = "tcp";
        forward.address = "127.0.0.1";
        auto& range = forward.ranges.emplace_back();
        range.start = from;
        range.to = to;
        return interface;
    }
    static DomainConfig with(Interface interface) {
        auto config = tests::QemuBed::bare("net");
        config.devices.interfaces.push_back(std::move(interface));
        return config;
    }
    /// With room for cards that are plugged.
    static void add_ports(DomainConfig& config) {
        for (std::uint32_t port = 1; port <= 5; ++port) {
            auto& controller = config.devices.controllers.emplace_back();
            controller.type = ControllerType::pci;
            controller.index = port;
            controller.model = "pcie-root-port";
        }
    }
    static Fd process_of(const Guest& guest) {
        const auto record = nlohmann::json::parse(guest.driver_state());
        return Fd{static_cast<int>(::syscall(SYS_pidfd_open, record.at("helpers").at(0).at("pid").get<pid_t>(), 0))};
    }
    static std::size_t helpers_of(const Guest& guest) {
        return nlohmann::json::parse(guest.driver_state()).at("helpers").size();
    }
    static bool gone(const Fd& process, int within = 0) {
        pollfd state{process.get(), POLLIN, 0};
        return ::poll(&state, 1, within) == 1;
    }
    /// Listens there until it is closed.
    static Fd listening_at(std::uint16_t port) {
        Fd fd{::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
        const auto address = local(port);
        EXPECT_EQ(::bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
        EXPECT_EQ(::listen(fd.get(), 1), 0);
        return fd;
    }
    static bool is_listening(std::uint16_t port) {
        const Fd fd{::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
        const auto address = local(port);
        return ::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0;
    }
    static sockaddr_in local(std::uint16_t port) {
        sockaddr_in address{};
        address.sin_family = AF_INET;
        address.sin_port = htons(port);
        address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        return address;
    }
    std::string refusal(DomainConfig config) { return bed_.refusal(std::move(config), notes_); }
    void renew() { bed_.driver = std::make_unique<qemu::QemuDriver>(bed_.host.ports, bed_.times, programs_); }
    void stand_in(const std::string& script) {
        programs_.passt = bed_.host.folder.path() + "/passt";
        std::ofstream{programs_.passt} << "#!/bin/sh\n" << script << '\n';
        ::chmod(programs_.passt.c_str(), 0755);
        programs_.times.answer = programs_.times.leave = Duration{300};
        renew();
    }

    qemu::HelperPrograms programs_;
    static inline bool entered_ = false;
};

TEST_F(PasstTest, AGuestHasItsAddressAndIsReachedThroughAPort) {
    auto interface = forwarding(2222, 22);
    auto& ip = interface.ips.emplace_back();
    ip.address = "10.5.0.2";
    ip.prefix = 24;
    auto config = linux_config();
    config.devices.interfaces.push_back(interface);
    const auto guest = boot(std::move(config));
    terminal_->type(
        "ip link set eth0 up; printf '#!/bin/sh\\n[ \"$1\" = bound ] && ip addr add $ip/$mask dev $interface && ip "
        "route add default dev eth0\\nexit 0\\n' >/tmp/script; chmod 755 /tmp/script; udhcpc -f -n -q -t "
        "20 "
        "-T 1 -i eth0 -s /tmp/script; echo address $(ip -4 -o addr show dev eth0); while true; do echo hello from "
        "within | nc -l -p 22; done & echo set''-up\r");
    bed_.run_until([&] { return terminal_->has("set-up"); });
    EXPECT_THAT(terminal_->said, HasSubstr("inet 10.5.0.2/24"));
    std::string said;
    // A listener of the guest's may not be there yet; passt then closes the connection.
    bed_.run_until([&] {
        said += tests::output_of("timeout 5 busybox nc 127.0.0.1 2222 </dev/null 2>/dev/null");
        return !said.empty();
    });
    EXPECT_EQ(said.substr(0, said.find('\n')), "hello from within");
    const auto process = process_of(*guest);
    bed_.stop(*guest, notes_);
    EXPECT_TRUE(gone(process)) << "whoever hears of the end must not meet it any more";
    EXPECT_FALSE(is_listening(2222));
}

TEST_F(PasstTest, IsTakenUpByALaterDaemonWhichIsToldOfItsDeath) {
    auto guest = bed_.start(with(passt()), notes_);
    const auto process = process_of(*guest);
    const auto config = guest->config();
    const auto state = guest->driver_state();
    guest.reset();
    renew();
    EXPECT_FALSE(gone(process));
    tests::Notes later;
    GuestEnd end;
    guest = bed_.run(bed_.driver->adopt(config, state, later, end));
    ASSERT_TRUE(guest);
    ::syscall(SYS_pidfd_send_signal, process.get(), SIGKILL, nullptr, 0);
    bed_.run_until([&] { return !later.list.empty() && later.list.back().starts_with("io-error net0 report"); });
    EXPECT_THAT(later.list.back(), HasSubstr("the user network has ended"));
    bed_.stop(*guest, later);
}

TEST_F(PasstTest, GoesWithAGuestThatDiesWhileNoDaemonWatches) {
    auto guest = bed_.start(with(passt()), notes_);
    const auto process = process_of(*guest);
    const auto pid = static_cast<pid_t>(guest->pid());
    guest.reset();
    ::kill(pid, SIGKILL);
    EXPECT_TRUE(gone(process, 20000));
}

TEST_F(PasstTest, IsPluggedAndUnplugged) {
    auto config = linux_config();
    add_ports(config);
    const auto guest = boot(std::move(config));
    const auto attach = [&] { bed_.run(guest->attach({forwarding(2223, 22), nullptr, bed_.resources, false}, {})); };
    for (int round = 0; round < 2; ++round) {
        attach();
        ASSERT_EQ(guest->config().devices.interfaces.size(), 1U);
        EXPECT_TRUE(is_listening(2223));
        ASSERT_EQ(helpers_of(*guest), 1U);
        const auto process = process_of(*guest);
        terminal_->type(
            fmt::format("until ip link set eth0 up 2>/dev/null; do usleep 1000; done; echo carrier-$(cat "
                        "/sys/class/net/eth0/carrier)-{}\r",
                        round));
        bed_.run_until([&] { return terminal_->has(fmt::format("carrier-1-{}", round)); });
        const auto alias = guest->config().devices.interfaces[0].info.alias;
        bed_.run(guest->detach(alias, false, {}));
        EXPECT_TRUE(guest->config().devices.interfaces.empty());
        bed_.run_until([&] { return helpers_of(*guest) == 0; });
        EXPECT_TRUE(gone(process, 5000));
        EXPECT_FALSE(is_listening(2223));
    }
    {
        // What cannot be plugged leaves nothing, and the next attempt has the same name.
        const auto taken = listening_at(2223);
        try {
            attach();
            ADD_FAILURE() << "it was plugged";
        } catch (const Error& error) {
            EXPECT_THAT(error.what(), HasSubstr("Failed to bind"));
        }
        EXPECT_EQ(helpers_of(*guest), 0U);
    }
    auto named = passt();
    named.backend->hostname = "here";
    EXPECT_THROW(bed_.run(guest->attach({named, nullptr, bed_.resources, false}, {})), Error);
    attach();
    EXPECT_EQ(helpers_of(*guest), 1U);
    bed_.stop(*guest, notes_);
    EXPECT_THAT(notes_.list, testing::Not(testing::Contains(HasSubstr("io-error"))));
}

TEST_F(PasstTest, AFailedStartIsToldWithItsLastWords) {
    const auto taken = listening_at(2224);
    const auto why = refusal(with(forwarding(2224, 22)));
    EXPECT_THAT(why, HasSubstr("the user network (passt) of domain 'net' cannot be used: it ended (exit code 1); its "
                               "last words: Failed to bind"));
    auto interface = passt();
    interface.source.emplace().dev = "none0";
    EXPECT_THAT(refusal(with(interface)), HasSubstr("none0"));
}

TEST_F(PasstTest, AProgramThatMisbehavesIsToldToo) {
    stand_in("sleep 600 & wait");
    EXPECT_THAT(refusal(with(passt())), HasSubstr("did not answer within 300 ms"));
    stand_in("echo 'these are no frames at all' >&3; sleep 600 & wait");
    EXPECT_THAT(refusal(with(passt())), HasSubstr("no Ethernet frames"));
    std::filesystem::remove(programs_.passt);
    const auto why = refusal(with(passt()));
    EXPECT_THAT(why, HasSubstr("package passt"));
    EXPECT_THAT(why, HasSubstr("QEMU's own user network"));
}

TEST_F(PasstTest, WhatItCannotDoIsRefusedBefore) {
    auto interface = passt();
    interface.backend->hostname = "here";
    EXPECT_THAT(refusal(with(interface)), HasSubstr("hostname"));
    interface = forwarding(1, 1);
    interface.port_forwards[0].address = "127.0.0.1/22,~1";
    interface.port_forwards[0].dev = "eth0/22";
    const auto why = refusal(with(interface));
    EXPECT_THAT(why, HasSubstr("'127.0.0.1/22,~1' in a <portForward> is no address"));
    EXPECT_THAT(why, HasSubstr("'eth0/22' in a <portForward> is no name"));
    interface = passt();
    interface.type = InterfaceType::vhostuser;
    interface.source.emplace().path = "/run/socket";
    EXPECT_THAT(refusal(with(interface)), HasSubstr("type 'user' is how to have passt"));
}

TEST(PasstWords, SayWhatTheDefinitionSays) {
    Interface interface;
    interface.backend.emplace().log_file = "/var/log/p";
    interface.mtu = 1400;
    interface.source.emplace().dev = "eth0";
    for (const char* address : {"172.17.2.4", "2001:db8::20"}) interface.ips.emplace_back().address = address;
    interface.ips[0].prefix = 24;
    interface.ips[1].prefix = 64;
    PortForward all{.proto = "udp", .address = "1.2.3.4", .dev = "eth1", .ranges = {}, .unknown = {}};
    PortForward some{.proto = "tcp", .address = "", .dev = "", .ranges = {}, .unknown = {}};
    some.ranges.push_back({.start = 22, .end = {}, .to = 2022, .exclude = {}, .unknown = {}});
    some.ranges.push_back({.start = 1000, .end = 1050, .to = 2000, .exclude = {}, .unknown = {}});
    some.ranges.push_back({.start = 1020, .end = {}, .to = {}, .exclude = true, .unknown = {}});
    interface.port_forwards = {all, some};
    EXPECT_THAT(qemu::passt_words("/p", interface),
                ElementsAre("/p", "--foreground", "--fd", "3", "--mtu", "1400", "--interface", "eth0", "--address",
                            "172.17.2.4", "--netmask", "24", "--address", "2001:db8::20", "--udp-ports",
                            "1.2.3.4%eth1/all", "--tcp-ports", "22:2022,1000-1050:2000-2050,~1020"));
}

}  // namespace
}  // namespace virtbus
