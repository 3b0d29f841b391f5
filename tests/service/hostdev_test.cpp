// SPDX-License-Identifier: LGPL-2.1-or-later
// PCI devices of the host given to guests: who gets them, what stands in the way, and that they come back whatever
// happens to the daemon.
#include "service/host/pci_devices.hpp"
#include "tests/support/fake_pci.hpp"
#include "world.hpp"

namespace virtbus::tests {
namespace {

struct Hostdev : World {
    Hostdev() {
        bus.add("0000:01:00.0", "e1000e", "12");
        bus.add("0000:01:00.1", "e1000e", "12");
        bus.add("0000:00:01.0", "pcieport", "12", "0x060400");
        bus.add("0000:02:00.0", "nvme", "13");
        bus.add("0000:03:00.0", "snd", "");
        ports->pci = &pci;
        boot();
    }
    static std::string device(unsigned number, unsigned function = 0, bool managed = true) {
        return "<hostdev mode='subsystem' type='pci' managed='" + std::string{managed ? "yes" : "no"} +
               "'><source><address domain='0' bus='" + std::to_string(number) + "' slot='0' function='" +
               std::to_string(function) + "'/></source></hostdev>";
    }
    DomainPtr domain(const std::string& name, const std::string& devices, const std::string& behaviour = "") {
        return define(xml(name, "take-devices='yes' " + behaviour, "", devices));
    }
    std::pair<Code, std::string> refusal(const JobPtr& job) {
        try {
            finish(job);
        } catch (const Error& error) {
            return {error.code(), error.what()};
        }
        return {Code::internal, "nothing was thrown"};
    }
    static bool has(const std::string& text, const char* part) { return text.find(part) != text.npos; }

