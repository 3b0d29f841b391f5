// SPDX-License-Identifier: LGPL-2.1-or-later
// Where devices end up, and that they stay there.
#include "qemu/addresses.hpp"

#include <gtest/gtest.h>

#include "qemu/device_list.hpp"
#include "qemu/topology.hpp"
#include "tests/drivers/domain_bed.hpp"

namespace virtbus::qemu {
namespace {

using namespace virtbus::tests;

std::string definition(const std::string& machine, const std::string& devices) {
    return fmt::format(
        "<domain type='qemu'><name>n</name><uuid>00000000-0000-4000-8000-000000000001</uuid><memory>65536</memory>"
        "<os><type arch='x86_64' machine='{}'>hvm</type></os><devices>{}</devices></domain>",
        machine, devices);
}
const std::string disk = "<disk><source file='/a'/><target dev='vda'/></disk>";
const std::string second_disk = "<disk><source file='/b'/><target dev='vdb'/></disk>";
const std::string interface =
    "<interface type='user'><mac address='52:54:00:00:00:01'/><model type='virtio'/></interface>";
const std::string screen = "<graphics type='vnc'/><video><model type='virtio'/></video>";

std::string at(const DeviceInfo& info) {
    const auto* address = info.address_as<PciAddress>();
    return address ? text_of(*address).substr(5) : "none";
}
std::string refusal(const std::string& text) {
    try {
        whole(text);
    } catch (const Error& error) {
        EXPECT_TRUE(error.code() == Code::unsupported_configuration || error.code() == Code::invalid_xml);
        return error.what();
    }
    return "";
}

TEST(Addresses, OfQ35AreThoseThatLibvirtGives) {
    const auto config = whole(definition(
        "q35", disk + interface + screen + "<sound model='ich9'/><rng model='virtio'><backend model='random'/></rng>"));
    EXPECT_EQ(at(config.devices.videos[0].info), "00:01.0");
    EXPECT_EQ(at(config.devices.sounds[0].info), "00:1b.0");
    EXPECT_EQ(at(config.devices.interfaces[0].info), "01:00.0");
    EXPECT_EQ(at(config.devices.disks[0].info), "03:00.0");
    EXPECT_EQ(at(config.devices.memballoon->info), "04:00.0");
    EXPECT_EQ(at(config.devices.rngs[0].info), "05:00.0");
    std::map<std::string, std::string> controllers;
    for (const auto& controller : config.devices.controllers) controllers[name_of(controller)] = at(controller.info);
    EXPECT_EQ(controllers["sata controller 0"], "00:1f.2");
    EXPECT_EQ(controllers["usb controller 0 (qemu-xhci)"], "02:00.0");
    EXPECT_EQ(controllers["pci controller 1 (pcie-root-port)"], "00:02.0");
    EXPECT_EQ(controllers["pci controller 2 (pcie-root-port)"], "00:02.1");
    EXPECT_EQ(controllers["pci controller 6 (pcie-root-port)"], "00:02.5") << "one port is left for hotplug";
    EXPECT_FALSE(controllers.contains("pci controller 7 (pcie-root-port)"));
    EXPECT_EQ(config.devices.controllers[3].info.address_as<PciAddress>()->multifunction, true);
}

TEST(Addresses, OfPcAreThoseThatLibvirtGives) {
    const auto config = whole(definition("pc", disk + interface + screen));
    EXPECT_EQ(at(config.devices.videos[0].info), "00:02.0");
    EXPECT_EQ(at(config.devices.interfaces[0].info), "00:03.0");
    EXPECT_EQ(at(config.devices.controllers[0].info), "00:01.2");
    EXPECT_EQ(at(config.devices.disks[0].info), "00:04.0");
    EXPECT_EQ(at(config.devices.memballoon->info), "00:05.0");
}

TEST(Addresses, ConventionalDevicesOnQ35GetABridge) {
    const auto config = whole(definition(
        "q35", "<interface type='user'><mac address='52:54:00:00:00:01'/><model type='e1000'/></interface>"));
    const auto* address = config.devices.interfaces[0].info.address_as<PciAddress>();
    ASSERT_TRUE(address);
    EXPECT_EQ(address->slot, 1u);
    for (const auto& controller : config.devices.controllers)
        if (controller.type == ControllerType::pci && controller.index == address->bus)
            EXPECT_EQ(controller.model, "pcie-to-pci-bridge");
}

TEST(Addresses, ManyDevicesGrowTheBuses) {
    std::string many;
    for (int i = 0; i < 60; ++i)
        many += fmt::format(
            "<interface type='user'><mac address='52:54:00:00:01:{:02x}'/><model type='virtio'/></interface>", i);
    for (const char* machine : {"pc", "q35"}) {
        const auto config = whole(definition(machine, many));
        std::set<std::string> places;
        for (const auto& each : config.devices.interfaces) places.insert(at(each.info));
        EXPECT_EQ(places.size(), 60u) << machine;
        EXPECT_EQ(xml::format_domain(whole(config)), xml::format_domain(config));
    }
}

TEST(Addresses, StayWhenADeviceComesInTheMiddle) {
    for (const char* machine : {"pc", "q35"}) {
        const auto before = whole(definition(machine, disk + interface + screen));
        const auto after =
            whole(definition(machine, second_disk + disk + "<sound model='ich6'/>" + interface + screen), &before);
        EXPECT_EQ(at(after.devices.disks[0].info), at(before.devices.disks[0].info)) << machine;
        EXPECT_NE(at(after.devices.disks[1].info), at(before.devices.disks[0].info));
        EXPECT_EQ(at(after.devices.interfaces[0].info), at(before.devices.interfaces[0].info));
        EXPECT_EQ(at(after.devices.memballoon->info), at(before.devices.memballoon->info));
        // Taken away again, nothing moves either.
        const auto less = whole(definition(machine, disk + screen), &after);
        EXPECT_EQ(at(less.devices.disks[0].info), at(before.devices.disks[0].info));
        EXPECT_EQ(at(less.devices.memballoon->info), at(before.devices.memballoon->info));
    }
}

TEST(Addresses, AnExplicitPlaceBeatsAFollowedOne) {
    const auto before = whole(definition("pc", disk + interface));
    const auto taken = at(before.devices.interfaces[0].info);
    const auto* place = before.devices.interfaces[0].info.address_as<PciAddress>();
    const auto after =
        whole(definition("pc", fmt::format("<disk><source file='/a'/><target dev='vda'/><address type='pci' domain='0' "
                                           "bus='0' slot='{}' function='0'/></disk>",
                                           place->slot) +
                                   interface),
              &before);
    EXPECT_EQ(at(after.devices.disks[0].info), taken);
    EXPECT_NE(at(after.devices.interfaces[0].info), taken);
}

TEST(Addresses, ConflictsNameBoth) {
    const std::string place = "<address type='pci' domain='0' bus='0' slot='7' function='0'/>";
    const auto twice =
        refusal(definition("pc", "<disk><source file='/a'/><target dev='vda'/>" + place +
                                     "</disk><disk><source file='/b'/><target dev='vdb'/>" + place + "</disk>"));
    EXPECT_NE(twice.find("'vda'"), twice.npos) << twice;
    EXPECT_NE(twice.find("'vdb'"), twice.npos) << twice;
    EXPECT_NE(twice.find("00:07.0"), twice.npos) << twice;
    const auto usb =
        refusal(definition("q35",
                           "<input type='tablet' bus='usb'><address type='usb' bus='0' port='1'/></input><input "
                           "type='mouse' bus='usb'><address type='usb' bus='0' port='1'/></input>"));
    EXPECT_NE(usb.find("port 1"), usb.npos) << usb;
    const auto missing =
        refusal(definition("q35", "<input type='tablet' bus='usb'><address type='usb' bus='4' port='1'/></input>"));
    EXPECT_NE(missing.find("bus 4"), missing.npos) << missing;
    EXPECT_NE(refusal(definition("q35", "<controller type='usb' model='none'/><input type='tablet' bus='usb'/>")), "");
    EXPECT_NE(refusal(definition("q35", "<disk><source file='/a'/><target dev='hda' bus='ide'/></disk>")), "");
    EXPECT_NE(refusal(definition("pc", disk + disk)), "");
    EXPECT_NE(refusal(definition("pc", "<controller type='pci' index='0' model='pcie-root'/>")), "");
    EXPECT_NE(refusal(definition("pc", "<controller type='pci' index='300' model='pci-bridge'/>")), "");
    EXPECT_NE(refusal(definition("pc",
                                 "<disk><source file='/a'/><target dev='vda'/><address type='pci' domain='1' bus='0' "
                                 "slot='7' function='0'/></disk>")),
              "");
}

TEST(Addresses, HubsComeWhenPortsRunOut) {
    std::string tablets;
    for (int i = 0; i < 12; ++i) tablets += "<input type='tablet' bus='usb'/>";
    const auto config = whole(definition("q35", tablets));
    EXPECT_FALSE(config.devices.hubs.empty());
    std::set<std::string> ports;
    for (const auto& input : config.devices.inputs)
        if (const auto* usb = input.info.address_as<UsbAddress>()) ports.insert(usb->port);
    EXPECT_EQ(ports.size(), 12u);
}

TEST(Targets, HaveNumbers) {
    EXPECT_EQ(index_of_target("vda"), 0);
    EXPECT_EQ(index_of_target("sdz"), 25);
    EXPECT_EQ(index_of_target("sdaa"), 26);
    for (const char* bad : {"", "vd", "vdA", "vd1", "sda1", "nvme0n1", "vdaaaaaaaaaaaaaa"})
        EXPECT_EQ(index_of_target(bad), -1) << bad;
}

// ---- other machines

std::string line_of(const std::string& arch, const std::string& devices) {
    const auto config =
        whole(fmt::format("<domain type='qemu'><name>n</name><memory>65536</memory><os><type arch='{}'>hvm</type></os>"
                          "<devices>{}</devices></domain>",
                          arch, devices));
    EXPECT_EQ(xml::format_domain(whole(config)), xml::format_domain(config));
    return one_a_line(standalone_command(config, known_capabilities(arch), false));
}

TEST(Machines, ArmVirtHasPciExpressAndItsOwnSerialPort) {
    const auto line = line_of("aarch64", disk + interface + "<console type='pty'/>");
    EXPECT_NE(line.find("-machine virt-7.2,"), line.npos) << line;
    EXPECT_NE(line.find("-cpu cortex-a15\n"), line.npos) << line;
    EXPECT_NE(line.find("-serial chardev:charserial0"), line.npos) << line;
    EXPECT_NE(line.find(R"("driver":"virtio-blk-pci","drive":"libvirt-1-format","id":"virtio-disk0","bus":"pci.2")"),
              line.npos)
        << line;
    EXPECT_EQ(line.find("usb"), line.find("usb=off")) << "USB comes only with USB devices";
    EXPECT_EQ(line.find("balloon"), line.npos);
    EXPECT_NE(line_of("aarch64", "<input type='tablet' bus='usb'/>").find("qemu-xhci"), line.npos);
}

TEST(Machines, PseriesHasItsOwnBusAndPci) {
    const auto line =
        line_of("ppc64", disk + "<serial type='pty'/><disk><source file='/b'/><target dev='sda' bus='scsi'/></disk>");
    EXPECT_NE(line.find(R"("driver":"spapr-vty","chardev":"charserial0","id":"serial0","reg":805306368)"), line.npos)
        << line;
    EXPECT_NE(line.find(R"("driver":"spapr-vscsi","id":"scsi0","reg":8192)"), line.npos) << line;
    EXPECT_NE(line.find(R"("driver":"qemu-xhci","id":"usb","bus":"pci.0","addr":"0x1")"), line.npos) << line;
}

TEST(Machines, S390HasChannels) {
    const auto line = line_of("s390x", disk + interface + "<console type='pty'><target type='sclp'/></console>");
    EXPECT_NE(
        line.find(R"("driver":"virtio-blk-ccw","drive":"libvirt-1-format","id":"virtio-disk0","devno":"fe.0.0000")"),
        line.npos)
        << line;
    EXPECT_NE(line.find(R"("driver":"virtio-net-ccw","netdev":"hostnet0","id":"net0","devno":"fe.0.0001")"), line.npos)
        << line;
    EXPECT_NE(line.find(R"("driver":"sclpconsole","chardev":"charconsole0")"), line.npos) << line;
    EXPECT_EQ(line.find("\"addr\""), line.npos) << line;
}

TEST(Machines, S390NamesItsPciDevicesToTheFirmware) {
    const auto card = [](const std::string& address) {
        return "<interface type='user'><mac address='52:54:00:00:00:01'/><model type='virtio'/>" + address +
               "</interface>";
    };
    const auto line = line_of("s390x", card("<address type='pci'/>") +
                                           card("<address type='pci' bus='0' slot='3'><zpci uid='0x19' fid='0x1f'/>"
                                                "</address>"));
    EXPECT_NE(line.find(R"({"driver":"zpci","uid":25,"fid":31,"target":"net1","id":"zpci25"})"), line.npos) << line;
    EXPECT_NE(line.find(R"({"driver":"zpci","uid":1,"fid":0,"target":"net0","id":"zpci1"})"), line.npos) << line;
    const auto channel = line_of("s390x",
                                 "<hostdev mode='subsystem' type='mdev' model='vfio-ccw'><source><address "
                                 "uuid='9063cba3-ecef-47b6-abcf-3fef4fdcad85'/></source><address type='ccw' "
                                 "cssid='0xfe' ssid='0x0' devno='0x0000'/></hostdev><input type='keyboard'/>");
    EXPECT_NE(channel.find(R"("id":"hostdev0","devno":"fe.0.0000")"), channel.npos) << channel;
    EXPECT_NE(channel.find(R"({"driver":"virtio-keyboard-ccw","id":"input0","devno":"fe.0.0001"})"), channel.npos);
    EXPECT_NE(channel.find(R"("id":"balloon0","devno":"fe.0.0002")"), channel.npos);
}

TEST(Machines, OfNoKnownFamilyAreRefusedByName) {
    EXPECT_NE(refusal(definition("ubuntu", disk)).find("no machine 'ubuntu'"), std::string::npos);
    EXPECT_EQ(refusal(definition("pc-q35-rhel9.0.0", disk)), "");
}

TEST(Machines, DefaultsAreThoseThatLibvirtWrites) {
    EXPECT_NE(line_of("aarch64", disk).find("gic-version=2"), std::string::npos);
    const auto typed = line_of("ppc64", "<graphics type='vnc'/>");
    EXPECT_LT(typed.find("usb-kbd"), typed.find("usb-mouse"));
    EXPECT_EQ(line_of("ppc64", "").find("usb-kbd"), std::string::npos);
}

TEST(Addresses, APlaceThatTheBusHasNotIsRefused) {
    const auto placed = [](const std::string& bus, const std::string& place) {
        return refusal(definition("pc", "<disk><source file='/a'/><target dev='sda' bus='" + bus +
                                            "'/><address type='drive' controller='0' " + place + "/></disk>"));
    };
    EXPECT_EQ(placed("sata", "bus='0' unit='5'"), "");
    EXPECT_NE(placed("sata", "bus='0' unit='6'").find("units 0 to 5"), std::string::npos);
    EXPECT_NE(placed("sata", "bus='1' unit='0'").find("bus 1"), std::string::npos);
    EXPECT_EQ(placed("ide", "bus='1' unit='1'"), "");
    EXPECT_NE(placed("ide", "bus='0' unit='2'"), "");
    EXPECT_NE(placed("ide", "bus='0' target='1' unit='0'").find("target 1"), std::string::npos);
    EXPECT_NE(placed("scsi", "bus='1' unit='0'"), "");
    EXPECT_NE(placed("virtio", "bus='0' unit='0'").find("<address>"), std::string::npos);
    const auto plugged = [](const std::string& port) {
        return refusal(definition("q35",
                                  "<controller type='usb' model='qemu-xhci' ports='15'/><hub type='usb'><address "
                                  "type='usb' bus='0' port='1'/></hub><input type='tablet' bus='usb'><address "
                                  "type='usb' bus='0' port='" +
                                      port + "'/></input>"));
    };
    EXPECT_EQ(plugged("15"), "");
    EXPECT_NE(plugged("16").find("ports 1 to 15"), std::string::npos);
    EXPECT_EQ(plugged("1.8"), "");
    EXPECT_NE(plugged("1.9").find("ports 1 to 8"), std::string::npos);
    EXPECT_NE(plugged("0"), "");
}

TEST(Controllers, AreInTheOrderOfTheirNumbers) {
    const auto config = whole(definition("q35", "<controller type='pci' index='2' model='pcie-root-port'/>"));
    std::vector<unsigned> order;
    for (const auto& controller : config.devices.controllers)
        if (controller.type == ControllerType::pci) order.push_back(*controller.index);
    EXPECT_TRUE(std::is_sorted(order.begin(), order.end())) << testing::PrintToString(order);
}

// ---- details that no definition of the corpus shows on this emulator

TEST(Details, LimitsAreFiltersAndGroupsAreMadeOnce) {
    const auto limited = [](const char* name) {
        return fmt::format(
            "<disk><source file='/{0}'/><target dev='{0}' bus='virtio'/><iotune><total_iops_sec>9</total_iops_sec>"
            "<group_name>both</group_name></iotune></disk>",
            name);
    };
    const auto line = one_a_line(standalone_command(whole(definition("q35", limited("vda") + limited("vdb"))),
                                                    known_capabilities("x86_64"), false));
    const std::string group = R"({"qom-type":"throttle-group","id":"throttle-group-both","limits":{"iops-total":9}})";
    ASSERT_NE(line.find(group), line.npos) << line;
    EXPECT_EQ(line.find(group, line.find(group) + 1), line.npos) << "made twice";
    EXPECT_NE(
        line.find(
            R"({"driver":"throttle","node-name":"libvirt-2-throttle","throttle-group":"throttle-group-both","file":"libvirt-2-format")"),
        line.npos);
    EXPECT_NE(line.find(R"("drive":"libvirt-2-throttle")"), line.npos);
}

TEST(Details, PortsAreForwardedOneByOne) {
    const auto line = one_a_line(standalone_command(
        whole(definition(
            "q35",
            "<interface type='user'><mac address='52:54:00:00:00:01'/><portForward proto='tcp' address='127.0.0.1'>"
            "<range start='2000' end='2003' to='22'/><range start='2001' exclude='yes'/></portForward></interface>")),
        known_capabilities("x86_64"), false));
    EXPECT_NE(
        line.find(
            R"("hostfwd":[{"str":"tcp:127.0.0.1:2000-:22"},{"str":"tcp:127.0.0.1:2002-:24"},{"str":"tcp:127.0.0.1:2003-:25"}])"),
        line.npos)
        << line;
}

}  // namespace
}  // namespace virtbus::qemu
