// SPDX-License-Identifier: LGPL-2.1-or-later
#include "qemu/command/argv.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>

#include "virtbus/error.hpp"

namespace virtbus::qemu {

namespace {

void set_number(Json& device, const QemuProperty& property) {
    std::int64_t value = 0;
    const auto* end = property.value.data() + property.value.size();
    if (const auto [at, error] = std::from_chars(property.value.data(), end, value); error != std::errc{} || at != end)
        throw Error{Code::invalid_xml,
                    fmt::format("<qemu:property name='{}'>: '{}' is no number", property.name, property.value)};
    device.set(property.name, value);
}

void override_property(Json& device, const QemuProperty& property) {
    if (property.type == "remove")
        device.remove(property.name);
    else if (property.type == "bool")
        device.set(property.name, property.value == "true");
    else if (property.type == "signed" || property.type == "unsigned")
        set_number(device, property);
    else
        device.set(property.name, property.value);
}

}  // namespace

Argv::Argv(const DomainConfig& c, const Capabilities& k, OpenedResources& o)
    : config{c}, capabilities{k}, chipset{chipset_of(c)}, opened{o}, sets_{o.first_set} {
    unsigned turn = 0;
    for (const auto& device : c.os.boot_devices) boot_.emplace(device, ++turn);
}

void Argv::device(Json device, const std::string& alias) {
    if (config.qemu_override)
        for (const auto& each : config.qemu_override->devices)
            if (each.alias == alias)
                for (const auto& property : each.frontend) override_property(device, property);
    arg("-device", device.text());
}

int Argv::lend(int fd) {
    const int number = 3 + static_cast<int>(out.fds.size());
    out.fds.emplace_back(fd, number);
    return number;
}

int Argv::give(Fd fd) {
    const int number = lend(fd.get());
    out.owned.push_back(std::move(fd));
    return number;
}

std::string Argv::fdset(OpenedFile& file) {
    if (by_path()) return file.path;
    const unsigned set = ++sets_;
    const auto add = [&](Fd& fd) {
        if (fd) arg("-add-fd", KeyValues{}.add("fd", give(std::move(fd))).add("set", set));
    };
    add(file.fd);
    add(file.reader);
    auto name = fmt::format("/dev/fdset/{}", set);
    out.files.emplace(name, file.path);
    return name;
}

std::string Argv::proc_path(OpenedFile& file) {
    return by_path() ? file.path : fmt::format("/proc/self/fd/{}", give(std::move(file.fd)));
}

std::string Argv::secret(const std::string& id, const std::string& key) {
    OpenedFile* file = find(key);
    if (!file) throw Error{Code::internal, fmt::format("the secret of '{}' was not fetched", key)};
    object(Json{}.set("qom-type", "secret").set("id", id).set("file", proc_path(*file)));
    return id;
}

std::string Argv::tls(const std::string& id, const std::string& use, bool server) {
    const auto* folder = find(fmt::format("tls:{}-{}", use, server ? "server" : "client"));
    if (!folder) throw Error{Code::internal, fmt::format("no certificates were copied for '{}'", id)};
    if (!by_path()) out.folders.push_back(folder->path);
    object(Json{}
               .set("qom-type", "tls-creds-x509")
               .set("id", id)
               .set("dir", folder->path)
               .set("endpoint", server ? "server" : "client")
               .set("verify-peer", true));
    return id;
}

OpenedFile* Argv::find(const std::string& key) {
    const auto found = opened.files.find(key);
    return found == opened.files.end() ? nullptr : &found->second;
}

std::string Argv::virtio_driver(std::string_view base, std::string_view model, const DeviceInfo& info) const {
    if (info.address_as<CcwAddress>()) return fmt::format("{}-ccw", base);
    if (info.address_as<VirtioMmioAddress>()) return fmt::format("{}-device", base);
    if (model.ends_with("non-transitional")) return fmt::format("{}-pci-non-transitional", base);
    if (model.ends_with("transitional")) return fmt::format("{}-pci-transitional", base);
    return fmt::format("{}-pci", base);
}

std::string Argv::bus_of(ControllerType type, unsigned index) const {
    if (type == ControllerType::pci && index == 0) return std::string{chipset.root_bus()};
    for (const auto& controller : config.devices.controllers)
        if (controller.type == type && controller.index.value_or(0) == index)
            // A bridge's bus has its name; the bus of one more host bridge of pseries is a thing of its own.
            return type == ControllerType::pci && controller.model != "pci-root" ? controller.info.alias
                                                                                 : controller.info.alias + ".0";
    throw Error{Code::unsupported_configuration,
                fmt::format("a device is on {} controller {}, which is not there", word(type), index)};
}

void Argv::place_pci(Json& device, const PciAddress& address) {
    device.set("bus", bus_of(ControllerType::pci, address.bus));
    if (address.multifunction.value_or(false)) device.set("multifunction", true);
    device.set("addr", address.function ? fmt::format("{:#x}.{:#x}", address.slot, address.function)
                                        : fmt::format("{:#x}", address.slot));
}

void Argv::place(Json& device, const DeviceInfo& info) {
    if (!info.alias.empty()) device.set("id", info.alias);
    if (has_own_loadparm(capabilities)) device.set_text("loadparm", info.loadparm);
    if (const auto* pci = info.address_as<PciAddress>()) {
        place_pci(device, *pci);
        if (pci->zpci_uid && chipset.kind == Chipset::Kind::s390)
            arg("-device", Json{}
                               .set("driver", "zpci")
                               .set("uid", *pci->zpci_uid)
                               .set("fid", pci->zpci_fid.value_or(0))
                               .set("target", info.alias)
                               .set("id", fmt::format("zpci{}", *pci->zpci_uid))
                               .text());
    }
    if (const auto* usb = info.address_as<UsbAddress>()) {
        device.set("bus", bus_of(ControllerType::usb, usb->bus));
        device.set_text("port", usb->port);
    }
    if (const auto* ccw = info.address_as<CcwAddress>(); ccw && ccw->devno)
        device.set("devno",
                   fmt::format("{:x}.{:x}.{:04x}", ccw->cssid.value_or(0xfe), ccw->ssid.value_or(0), *ccw->devno));
    if (const auto* vio = info.address_as<SpaprVioAddress>()) device.set("reg", vio->reg);
    if (const auto* isa = info.address_as<IsaAddress>()) {
        device.set("iobase", isa->iobase);
        device.set("irq", isa->irq);
    }
    if (const auto* dimm = info.address_as<DimmAddress>()) {
        device.set("slot", dimm->slot);
        device.set("addr", dimm->base);
    }
    device.set("acpi-index", info.acpi_index);
    if (!info.rom) return;
    if (info.rom->bar) device.set("rombar", *info.rom->bar ? 1 : 0);
    if (!info.rom->enabled.value_or(true)) device.set("romfile", "");
    if (auto* file = find("rom:" + info.alias)) device.set("romfile", proc_path(*file));
}

void Argv::place_scsi(Json& device, const DriveAddress& at) const {
    device.set("bus", bus_of(ControllerType::scsi, at.controller));
    // Their units are targets of the narrow bus.
    constexpr std::array narrow_models{"lsilogic", "am53c974", "dc390"};
    const auto narrow = std::ranges::find_if(config.devices.controllers, [&](const Controller& each) {
        return each.type == ControllerType::scsi && each.index.value_or(0) == at.controller &&
               std::ranges::count(narrow_models, each.model);
    });
    const bool is_narrow = narrow != config.devices.controllers.end();
    if (is_narrow && (at.target > 0 || at.unit > 6))
        throw Error{Code::unsupported_configuration,
                    fmt::format("target {}, unit {} of scsi controller {}: the model '{}' has target 0 and the "
                                "units 0 to 6; take the model 'virtio-scsi' or another place",
                                at.target, at.unit, at.controller, narrow->model)};
    if (is_narrow)
        device.set("scsi-id", at.unit);
    else
        device.set("channel", at.bus).set("scsi-id", at.target).set("lun", at.unit);
}

std::optional<unsigned> Argv::boot_index(const DeviceInfo& info, std::string_view kind) {
    if (info.boot_order) return info.boot_order;
    const auto turn = boot_.find(kind);
    if (turn == boot_.end()) return std::nullopt;
    const unsigned index = turn->second;
    boot_.erase(turn);
    return index;
}

bool has_own_loadparm(const Capabilities& known) {
    return known.version >= 9002000;
}

void set_virtio(Json& device, const VirtioOptions& options) {
    device.set("iommu_platform", options.iommu);
    device.set("ats", options.ats);
    device.set("packed", options.packed);
    device.set("page-per-vq", options.page_per_vq);
}

}  // namespace virtbus::qemu
