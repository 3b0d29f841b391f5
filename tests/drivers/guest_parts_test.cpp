// SPDX-License-Identifier: LGPL-2.1-or-later
// The parts of a running guest that need no process: its record, its live definition, counters, XML of capabilities.
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "qemu/console.hpp"
#include "qemu/file_names.hpp"
#include "qemu/guest_record.hpp"
#include "qemu/host_topology.hpp"
#include "qemu/live_config.hpp"
#include "qemu/pins.hpp"
#include "qemu/proc.hpp"
#include "qemu/unread_images.hpp"
#include "qemu/xml_text.hpp"
#include "virtbus/error.hpp"

namespace virtbus::qemu {
namespace {

using nlohmann::json;

TEST(UnreadImages, MustStandAlone) {
    const std::vector<UnreadImage> images{{"vda", "libvirt-1-format"}, {"vdb", "libvirt-2-format"}};
    auto nodes = json::array({{{"node-name", "libvirt-1-format"}, {"image", {{"filename", "x"}}}},
                              {{"node-name", "libvirt-2-format"}, {"image", {{"filename", "y"}}}}});
    EXPECT_NO_THROW(require_alone(images, nodes));
    const auto refusal = [&](const json& answer) -> std::string {
        try {
            require_alone(images, answer);
        } catch (const Error& error) {
            return error.what();
        }
        return "";
    };
    nodes[1]["image"]["backing-filename"] = "json:{\"driver\":\"file\"}";
    EXPECT_NE(refusal(nodes).find("'vdb'"), std::string::npos) << refusal(nodes);
    EXPECT_NE(refusal(nodes).find("json:"), std::string::npos) << refusal(nodes);
    // What QEMU does not tell is no good news.
    nodes.erase(1);
    EXPECT_NE(refusal(nodes).find("'vdb'"), std::string::npos);
    for (const auto& rubbish : {json(), json("x"), json::array({1, "x"}), json::object()})
        EXPECT_NE(refusal(rubbish), "");
}

TEST(UnreadImages, EndTheirChainsInTheLiveDefinition) {
    DomainConfig config;
    for (const auto* name : {"vda", "vdb", "vdc"}) config.devices.disks.emplace_back().target.dev = name;
    auto& below = config.devices.disks[1].backing_store.emplace_back();
    below.type = StorageType::network;
    close_chains(config, {{"vda", "a"}, {"vdb", "b"}});
    ASSERT_EQ(config.devices.disks[0].backing_store.size(), 1u);
    EXPECT_FALSE(config.devices.disks[0].backing_store[0].type);
    ASSERT_EQ(config.devices.disks[1].backing_store[0].backing_store.size(), 1u);
    EXPECT_TRUE(config.devices.disks[2].backing_store.empty());
}

TEST(FileNames, StandWhereQemuSpeaksOfSets) {
    const FileNames files{{"/dev/fdset/3", "/images/a.qcow2"}, {"/dev/fdset/31", "/images/b.qcow2"}};
    EXPECT_EQ(with_paths("Could not open '/dev/fdset/31' below [/dev/fdset/3]", files),
              "Could not open '/images/b.qcow2' below [/images/a.qcow2]");
    EXPECT_EQ(with_paths("/dev/fdset/ /dev/fdset/7 /dev/fdset/3", files), "/dev/fdset/ /dev/fdset/7 /images/a.qcow2");
}

TEST(GuestRecord, SurvivesItsText) {
    GuestRecord record;
    record.pid = 4711;
    record.start_time = 1234567890123;
    record.unit = "virtbus-qemu-1-\\x2e.service";
    record.folder = "/run/virtbus/qemu/1-x";
    record.monitor = record.folder + "/monitor.sock";
    record.log = "/var/log/\"q\".log";
    record.log_start = 99;
    record.state = State::pmsuspended;
    record.reason = "guest";
    record.rebooting = true;
    const auto read = GuestRecord::from_text(record.text());
    EXPECT_EQ(read.text(), record.text());
    EXPECT_EQ(read.pid, 4711U);
    EXPECT_EQ(read.state, State::pmsuspended);
    EXPECT_TRUE(read.rebooting);
}

TEST(GuestRecord, RefusesWhatItDoesNotKnow) {
    for (const auto* text : {"", "{", "[]", "7", R"({"version":2})", R"({"version":"1"})"})
        EXPECT_THROW(GuestRecord::from_text(text), Error) << text;
}

TEST(Proc, KnowsThisProcess) {
    const auto pid = static_cast<std::uint32_t>(::getpid());
    EXPECT_GT(process_start_time(pid), 0U);
    EXPECT_EQ(process_start_time(0), 0U);
    EXPECT_GT(read_resident(pid), 1U << 20);
    EXPECT_TRUE(read_device_counters().contains("lo"));
}

DomainConfig with_terminals() {
    DomainConfig config;
    config.devices.serials.resize(2);
    config.devices.serials[0].info.alias = "serial0";
    config.devices.serials[1].info.alias = "serial1";
    config.devices.serials[1].type = ChardevType::null;
    config.devices.consoles.resize(2);
    config.devices.consoles[0].info.alias = "serial0";
    config.devices.consoles[1].info.alias = "console1";
    config.devices.consoles[1].target.emplace().type = "virtio";
    return config;
}

TEST(LiveConfig, LearnsTerminals) {
    auto config = with_terminals();
    EXPECT_TRUE(has_terminals(config));
    fill_terminals(config, json::parse(R"([{"label":"charserial0","filename":"pty:/dev/pts/5"},{"label":7},
        {"label":"charserial1","filename":"pty:/dev/pts/6"},{"label":"charconsole1","filename":"pty:/dev/pts/7"}])"));
    EXPECT_EQ(config.devices.serials[0].backend.source()->path, "/dev/pts/5");
    EXPECT_EQ(config.devices.serials[1].backend.source(), nullptr);
    EXPECT_EQ(config.devices.consoles[0].backend.source()->path, "/dev/pts/5");
    EXPECT_EQ(config.devices.consoles[0].tty, "/dev/pts/5");
    EXPECT_EQ(config.devices.consoles[1].tty, "/dev/pts/7");
}

TEST(LiveConfig, LearnsPorts) {
    DomainConfig config;
    config.devices.graphics.resize(2);
    config.devices.graphics[0].type = GraphicsType::vnc;
    config.devices.graphics[1].type = GraphicsType::spice;
    fill_vnc_port(config, json::parse(R"({"enabled":true,"service":"5903","family":"ipv4"})"));
    fill_spice_ports(config, json::parse(R"({"enabled":true,"port":5930})"));
    EXPECT_EQ(config.devices.graphics[0].port, 5903);
    EXPECT_EQ(config.devices.graphics[1].port, 5930);
    fill_vnc_port(config, json::parse(R"({"service":"/run/x","family":"unix"})"));
    EXPECT_EQ(config.devices.graphics[0].port, 5903);
}

TEST(LiveConfig, FindsTheAliasInAPath) {
    EXPECT_EQ(alias_of_path("/machine/peripheral/virtio-disk0/virtio-backend", "x"), "virtio-disk0");
    EXPECT_EQ(alias_of_path("/machine/peripheral/ide0", "x"), "ide0");
    EXPECT_EQ(alias_of_path("ide0", "x"), "ide0");
    EXPECT_EQ(alias_of_path("/machine/unattached/device[3]", "x"), "x");
    EXPECT_EQ(alias_of_path("", "x"), "x");
}

TEST(Pins, ArePlannedPerThread) {
    DomainConfig config;
    EXPECT_FALSE(has_pins(config));
    config.vcpu_cpuset = CpuSet{{0, 1}};
    EXPECT_TRUE(has_pins(config));
    auto& tune = config.cputune.emplace();
    tune.vcpu_pins.push_back({.vcpu = 1, .cpuset = {{3}}});
    tune.iothread_pins.push_back({.iothread = 1, .cpuset = {{2}}});
    const auto cpus = json::parse(R"([{"cpu-index":0,"thread-id":11},{"cpu-index":1,"thread-id":12},
                                      {"cpu-index":2,"thread-id":1}])");
    const auto iothreads = json::parse(R"([{"id":"iothread1","thread-id":13},{"id":"iothread2","thread-id":14}])");
    const auto plan = plan_pins(config, cpus, iothreads, {10, 11, 12, 13, 14});
    EXPECT_EQ(plan.size(), 4U);
    EXPECT_EQ(plan.at(10).numbers, (std::vector<unsigned>{0, 1}));
    EXPECT_EQ(plan.at(11).numbers, (std::vector<unsigned>{0, 1}));
    EXPECT_EQ(plan.at(12).numbers, std::vector<unsigned>{3});
    EXPECT_EQ(plan.at(13).numbers, std::vector<unsigned>{2});
    EXPECT_FALSE(plan.contains(1));  // not a thread of the process, whatever QEMU says
}

TEST(HostTopology, ReadsKernelLists) {
    EXPECT_EQ(parse_cpu_list("0-3,8\n"), (std::vector<unsigned>{0, 1, 2, 3, 8}));
    EXPECT_EQ(parse_cpu_list("2"), (std::vector<unsigned>{2}));
    EXPECT_TRUE(parse_cpu_list("").empty());
    EXPECT_TRUE(parse_cpu_list("x").empty());
    const auto topology = read_host_topology();
    ASSERT_FALSE(topology.cells.empty());
    EXPECT_FALSE(topology.cells[0].cpus.empty());
    EXPECT_GT(topology.cells[0].memory, 0U);
    EXPECT_FALSE(read_host_topology("/nothing").cells.empty());
}

TEST(XmlText, EscapesAndIndents) {
    XmlText xml;
    xml.element("a", {{"b", "<'&"}}, [&] {
        xml.element("c");
        xml.element("d", {}, "x<y");
    });
    EXPECT_EQ(xml.take(), "<a b='&lt;&apos;&amp;'>\n  <c/>\n  <d>x&lt;y</d>\n</a>\n");
}

}  // namespace
}  // namespace virtbus::qemu
