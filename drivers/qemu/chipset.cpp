// SPDX-License-Identifier: LGPL-2.1-or-later
#include "qemu/chipset.hpp"

#include <array>

namespace virtbus::qemu {

namespace {

using Kind = Chipset::Kind;

constexpr Chipset pc{.kind = Kind::pc,
                     .root = "pci-root",
                     .usb = "piix3-uhci",
                     .usb_default = "piix3-uhci",
                     .ide = true,
                     .memballoon = true,
                     .ps2 = true,
                     .isa = true,
                     .serial = "isa-serial",
                     .serial_model = "isa-serial",
                     .network = "rtl8139",
                     .scsi = "lsilogic",
                     .video = "cirrus",
                     .panic = "isa",
                     .ram_id = "pc.ram"};
constexpr Chipset q35{.kind = Kind::q35,
                      .root = "pcie-root",
                      .usb = "qemu-xhci",
                      .usb_default = "piix3-uhci",
                      .sata = true,
                      .memballoon = true,
                      .ps2 = true,
                      .isa = true,
                      .serial = "isa-serial",
                      .serial_model = "isa-serial",
                      .network = "rtl8139",
                      .scsi = "lsilogic",
                      .video = "cirrus",
                      .panic = "isa",
                      .ram_id = "pc.ram"};
constexpr Chipset isapc{.kind = Kind::isapc,
                        .ide = true,
                        .ps2 = true,
                        .isa = true,
                        .serial = "isa-serial",
                        .serial_model = "isa-serial",
                        .network = "ne2k_isa",
                        .video = "cirrus",
                        .panic = "isa",
                        .ram_id = "pc.ram"};
constexpr Chipset microvm{.kind = Kind::microvm,
                          .isa = true,
                          .serial = "isa-serial",
                          .serial_model = "isa-serial",
                          .network = "virtio",
                          .scsi = "virtio-scsi",
                          .panic = "isa",
                          .ram_id = "microvm.ram"};
constexpr Chipset virt{.kind = Kind::virt,
                       .root = "pcie-root",
                       .usb_default = "qemu-xhci",
                       .serial = "system-serial",
                       .serial_model = "pl011",
                       .network = "virtio",
                       .scsi = "virtio-scsi",
                       .video = "virtio",
                       .panic = "pvpanic",
                       .ram_id = "mach-virt.ram"};
constexpr Chipset riscv_virt{.kind = Kind::virt,
                             .root = "pcie-root",
                             .usb_default = "qemu-xhci",
                             .serial = "system-serial",
                             .serial_model = "16550a",
                             .network = "virtio",
                             .scsi = "virtio-scsi",
                             .video = "virtio",
                             .panic = "pvpanic",
                             .ram_id = "riscv_virt_board.ram"};
constexpr Chipset pseries{.kind = Kind::pseries,
                          .root = "pci-root",
                          .usb = "qemu-xhci",
                          .usb_default = "qemu-xhci",
                          .memballoon = true,
                          .serial = "spapr-vio-serial",
                          .serial_model = "spapr-vty",
                          .network = "rtl8139",
                          .scsi = "ibmvscsi",
                          .video = "vga",
                          .panic = "pseries",
                          .panic_always = true,
                          .ram_id = "ppc_spapr.ram"};
constexpr Chipset s390{.kind = Kind::s390,
                       .root = "pci-root",
                       .memballoon = true,
                       .serial = "sclp-serial",
                       .serial_model = "sclpconsole",
                       .network = "virtio",
                       .scsi = "virtio-scsi",
                       .video = "virtio",
                       .panic = "s390",
                       .panic_always = true,
                       .ram_id = "s390.ram"};
constexpr Chipset other{.kind = Kind::other, .network = "virtio", .scsi = "virtio-scsi"};

struct Rule {
    std::string_view arch;     // "" = any
    std::string_view machine;  // the name, or its beginning when it ends with '-' or '.'
    const Chipset& chipset;
};
constexpr std::string_view x86_64 = "x86_64", i686 = "i686";
constexpr std::array rules{
    Rule{x86_64, "q35", q35},
    Rule{x86_64, "pc-q35-", q35},
    Rule{x86_64, "isapc", isapc},
    Rule{x86_64, "microvm", microvm},
    Rule{x86_64, "pc", pc},
    Rule{x86_64, "pc-", pc},
    Rule{i686, "q35", q35},
    Rule{i686, "pc-q35-", q35},
    Rule{i686, "isapc", isapc},
    Rule{i686, "microvm", microvm},
    Rule{i686, "pc", pc},
    Rule{i686, "pc-", pc},
    Rule{"aarch64", "virt", virt},
    Rule{"aarch64", "virt-", virt},
    Rule{"armv7l", "virt", virt},
    Rule{"armv7l", "virt-", virt},
    Rule{"riscv64", "virt", riscv_virt},
    Rule{"riscv64", "virt-", riscv_virt},
    Rule{"ppc64", "pseries", pseries},
    Rule{"ppc64", "pseries-", pseries},
    Rule{"ppc64le", "pseries", pseries},
    Rule{"ppc64le", "pseries-", pseries},
    Rule{"s390x", "s390-ccw-virtio", s390},
    Rule{"s390x", "s390-ccw-virtio-", s390},
};

bool fits(const Rule& rule, const Os& os) {
    if (rule.arch != os.arch) return false;
    return rule.machine.ends_with('-') ? os.machine.starts_with(rule.machine) : os.machine == rule.machine;
}

}  // namespace

const Chipset& chipset_of(const DomainConfig& config) {
    for (const auto& rule : rules)
        if (fits(rule, config.os)) return rule.chipset;
    return other;
}

}  // namespace virtbus::qemu
