// SPDX-License-Identifier: LGPL-2.1-or-later
// Devices that contradict their machine, each other or themselves are refused when they are defined, and their next of
// kin that do not are taken.
#include "qemu/device_rules.hpp"

#include <gtest/gtest.h>

#include "tests/drivers/domain_bed.hpp"

namespace virtbus::qemu {
namespace {

using namespace virtbus::tests;

struct Row {
    const char *name, *arch, *machine;
    const char* refused;   ///< in <devices>
    const char* sentence;  ///< a part of it
    const char* taken;     ///< in <devices>
};

std::string definition(const Row& row, const std::string& devices) {
    return fmt::format(
        "<domain type='qemu'><name>n</name><uuid>00000000-0000-4000-8000-000000000001</uuid><memory>65536</memory>"
        "<os><type arch='{}' machine='{}'>hvm</type></os><devices>{}</devices></domain>",
        row.arch, row.machine, devices);
}

constexpr Row rows[]{
    {"socket_without_path", "x86_64", "pc", "<serial type='unix'><source mode='bind'/></serial>", "'path'",
     "<channel type='unix'><source mode='bind'/><target type='virtio' name='a'/></channel>"},
    {"connecting_channel_without_path", "x86_64", "pc",
     "<channel type='unix'><source mode='connect'/><target type='virtio' name='a'/></channel>", "channel 'a'",
     "<channel type='unix'><source mode='connect' path='/run/a'/><target type='virtio' name='a'/></channel>"},
    {"tcp_without_host", "x86_64", "pc",
     "<rng model='virtio'><backend model='egd' type='tcp'><source mode='connect' service='7'/></backend></rng>",
     "'host'",
     "<rng model='virtio'><backend model='egd' type='tcp'><source mode='connect' host='::1' service='7'/></backend>"
     "</rng>"},
    {"udp_that_only_listens", "x86_64", "pc",
     "<serial type='udp'><source mode='bind' host='::1' service='7'/></serial>", "'service'",
     "<serial type='udp'><source mode='connect' service='7'/></serial>"},
    {"port_of_spice_without_name", "x86_64", "pc", "<serial type='spiceport'/>", "'channel'",
     "<serial type='spiceport'><source channel='a'/></serial>"},
    {"reconnect_without_timeout", "x86_64", "pc",
     "<serial type='unix'><source mode='connect' path='/a'><reconnect enabled='yes'/></source></serial>", "timeout",
     "<serial type='unix'><source mode='connect' path='/a'><reconnect enabled='no'/></source></serial>"},
    {"reconnect_of_a_listener", "x86_64", "pc",
     "<serial type='unix'><source mode='bind' path='/a'><reconnect enabled='yes' timeout='1'/></source></serial>",
     "listens",
     "<serial type='unix'><source mode='connect' path='/a'><reconnect enabled='yes' timeout='1'/></source></serial>"},
    {"reconnect_of_a_switch", "x86_64", "pc",
     "<interface type='vhostuser'><source type='unix' path='/a' mode='server'><reconnect enabled='yes' timeout='1'/>"
     "</source><model type='virtio'/></interface>",
     "listens",
     "<interface type='vhostuser'><source type='unix' path='/a' mode='client'><reconnect enabled='yes' timeout='1'/>"
     "</source><model type='virtio'/></interface>"},
    {"serial_of_pseries", "x86_64", "q35", "<serial type='pty'><target type='spapr-vio-serial'/></serial>",
     "'isa-serial' is its own", "<serial type='pty'><target type='usb-serial'/></serial>"},
    {"serial_of_pc", "ppc64", "pseries", "<serial type='pty'><target type='isa-serial'/></serial>",
     "'spapr-vio-serial' is its own", "<serial type='pty'><target type='pci-serial'/></serial>"},
    {"serial_of_another_model", "x86_64", "q35",
     "<serial type='pty'><target type='usb-serial'><model name='isa-serial'/></target></serial>",
     "has the model 'usb-serial'",
     "<serial type='pty'><target type='isa-serial'><model name='isa-serial'/></target></serial>"},
    {"serial_at_another_address", "x86_64", "q35",
     "<serial type='pty'><target type='isa-serial'/><address type='usb' bus='0' port='1'/></serial>", "<address>",
     "<serial type='pty'><target type='isa-serial'/><address type='isa' iobase='0x3f8'/></serial>"},
    {"parallel_without_isa", "ppc64", "pseries", "<parallel type='pty'/>", "ISA", "<serial type='pty'/>"},
    {"two_spice", "x86_64", "pc", "<graphics type='spice'/><graphics type='spice'/>", "two <graphics type='spice'>",
     "<graphics type='spice'/><graphics type='vnc'/><graphics type='vnc' socket='/a'/>"},
    {"two_windows", "x86_64", "pc", "<graphics type='dbus'/><graphics type='egl-headless'/>", "one at a time",
     "<graphics type='vnc'/><graphics type='egl-headless'/>"},
    {"opengl_twice", "x86_64", "pc",
     "<graphics type='spice'><gl enable='yes'/></graphics><graphics type='egl-headless'/>", "OpenGL",
     "<graphics type='spice'><gl enable='no'/></graphics><graphics type='egl-headless'/>"},
    {"ramfb_somewhere", "x86_64", "pc", "<video><model type='ramfb'/><address type='pci' slot='4'/></video>", "no bus",
     "<video><model type='ramfb'/></video>"},
    {"tablet_on_ps2", "x86_64", "pc", "<input type='tablet' bus='ps2'/>", "'ps2'", "<input type='mouse' bus='ps2'/>"},
    {"odd_shared_memory", "x86_64", "pc", "<shmem name='a'><size unit='M'>3</size></shmem>", "power of two",
     "<shmem name='a'><size unit='M'>4</size></shmem>"},
    {"interrupts_without_server", "x86_64", "pc", "<shmem name='a'><msi vectors='2'/></shmem>", "<server>",
     "<shmem name='a'><model type='ivshmem-doorbell'/><server path='/a'/><msi vectors='2'/></shmem>"},
    {"panic_elsewhere", "x86_64", "pc", "<panic model='pvpanic'><address type='isa' iobase='0x505'/></panic>",
     "another type", "<panic model='isa'><address type='isa' iobase='0x505'/></panic>"},
    {"panic_with_a_place", "s390x", "s390-ccw-virtio",
     "<panic model='s390'><address type='isa' iobase='0x505'/></panic>", "part of the machine",
     "<panic model='s390'/>"},
};

class DeviceRules : public testing::TestWithParam<Row> {};

TEST_P(DeviceRules, RefuseWhatContradicts) {
    try {
        whole(definition(GetParam(), GetParam().refused));
        FAIL() << "was taken: " << GetParam().refused;
    } catch (const Error& error) {
        EXPECT_NE(std::string{error.what()}.find(GetParam().sentence), std::string::npos) << error.what();
    }
}

TEST_P(DeviceRules, TakeWhatDoesNot) {
    EXPECT_NO_THROW(whole(definition(GetParam(), GetParam().taken))) << GetParam().taken;
}

INSTANTIATE_TEST_SUITE_P(Table, DeviceRules, testing::ValuesIn(rows), [](const auto& each) { return each.param.name; });

// The first console is written out as another name of the first serial port.
TEST(Aliases, OfTheFirstConsoleAreThoseOfItsSerialPort) {
    const std::string text =
        "<domain type='qemu'><name>n</name><uuid>00000000-0000-4000-8000-000000000001</uuid><memory>65536</memory>"
        "<os><type arch='x86_64' machine='pc'>hvm</type></os><devices>"
        "<serial type='pty'><alias name='ua-line'/></serial>{}</devices></domain>";
    const auto once = xml::format_domain(whole(fmt::format(fmt::runtime(text), "")), {.inactive = true});
    EXPECT_EQ(xml::format_domain(whole(once), {.inactive = true}), once);
    EXPECT_THROW(whole(fmt::format(fmt::runtime(text),
                                   "<rng model='virtio'><backend model='builtin'/>"
                                   "<alias name='ua-line'/></rng>")),
                 Error);
}

TEST(Labels, AreOneOfAModel) {
    const auto domain = [](const char* labels, const char* of_disk) {
        return fmt::format(
            "<domain type='qemu'><name>n</name><memory>65536</memory><os><type>hvm</type></os><devices>"
            "<disk><source file='/a'>{}</source><target dev='vda'/></disk></devices>{}</domain>",
            of_disk, labels);
    };
    const char* dac = "<seclabel type='dynamic' model='dac' relabel='yes'/>";
    const char* of_disk = "<seclabel model='selinux' relabel='no'/>";
    EXPECT_THROW(whole(domain(fmt::format("{0}{0}", dac).c_str(), "")), Error);
    EXPECT_THROW(whole(domain("", fmt::format("{0}{0}", of_disk).c_str())), Error);
    EXPECT_THROW(whole(domain("", "<seclabel relabel='no'><label>a</label></seclabel>")), Error);
    EXPECT_NO_THROW(whole(domain(fmt::format("{}<seclabel type='none' model='selinux'/>", dac).c_str(), of_disk)));
}

std::string with_sysinfo(const char* block) {
    return fmt::format(
        "<domain type='qemu'><name>n</name><uuid>0000abcd-0000-4000-8000-000000000001</uuid><memory>65536</memory>"
        "<os><type arch='x86_64' machine='pc'>hvm</type><smbios mode='sysinfo'/></os>"
        "<sysinfo type='smbios'>{}</sysinfo></domain>",
        block);
}

TEST(Sysinfo, HasADateThatThereIs) {
    for (const char* date : {"13/01/2020", "01/32/2020", "2020-01-01", "01/01/1899", "01/01/2020x", "01/01"})
        EXPECT_THROW(whole(with_sysinfo(fmt::format("<bios><entry name='date'>{}</entry></bios>", date).c_str())),
                     Error)
            << date;
    for (const char* date : {"12/31/2020", "1/2/1999", "01/01/99"})
        EXPECT_NO_THROW(whole(with_sysinfo(fmt::format("<bios><entry name='date'>{}</entry></bios>", date).c_str())))
            << date;
}

TEST(Sysinfo, HasOneBaseBoard) {
    const std::string board = "<baseBoard><entry name='product'>a</entry></baseBoard>";
    EXPECT_NO_THROW(whole(with_sysinfo(board.c_str())));
    EXPECT_THROW(whole(with_sysinfo((board + board).c_str())), Error);
}

TEST(Sysinfo, HasNoOtherUuid) {
    EXPECT_THROW(
        whole(with_sysinfo("<system><entry name='uuid'>0000abcd-0000-4000-8000-000000000002</entry></system>")), Error);
    EXPECT_NO_THROW(
        whole(with_sysinfo("<system><entry name='uuid'>0000ABCD000040008000000000000001</entry></system>")));
}

}  // namespace
}  // namespace virtbus::qemu
