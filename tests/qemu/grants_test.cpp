// SPDX-License-Identifier: LGPL-2.1-or-later
// What a machine that runs is given for a device beside QEMU, and that it is taken back: nodes of the host's devices,
// looked for in a root of the test's own. None of these devices is real, so QEMU refuses each of them at last.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "tests/qemu/qemu_bed.hpp"
#include "tests/support/fake_pci.hpp"

namespace virtbus {
namespace {

using nlohmann::json;
using testing::ElementsAre;
using testing::HasSubstr;
using tests::Notes;
using tests::QemuBed;

/// Plain processes that have a unit's name, and a note of all that is granted.
class NotedUnits final : public Units {
public:
    NotedUnits(Loop& loop, std::vector<std::string>& notes)
        : plain_{loop, std::getenv("VIRTBUS_LAUNCHER"), std::nullopt}, notes_{notes} {}

    Task<Unit> start(UnitRequest request, Deadline deadline, std::stop_token stop) override {
        auto unit = co_await plain_.start(std::move(request), deadline, std::move(stop));
        unit.name = "test.service";
        co_return unit;
    }
    std::optional<Unit> adopt(std::uint32_t pid, std::uint64_t start_time, const std::string& unit) override {
        auto found = plain_.adopt(pid, start_time, unit);
        if (found) found->name = unit;
        return found;
    }
    void kill(const Unit& unit, bool graceful) override { plain_.kill(unit, graceful); }
    Task<ExitStatus> exit_status(std::string unit, std::uint32_t pid, Deadline deadline) override {
        return plain_.exit_status(std::move(unit), pid, deadline);
    }
    Task<> allow(std::string unit, std::uint32_t, UnitGrant grant, Deadline) override {
        note("allow", unit, grant);
        if (refuses) throw Error{Code::hypervisor_failed, "the manager refuses"};
        co_return;
    }
    Task<> deny(std::string unit, UnitGrant grant, Deadline) override {
        note("deny", unit, grant);
        co_return;
    }
    bool refuses = false;

private:
    void note(const char* verb, const std::string& unit, const UnitGrant& grant) {
        notes_.push_back(fmt::format("{} {} {} given {}{}", verb, unit, fmt::join(grant.devices, " "),
                                     fmt::join(grant.given, " "), grant.memory_locked ? " locks" : ""));
    }
    systemd::PlainUnits plain_;
    std::vector<std::string>& notes_;
};

struct GrantBed : QemuBed {
    GrantBed() {
        auto units = std::make_unique<NotedUnits>(host.loop, grants);
        noted = units.get();
        host.units = std::move(units);
        programs.host_root = host.folder.path() + "/host";
        ports.emplace(Ports{host.loop, host.clock, host.workers, host.files, host.spawner, host.log, *host.units,
                            host.ports.folders, host.ports.boot_id, false});
        renew();
    }
    void renew() { driver = std::make_unique<qemu::QemuDriver>(*ports, times, programs); }
    std::vector<std::string> grants;
    NotedUnits* noted = nullptr;
    qemu::HelperPrograms programs;
    std::optional<Ports> ports;
};

/// Takes what the test's host shows.
struct PciResources : tests::PlainResources {
    Task<> take_pci(std::vector<PciRequest> wanted) override {
        for (auto& each : wanted) taken.push_back(each.address);
        co_return;
    }
    std::vector<std::string> taken;
};

class GrantsTest : public ::testing::Test {
protected:
    GrantsTest() {
        tests::FakePciBus pci{root()};
        pci.add("0000:01:00.0", "vfio-pci", "9");
        std::filesystem::create_directories(root() + "/sys/bus/scsi/devices/5:0:1:2/scsi_generic/sg99");
        const auto usb = root() + "/sys/bus/usb/devices/1-1";
        std::filesystem::create_directories(usb);
        for (const auto& [name, text] :
             {std::pair{"busnum", "1"}, {"devnum", "2"}, {"idVendor", "1234"}, {"idProduct", "5678"}})
            std::ofstream{usb + "/" + name} << text << '\n';
        std::filesystem::create_directories(root() + "/dev/bus/usb/001");
        std::ofstream{root() + "/dev/bus/usb/001/002"} << "no device";
    }
    const std::string& root() const { return bed_.programs.host_root; }
    static DomainConfig machine() {
        auto config = QemuBed::bare("granted");
        auto& scsi = config.devices.controllers.emplace_back();
        scsi.type = ControllerType::scsi;
        scsi.model = "virtio-scsi";
        auto& usb = config.devices.controllers.emplace_back();
        usb.type = ControllerType::usb;
        usb.model = "qemu-xhci";
        return config;
    }
    static Hostdev hostdev(HostdevType type) {
        Hostdev device;
        device.mode = "subsystem";
        device.type = type;
        return device;
    }
    static Hostdev pci() {
        auto device = hostdev(HostdevType::pci);
        HostPciAddress at;
        at.bus = 1;
        device.source.address = at;
        return device;
    }
    static Hostdev scsi() {
        auto device = hostdev(HostdevType::scsi);
        device.source.adapter = "scsi_host5";
        HostScsiAddress at;
        at.target = 1;
        at.unit = 2;
        device.source.address = at;
        return device;
    }
    static Hostdev usb() {
        auto device = hostdev(HostdevType::usb);
        device.source.vendor_id = 0x1234;
        device.source.product_id = 0x5678;
        return device;
    }
    std::string refusal(Guest& guest, Device device) {
        try {
            bed_.run(guest.attach({std::move(device), nullptr, resources_, false}, {}));
        } catch (const Error& error) {
            return error.what();
        }
        return "it came";
    }
    /// Nothing of the record but what is counted on may differ.
    static json record(const Guest& guest) {
        auto all = json::parse(guest.driver_state());
        for (const auto* name : {"nodes", "sets"}) all.erase(name);
        return all;
    }

