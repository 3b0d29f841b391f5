// SPDX-License-Identifier: LGPL-2.1-or-later
// Definitions that contradict themselves or their machine, each with the sentence that says so.
#include <gtest/gtest.h>

#include "qemu/unsupported.hpp"
#include "tests/drivers/domain_bed.hpp"

namespace virtbus::qemu {
namespace {

using namespace virtbus::tests;

struct Case {
    const char *machine, *elements, *devices, *sentence;
};

/// Why it is not defined, or else why it cannot be started.
std::string refusal_of(const Case& each) try {
    const std::string machine = each.machine;
    const auto arch = machine == "pseries" ? "ppc64" : machine == "s390-ccw-virtio" ? "s390x" : "x86_64";
    const auto config = whole(fmt::format(
        "<domain type='qemu'><name>n</name><uuid>00000000-0000-4000-8000-000000000001</uuid><memory>65536</memory>"
        "<os><type arch='{}' machine='{}'>hvm</type></os>{}<devices>{}</devices></domain>",
        arch, machine, each.elements, each.devices));
    return fmt::format("{}", fmt::join(unsupported(config, known_capabilities(arch)), "; "));
} catch (const Error& error) {
    return error.what();
}

constexpr Case cases[]{
    {"q35", "<memoryBacking><hugepages><page size='5' unit='MiB'/></hugepages></memoryBacking>", "",
     "memoryBacking hugepages: pages of 5120 KiB; their size is a power of two"},
    {"pseries", "", "<disk type='file' device='floppy'><source file='/f'/><target dev='fda'/></disk>",
     "this machine has no floppy drives"},
    {"q35", "", "<disk><source file='/a'/><target dev='vdabcde'/></disk>",
     "disk 'vdabcde': its target is called like 'vda': letters for the kind, one to four for the number"},
    {"q35", "", "<disk><driver type='cow'/><source file='/a'/><target dev='vda'/></disk>",
     "disk 'vda': QEMU does not read images of the format 'cow'"},
    {"q35", "", "<disk><driver type='dir'/><source file='/a'/><target dev='vda'/></disk>",
     "disk 'vda': the format 'dir' is for folders"},
    {"q35", "", "<disk><driver type='qcow2'/><source file='/a'/><target dev='vda'/><shareable/></disk>",
     "disk 'vda': it is shareable, but an image of the format 'qcow2' has one writer; 'raw' may have more"},
    {"q35", "",
     "<disk type='network'><source protocol='iscsi' name='iqn.2020-01.org.example:a/1'><host name='h'/>"
     "<auth username='u'><secret type='ceph' usage='s'/></auth></source><target dev='vda'/></disk>",
     "disk 'vda': its <auth> has a secret of type 'ceph'; protocol 'iscsi' takes 'iscsi'"},
    {"q35", "",
     "<disk><source file='/a'><encryption format='luks'/></source><target dev='vda'/><encryption "
     "format='luks'/></disk>",
     "<disk> 'vda': <encryption> both inside and beside <source>"},
};

TEST(Refusals, SayWhatDoesNotFit) {
    for (const auto& each : cases) EXPECT_EQ(refusal_of(each), each.sentence) << each.elements << each.devices;
}

}  // namespace
}  // namespace virtbus::qemu
