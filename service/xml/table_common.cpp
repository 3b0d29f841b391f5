// SPDX-License-Identifier: LGPL-2.1-or-later
// Tables of what many elements share: addresses, aliases, labels, virtio options.
#include "service/xml/tables.hpp"
#include "virtbus/model/filesystem.hpp"
#include "virtbus/model/host_address.hpp"
#include "virtbus/model/seclabel.hpp"

namespace virtbus::xml {

namespace {

// ---- addresses in the guest

/// <address type='pci'/> stays as it is until the driver has chosen.
bool assigned(const PciAddress& address) {
    return address.assigned();
}
constexpr Row pci_rows[]{
    attribute<&PciAddress::domain>("domain").only_when<PciAddress, assigned>().range(0, 0xffff).hex(4),
    attribute<&PciAddress::bus>("bus").only_when<PciAddress, assigned>().range(0, 0xff).hex(2),
    attribute<&PciAddress::slot>("slot").only_when<PciAddress, assigned>().range(0, 0x1f).hex(2),
    attribute<&PciAddress::function>("function").only_when<PciAddress, assigned>().range(0, 7).hex(1),
    attribute<&PciAddress::multifunction>("multifunction").on_off(),
};
constexpr Row zpci_rows[]{
    attribute<&PciAddress::zpci_uid>("uid").range(1, 0xffff).hex(4),
    attribute<&PciAddress::zpci_fid>("fid").hex(8),
};
constexpr Row pci_with_zpci_rows[]{pci_rows[0], pci_rows[1], pci_rows[2],
                                   pci_rows[3], pci_rows[4], group("zpci", zpci_rows)};
std::string check_pci(const void* object) {
    const auto& address = *static_cast<const PciAddress*>(object);
    return !address.assigned() && address.function ? "slot 0 of bus 0 is the host bridge's own" : "";
}
constinit const Table pci_table = table<PciAddress>(pci_with_zpci_rows, check_pci);

constexpr Row drive_rows[]{
    attribute<&DriveAddress::controller>("controller"),
    attribute<&DriveAddress::bus>("bus"),
    attribute<&DriveAddress::target>("target"),
    attribute<&DriveAddress::unit>("unit"),
};
constinit const Table drive_table = table<DriveAddress>(drive_rows);

constexpr Row usb_rows[]{
    attribute<&UsbAddress::bus>("bus"),
    attribute<&UsbAddress::port>("port"),
};
std::string check_usb(const void* object) {
    const auto& port = static_cast<const UsbAddress*>(object)->port;
    return port.find_first_not_of("0123456789.") == port.npos ? "" : "port is written like 1 or 1.2.4";
}
constinit const Table usb_table = table<UsbAddress>(usb_rows, check_usb);

constexpr Row virtio_serial_rows[]{
    attribute<&VirtioSerialAddress::controller>("controller"),
    attribute<&VirtioSerialAddress::bus>("bus"),
    attribute<&VirtioSerialAddress::port>("port"),
};
constinit const Table virtio_serial_table = table<VirtioSerialAddress>(virtio_serial_rows);

constexpr Row ccid_rows[]{
    attribute<&CcidAddress::controller>("controller"),
    attribute<&CcidAddress::slot>("slot"),
};
constinit const Table ccid_table = table<CcidAddress>(ccid_rows);

constexpr Row isa_rows[]{
    attribute<&IsaAddress::iobase>("iobase").range(0, 0xffff).hex(),
    attribute<&IsaAddress::irq>("irq").range(0, 255).hex(),
};
constinit const Table isa_table = table<IsaAddress>(isa_rows);

constexpr Row ccw_rows[]{
    attribute<&CcwAddress::cssid>("cssid").range(0, 0xfe).hex(),
    attribute<&CcwAddress::ssid>("ssid").range(0, 3).hex(),
    attribute<&CcwAddress::devno>("devno").range(0, 0xffff).hex(4),
};
constinit const Table ccw_table = table<CcwAddress>(ccw_rows);

constexpr Row spapr_vio_rows[]{attribute<&SpaprVioAddress::reg>("reg").hex(8)};
constinit const Table spapr_vio_table = table<SpaprVioAddress>(spapr_vio_rows);

constexpr Row dimm_rows[]{
    attribute<&DimmAddress::slot>("slot"),
    attribute<&DimmAddress::base>("base").hex(),
};
constinit const Table dimm_table = table<DimmAddress>(dimm_rows);

constinit const Table virtio_mmio_table = table<VirtioMmioAddress>({});
constinit const Table unassigned_table = table<UnassignedAddress>({});

constexpr Alternative address_alternatives[]{
    alternative<Address, PciAddress>("pci", pci_table),
    alternative<Address, DriveAddress>("drive", drive_table),
    alternative<Address, VirtioSerialAddress>("virtio-serial", virtio_serial_table),
    alternative<Address, CcidAddress>("ccid", ccid_table),
    alternative<Address, UsbAddress>("usb", usb_table),
    alternative<Address, SpaprVioAddress>("spapr-vio", spapr_vio_table),
    alternative<Address, CcwAddress>("ccw", ccw_table),
    alternative<Address, IsaAddress>("isa", isa_table),
    alternative<Address, VirtioMmioAddress>("virtio-mmio", virtio_mmio_table),
    alternative<Address, DimmAddress>("dimm", dimm_table),
    alternative<Address, UnassignedAddress>("unassigned", unassigned_table),
};

constinit const Choice address_choice{address_alternatives};

// ---- every device

constexpr Row rom_rows[]{
    attribute<&Rom::enabled>("enabled").yes_no(),
    attribute<&Rom::bar>("bar").on_off(),
    attribute<&Rom::file>("file"),
};
constinit const Table rom_table = table<Rom>(rom_rows);

constexpr Row boot_rows[]{
    attribute<&DeviceInfo::boot_order>("order").range(1, 0xffff),
    attribute<&DeviceInfo::loadparm>("loadparm"),
};
constexpr Row device_info_rows[]{
    group("boot", boot_rows).host(),
    leaf<&DeviceInfo::alias>("alias", "name").host(),
    leaf<&DeviceInfo::usb_master_startport>("master", "startport"),
    element<&DeviceInfo::rom>("rom", rom_table).host(),
    leaf<&DeviceInfo::acpi_index>("acpi", "index"),
    choice<&DeviceInfo::address>("address", address_choice),
};

constexpr Row virtio_options_rows[]{
    attribute<&VirtioOptions::iommu>("iommu").on_off(),
    attribute<&VirtioOptions::ats>("ats").on_off(),
    attribute<&VirtioOptions::packed>("packed").on_off(),
    attribute<&VirtioOptions::page_per_vq>("page_per_vq").on_off(),
};
constexpr Row virtio_driver_rows[]{inlined<&VirtioDriver::virtio>(virtio_options_table)};

constexpr Row id_range_rows[]{
    attribute<&IdRange::start>("start").required(),
    attribute<&IdRange::target>("target").required(),
    attribute<&IdRange::count>("count").required(),
};

// ---- labels

constexpr Row seclabel_rows[]{
    attribute<&SecurityLabel::type>("type").one_of("dynamic|static|none"),
    attribute<&SecurityLabel::model>("model"),
    attribute<&SecurityLabel::relabel>("relabel").yes_no(),
    leaf<&SecurityLabel::label>("label"),
    leaf<&SecurityLabel::image_label>("imagelabel"),
    leaf<&SecurityLabel::base_label>("baselabel"),
};
constexpr Row source_seclabel_rows[]{
    attribute<&SourceSecurityLabel::model>("model"),
    attribute<&SourceSecurityLabel::label_skip>("labelskip").yes_no(),
    attribute<&SourceSecurityLabel::relabel>("relabel").yes_no(),
    leaf<&SourceSecurityLabel::label>("label"),
};
std::string check_source_seclabel(const void* object) {
    const auto& label = *static_cast<const SourceSecurityLabel*>(object);
    return label.relabel == false && !label.label.empty() ? "with relabel='no' a <label> is of no use" : "";
}

// ---- addresses in the host

constexpr Row host_pci_rows[]{
    attribute<&HostPciAddress::type>("type").one_of("pci"),
    attribute<&HostPciAddress::domain>("domain").range(0, 0xffff).hex(4),
    attribute<&HostPciAddress::bus>("bus").range(0, 0xff).hex(2),
    attribute<&HostPciAddress::slot>("slot").range(0, 0x1f).hex(2),
    attribute<&HostPciAddress::function>("function").range(0, 7).hex(1),
};
constexpr Row host_usb_rows[]{
    attribute<&HostUsbAddress::type>("type").one_of("usb"),
    attribute<&HostUsbAddress::bus>("bus"),
    attribute<&HostUsbAddress::port>("port"),
    attribute<&HostUsbAddress::device>("device"),
};
constinit const Table host_usb_table = table<HostUsbAddress>(host_usb_rows);
constexpr Row host_scsi_rows[]{
    attribute<&HostScsiAddress::type>("type").one_of("scsi"),
    attribute<&HostScsiAddress::bus>("bus").required(),
    attribute<&HostScsiAddress::target>("target").required(),
    attribute<&HostScsiAddress::unit>("unit").required(),
};
constinit const Table host_scsi_table = table<HostScsiAddress>(host_scsi_rows);
constexpr Row host_mdev_rows[]{
    attribute<&HostMdevAddress::type>("type").one_of("mdev"),
    attribute<&HostMdevAddress::uuid>("uuid").required().uuid(),
};
constinit const Table host_mdev_table = table<HostMdevAddress>(host_mdev_rows);

}  // namespace

constinit const Table device_info_table = inner_table(device_info_rows);
constinit const Table virtio_options_table = inner_table(virtio_options_rows);
constinit const Table virtio_driver_table = table<VirtioDriver>(virtio_driver_rows);
constinit const Table id_range_table = table<IdRange>(id_range_rows);
constinit const Table seclabel_table = table<SecurityLabel>(seclabel_rows);
constinit const Table source_seclabel_table = table<SourceSecurityLabel>(source_seclabel_rows, check_source_seclabel);
constinit const Table host_pci_address_table = table<HostPciAddress>(host_pci_rows);

namespace {
constexpr Alternative host_alternatives[]{
    alternative<HostAddress, HostMdevAddress>("uuid", host_mdev_table),
    alternative<HostAddress, HostScsiAddress>("unit", host_scsi_table),
    alternative<HostAddress, HostUsbAddress>("device", host_usb_table),
    alternative<HostAddress, HostUsbAddress>("port", host_usb_table),
    alternative<HostAddress, HostPciAddress>("slot", host_pci_address_table),
};
}  // namespace
constinit const Choice host_address_choice{host_alternatives, true};

}  // namespace virtbus::xml
