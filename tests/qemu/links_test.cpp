// SPDX-License-Identifier: LGPL-2.1-or-later
// Real machines on real taps and macvtap devices, in a network namespace of the test's own. No guest system runs: what
// is looked at is the host's side, and what QEMU says it has.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "network/links.hpp"
#include "tests/drivers/link_bed.hpp"
#include "tests/qemu/qemu_bed.hpp"

namespace virtbus {
namespace {

using tests::is_there;
using tests::Notes;
using tests::output_of;
using tests::QemuBed;

class QemuLinks : public ::testing::Test {
protected:
    void SetUp() override {
        if (!entered_) GTEST_SKIP() << "a network namespace needs root";
        bed_.resources.links = &links_;
        ASSERT_EQ(std::system("ip link add lan0 type bridge && ip link set lan0 mtu 1400 up"), 0);
    }
    void TearDown() override {
        if (!entered_) return;
        if (guest_) bed_.stop(*guest_, notes_);
        for (const auto& [alias, key] : bed_.resources.keys) bed_.run(links_.close_link(key));
        (void)std::system("ip link del lan0");
        EXPECT_EQ(output_of("ip -br link show type macvtap") + output_of("ip -br link show type tun"), "");
    }
    static Interface card(InterfaceType type, const char* mac = "52:54:00:01:02:03") {
        Interface interface;
        interface.type = type;
        interface.model = "virtio";
        interface.mac = mac;
        interface.source.emplace();
        return interface;
    }
    static DomainConfig machine(Interface interface) {
        auto config = QemuBed::bare();
        config.features.emplace().acpi.emplace();
        for (std::uint32_t port = 1; port <= 7; ++port) {
            auto& controller = config.devices.controllers.emplace_back();
            controller.type = ControllerType::pci;
            controller.index = port;
            controller.model = "pcie-root-port";
        }
        config.devices.interfaces.push_back(std::move(interface));
        return config;
    }
    void start(DomainConfig config) { guest_ = bed_.start(std::move(config), notes_, true); }
    const Interface& live(std::size_t number = 0) const { return guest_->config().devices.interfaces.at(number); }
    void update(Interface interface) {
        bed_.run(guest_->update({std::move(interface), nullptr, bed_.resources, false}, {}));
    }
    static std::string details_of(const std::string& device) { return output_of("ip -d link show " + device); }

    bool entered_ = tests::enter_namespaces();
    QemuBed bed_;
    network::TapLinks links_{bed_.host.workers, &bed_.host.spawner};
    Notes notes_;
    std::unique_ptr<Guest> guest_;
};

TEST_F(QemuLinks, AMachineHasAMacvtapDeviceWithQueues) {
    auto interface = card(InterfaceType::direct);
    interface.source->dev = "card0";
    interface.source->mode = "bridge";
    interface.driver.emplace().queues = 2;
    start(machine(interface));
    ASSERT_TRUE(live().target);
    EXPECT_EQ(live().target->dev, "macvtap0");
    EXPECT_NE(details_of("macvtap0").find("mode bridge"), std::string::npos);
    const auto stats = bed_.run(guest_->stats({}));
    EXPECT_EQ(std::get<std::string>(stats.at("net.0.name")), "macvtap0");
}

TEST_F(QemuLinks, WhatANetworkHasMadeOfAnInterfaceIsShownAndMoves) {
    auto interface = card(InterfaceType::network);
    interface.source->network = "lan0";
    start(machine(interface));
    EXPECT_EQ(live().source->bridge, "lan0");
    const auto tap = live().target->dev;
    EXPECT_NE(details_of(tap).find("master lan0"), std::string::npos) << details_of(tap);
    EXPECT_NE(details_of(tap).find("mtu 1400"), std::string::npos) << details_of(tap);

    // As a definition has it: nothing of what the network filled in.
    interface.info = live().info;
    interface.link_state = "down";
    update(interface);
    EXPECT_EQ(live().link_state, "down");
    EXPECT_EQ(live().source->bridge, "lan0");
    EXPECT_NE(details_of(tap).find("master lan0"), std::string::npos);

    interface.source->network = "br0";
    interface.link_state = "up";
    update(interface);
    EXPECT_EQ(live().link_state, "up");
    EXPECT_EQ(live().source->network, "br0");
    EXPECT_EQ(live().source->bridge, "br0");
    EXPECT_EQ(live().target->dev, tap);
    EXPECT_NE(details_of(tap).find("master br0"), std::string::npos) << details_of(tap);

    interface.source->network = "nonet0";
    EXPECT_THROW(update(interface), Error);
    EXPECT_EQ(live().source->network, "br0");
    interface.source->network = "br0";
    interface.model = "e1000e";
    EXPECT_THROW(update(interface), Error);
}

TEST_F(QemuLinks, InterfacesArePluggedAndLimitedWhileTheMachineRuns) {
    auto interface = card(InterfaceType::bridge);
    interface.source->bridge = "lan0";
    start(machine(interface));
    auto second = card(InterfaceType::direct, "52:54:00:01:02:04");
    second.source->dev = "card0";
    second.source->mode = "passthrough";
    bed_.run(guest_->attach({second, nullptr, bed_.resources, false}, {}));
    EXPECT_TRUE(notes_.has("added net1"));
    EXPECT_EQ(live(1).target->dev, "macvtap0");
    auto third = card(InterfaceType::network, "52:54:00:01:02:05");
    third.source->network = "lan0";
    third.mtu = 1300;
    bed_.run(guest_->attach({third, nullptr, bed_.resources, false}, {}));
    EXPECT_EQ(live(2).source->bridge, "lan0");

    auto limited = live();
    limited.bandwidth.emplace().inbound.emplace().average = 1000;
    update(limited);
    EXPECT_NE(output_of("tc class show dev " + live().target->dev).find("rate 8192Kbit"), std::string::npos);
    ASSERT_TRUE(live().bandwidth);
    limited.bandwidth.reset();
    update(limited);
    EXPECT_EQ(output_of("tc class show dev " + live().target->dev), "");

    auto elsewhere = live(1);
    elsewhere.source->mode = "bridge";
    EXPECT_THROW(update(elsewhere), Error) << "a macvtap device stays as it was made";
}

}  // namespace
}  // namespace virtbus