    GrantBed bed_;
    PciResources resources_;
    Notes notes_;
};

TEST_F(GrantsTest, WhatQemuOpensItselfIsAllowedAndTakenBackWhenItFails) {
    const auto guest = bed_.start(machine(), notes_);
    const auto before = record(*guest);
    EXPECT_THAT(refusal(*guest, pci()), HasSubstr("0000:01:00.0"));
    EXPECT_THAT(bed_.grants, ElementsAre("allow test.service /dev/vfio/vfio /dev/vfio/9 given /dev/vfio/9 locks",
                                         "deny test.service /dev/vfio/vfio /dev/vfio/9 given /dev/vfio/9 locks"));
    EXPECT_EQ(record(*guest), before);
    EXPECT_THAT(resources_.taken, ElementsAre("0000:01:00.0"));
    bed_.grants.clear();
    EXPECT_THAT(refusal(*guest, scsi()), HasSubstr("/dev/sg99"));
    EXPECT_THAT(bed_.grants, ElementsAre("allow test.service /dev/sg99 given ", "deny test.service /dev/sg99 given "));
    EXPECT_EQ(record(*guest), before);
    bed_.grants.clear();
    // QEMU gets its descriptor.
    EXPECT_NE(refusal(*guest, usb()), "it came");
    EXPECT_TRUE(bed_.grants.empty());
    EXPECT_EQ(record(*guest), before);
    bed_.stop(*guest, notes_);
}

TEST_F(GrantsTest, WhatIsNotAllowedIsNotTried) {
    const auto guest = bed_.start(machine(), notes_);
    const auto before = record(*guest);
    bed_.noted->refuses = true;
    EXPECT_EQ(refusal(*guest, scsi()), "the manager refuses");
    EXPECT_EQ(bed_.grants.size(), 2U);
    EXPECT_EQ(record(*guest), before);
    bed_.stop(*guest, notes_);
}

TEST_F(GrantsTest, WhatTheMachineHasFromItsStartIsNoQuestion) {
    if (::access("/dev/kvm", R_OK | W_OK) != 0) GTEST_SKIP() << "no KVM";
    auto config = machine();
    config.type = "kvm";
    const auto guest = bed_.start(std::move(config), notes_, true);
    Input tablet;
    tablet.type = "tablet";
    tablet.bus = "usb";
    EXPECT_EQ(refusal(*guest, tablet), "it came");
    EXPECT_TRUE(bed_.grants.empty());
    bed_.stop(*guest, notes_);
}

/// A daemon that ended between the grant and the device, or before it took the grant back.
TEST_F(GrantsTest, TheNextDaemonTakesBackWhatNoDeviceNeeds) {
    auto guest = bed_.start(machine(), notes_);
    const auto config = guest->config();
    auto state = json::parse(guest->driver_state());
    state["allowed"]["hostdev0"] = {{"devices", {"/dev/vfio/vfio", "/dev/vfio/9"}}, {"given", {"/dev/vfio/9"}}};
    state["allowed"]["scsi0"] = {{"devices", {"/dev/vfio/vfio"}}, {"given", json::array()}};
    guest.reset();
    bed_.renew();
    GuestEnd end;
    guest = bed_.run(bed_.driver->adopt(config, state.dump(), notes_, end));
    ASSERT_TRUE(guest);
    bed_.run_until([&] { return !bed_.grants.empty(); });
    EXPECT_THAT(bed_.grants, ElementsAre("deny test.service /dev/vfio/9 given /dev/vfio/9")) << "the other stays";
    EXPECT_FALSE(json::parse(guest->driver_state())["allowed"].contains("hostdev0"));
    bed_.stop(*guest, notes_);
}

}  // namespace
}  // namespace virtbus