    FakePciBus bus{root + "/host"};
    host::SysfsPci pci{host.outside_workers, root + "/host",
                       [this](const std::string& path, const std::string& text) { bus.write(path, text); }};
};

TEST_F(Hostdev, AManagedDeviceIsTakenForTheRunAndGivenBackBehindIt) {
    const auto web = domain("web", device(2));
    finish(web->start({}, caller));
    EXPECT_EQ(bus.driver("0000:02:00.0"), "vfio-pci");
    finish(web->stop({}, caller));
    EXPECT_EQ(bus.driver("0000:02:00.0"), "nvme");
    EXPECT_EQ(bus.override_name("0000:02:00.0"), "(null)");
}

TEST_F(Hostdev, ItIsGivenBackWhenTheDaemonWasAwayAtTheGuestsEnd) {
    const auto web = domain("web", device(2), "die-after-ms='60000'");
    finish(web->start({}, caller));
    room.reset();
    EXPECT_EQ(bus.driver("0000:02:00.0"), "vfio-pci");
    clock.shift += 60'000'000;
    boot();
    EXPECT_EQ(get("web")->view().state, State::shutoff);
    EXPECT_EQ(bus.driver("0000:02:00.0"), "nvme");
}

TEST_F(Hostdev, TheNextDaemonKnowsWhoseItIs) {
    finish(domain("web", device(2))->start({}, caller));
    boot();
    const auto [code, words] = refusal(domain("db", device(2))->start({}, caller));
    EXPECT_EQ(code, Code::device_in_use);
    EXPECT_TRUE(has(words, "'web'")) << words;
    EXPECT_EQ(bus.driver("0000:02:00.0"), "vfio-pci");
    finish(get("web")->stop({}, caller));
    EXPECT_EQ(bus.driver("0000:02:00.0"), "nvme");
    finish(get("db")->start({}, caller));
}

TEST_F(Hostdev, AStartThatTheDaemonDidNotSurviveGivesItBack) {
    const auto job = domain("web", device(2), "hang-start='yes'")->start({}, caller);
    ASSERT_TRUE(until([&] { return bus.driver("0000:02:00.0") == "vfio-pci"; }));
    boot();
    EXPECT_EQ(get("web")->view().state, State::shutoff);
    EXPECT_EQ(bus.driver("0000:02:00.0"), "nvme");
}

TEST_F(Hostdev, AStartThatFailsGivesItBack) {
    const auto [code, words] = refusal(domain("web", device(2), "fail-start='no'")->start({}, caller));
    EXPECT_EQ(code, Code::hypervisor_failed) << words;
    EXPECT_EQ(bus.driver("0000:02:00.0"), "nvme");
    bus.broken.insert("vfio-pci");
    EXPECT_EQ(refusal(domain("web2", device(2))->start({}, caller)).first, Code::hypervisor_failed);
    EXPECT_EQ(bus.driver("0000:02:00.0"), "nvme");
}

TEST_F(Hostdev, AGroupGoesToOneGuestAsAWhole) {
    const auto [code, words] = refusal(domain("web", device(1))->start({}, caller));
    EXPECT_EQ(code, Code::device_in_use);
    EXPECT_TRUE(has(words, "0000:01:00.1")) << words;
    EXPECT_TRUE(has(words, "e1000e")) << words;
    EXPECT_FALSE(has(words, "0000:00:01.0")) << "bridges do not count: " << words;
    EXPECT_EQ(bus.driver("0000:01:00.0"), "e1000e") << "nothing is taken before all is checked";
    finish(domain("both", device(1) + device(1, 1))->start({}, caller));
    EXPECT_EQ(bus.driver("0000:01:00.0"), "vfio-pci");
    EXPECT_EQ(bus.driver("0000:01:00.1"), "vfio-pci");
}

TEST_F(Hostdev, AGroupOfWhichAnotherGuestHasADeviceIsItsOwn) {
    bus.write("/driver/unbind", "0000:01:00.1");
    finish(domain("web", device(1))->start({}, caller));
    const auto [code, words] = refusal(domain("db", device(1, 1))->start({}, caller));
    EXPECT_EQ(code, Code::device_in_use);
    EXPECT_TRUE(has(words, "0000:01:00.0") && has(words, "'web'")) << words;
}

TEST_F(Hostdev, OneThatIsNotManagedMustBeBoundByItsOwner) {
    const auto web = domain("web", device(2, 0, false));
    const auto [code, words] = refusal(web->start({}, caller));
    EXPECT_EQ(code, Code::unsupported_configuration);
    EXPECT_TRUE(has(words, "nvme") && has(words, "managed='yes'") && has(words, "driverctl")) << words;
    bus.set_override("0000:02:00.0", "vfio-pci");
    bus.write("/driver/unbind", "0000:02:00.0");
    bus.write("/drivers_probe", "0000:02:00.0");
    finish(web->start({}, caller));
    finish(web->stop({}, caller));
    EXPECT_EQ(bus.driver("0000:02:00.0"), "vfio-pci") << "it stays as its owner has bound it";
}

TEST_F(Hostdev, WhatCannotBeGivenAtAllIsSaid) {
    EXPECT_TRUE(has(refusal(domain("a", device(9))->start({}, caller)).second, "is not there"));
    EXPECT_TRUE(has(refusal(domain("b", device(3))->start({}, caller)).second, "IOMMU"));
    const auto port =
        "<hostdev mode='subsystem' type='pci' managed='yes'><source><address domain='0' bus='0' slot='1' "
        "function='0'/></source></hostdev>";
    EXPECT_TRUE(has(refusal(domain("c", port)->start({}, caller)).second, "bridge"));
    EXPECT_TRUE(has(refusal(domain("d", device(2) + device(2))->start({}, caller)).second, "twice"));
    EXPECT_EQ(bus.driver("0000:02:00.0"), "nvme");
}

TEST_F(Hostdev, APluggedDeviceIsTakenAndGivenBackWhenItGoes) {
    const auto web = domain("web", "");
    finish(web->start({}, caller));
    finish(web->attach_device(device(2), ChangeScope::live, false, caller));
    EXPECT_EQ(bus.driver("0000:02:00.0"), "vfio-pci");
    finish(web->detach_device(device(2), ChangeScope::live, false, caller));
    ASSERT_TRUE(until([&] { return bus.driver("0000:02:00.0") == "nvme"; }));
    EXPECT_TRUE(until([&] { return read(status_path("web")).find("pci:") == std::string::npos; }));
}

}  // namespace
}  // namespace virtbus::tests
