// SPDX-License-Identifier: LGPL-2.1-or-later
// Devices that come and go in real QEMU processes, most of them without a guest system, for what the guest need not be
// asked about; and a Linux that gives up what it is asked for.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/socket.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "qemu/hotplug/plug.hpp"
#include "qemu/json.hpp"
#include "tests/qemu/linux_bed.hpp"
#include "virtbus/model/device_lists.hpp"

namespace virtbus {
namespace {

using nlohmann::json;
using tests::Notes;
using tests::QemuBed;

Disk disk_on(const std::string& bus, const std::string& target, const std::string& path,
             const std::string& format = "raw") {
    Disk disk;
    disk.target.dev = target;
    disk.target.bus = bus;
    disk.driver.emplace().type = format;
    disk.source.emplace().file = path;
    return disk;
}

class Hotplug : public ::testing::Test {
protected:
    Hotplug() {
        qemu::GuestTimes times;
        times.unplug = Duration{300};
        bed_.set_times(times);
    }

    std::string image(const std::string& name, std::uintmax_t size = 1 << 20) {
        const auto path = folder_.path() + "/" + name;
        std::ofstream{path};
        std::filesystem::resize_file(path, size);
        return path;
    }
    /// With a SCSI controller, a serial one, a USB one and free PCIe ports.
    static DomainConfig roomy() {
        auto config = QemuBed::bare("roomy");
        config.features.emplace().acpi.emplace();
        auto& devices = config.devices;
        const auto add = [&](ControllerType type, std::uint32_t index, const char* model) {
            auto& controller = devices.controllers.emplace_back();
            controller.type = type;
            controller.index = index;
            controller.model = model;
        };
        add(ControllerType::scsi, 0, "virtio-scsi");
        add(ControllerType::virtio_serial, 0, "");
        add(ControllerType::usb, 0, "qemu-xhci");
        for (std::uint32_t port = 1; port <= 7; ++port) add(ControllerType::pci, port, "pcie-root-port");
        return config;
    }
    void start(DomainConfig config) { guest_ = bed_.start(std::move(config), notes_); }
    void attach(Device device, std::shared_ptr<const DomainConfig> stored = nullptr) {
        bed_.run(guest_->attach({std::move(device), std::move(stored), bed_.resources, false}, {}));
    }
    void detach(const std::string& alias) { bed_.run(guest_->detach(alias, false, {})); }
    template <class F>
    std::pair<Code, std::string> refusal(F work) {
        try {
            work();
        } catch (const Error& error) {
            return {error.code(), error.what()};
        }
        return {Code::internal, "it was not refused"};
    }
    /// What QEMU itself says it has, asked while no daemon is connected; then a later daemon takes the guest up.
    json inventory() {
        const auto config = guest_->config();
        const auto record = guest_->driver_state();
        guest_.reset();
        json all;
        {
            qemu::Monitor monitor{
                bed_.host.loop, qemu::connect_socket(qemu::GuestRecord::from_text(record).monitor), "the test", {}};
            for (const auto* command : {"query-block", "query-named-block-nodes", "query-chardev", "query-fdsets"})
                all[command] = bed_.run(monitor.execute(command, in(Duration{5000})));
            for (const auto* path : {"/machine/peripheral", "/objects"})
                all[path] = bed_.run(monitor.execute("qom-list", json{{"path", path}}, in(Duration{5000})));
        }
        GuestEnd end;
        guest_ = bed_.run(bed_.driver->adopt(config, record, notes_, end));
        // The monitor's own connection is another one each time, and what was read is counted.
        for (auto& chardev : all["query-chardev"])
            if (chardev["label"] == "charmonitor") chardev["filename"] = "";
        // QEMU keeps these in no order.
        for (const auto* path : {"/machine/peripheral", "/objects"})
            std::sort(all[path].begin(), all[path].end(),
                      [](const json& a, const json& b) { return qemu::text(a, "name") < qemu::text(b, "name"); });
        return all;
    }

