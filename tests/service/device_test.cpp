// SPDX-License-Identifier: LGPL-2.1-or-later
// Devices that come, go and change: in the running domain, in its definition, in both.
#include "service/device_edit.hpp"

#include "service/xml/domain_xml.hpp"
#include "world.hpp"

namespace virtbus::tests {
namespace {

// ---- which device is meant

DomainConfig parsed(const std::string& devices) {
    return xml::parse_domain(
               "<domain type='test'><name>web</name><memory>1024</memory><os><type>hvm</type></os><devices>" + devices +
               "</devices></domain>")
        .config;
}

const std::string two_cards =
    "<interface type='user'><mac address='52:54:00:00:00:01'/><model type='virtio'/><alias name='net0'/>"
    "<address type='pci' bus='0x01' slot='0x00'/></interface>"
    "<interface type='user'><mac address='52:54:00:00:00:02'/><model type='virtio'/><alias name='net1'/>"
    "<address type='pci' bus='0x02' slot='0x00'/></interface>";

std::size_t found(const DomainConfig& config, const std::string& wanted) {
    return find_device(config, xml::parse_device(wanted)).number;
}

TEST(DeviceEdit, EveryKindIsKeptWhereItsNumberSays) {
    auto config = parsed("");
    const std::vector<std::string> all{"<disk><target dev='vda'/></disk>",
                                       "<controller type='scsi' index='0'/>",
                                       "<filesystem><target dir='a'/></filesystem>",
                                       "<interface type='user'/>",
                                       "<serial type='pty'/>",
                                       "<parallel type='null'/>",
                                       "<console type='pty'/>",
                                       "<channel type='unix'><target type='virtio' name='c'/></channel>",
                                       "<input type='tablet'/>",
                                       "<sound model='ich9'/>",
                                       "<video><model type='vga'/></video>",
                                       "<redirdev bus='usb' type='tcp'/>",
                                       "<hub type='usb'/>",
                                       "<watchdog model='i6300esb'/>",
                                       "<memballoon model='virtio'/>",
                                       "<rng model='virtio'><backend model='random'/></rng>",
                                       "<panic model='isa'/>",
                                       "<shmem name='s'/>",
                                       "<memory model='dimm'><target><size>1024</size></target></memory>",
                                       "<iommu model='intel'/>",
                                       "<vsock model='virtio'/>",
                                       "<graphics type='vnc'/>",
                                       "<tpm model='tpm-tis'><backend type='emulator'/></tpm>"};
    for (const auto& text : all) {
        const auto device = xml::parse_device(text);
        const auto number = insert_device(config, device);
        EXPECT_EQ(device_at(config.devices, device.index(), number), device) << text;
        EXPECT_EQ(find_device(config, device).number, number) << text;
    }
    for (const auto& text : all) {
        const auto place = find_device(config, xml::parse_device(text));
        remove_device(config, place.kind, place.number);
    }
    EXPECT_TRUE(config.devices == Devices{});
}

TEST(DeviceEdit, ADeviceIsMeantByItsNameItsAddressOrItsKey) {
    const auto config = parsed(two_cards + "<disk><target dev='vda'/></disk><disk><target dev='vdb'/></disk>");
    EXPECT_EQ(found(config, "<disk><target dev='vdb'/></disk>"), 1u);
    EXPECT_EQ(
        found(config, "<interface type='bridge'><mac address='52:54:00:00:00:02'/><source bridge='br0'/></interface>"),
        1u);
    EXPECT_EQ(found(config, "<interface type='user'><alias name='net1'/></interface>"), 1u);
    EXPECT_EQ(found(config, "<interface type='user'><address type='pci' bus='0x02' slot='0x00'/></interface>"), 1u);
    EXPECT_REFUSED(found(config, "<interface type='user'/>"), Code::invalid_args, "net0), interface");
    EXPECT_REFUSED(found(config, "<interface type='user'><mac address='52:54:00:00:00:03'/></interface>"),
                   Code::no_such_device, "52:54:00:00:00:03");
    EXPECT_REFUSED(found(config, "<disk><target dev='vdc'/></disk>"), Code::no_such_device, "disk 'vdc'");
    EXPECT_REFUSED(found(config,
                         "<interface type='user'><mac address='52:54:00:00:00:01'/>"
                         "<alias name='net1'/></interface>"),
                   Code::no_such_device, "net1");
}

TEST(DeviceEdit, NothingIsThereTwice) {
    auto config = parsed(two_cards +
                         "<disk><target dev='vda'/></disk><controller type='scsi' index='0'/>"
                         "<memballoon model='virtio'/>");
    const auto add = [&](const std::string& text) { (void)insert_device(config, xml::parse_device(text)); };
    EXPECT_REFUSED(add("<disk><target dev='vda'/></disk>"), Code::already_exists, "vda");
    EXPECT_REFUSED(add("<interface type='user'><mac address='52:54:00:00:00:01'/></interface>"), Code::already_exists,
                   "net0");
    EXPECT_REFUSED(add("<controller type='scsi' index='0'/>"), Code::already_exists, "scsi");
    EXPECT_REFUSED(add("<memballoon model='virtio'/>"), Code::already_exists, "memballoon");
    EXPECT_REFUSED(add("<rng model='virtio'><backend model='random'/><address type='pci' bus='1' slot='0'/></rng>"),
                   Code::unsupported_configuration, "net0");
}

TEST(DeviceEdit, DisksStandInTheOrderOfTheirBus) {
    auto config = parsed(
        "<disk><target dev='sda' bus='scsi'/></disk><disk><target dev='vdb' bus='virtio'/></disk>"
        "<disk><target dev='vdaa' bus='virtio'/></disk>");
    for (const auto* target : {"vda", "vdc", "vdab"})
        (void)insert_device(config,
                            xml::parse_device(std::string{"<disk><target dev='"} + target + "' bus='virtio'/></disk>"));
    std::string order;
    for (const auto& disk : config.devices.disks) order += disk.target.dev + ' ';
    EXPECT_EQ(order, "sda vda vdb vdc vdaa vdab ");
}

// ---- the verbs

constexpr auto live = ChangeScope::live, stored = ChangeScope::persistent, both = ChangeScope::both,
               current = ChangeScope::current;

class DeviceVerbs : public World {
protected:
    static std::string disk(const std::string& target, const std::string& more = "") {
        return "<disk type='file'><source file='/images/" + target + "'/><target dev='" + target + "' bus='virtio'/>" +
               more + "</disk>";
    }
    static std::string card(const std::string& digit) {
        return "<interface type='bridge'><mac address='52:54:00:00:00:0" + digit +
               "'/><source bridge='br0'/></interface>";
    }
    void attach(const std::string& device, ChangeScope scope) {
        finish(get("web")->attach_device(device, scope, false, caller));
    }
    void detach(const std::string& device, ChangeScope scope) {
        finish(get("web")->detach_device(device, scope, false, caller));
    }
    void update(const std::string& device, ChangeScope scope) {
        finish(get("web")->update_device(device, scope, false, caller));
    }
    bool runs_with(std::string_view text) { return get("web")->xml({}).find(text) != std::string::npos; }
    bool stored_with(std::string_view text) {
        return get("web")->xml({.inactive = true}).find(text) != std::string::npos;
    }
    const DomainView& view() { return get("web")->view(); }
    static constexpr auto added = "event web 1", removed = "event web 2", refused = "event web 3";
};

TEST_F(DeviceVerbs, WithoutAScopeItIsTheRunningOneOrElseTheStoredOne) {
    boot();
    define(xml("web"));
    attach(disk("vda"), current);
    EXPECT_TRUE(stored_with("vda"));
    finish(get("web")->start({}, caller));
    attach(disk("vdb"), current);
    EXPECT_TRUE(runs_with("vdb"));
    EXPECT_FALSE(stored_with("vdb"));
    EXPECT_EQ(view().disks.size(), 2u);
    detach(disk("vda"), current);
    EXPECT_FALSE(runs_with("vda"));
    EXPECT_TRUE(stored_with("vda"));
}

TEST_F(DeviceVerbs, UpdatedTellsWhetherTheRunDiffers) {
    boot();
    running("web");
    EXPECT_FALSE(view().updated);
    attach(disk("vda"), live);
    EXPECT_TRUE(view().updated);
    attach(disk("vda"), stored);
    EXPECT_FALSE(view().updated) << read(definition_path("web"));
    attach(disk("vdb"), both);
    EXPECT_FALSE(view().updated);
    detach(disk("vdb"), stored);
    EXPECT_TRUE(view().updated);
    detach(disk("vdb"), live);
    EXPECT_FALSE(view().updated);
    attach(card("1"), both);
    EXPECT_FALSE(view().updated);
    detach(card("1"), both);
    EXPECT_FALSE(view().updated);
}

TEST_F(DeviceVerbs, ADeviceHasItsNameAndIsToldBeforeTheReply) {
    boot();
    running("web");
    bool told = false;
    audience.on_change = [&](Domain& domain, const DomainView& before) {
        if (before.disks.size() == domain.view().disks.size()) return;
        told = true;
        EXPECT_NE(read(status_path("web")).find("virtio-disk-vda"), std::string::npos);
        EXPECT_FALSE(audience.heard(added));
    };
    attach(disk("vda"), live);
    audience.on_change = nullptr;
    EXPECT_TRUE(told);
    EXPECT_TRUE(audience.heard(added));
    EXPECT_TRUE(runs_with("<alias name='virtio-disk-vda'/>"));
    detach("<disk><target dev='vda'/></disk>", live);
    EXPECT_EQ(audience.count(removed), 1u);
    EXPECT_TRUE(view().disks.empty());
}

TEST_F(DeviceVerbs, ANewCardIsTheSameOneInBoth) {
    boot();
    running("web");
    attach("<interface type='user'/>", both);
    ASSERT_EQ(view().interfaces.size(), 1u);
    std::string mac;
    for (const auto& [name, value] : view().interfaces[0])
        if (name == "mac") mac = std::get<std::string>(value);
    EXPECT_TRUE(stored_with(mac));
}

TEST_F(DeviceVerbs, LinksComeAndGoWithTheirCard) {
    boot();
    running("web");
    attach(card("1"), live);
    attach(card("2"), live);
    EXPECT_EQ(links.open.size(), 2u);
    EXPECT_NE(read(status_path("web")).find("link 52:54:00:00:00:01"), std::string::npos);
    detach(card("1"), live);
    ASSERT_TRUE(until([&] { return links.open.size() == 1; }));
    EXPECT_EQ(*links.open.begin(), "link 52:54:00:00:00:02");
    settle();
    EXPECT_EQ(read(status_path("web")).find("link 52:54:00:00:00:01"), std::string::npos);
    boot();  // a later daemon knows whose link it is
    detach(card("2"), live);
    ASSERT_TRUE(until([&] { return links.open.empty(); }));
}

TEST_F(DeviceVerbs, AFailureLeavesNothing) {
    boot();
    running("web", "fail-attach='no slot'");
    const auto before = get("web")->xml({}), definition = read(definition_path("web"));
    EXPECT_REFUSED(attach(card("1"), both), Code::hypervisor_failed, "no slot");
    EXPECT_TRUE(links.open.empty());
    EXPECT_EQ(get("web")->xml({}), before);
    EXPECT_EQ(read(definition_path("web")), definition);
    EXPECT_EQ(read(status_path("web")).find("link 52"), std::string::npos);
    EXPECT_FALSE(view().updated);
}

TEST_F(DeviceVerbs, EverythingIsCheckedBeforeTheFirstChange) {
    boot();
    running("web");
    attach(disk("vda"), live);
    EXPECT_REFUSED(detach(disk("vda"), both), Code::no_such_device, "vda");
    EXPECT_TRUE(runs_with("vda"));
    attach(disk("vdb"), stored);
    EXPECT_REFUSED(attach(disk("vda"), both), Code::already_exists, "vda");
    EXPECT_REFUSED(attach(disk("vdb"), both), Code::already_exists, "vdb");
    EXPECT_FALSE(runs_with("vdb"));
    EXPECT_FALSE(stored_with("vda"));
    EXPECT_REFUSED(attach("<disk", live), Code::invalid_xml, "line");
    finish(get("web")->stop({}, caller));
    EXPECT_REFUSED(attach(disk("vdc"), both), Code::invalid_state, "shutoff");
}

TEST_F(DeviceVerbs, AFullDiskUndoesTheRunningHalf) {
    boot();
    running("web");
    // The folder of definitions cannot be written; that of the run can.
    files.steps_left = 0;
    EXPECT_REFUSED(attach(disk("vda"), both), Code::internal, "the test ends the daemon here");
    files.steps_left = -1;
    EXPECT_FALSE(runs_with("vda"));
    EXPECT_FALSE(stored_with("vda"));
    EXPECT_FALSE(view().updated);
}

TEST_F(DeviceVerbs, AGuestThatKeepsADeviceForNow) {
    boot();
    running("web", "unplug-delay-ms='150' unplug-wait-ms='20'");
    attach(disk("vda"), both);
    EXPECT_REFUSED(detach(disk("vda"), both), Code::timeout, "the request stands");
    EXPECT_TRUE(runs_with("vda"));
    EXPECT_FALSE(stored_with("vda"));
    EXPECT_TRUE(view().updated);
    boot();  // also when the daemon is away meanwhile
    ASSERT_TRUE(until([&] { return view().disks.empty(); }));
    settle();
    EXPECT_TRUE(audience.heard(removed));
    EXPECT_FALSE(view().updated);
}

TEST_F(DeviceVerbs, AGuestThatRefuses) {
    boot();
    running("web", "unplug='refuse'");
    attach(disk("vda"), both);
    EXPECT_REFUSED(detach(disk("vda"), both), Code::device_in_use, "refuses");
    settle();
    EXPECT_TRUE(audience.heard(refused));
    EXPECT_TRUE(runs_with("vda"));
    EXPECT_TRUE(stored_with("vda"));
}

TEST_F(DeviceVerbs, AStopDoesNotWaitForAHangingAttach) {
    boot();
    running("web", "hang-attach='yes'");
    const auto job = get("web")->attach_device(card("1"), live, false, caller);
    ASSERT_TRUE(until([&] { return links.open.size() == 1; }));
    finish(get("web")->stop({}, caller));
    EXPECT_ANY_THROW(finish(job));
    EXPECT_TRUE(links.open.empty());
    EXPECT_EQ(view().state, State::shutoff);
}

TEST_F(DeviceVerbs, WhatTheGuestSeesIsNotChangedUnderIt) {
    boot();
    running("web");
    attach("<disk type='file' device='cdrom'><source file='/a.iso'/><target dev='sda' bus='sata'/></disk>", both);
    update("<disk type='file' device='cdrom'><source file='/b.iso'/><target dev='sda' bus='sata'/></disk>", both);
    EXPECT_TRUE(runs_with("/b.iso"));
    EXPECT_TRUE(stored_with("/b.iso"));
    EXPECT_FALSE(view().updated);
    EXPECT_REFUSED(
        update("<disk type='file' device='disk'><source file='/b.iso'/><target dev='sda' bus='sata'/></disk>", live),
        Code::unsupported, "device");
    update("<disk type='file' device='disk'><source file='/c.img'/><target dev='sda' bus='sata'/></disk>", stored);
    EXPECT_TRUE(stored_with("device='disk'"));
    EXPECT_TRUE(view().updated);
    EXPECT_REFUSED(update(disk("vdx"), stored), Code::no_such_device, "vdx");
}

TEST_F(DeviceVerbs, AMediumThatIsAttachedGoesIntoTheDriveThatIsThere) {
    boot();
    running("web");
    const auto drive = [](const std::string& source, const std::string& more = "") {
        return "<disk type='file' device='cdrom'>" + source + "<target dev='sda' bus='sata'/>" + more + "</disk>";
    };
    const std::string first = "<source file='/a.iso'/>", second = "<source file='/b.iso'/>";
    attach(drive(first, "<serial>one</serial>"), both);
    attach(drive(second, "<serial>two</serial>"), live);
    EXPECT_TRUE(runs_with("/b.iso"));
    EXPECT_FALSE(runs_with("/a.iso"));
    EXPECT_TRUE(runs_with("<serial>one<")) << "it is the same drive";
    EXPECT_TRUE(stored_with("/a.iso"));
    EXPECT_TRUE(view().updated);
    for (const auto scope : {both, stored})
        EXPECT_REFUSED(attach(drive(second), scope), Code::already_exists, "UpdateDevice");
    EXPECT_TRUE(runs_with("/b.iso"));
    attach(drive(""), live);
    EXPECT_FALSE(runs_with("/b.iso"));
    EXPECT_TRUE(runs_with("sda"));
    attach(drive(first), live);
    EXPECT_FALSE(view().updated);
    EXPECT_REFUSED(attach(disk("sda"), live), Code::already_exists, "sda");
    attach(disk("vdb"), live);
    EXPECT_REFUSED(attach("<disk type='file' device='cdrom'><source file='/b.iso'/><target dev='vdb'/></disk>", live),
                   Code::already_exists, "vdb");
    // Only the running one has it: there the medium, in the definition the drive.
    attach("<disk type='file' device='cdrom'><source file='/a.iso'/><target dev='sdb' bus='sata'/></disk>", live);
    attach("<disk type='file' device='cdrom'><source file='/c.iso'/><target dev='sdb' bus='sata'/></disk>", both);
    EXPECT_TRUE(runs_with("/c.iso"));
    EXPECT_TRUE(stored_with("/c.iso"));
}

TEST_F(DeviceVerbs, MemoryAndVcpusOfTheRun) {
    boot();
    running("web");
    constexpr std::uint64_t mib = 1u << 20;
    finish(get("web")->set_memory(32 * mib, live, false, caller));
    EXPECT_EQ(view().memory, 32 * mib);
    EXPECT_TRUE(view().updated);
    finish(get("web")->set_memory(32 * mib, both, false, caller));
    EXPECT_FALSE(view().updated);
    EXPECT_TRUE(stored_with("<currentMemory unit='KiB'>32768<"));
    finish(get("web")->set_vcpus(1, both, false, caller));
    EXPECT_EQ(view().vcpus, 1u);
    EXPECT_FALSE(view().updated);
    EXPECT_REFUSED(finish(get("web")->set_vcpus(3, live, false, caller)), Code::invalid_args, "at most 2");
    EXPECT_REFUSED(finish(get("web")->set_memory(65 * mib, both, false, caller)), Code::invalid_args, "at most");
}

}  // namespace
}  // namespace virtbus::tests
