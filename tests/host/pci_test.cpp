// SPDX-License-Identifier: LGPL-2.1-or-later
// PCI devices that change their drivers and come back, on a sysfs of our own with a kernel that plays along.
#include <gtest/gtest.h>

#include "service/host/loop.hpp"
#include "service/host/pci_devices.hpp"
#include "service/host/workers.hpp"
#include "tests/support/fake_pci.hpp"
#include "tests/support/run.hpp"

using namespace virtbus;
using virtbus::tests::FakePciBus;
using virtbus::tests::run;
using virtbus::tests::TemporaryFolder;

namespace {

struct Pci : ::testing::Test {
    Pci() { bus.add("0000:01:00.0", "e1000e", "12"); }
    PciFacts look(const std::string& address) { return run(loop, pci.look(address, in(Duration{5000}), {})); }
    void bind(const std::string& address, const std::string& driver = "vfio-pci") {
        run(loop, pci.bind(address, driver, in(Duration{5000}), {}));
    }
    void give_back(const std::string& address, const PciFacts& before) {
        run(loop, pci.give_back(address, "vfio-pci", before, in(Duration{5000})));
    }
    TemporaryFolder folder;
    FakePciBus bus{folder.path()};
    host::MainLoop loop;
    host::ThreadPool workers{loop, 2};
    host::SysfsPci pci{workers, folder.path(),
                       [this](const std::string& path, const std::string& text) { bus.write(path, text); }};
    const std::string card = "0000:01:00.0";
};

TEST_F(Pci, ADeviceIsSeenWithItsDriverAndItsGroup) {
    bus.add("0000:00:01.0", "pcieport", "12", "0x060400");
    const auto facts = look(card);
    EXPECT_TRUE(facts.there);
    EXPECT_EQ(facts.driver, "e1000e");
    EXPECT_EQ(facts.override_name, "");
    EXPECT_EQ(facts.group, "12");
    ASSERT_EQ(facts.members.size(), 2u);
    EXPECT_TRUE(facts.members[0].bridge);
    EXPECT_EQ(facts.members[1].driver, "e1000e");
    EXPECT_FALSE(facts.members[1].bridge);
    EXPECT_FALSE(look("0000:09:00.0").there);
}

TEST_F(Pci, ADeviceGoesToVfioAndComesBackToItsDriver) {
    const auto before = look(card);
    bind(card);
    EXPECT_EQ(bus.driver(card), "vfio-pci");
    EXPECT_EQ(bus.writes,
              (std::vector<std::string>{"driver_override vfio-pci", "unbind " + card, "drivers_probe " + card}));
    give_back(card, before);
    EXPECT_EQ(bus.driver(card), "e1000e");
    EXPECT_EQ(bus.override_name(card), "(null)");
    const auto writes = bus.writes.size();
    give_back(card, before);
    EXPECT_EQ(bus.writes.size(), writes) << "it was as it should be";
}

TEST_F(Pci, OneWithoutADriverIsWithoutOneAgain) {
    bus.add("0000:02:00.0", "", "13");
    const auto before = look("0000:02:00.0");
    bind("0000:02:00.0");
    EXPECT_EQ(bus.driver("0000:02:00.0"), "vfio-pci");
    give_back("0000:02:00.0", before);
    EXPECT_EQ(bus.driver("0000:02:00.0"), "");
}

TEST_F(Pci, WhatWasOverriddenBeforeIsOverriddenSoAgain) {
    bus.add_driver("other");
    bus.set_override(card, "e1000e");
    const auto before = look(card);
    EXPECT_EQ(before.override_name, "e1000e");
    bind(card);
    give_back(card, before);
    EXPECT_EQ(bus.override_name(card), "e1000e");
    EXPECT_EQ(bus.driver(card), "e1000e");
}

TEST_F(Pci, HalfABindingIsUndone) {
    const auto before = look(card);
    bus.broken.insert("vfio-pci");
    EXPECT_THROW(bind(card), Error);
    EXPECT_EQ(bus.driver(card), "");
    give_back(card, before);
    EXPECT_EQ(bus.driver(card), "e1000e");
    EXPECT_EQ(bus.override_name(card), "(null)");
}

TEST_F(Pci, ADriverThatIsNotLoadedIsNamedBeforeAnythingIsTaken) {
    try {
        bind(card, "mlx5_vfio_pci");
        ADD_FAILURE() << "nothing was thrown";
    } catch (const Error& error) {
        EXPECT_NE(std::string{error.what()}.find("modprobe mlx5_vfio_pci"), std::string::npos) << error.what();
    }
    EXPECT_TRUE(bus.writes.empty());
}

TEST_F(Pci, WhatSomebodyElseHasTakenMeanwhileIsLeftToThem) {
    const auto before = look(card);
    bind(card);
    bus.write("/driver/unbind", card);
    bus.add_driver("igb_uio");
    bus.set_override(card, "igb_uio");
    bus.write("/drivers_probe", card);
    give_back(card, before);
    EXPECT_EQ(bus.driver(card), "igb_uio");
}

TEST_F(Pci, ABindingThatNobodyWaitsForAnyMoreComesBeforeTheGivingBackOrNotAtAll) {
    const auto before = look(card);
    for (int i = 0; i < 10; ++i) {
        std::stop_source stop;
        stop.request_stop();
        EXPECT_THROW(run(loop, pci.bind(card, "vfio-pci", in(Duration{5000}), stop.get_token())), Error);
        give_back(card, before);
        workers.settle(Duration{5000});
        EXPECT_EQ(bus.driver(card), "e1000e");
        EXPECT_EQ(bus.override_name(card), "(null)");
    }
}

TEST_F(Pci, OneThatWasPulledOutNeedsNothing) {
    const auto before = look(card);
    bind(card);
    bus.unplug(card);
    EXPECT_NO_THROW(give_back(card, before));
}

}  // namespace
