// SPDX-License-Identifier: LGPL-2.1-or-later
// What is completed without a driver, compared as the guest sees it, and told of a definition that does not parse.
#include "support.hpp"

namespace virtbus::xml {
namespace {

// ---- completing

TEST(Complete, Identity) {
    const auto first = complete(""), second = complete("<genid/>");
    EXPECT_EQ(first.uuid.size(), 36U);
    EXPECT_EQ(first.uuid[14], '4');
    EXPECT_NE(first.uuid, second.uuid);
    EXPECT_EQ(second.genid->uuid.size(), 36U);
    EXPECT_EQ(complete("<uuid>1f3a52c1-4d0e-9a7b-0e5f-6c00ab12cd34</uuid>").uuid,
              "1f3a52c1-4d0e-9a7b-0e5f-6c00ab12cd34");
    EXPECT_REFUSED(refusal([] { complete("<title>a\nb</title>"); }), Code::invalid_xml, "one line");
}

TEST(Complete, Names) {
    const auto refused = [](const std::string& name) { return refusal([&] { require_name(name); }); };
    EXPECT_EQ(refused("web-1.example (old)").message, "");
    EXPECT_EQ(refused(std::string(255, 'x')).message, "");
    EXPECT_EQ(refused("\xc3\xa4").message, "");
    EXPECT_REFUSED(refused(""), Code::invalid_xml, "empty");
    EXPECT_REFUSED(refused(std::string(300, 'x')), Code::invalid_xml, "300 bytes; at most 255");
    EXPECT_REFUSED(refused("a/b"), Code::invalid_xml, "'/'");
    EXPECT_REFUSED(refused("."), Code::invalid_xml, "'..'");
    EXPECT_REFUSED(refused(".."), Code::invalid_xml, "'..'");
    EXPECT_REFUSED(refused("a\nb"), Code::invalid_xml, "control");
    EXPECT_REFUSED(refused("a\x7f"), Code::invalid_xml, "control");
    auto config = parse("");
    config.name = "a/b";
    EXPECT_REFUSED(refusal([&] { complete_generic(config); }), Code::invalid_xml, "name");
}

TEST(Complete, Memory) {
    EXPECT_EQ(complete("").current_memory, 1024U << 10);
    EXPECT_EQ(complete("<currentMemory>512</currentMemory>").current_memory, 512U << 10);
    EXPECT_EQ(complete("<currentMemory>4096</currentMemory>").current_memory, 1024U << 10);
    EXPECT_EQ(complete("<cpu><numa><cell memory='4' unit='MiB'/><cell memory='2' unit='MiB'/></numa></cpu>").memory,
              6U << 20);
    EXPECT_REFUSED(refusal([] { complete("<maxMemory slots='1'>1</maxMemory>"); }), Code::invalid_xml, "<maxMemory>");
    auto config = parse("");
    config.memory.reset();
    EXPECT_REFUSED(refusal([&] { complete_generic(config); }), Code::invalid_xml, "<memory> is missing");
    config.memory = 0;
    EXPECT_REFUSED(refusal([&] { complete_generic(config); }), Code::invalid_xml, "zero");
    EXPECT_REFUSED(refusal([] { complete("", "<memory model='dimm'><target><size>512</size></target></memory>"); }),
                   Code::invalid_xml, "<maxMemory>");
}

TEST(Complete, TheListOfCpusTellsHowManyThereAre) {
    const auto listed = [](const char* second) {
        return complete(
            std::string{"<vcpu current='2'>2</vcpu><vcpus><vcpu id='0' enabled='yes'/><vcpu id='1' enabled='"} +
            second + "' hotpluggable='yes'/></vcpus>");
    };
    EXPECT_EQ(listed("no").vcpu_current, 1U);
    EXPECT_FALSE(listed("yes").vcpu_current);
    EXPECT_REFUSED(refusal([] { complete("<vcpus><vcpu id='0' enabled='no'/></vcpus>"); }), Code::invalid_xml,
                   "vCPU 0");
}

TEST(Complete, WhatSaysNothingIsLeftOut) {
    const auto drives = complete("",
                                 "<disk device='cdrom'><source file=''/><target dev='sda'/></disk>"
                                 "<disk type='block' device='cdrom'><source dev=''/><target dev='sdb'/></disk>"
                                 "<disk device='cdrom'><source startupPolicy='optional'/><target dev='sdc'/></disk>"
                                 "<disk><source file='/a'/><target dev='sdd'/></disk>")
                            .devices.disks;
    EXPECT_FALSE(drives[0].source);
    EXPECT_FALSE(drives[1].source);
    EXPECT_TRUE(drives[2].source);
    EXPECT_TRUE(drives[3].source);
    const auto filter =
        complete("", "<redirfilter><usbdev class='-1' vendor='0x12' product='-1' allow='no'/></redirfilter>")
            .devices.redirfilter->usbdevs.front();
    EXPECT_FALSE(filter.device_class);
    EXPECT_EQ(filter.vendor, 0x12U);
    EXPECT_FALSE(filter.product);
}

TEST(Complete, AnAliasThatIsNoneIsNotKept) {
    const auto alias = [](const std::string& name) {
        return complete("", "<input type='tablet'><alias name='" + name + "'/></input>").devices.inputs[0].info.alias;
    };
    EXPECT_EQ(alias("ua-my_Tablet-1"), "ua-my_Tablet-1");
    EXPECT_EQ(alias("ua-my tablet"), "");
    EXPECT_EQ(alias("ua-a,b"), "");
}

TEST(Complete, Cpus) {
    EXPECT_EQ(complete("").vcpu, 1U);
    EXPECT_EQ(complete("").vcpu_placement, "static");
    EXPECT_FALSE(complete("<vcpu current='2'>2</vcpu>").vcpu_current);
    EXPECT_REFUSED(refusal([] { complete("<vcpu current='3'>2</vcpu>"); }), Code::invalid_xml, "current='3'");
    EXPECT_REFUSED(refusal([] { complete("<vcpu>4</vcpu><cpu><topology sockets='1' cores='1' threads='3'/></cpu>"); }),
                   Code::invalid_xml, "<topology> has 3 CPUs, but <vcpu> says 4");
    EXPECT_REFUSED(
        refusal([] { complete("<cpu><numa><cell cpus='0' memory='1'/><cell cpus='0' memory='1'/></numa></cpu>"); }),
        Code::invalid_xml, "two cells");
    EXPECT_REFUSED(refusal([] { complete("<cpu><numa><cell cpus='1' memory='1'/></numa></cpu>"); }), Code::invalid_xml,
                   "vCPU 1");
    EXPECT_EQ(complete("<cpu><model>qemu64</model></cpu>").cpu->match, "exact");
}

TEST(Complete, Devices) {
    const auto config = complete("", R"(
        <disk device='cdrom'><target dev='hda'/></disk><disk><target dev='vda'/></disk><disk><target dev='sda'/></disk>
        <interface type='user'/><interface type='user'/>
        <serial type='pty'/><serial type='tcp'><source mode='bind' service='1'/></serial>
        <graphics type='vnc'/><graphics type='spice' listen='0.0.0.0'/><graphics type='vnc' socket='/s'/>)");
    const auto& d = config.devices;
    EXPECT_EQ(d.disks[0].target.bus, "ide");
    EXPECT_TRUE(d.disks[0].readonly);
    EXPECT_EQ(d.disks[1].target.bus, "virtio");
    EXPECT_EQ(d.disks[2].target.bus, "scsi");
    EXPECT_TRUE(d.interfaces[0].mac.starts_with("52:54:00:"));
    EXPECT_NE(d.interfaces[0].mac, d.interfaces[1].mac);
    EXPECT_EQ(d.serials[1].target->port, 1U);
    EXPECT_EQ(d.serials[1].backend.protocol, "raw");
    ASSERT_EQ(d.consoles.size(), 1U);
    EXPECT_EQ(d.consoles[0].target->type, "serial");
    EXPECT_EQ(d.graphics[0].port, -1);
    EXPECT_EQ(d.graphics[0].autoport, true);
    EXPECT_EQ(d.graphics[0].listens.at(0).type, "address");
    EXPECT_EQ(d.graphics[1].listens.at(0).address, "0.0.0.0");
    EXPECT_EQ(d.graphics[2].listens.at(0).socket, "/s");
    EXPECT_EQ(config.os.boot_devices, std::vector<std::string>{"hd"});
    EXPECT_EQ(config.on_reboot, "restart");
    EXPECT_EQ(config.clock->offset, "utc");
}

TEST(Complete, ConsoleAndSerialArePaired) {
    const auto config = complete("", "<console type='pty'/>");
    ASSERT_EQ(config.devices.serials.size(), 1U);
    EXPECT_EQ(config.devices.serials[0].type, ChardevType::pty);
    EXPECT_EQ(complete("", "<console type='pty'><target type='virtio'/></console>").devices.serials.size(), 0U);
    const auto numbered =
        complete("", "<serial type='null'/><serial type='null'><target port='4'/></serial><serial type='null'/>");
    EXPECT_EQ(numbered.devices.serials[0].target->port, 5U);
    EXPECT_EQ(numbered.devices.serials[2].target->port, 6U);
}

TEST(Complete, Clashes) {
    const auto refused = [](const std::string& devices, const std::string& elements = "") {
        return refusal([&] { complete(elements, devices); });
    };
    EXPECT_REFUSED(refused("<disk><target dev='vda'/></disk><disk><target dev='vda'/></disk>"), Code::invalid_xml,
                   "dev='vda' occurs twice");
    EXPECT_REFUSED(refused("<controller type='usb' index='0'/><controller type='usb' index='0'/>"), Code::invalid_xml,
                   "index 0");
    EXPECT_REFUSED(
        refused(
            "<disk><target dev='vda'/><boot order='1'/></disk><interface type='user'><boot order='1'/></interface>"),
        Code::invalid_xml, "boot order 1");
    EXPECT_REFUSED(refused("<disk><target dev='vda'/><alias name='ua-x'/></disk><interface type='user'><alias "
                           "name='ua-x'/></interface>"),
                   Code::invalid_xml, "ua-x");
    auto config = parse("", "<disk><target dev='vda'/><boot order='1'/></disk>");
    config.os.boot_devices = {"hd"};
    EXPECT_REFUSED(refusal([&] { complete_generic(config); }), Code::invalid_xml, "exclude each other");
}

TEST(Complete, DisksOfABusStandInTheOrderOfTheirTargets) {
    std::string disks;
    for (const char* dev : {"vdb", "sdc", "vdaa", "sda", "vda"})
        disks += std::string{"<disk><target dev='"} + dev + "'/></disk>";
    auto config = parse("", disks);
    complete_generic(config);
    std::string order;
    for (const auto& disk : config.devices.disks) order += disk.target.dev + " ";
    EXPECT_EQ(order, "vda vdb vdaa sda sdc ");
}

TEST(Complete, OnlyThreadsThatAreThereAreTunedEachOnce) {
    const auto why = [](const std::string& tune) {
        auto config =
            parse("<vcpu>2</vcpu><iothreads>2</iothreads><iothreadids><iothread id='3'/></iothreadids>" + tune, "");
        return refusal([&] { complete_generic(config); }).message;
    };
    EXPECT_EQ(why("<cputune><iothreadsched iothreads='1,3' scheduler='batch'/></cputune>"), "");
    EXPECT_EQ(why("<cputune><iothreadsched iothreads='1-3' scheduler='batch'/></cputune>"),
              "<iothreadsched>: there is no thread 2");
    EXPECT_EQ(
        why("<cputune><vcpusched vcpus='0-1' scheduler='batch'/><vcpusched vcpus='1' scheduler='idle'/></cputune>"),
        "<vcpusched>: thread 1 is named twice");
    EXPECT_EQ(why("<cputune><vcpupin vcpu='2' cpuset='0'/></cputune>"), "<vcpupin>: there is no thread 2");
    EXPECT_EQ(why("<cputune><iothreadpin iothread='3' cpuset='0'/><iothreadpin iothread='3' cpuset='1'/></cputune>"),
              "<iothreadpin>: thread 3 is named twice");
    EXPECT_EQ(why("<numatune><memnode cellid='0' mode='strict' nodeset='0'/>"
                  "<memnode cellid='0' mode='strict' nodeset='1'/></numatune>"),
              "<memnode>: cell 0 is named twice");
    EXPECT_EQ(
        why("<blkiotune><device><path>/dev/sda</path></device><device><path>/dev/sda</path></device></blkiotune>"),
        "<blkiotune>: '/dev/sda' is named twice");
}

// ---- comparing

TEST(Abi, SeesWhatTheGuestSees) {
    const std::string disk = "<disk><source file='/a'/><target dev='vda' bus='virtio'/><serial>A</serial></disk>";
    const auto base = parse("<vcpu>2</vcpu>", disk);
    const auto changed = [&](const std::string& elements, const std::string& devices) {
        return abi_difference(base, parse(elements, devices)).value_or("");
    };
    EXPECT_EQ(changed("<vcpu>2</vcpu>", disk), "");
    EXPECT_EQ(changed("<vcpu>3</vcpu>", disk), "vcpu: '2' became '3'");
    EXPECT_EQ(changed("<vcpu>2</vcpu>", ""), "devices/disk: 1 became 0");
    EXPECT_EQ(
        changed("<vcpu>2</vcpu>", "<disk><source file='/b'/><target dev='vda' bus='virtio'/><serial>A</serial></disk>"),
        "");
    EXPECT_EQ(
        changed("<vcpu>2</vcpu>", "<disk><source file='/a'/><target dev='vdb' bus='virtio'/><serial>A</serial></disk>"),
        "devices/disk[1]/target/@dev: 'vda' became 'vdb'");
    EXPECT_EQ(changed("<vcpu>2</vcpu>", "<disk><source file='/a'/><target dev='vda' bus='virtio'/></disk>"),
              "devices/disk[1]/serial: 'A' was removed");
    EXPECT_EQ(
        changed("<vcpu>2</vcpu><title>t</title><gizmo/><on_crash>destroy</on_crash><currentMemory>1</currentMemory>",
                disk),
        "");
    EXPECT_EQ(changed("<vcpu>2</vcpu><features><acpi/></features>", disk), "features: 0 became 1");
}

TEST(Abi, AnUnassignedAddressFitsAny) {
    const auto disk = [](const std::string& address) {
        return parse("", "<disk><target dev='vda'/>" + address + "</disk>");
    };
    const auto at1 = disk("<address type='pci' bus='1' slot='0'/>");
    EXPECT_EQ(abi_difference(at1, disk("")), std::nullopt);
    EXPECT_EQ(abi_difference(at1, disk("<address type='pci' bus='2' slot='0'/>")).value_or(""),
              "devices/disk[1]/address/@bus: '0x01' became '0x02'");
    EXPECT_EQ(abi_difference(at1, disk("<address type='drive'/>")).value_or(""),
              "devices/disk[1]/address/@type: 'pci' became 'drive'");
}

// ---- looking without understanding

TEST(Peek, TellsTheNameOfADefinitionThatDoesNotParse) {
    const auto text = domain("<uuid>1F3A52C14D0E9A7B0E5F6C00AB12CD34</uuid><title>T</title><vcpu>lots</vcpu>");
    EXPECT_EQ(parse_refusal(text).code, Code::invalid_xml);
    const auto identity = peek_identity(text);
    ASSERT_TRUE(identity);
    EXPECT_EQ(identity->name, "d");
    EXPECT_EQ(identity->type, "qemu");
    EXPECT_EQ(identity->title, "T");
    EXPECT_EQ(identity->uuid, "1f3a52c1-4d0e-9a7b-0e5f-6c00ab12cd34");
    EXPECT_FALSE(peek_identity("<domain"));
    EXPECT_FALSE(peek_identity("<network/>"));
}

}  // namespace
}  // namespace virtbus::xml
