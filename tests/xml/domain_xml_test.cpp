// SPDX-License-Identifier: LGPL-2.1-or-later
// What the model says of a definition, what is kept and what is hidden.
#include <fmt/format.h>

#include <set>

#include "support.hpp"

namespace virtbus::xml {
namespace {

// ---- reading

TEST(Domain, IsRead) {
    const auto config = parse_domain(definition("windows-11")).config;
    EXPECT_EQ(config.type, "kvm");
    EXPECT_EQ(config.memory, 1024ULL << 20);
    EXPECT_EQ(config.os.firmware, "efi");
    ASSERT_EQ(config.os.firmware_features.size(), 2U);
    EXPECT_TRUE(config.os.firmware_features[1].enabled);
    EXPECT_EQ(config.features->hyperv->spinlocks->retries, 8191U);
    EXPECT_FALSE(config.features->vmport->on());
    ASSERT_EQ(config.devices.disks.size(), 2U);
    EXPECT_EQ(config.devices.disks[0].driver->cache, "none");
    EXPECT_EQ(config.devices.disks[1].device, DiskDevice::cdrom);
    EXPECT_EQ(config.devices.disks[1].info.boot_order, 2U);
    EXPECT_EQ(config.devices.graphics[0].type, GraphicsType::spice);
    EXPECT_EQ(config.devices.redirdevs.size(), 2U);
    EXPECT_EQ(config.cpu->topology->threads, 2U);
}

TEST(Domain, AbsentIsNotDefault) {
    const auto config = parse("");
    EXPECT_FALSE(config.vcpu);
    EXPECT_FALSE(config.current_memory);
    EXPECT_FALSE(config.features);
    EXPECT_EQ(config.on_poweroff, "");
    EXPECT_FALSE(parse("<features><pmu/></features>").features->pmu->state);
    EXPECT_TRUE(parse("<features><pmu/></features>").features->pmu->on());
}

TEST(Domain, Addresses) {
    const auto disk = [](const std::string& address) {
        return parse("", "<disk><target dev='vda'/>" + address + "</disk>").devices.disks.at(0);
    };
    const auto pci = disk("<address type='pci' domain='0x1' bus='12' slot='0x1f' function='7' multifunction='on'/>");
    ASSERT_TRUE(pci.info.address_as<PciAddress>());
    EXPECT_EQ(pci.info.address_as<PciAddress>()->bus, 12U);
    EXPECT_EQ(pci.info.address_as<PciAddress>()->slot, 31U);
    EXPECT_EQ(pci.info.address_as<PciAddress>()->multifunction, true);
    EXPECT_FALSE(disk("<address type='pci'/>").info.address_as<PciAddress>()->assigned());
    EXPECT_EQ(disk("<address type='drive' controller='2' unit='3'/>").info.address_as<DriveAddress>()->controller, 2U);
    EXPECT_EQ(disk("<address type='usb' bus='0' port='1.2'/>").info.address_as<UsbAddress>()->port, "1.2");
    EXPECT_FALSE(disk("").info.address);
}

TEST(Domain, AnAddressToBeChosenStaysOne) {
    const auto config = parse("", "<disk><target dev='vda'/><address type='pci' multifunction='on'/></disk>");
    EXPECT_PRED2(contains, format_domain(config), "<address type='pci' multifunction='on'/>");
}

TEST(Domain, BlanksInValuesSurvive) {
    const auto text = "a&#10;b&#9;c&#13;d  e";
    const auto config = parse(std::string{"<description>"} + text + "</description>",
                              std::string{"<graphics type='sdl' xauth='"} + text + "'/>");
    EXPECT_EQ(config.description, "a\nb\tc\rd  e");
    EXPECT_EQ(config.devices.graphics[0].xauth, "a\nb\tc\rd  e");
    EXPECT_TRUE(parse_domain(format_domain(config)).config == config);
}

TEST(Domain, HostAddressIsToldByItsAttributes) {
    const auto source = [](const std::string& type, const std::string& address) {
        return *parse("", "<hostdev type='" + type + "'><source><address " + address + "/></source></hostdev>")
                    .devices.hostdevs.at(0)
                    .source.address;
    };
    EXPECT_EQ(std::get<HostPciAddress>(source("pci", "bus='6' slot='2' function='1'")).slot, 2U);
    EXPECT_EQ(std::get<HostUsbAddress>(source("usb", "bus='1' device='4'")).device, 4U);
    EXPECT_EQ(std::get<HostScsiAddress>(source("scsi", "bus='0' target='1' unit='2'")).unit, 2U);
    EXPECT_EQ(std::get<HostMdevAddress>(source("mdev", "uuid='C2177883F1BB47F0914D32A22E3A8804'")).uuid,
              "c2177883-f1bb-47f0-914d-32a22e3a8804");
}

TEST(Domain, Units) {
    const auto memory = [](const std::string& unit) {
        return *parse("<currentMemory unit='" + unit + "'>3</currentMemory>").current_memory;
    };
    // Rounded up to the KiB it is written in.
    EXPECT_EQ(memory("b"), 1024U);
    EXPECT_EQ(memory("bytes"), 1024U);
    EXPECT_EQ(memory("KB"), 3072U);
    EXPECT_EQ(memory("k"), 3072U);
    EXPECT_EQ(memory("KiB"), 3072U);
    EXPECT_EQ(memory("M"), 3ULL << 20);
    EXPECT_EQ(memory("GB"), 3'000'000'512U);
    EXPECT_EQ(memory("T"), 3ULL << 40);
    EXPECT_EQ(memory("E"), 3ULL << 60);
    EXPECT_EQ(*parse("<currentMemory>3</currentMemory>").current_memory, 3072U);
    EXPECT_PRED2(contains, format_domain(parse("<currentMemory unit='b'>1025</currentMemory>")),
                 "<currentMemory unit='KiB'>2</currentMemory>");
}

TEST(Domain, SetsOfCpus) {
    const auto set = [](const std::string& text) {
        return parse("<vcpu cpuset='" + text + "'>1</vcpu>").vcpu_cpuset->numbers;
    };
    EXPECT_EQ(set("0-3,^2"), (std::vector<unsigned>{0, 1, 3}));
    EXPECT_EQ(set(" 7 , 1-2"), (std::vector<unsigned>{1, 2, 7}));
    EXPECT_PRED2(contains, format_domain(parse("<vcpu cpuset='3,2,1,9,0'>1</vcpu>")), "cpuset='0-3,9'");
}

TEST(Domain, UuidsAndMacsAreNormalised) {
    EXPECT_EQ(parse("<uuid>1F3A52C14D0E9A7B0E5F6C00AB12CD34</uuid>").uuid, "1f3a52c1-4d0e-9a7b-0e5f-6c00ab12cd34");
    EXPECT_EQ(parse("", "<interface type='user'><mac address='52:54:0:A:b:CC'/></interface>").devices.interfaces[0].mac,
              "52:54:00:0a:0b:cc");
}

TEST(Domain, MetadataIsVerbatim) {
    const auto config = parse("<metadata><a:x xmlns:a='urn:a' k=\"1\"><a:y> text </a:y><!--c--></a:x></metadata>");
    ASSERT_EQ(config.metadata.size(), 1U);
    EXPECT_EQ(config.metadata[0], "<a:x xmlns:a=\"urn:a\" k=\"1\"><a:y> text </a:y><!--c--></a:x>");
    const auto inherited =
        parse_domain("<domain type='qemu' xmlns:a='urn:a'><name>x</name><os/><metadata><a:x/></metadata></domain>");
    EXPECT_EQ(inherited.config.metadata.at(0), "<a:x xmlns:a=\"urn:a\"/>");
}

// ---- what is not known

TEST(Unknown, IsKeptAndListed) {
    const auto parsed = parse_domain(
        domain("<gizmo n='1'><part/></gizmo>", "<disk colour='red'><target dev='vda' edge='sharp'/></disk>"));
    EXPECT_EQ(parsed.unknown,
              (std::vector<std::string>{"/domain/gizmo (line 5)", "/domain/devices/disk/@colour (line 7)",
                                        "/domain/devices/disk/target/@edge (line 7)"}));
    const auto text = format_domain(parsed.config);
    EXPECT_PRED2(contains, text, "  <gizmo n=\"1\"><part/></gizmo>\n</domain>");
    EXPECT_PRED2(contains, text, "<disk type='file' device='disk' colour='red'>");
    EXPECT_PRED2(contains, text, "<target dev='vda' edge='sharp'/>");
    EXPECT_EQ(abi_difference(parsed.config, parse("", "<disk><target dev='vda'/></disk>")), std::nullopt);
}

TEST(Unknown, IsRefusedOnDemand) {
    EXPECT_EQ(refusal([] { require_known({}); }).message, "");
    EXPECT_REFUSED(refusal([] { require_known(parse_domain(domain("<gizmo/>")).unknown); }), Code::invalid_xml,
                   "/domain/gizmo (line 5)");
}

TEST(Unknown, CopiesAreDeep) {
    const auto first = parse("<gizmo/>");
    auto second = first;
    EXPECT_TRUE(first == second);
    second.unknown.add({UnknownItem::Kind::attribute, "", "a", "b"});
    EXPECT_FALSE(first == second);
    EXPECT_EQ(first.unknown.items().size(), 1U);
}

TEST(Qemu, NamespaceUnderAnyPrefix) {
    const auto config = parse_domain(definition("other-prefix")).config;
    ASSERT_TRUE(config.qemu_commandline);
    EXPECT_EQ(config.qemu_commandline->args, std::vector<std::string>{"-foo"});
    EXPECT_PRED2(contains, format_domain(config),
                 "<domain type='qemu' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>");
    EXPECT_FALSE(contains(format_domain(parse("")), "xmlns"));
    // Without the namespace it is some unknown element.
    EXPECT_EQ(parse_domain(domain("<commandline><arg value='x'/></commandline>")).unknown.size(), 1U);
}

// ---- secrets, live parts

TEST(Secrets, AreWrittenOnlyOnDemand) {
    const auto config = parse("", "<graphics type='vnc' passwd='geheim'/>");
    EXPECT_TRUE(has_secrets(config));
    EXPECT_FALSE(contains(format_domain(config), "geheim"));
    EXPECT_PRED2(contains, format_domain(config, {.secure = true}), "passwd='geheim'");
    EXPECT_TRUE(has_secrets(parse("", "<graphics type='vnc' passwd=''/>")));
    EXPECT_FALSE(has_secrets(parse("", "<graphics type='vnc'/>")));
    const auto cookies = parse_domain(definition("disks-network")).config;
    EXPECT_TRUE(has_secrets(cookies));
    EXPECT_FALSE(contains(format_domain(cookies), "s3cr3t"));
}

TEST(Live, PartsAreLeftOutOfADefinition) {
    auto config = parse("", R"(
        <disk><source file='/a' index='2'/><mirror type='file' job='copy'/><target dev='vda'/><alias name='virtio-disk0'/></disk>
        <disk><target dev='vdb'/><alias name='ua-mine'/></disk>
        <interface type='user'><target dev='vnet3'/></interface>
        <interface type='user'><target dev='mytap'/></interface>
        <serial type='pty'><source path='/dev/pts/3'/></serial>
        <serial type='unix'><source mode='bind' path='/run/s'/></serial>
        <console type='pty' tty='/dev/pts/3'><source path='/dev/pts/3'/></console>
        <channel type='unix'><target type='virtio' name='x' state='connected'/></channel>
        <graphics type='vnc' port='5900' autoport='yes'/><graphics type='vnc' port='5999' autoport='no'/>)");
    config.id = 7;
    const auto text = format_domain(config, {.inactive = true});
    for (const auto* gone : {"id='7'", "index='2'", "mirror", "virtio-disk0", "vnet3", "/dev/pts/3", "state=", "5900"})
        EXPECT_FALSE(contains(text, gone)) << gone;
    for (const auto* kept : {"ua-mine", "mytap", "/run/s", "port='-1' autoport='yes'", "port='5999'"})
        EXPECT_PRED2(contains, text, kept);
    EXPECT_PRED2(contains, format_domain(config), "<domain type='qemu' id='7'>");
}

TEST(Live, SocketsThatWereMadeForAMachineGoWithIt) {
    auto config = parse("", R"(
        <channel type='unix'><source mode='bind' path='/run/virtbus/qemu/4-c7a5fdbd-edaf-9455-926a-d65c16db1809/guest/channel0.sock'/>
            <target type='virtio' name='a'/><alias name='channel0'/></channel>
        <channel type='unix'><source mode='bind' path='/var/lib/libvirt/qemu/channel/target/domain-4-web/b'/>
            <target type='virtio' name='b'/></channel>
        <channel type='unix'><source mode='bind' path='/run/mine/guest/channel2.sock'/><target type='virtio' name='c'/>
            <alias name='channel2'/></channel>
        <channel type='unix'><source mode='connect' path='/run/libvirt/qemu/channel/d'/><target type='virtio' name='d'/></channel>
        <graphics type='vnc' socket='/var/lib/libvirt/qemu/domain-3-web/vnc.sock'>
            <listen type='socket' socket='/var/lib/libvirt/qemu/domain-3-web/vnc.sock'/></graphics>
        <graphics type='spice'><listen type='socket' socket='/run/mine/spice.sock'/></graphics>)");
    config.uuid = "c7a5fdbd-edaf-9455-926a-d65c16db1809";
    const auto text = format_domain(config, {.inactive = true});
    for (const auto* gone : {"/guest/channel0.sock", "target/domain-4-web", "vnc.sock"})
        EXPECT_FALSE(contains(text, gone)) << gone;
    for (const auto* kept : {"/run/mine/guest/channel2.sock", "/run/libvirt/qemu/channel/d", "/run/mine/spice.sock"})
        EXPECT_PRED2(contains, text, kept);
}

// ---- devices on their own

TEST(Device, IsReadAndWritten) {
    const auto device =
        parse_device("<interface type='bridge'><source bridge='br0'/><mac address='52:54:00:00:00:01'/></interface>");
    ASSERT_TRUE(std::holds_alternative<Interface>(device));
    EXPECT_EQ(std::get<Interface>(device).source->bridge, "br0");
    EXPECT_EQ(element_name(device), "interface");
    EXPECT_EQ(
        format_device(device),
        "<interface type='bridge'>\n  <mac address='52:54:00:00:00:01'/>\n  <source bridge='br0'/>\n</interface>\n");
    std::vector<std::string> unknown;
    parse_device("<hub type='usb' x='1'/>", &unknown);
    EXPECT_EQ(unknown, std::vector<std::string>{"/hub/@x (line 1)"});
    EXPECT_REFUSED(refusal([] { parse_device("<toaster/>"); }), Code::invalid_xml, "<toaster> is not a device");
}

TEST(Device, EveryKindOfTheCorpus) {
    std::set<std::size_t> kinds;
    for (const auto& name : corpus()) {
        const auto devices = parse_domain(definition(name)).config.devices;
        const auto each = [&](const auto& list) {
            for (const auto& device : list) {
                const Device whole{device};
                kinds.insert(whole.index());
                EXPECT_TRUE(parse_device(format_device(whole, {.secure = true})) == whole)
                    << name << format_device(whole);
            }
        };
        const auto& d = devices;
        each(d.disks), each(d.controllers), each(d.leases), each(d.filesystems), each(d.interfaces), each(d.smartcards),
            each(d.serials);
        each(d.parallels), each(d.consoles), each(d.channels), each(d.inputs), each(d.tpms), each(d.graphics),
            each(d.sounds);
        each(d.audios), each(d.videos), each(d.hostdevs), each(d.redirdevs), each(d.hubs), each(d.watchdogs),
            each(d.rngs);
        each(d.panics), each(d.shmems), each(d.memories), each(d.cryptos), each(d.iommus);
        const auto maybe = [&](const auto& one) {
            if (one) each(std::vector{*one});
        };
        maybe(d.redirfilter), maybe(d.memballoon), maybe(d.nvram), maybe(d.vsock), maybe(d.pstore);
    }
    EXPECT_EQ(kinds.size(), std::variant_size_v<AnyDevice>);
}

}  // namespace
}  // namespace virtbus::xml