    tests::TemporaryFolder folder_;
    QemuBed bed_;
    Notes notes_;
    std::unique_ptr<Guest> guest_;
};

TEST_F(Hotplug, WhatComesAndGoesLeavesNothing) {
    start(roomy());
    const auto before = inventory();
    ASSERT_TRUE(guest_);
    const auto base = image("base.img"), top = folder_.path() + "/top.qcow2";
    ASSERT_EQ(std::system(("qemu-img create -q -f qcow2 -F raw -b " + base + " " + top).c_str()), 0);

    attach(disk_on("scsi", "sda", top, "qcow2"));
    EXPECT_TRUE(notes_.has("added scsi0-0-0-0"));
    ASSERT_EQ(guest_->config().devices.disks.size(), 1U);
    auto limited = disk_on("scsi", "sdb", image("stick.img"));
    limited.iotune.emplace().total_bytes_sec = 1 << 20;
    attach(limited);
    Channel channel;
    channel.type = ChardevType::pty;
    channel.target.emplace().name = "org.test.0";
    attach(channel);
    EXPECT_TRUE(guest_->config().devices.channels[0].backend.source()->path.starts_with("/dev/pts/"));
    Channel listening;
    listening.backend.make_source().mode = "bind";
    listening.target.emplace().name = "org.test.1";
    attach(listening);
    EXPECT_TRUE(bed_.run(guest_->open_console("org.test.1", false, {})));
    Input tablet;
    tablet.type = "tablet";
    tablet.bus = "usb";
    attach(tablet);
    const auto tablet_alias = guest_->config().devices.inputs.back().info.alias;

    const auto during = inventory();
    ASSERT_TRUE(guest_);
    EXPECT_EQ(during["query-block"].size(), 2U + before["query-block"].size());
    EXPECT_GT(during["query-fdsets"].size(), before["query-fdsets"].size());
    // Taken away by a daemon that has not put them there.
    for (const std::string& alias : {std::string{"scsi0-0-0-0"}, std::string{"scsi0-0-0-1"}, std::string{"channel0"},
                                     std::string{"channel1"}, tablet_alias}) {
        detach(alias);
        EXPECT_TRUE(notes_.has("removed " + alias));
    }
    EXPECT_EQ(inventory(), before);
    EXPECT_EQ(guest_->config().devices.disks.size(), 0U);
    bed_.stop(*guest_, notes_);
}

TEST_F(Hotplug, WhatFailsLeavesNothing) {
    start(roomy());
    const auto before = inventory();
    EXPECT_EQ(refusal([&] { attach(disk_on("scsi", "sda", folder_.path() + "/missing")); }).first, Code::invalid_state);
    auto odd = disk_on("scsi", "sda", image("odd.img"));
    odd.blockio.emplace().logical_block_size = 7;
    EXPECT_EQ(refusal([&] { attach(odd); }).first, Code::hypervisor_failed);
    Interface interface;
    interface.type = InterfaceType::user;
    interface.model = "virtio";
    interface.mac = "52:54:00:00:00:01";
    interface.mtu = 70000;  // more than the card can be told
    EXPECT_EQ(refusal([&] { attach(interface); }).first, Code::hypervisor_failed);
    EXPECT_EQ(inventory(), before);
    EXPECT_TRUE(guest_->config().devices.disks.empty());
    // And the place is free again.
    odd.blockio.reset();
    attach(odd);
    bed_.stop(*guest_, notes_);
}

TEST_F(Hotplug, WhatCannotBeIsRefusedWithASentence) {
    auto config = QemuBed::bare();
    config.devices.controllers.emplace_back().model = "pcie-root-port";
    config.devices.controllers.back().index = 1;
    start(config);
    auto [code, message] = refusal([&] { attach(disk_on("sata", "sda", image("a.img"))); });
    EXPECT_EQ(code, Code::unsupported);
    EXPECT_NE(message.find("'sata'"), std::string::npos) << message;
    bool full = false;
    for (char letter = 'a'; letter < 'k' && !full; ++letter) {
        const auto target = std::string{"vd"} + letter;
        std::tie(code, message) = refusal([&] { attach(disk_on("virtio", target, image(target))); });
        full = code == Code::unsupported;
    }
    EXPECT_TRUE(full) << message;
    EXPECT_NE(message.find("pcie-root-port"), std::string::npos) << message;
    EXPECT_NE(message.find("0 of its PCIe ports are free"), std::string::npos) << message;
    EXPECT_EQ(refusal([&] { detach("pcie.0"); }).first, Code::unsupported);
    EXPECT_EQ(refusal([&] { detach("nothing"); }).first, Code::no_such_device);
    bed_.stop(*guest_, notes_);
}

TEST_F(Hotplug, AStoredDefinitionKeepsItsPlaces) {
    start(roomy());
    // The stored definition has another disk where the next free place would be.
    const auto stored = std::make_shared<DomainConfig>(guest_->config());
    attach(disk_on("virtio", "vda", image("a.img")));
    const auto first = *guest_->config().devices.disks[0].info.address_as<PciAddress>();
    EXPECT_NE(first.bus, 0U);
    auto claims = disk_on("virtio", "vdb", "/b.img");
    auto place = first;
    ++place.bus;
    claims.info.address = place;
    (void)add_device(*stored, claims);
    attach(disk_on("virtio", "vdc", image("c.img")), stored);
    EXPECT_NE(guest_->config().devices.disks[1].info.address_as<PciAddress>()->bus, place.bus);
    attach(disk_on("virtio", "vdb", image("b.img")), stored);
    EXPECT_EQ(guest_->config().devices.disks[1].target.dev, "vdb");
    EXPECT_EQ(guest_->config().devices.disks[1].info.address_as<PciAddress>()->bus, place.bus);
    bed_.stop(*guest_, notes_);
}

TEST_F(Hotplug, ARequestThatTheGuestDoesNotAnswerStands) {
    start(roomy());
    attach(disk_on("virtio", "vda", image("a.img")));
    const auto [code, message] = refusal([&] { detach("virtio-disk0"); });
    EXPECT_EQ(code, Code::timeout);
    EXPECT_NE(message.find("the request stands"), std::string::npos);
    EXPECT_EQ(guest_->config().devices.disks.size(), 1U);
    bed_.run(guest_->reset({}));  // a machine that restarts without it has let go of it
    bed_.run_until([&] { return notes_.has("removed virtio-disk0"); });
    EXPECT_TRUE(guest_->config().devices.disks.empty());
    bed_.stop(*guest_, notes_);
}

TEST_F(Hotplug, ADeviceThatGoesWhileNoDaemonWatches) {
    start(roomy());
    const auto before = inventory();
    attach(disk_on("scsi", "sda", image("a.img")));
    const auto config = guest_->config();
    const auto record = guest_->driver_state();
    guest_.reset();
    {
        qemu::Monitor monitor{
            bed_.host.loop, qemu::connect_socket(qemu::GuestRecord::from_text(record).monitor), "the test", {}};
        bed_.run(monitor.execute("device_del", json{{"id", "scsi0-0-0-0"}}, in(Duration{5000})));
    }
    GuestEnd end;
    guest_ = bed_.run(bed_.driver->adopt(config, record, notes_, end));
    bed_.run_until([&] { return notes_.has("removed scsi0-0-0-0"); });
    EXPECT_TRUE(guest_->config().devices.disks.empty());
    EXPECT_EQ(inventory(), before);
    bed_.stop(*guest_, notes_);
}

/// It is no device to QEMU, so nobody asks the guest for it, and a daemon that looks at devices finds it missing.
TEST_F(Hotplug, AChannelToTheGuestsNetworkComesAndGoesAtOnce) {
    start(roomy());
    const auto before = inventory();
    Channel channel;
    channel.type = ChardevType::null;
    channel.target.emplace().type = "guestfwd";
    channel.target->address = "10.0.2.100";
    channel.target->port = 4600;
    for (int round = 0; round < 2; ++round) {
        attach(channel);
        ASSERT_EQ(guest_->config().devices.channels.size(), 1U);
        const auto during = inventory();
        EXPECT_EQ(during["query-chardev"].size(), before["query-chardev"].size() + 1);
        ASSERT_EQ(guest_->config().devices.channels.size(), 1U) << "the next daemon keeps it";
        detach(guest_->config().devices.channels[0].info.alias);
        EXPECT_TRUE(guest_->config().devices.channels.empty());
        EXPECT_EQ(inventory(), before);
    }
    auto config = roomy();
    config.devices.channels.push_back(channel);
    bed_.stop(*guest_, notes_);
    notes_.list.clear();
    start(std::move(config));
    detach(guest_->config().devices.channels[0].info.alias);
    EXPECT_EQ(inventory()["query-chardev"].size(), before["query-chardev"].size()) << "one that was there at the start";
    bed_.stop(*guest_, notes_);
}

TEST_F(Hotplug, ACdromGetsAnotherMedium) {
    auto config = roomy();
    auto drive = disk_on("sata", "sda", image("a.iso"));
    drive.device = DiskDevice::cdrom;
    config.devices.disks.push_back(drive);
    start(config);
    const auto change = [&](const std::string& path) {
        auto disk = guest_->config().devices.disks[0];
        if (path.empty())
            disk.source.reset();
        else
            disk.source.emplace().file = path;
        bed_.run(guest_->update({disk, nullptr, bed_.resources, false}, {}));
    };
    change(image("b.iso", 2 << 20));
    EXPECT_TRUE(guest_->config().devices.disks[0].source->file.ends_with("b.iso"));
    auto now = inventory();
    EXPECT_EQ(now["query-block"][0]["inserted"]["image"]["virtual-size"], 2 << 20);
    EXPECT_EQ(now["query-fdsets"].size(), 1U);
    change("");
    now = inventory();
    EXPECT_FALSE(now["query-block"][0].contains("inserted"));
    EXPECT_TRUE(now["query-named-block-nodes"].empty());
    change(image("c.iso"));
    EXPECT_EQ(refusal([&] { change(folder_.path() + "/missing.iso"); }).first, Code::invalid_state);
    EXPECT_TRUE(guest_->config().devices.disks[0].source->file.ends_with("c.iso"));

    // One that somebody else has locked is opened, but does not go in: the old one is in the drive again.
    const Fd taken{::open(image("taken.iso").c_str(), O_RDWR | O_CLOEXEC)};
    struct flock bytes{};
    bytes.l_type = F_WRLCK;
    bytes.l_start = 200;  // that nobody may read it: more than is looked for before
    bytes.l_len = 1;
    ASSERT_EQ(::fcntl(taken.get(), F_OFD_SETLK, &bytes), 0);
    const auto before = inventory();
    EXPECT_EQ(refusal([&] { change(folder_.path() + "/taken.iso"); }).first, Code::hypervisor_failed);
    EXPECT_TRUE(guest_->config().devices.disks[0].source->file.ends_with("c.iso"));
    EXPECT_EQ(inventory(), before);
    bed_.stop(*guest_, notes_);
}

TEST_F(Hotplug, CpusAndMemoryAreAdded) {
    auto config = roomy();
    config.vcpu = 4;
    config.vcpu_current = 2;
    config.max_memory.emplace().size = 512ULL << 20;
    config.max_memory->slots = 1;
    config.cpu.emplace().numa.emplace().cells.emplace_back().memory = 64ULL << 20;
    config.cpu->numa->cells[0].cpus.emplace().numbers = {0, 1, 2, 3};
    start(config);
    bed_.run(guest_->set_vcpus(4, {}));
    EXPECT_EQ(guest_->config().vcpu_current.value_or(4), 4U);
    // Nobody is there to agree, and this firmware has not even said that it could.
    EXPECT_EQ(refusal([&] { bed_.run(guest_->set_vcpus(3, {})); }).first, Code::hypervisor_failed);
    EXPECT_EQ(guest_->config().vcpu_current.value_or(4), 4U);
    MemoryDevice memory;
    memory.target.size = 128ULL << 20;
    memory.target.node = 0;
    attach(memory);
    EXPECT_TRUE(notes_.has("added dimm0"));
    EXPECT_EQ(guest_->config().memory, 192ULL << 20);
    EXPECT_EQ(refusal([&] { attach(memory); }).first, Code::unsupported);
    bed_.stop(*guest_, notes_);
}

TEST_F(Hotplug, LinksGoUpAndDown) {
    start(roomy());
    Interface interface;
    interface.type = InterfaceType::user;
    interface.model = "virtio";
    interface.mac = "52:54:00:00:00:01";
    interface.link_state = "down";
    attach(interface);
    auto card = guest_->config().devices.interfaces[0];
    EXPECT_EQ(card.link_state, "down");
    card.link_state = "up";
    bed_.run(guest_->update({card, nullptr, bed_.resources, false}, {}));
    EXPECT_EQ(guest_->config().devices.interfaces[0].link_state, "up");
    card.mtu = 9000;
    const auto [code, message] = refusal([&] { bed_.run(guest_->update({card, nullptr, bed_.resources, false}, {})); });
    EXPECT_EQ(code, Code::unsupported);
    EXPECT_NE(message.find("only the link state"), std::string::npos) << message;
    bed_.stop(*guest_, notes_);
}

class LinuxHotplug : public tests::LinuxBed {};

TEST_F(LinuxHotplug, TheGuestSeesThemComeAndLetsThemGo) {
    auto config = linux_config();
    for (std::uint32_t port = 1; port <= 5; ++port) {
        auto& controller = config.devices.controllers.emplace_back();
        controller.index = port;
        controller.model = "pcie-root-port";
    }
    config.devices.memballoon.emplace();
    config.vcpu = 2;
    config.vcpu_current = 1;
    const auto guest = boot(std::move(config));
    const auto path = bed_.host.folder.path() + "/disk.img";
    std::ofstream{path};
    std::filesystem::resize_file(path, 8 << 20);
    Interface card;
    card.type = InterfaceType::user;
    card.model = "virtio";
    card.mac = "52:54:00:00:00:01";
    bed_.run(guest->attach({disk_on("virtio", "vda", path), nullptr, bed_.resources, false}, {}));
    bed_.run(guest->attach({card, nullptr, bed_.resources, false}, {}));
    terminal_->type(
        "while ! test -e /sys/block/vda -a -e /sys/class/net/eth0; do sleep 0.1; done; echo both are $((40 + 2))\r");
    bed_.run_until([&] { return terminal_->has("both are 42"); });
    for (const auto* alias : {"virtio-disk0", "net0"}) {
        try {
            bed_.run(guest->detach(alias, false, {}));
        } catch (const Error& error) {
            ASSERT_EQ(error.code(), Code::timeout) << error.what();
        }
        bed_.run_until([&] { return notes_.has(std::string{"removed "} + alias); });
    }
    EXPECT_TRUE(guest->config().devices.disks.empty());
    EXPECT_TRUE(guest->config().devices.interfaces.empty());
    bed_.run(guest->set_vcpus(2, {}));
    terminal_->type("while ! echo 1 > /sys/devices/system/cpu/cpu1/online; do sleep 0.1; done; echo cpu $((40 + 3))\r");
    bed_.run_until([&] { return terminal_->has("cpu 43"); });
    EXPECT_EQ(guest->config().vcpu_current, std::nullopt);
    bed_.run(guest->set_memory(128ULL << 20, {}));
    bed_.run_until([&] { return guest->config().current_memory == 128ULL << 20; });
    bed_.stop(*guest, notes_);
}

}  // namespace
}  // namespace virtbus
