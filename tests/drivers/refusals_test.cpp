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
    const auto config =
        whole(fmt::format("<domain type='qemu'><name>n</name><uuid>00000000-0000-4000-8000-000000000001</uuid><memory "
                          "unit='MiB'>512</memory>"
                          "<os><type arch='{}' machine='{}'>hvm</type></os>{}<devices>{}</devices></domain>",
                          arch, machine, each.elements, each.devices));
    return fmt::format("{}", fmt::join(unsupported(config, known_capabilities(arch)), "; "));
} catch (const Error& error) {
    return error.what();
}

constexpr Case cases[]{
    {"q35", "<memoryBacking><hugepages><page size='5' unit='MiB'/></hugepages></memoryBacking>", "",
     "memoryBacking hugepages: pages of 5120 KiB; their size is a power of two"},
    {"isapc", "", "<disk><source file='/a'/><target dev='vda'/></disk>",
     "disk 'vda': virtio devices need PCI, which this machine has not"},
    {"q35", "",
     "<hostdev mode='subsystem' type='pci'><driver name='vfio' iommufd='yes'/><source><address bus='6' "
     "slot='1'/></source></hostdev>",
     "host devices are opened through their VFIO group; <driver iommufd='yes'> is not served"},
    {"q35", "<vcpu>256</vcpu>", "",
     "256 vcpus: more than 255 need <iommu model='intel'><driver intremap='on' eim='on'/></iommu> and "
     "<features><ioapic driver='qemu'/>"},
    {"isapc", "", "<controller type='usb' index='0'/>",
     "usb controller 0: this machine has no USB; a model would need PCI"},
    {"q35", "", "<controller type='usb' index='0' model='none'/><controller type='usb' index='1' model='qemu-xhci'/>",
     "usb controller 0 (none): model 'none' says that there is no USB, but there are other controllers"},
    {"q35", "", "<controller type='usb' index='0' model='qemu-xhci' ports='16'/>",
     "usb controller 0 (qemu-xhci): it has 16 ports; 15 is the most"},
    {"q35", "", "<controller type='usb' index='3' model='ich9-uhci2'/>",
     "usb controller 3 (ich9-uhci2): it serves the ports of an ich9-ehci1 with the same index, which is not there"},
    {"pc", "", "<controller type='pci' index='2' model='pci-root'/>",
     "pci controller 2 (pci-root): this machine has one root bus, which has the index 0"},
    {"q35", "", "<controller type='pci' index='0' model='pcie-root'><address type='pci' slot='3'/></controller>",
     "pci controller 0 (pcie-root): a root bus is on no other, so it has no <address>"},
    {"q35", "", "<controller type='pci' index='0' model='pcie-root'><target hotplug='off'/></controller>",
     "pci controller 0 (pcie-root): whether its slots are hot-pluggable can be said of the root bus of i440fx"},
    {"q35", "",
     "<controller type='pci' index='1' model='pcie-root-port'/><controller type='pci' index='2' "
     "model='pcie-expander-bus'><address type='pci' bus='1' slot='0'/></controller>",
     "pci controller 2 (pcie-expander-bus) is put at PCI address 0000:01:00.0, but bus 1 is a pcie-root-port, which "
     "takes no such device"},
    {"pc", "",
     "<interface type='user'><mac address='52:54:00:00:00:01'/><address type='pci' slot='1' function='1'/></interface>",
     "interface '52:54:00:00:00:01' and the chipset are both at PCI address 0000:00:01.1"},
    {"q35", "<features><smm state='on'><tseg unit='KiB'>1500</tseg></smm></features>", "",
     "features smm: the size of tseg is in whole MiB"},
    {"pc", "",
     "<hostdev mode='subsystem' type='pci'><source><address bus='6' slot='1'/></source></hostdev>"
     "<hostdev mode='subsystem' type='pci'><source><address bus='6' slot='1'/></source></hostdev>",
     "hostdev (pci 0000:06:01.0) is given to the machine twice"},
    {"pc", "",
     "<hostdev mode='subsystem' type='mdev' model='vfio-pci' display='on'><source><address "
     "uuid='00000000-0000-4000-8000-000000000003'/></source></hostdev>",
     "hostdev (mdev 00000000-0000-4000-8000-000000000003): display='on' needs <graphics> to be seen in"},
    {"s390-ccw-virtio", "",
     "<hostdev mode='subsystem' type='mdev' model='vfio-ccw'><source><address "
     "uuid='00000000-0000-4000-8000-000000000003'/></source><address type='pci' slot='3'/></hostdev>",
     "hostdev (mdev 00000000-0000-4000-8000-000000000003): its <address> is of another type than a vfio-ccw has (ccw)"},
    {"pc", "",
     "<hostdev mode='subsystem' type='scsi_host' rawio='yes'><source protocol='vhost' wwpn='naa.5000000000000001'/>"
     "</hostdev>",
     "hostdev (scsi_host): rawio and sgio are for host devices of type 'scsi'"},
    {"pseries", "", "<controller type='pci' index='0' model='pci-root'><target><node>0</node></target></controller>",
     "pci controller 0 (pci-root): the first host bridge is of no NUMA node; more of them may be"},
    {"pseries", "", "<controller type='pci' index='1' model='pci-root'><target index='32'/></controller>",
     "pci controller 1 (pci-root): <target index='32'>: of the first host bridge it is 0, of others 1 to 31"},
    {"pseries", "",
     "<controller type='pci' index='1' model='pci-root'><target index='4'/></controller><controller type='pci' "
     "index='2' model='pci-root'><target index='4'/></controller>",
     "pci controller 1 (pci-root): <target index='4'> is that of another, too"},
    {"q35", "<features><htm state='on'/></features>", "",
     "features hpt, htm, nested-hv, ccf-assist, cfpc, sbbc, ibs: for the machine pseries only"},
    {"q35", "<cpu mode='maximum'><cache mode='passthrough' level='3'/></cpu>", "",
     "cpu cache mode passthrough: is for all levels; leave the level out"},
    {"pc", "<features><acpi/></features>", "<iommu model='virtio'/>",
     "iommu virtio: needs the machine q35, or virt of ARM"},
    {"q35", "<features><acpi/></features>", "<iommu model='virtio'><driver dma_translation='on'/></iommu>",
     "iommu virtio: caching_mode, eim, aw_bits and dma_translation are for model intel"},
    {"q35", "<features><acpi/></features>", "<iommu model='virtio'><address type='spapr-vio' reg='0x1000'/></iommu>",
     "iommu: its <address> is of another type than 'pci'"},
    {"s390-ccw-virtio", "", "<disk><source file='/a'/><target dev='vda'/><boot order='1' loadparm='123456789'/></disk>",
     "<boot loadparm='123456789'>: it is of up to 8 letters, digits, dots and spaces"},
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

/// What QEMU learned after 7.2: asked of an older one it is refused, and the sentence says what has it.
struct Newer {
    const char *elements, *devices, *sentence, *word;
};
constexpr Newer newer[]{
    {"<iothreads>2</iothreads>",
     "<disk><driver queues='2'><iothreads><iothread id='1'/><iothread id='2'><queue id='1'/></iothread></iothreads>"
     "</driver><source file='/a'/><target dev='vda'/></disk>",
     "disk 'vda': more than one iothread for a disk needs QEMU 9.0; /usr/bin/qemu-system-x86_64 is older",
     R"("iothread-vq-mapping":[{"iothread":"iothread1"},{"iothread":"iothread2","vqs":[1]}])"},
    {"", "<disk><driver type='qcow2' discard_no_unref='on'/><source file='/a'/><target dev='vda'/></disk>",
     "disk 'vda': discard_no_unref needs QEMU 8.1; /usr/bin/qemu-system-x86_64 is older", R"("discard-no-unref":true)"},
    {"<maxMemory slots='1' unit='GiB'>4</maxMemory><features><acpi/></features>",
     "<memory model='virtio-mem'><target dynamicMemslots='yes'><size unit='MiB'>256</size><requested "
     "unit='MiB'>0</requested></target></memory>",
     "memory device virtio-mem: dynamic memory slots need QEMU 8.2; /usr/bin/qemu-system-x86_64 is older",
     R"("dynamic-memslots":true)"},
    {"",
     "<disk type='network'><driver type='raw'/><source protocol='rbd' name='p/i'><host name='h'/><encryption "
     "format='luks-any' engine='librbd'><secret type='passphrase' uuid='00000000-0000-4000-8000-000000000009'/>"
     "</encryption></source><target dev='vda'/></disk>",
     "disk 'vda': encryption with 'luks-any' needs QEMU 8.0, /usr/bin/qemu-system-x86_64 is older; use 'luks' or "
     "'luks2'",
     R"("encrypt":{"format":"luks-any")"},
    {"<features><acpi/></features>", "<iommu model='virtio'><driver granule='host'/></iommu>",
     "iommu with a granule: needs QEMU 9.0; /usr/bin/qemu-system-x86_64 is older", R"("granule":"host")"},
};

TEST(Refusals, EndWithTheQemuThatHasIt) {
    for (const auto& each : newer) {
        EXPECT_EQ(refusal_of({"q35", each.elements, each.devices, ""}), each.sentence);
        auto known = known_capabilities("x86_64");
        known.version = 9002000;
        const auto config = whole(
            fmt::format("<domain type='qemu'><name>n</name><uuid>00000000-0000-4000-8000-000000000001</uuid><memory "
                        "unit='MiB'>512</memory><os><type arch='x86_64' "
                        "machine='q35'>hvm</type></os>{}<devices>{}</devices></domain>",
                        each.elements, each.devices));
        EXPECT_EQ(fmt::format("{}", fmt::join(unsupported(config, known), "; ")), "");
        EXPECT_NE(one_a_line(standalone_command(config, known, false)).find(each.word), std::string::npos) << each.word;
    }
}

TEST(Refusals, SayWhatDoesNotFit) {
    for (const auto& each : cases) EXPECT_EQ(refusal_of(each), each.sentence) << each.elements << each.devices;
}

}  // namespace
}  // namespace virtbus::qemu
