// SPDX-License-Identifier: LGPL-2.1-or-later
// The buses: PCI ports and bridges, USB, SCSI, SATA, virtio-serial ... and the I/O threads that serve some of them.
#include <fmt/format.h>

#include <algorithm>

#include <array>

#include "qemu/check_disks.hpp"
#include "qemu/command/families.hpp"
#include "qemu/pci_devices.hpp"
#include "virtbus/error.hpp"
#include "virtbus/model/iothreads.hpp"

namespace virtbus::qemu {

namespace {

struct Model {
    std::string_view model, device;
};
constexpr std::array usb_models{Model{"piix3-uhci", "piix3-usb-uhci"},
                                Model{"piix4-uhci", "piix4-usb-uhci"},
                                Model{"ehci", "usb-ehci"},
                                Model{"ich9-ehci1", "ich9-usb-ehci1"},
                                Model{"ich9-uhci1", "ich9-usb-uhci1"},
                                Model{"ich9-uhci2", "ich9-usb-uhci2"},
                                Model{"ich9-uhci3", "ich9-usb-uhci3"},
                                Model{"vt82c686b-uhci", "vt82c686b-usb-uhci"},
                                Model{"pci-ohci", "pci-ohci"},
                                Model{"nec-xhci", "nec-usb-xhci"},
                                Model{"qemu-xhci", "qemu-xhci"}};
constexpr std::array scsi_models{Model{"lsilogic", "lsi53c895a"},   Model{"auto", "lsi53c895a"},
                                 Model{"lsisas1068", "mptsas1068"}, Model{"lsisas1078", "megasas"},
                                 Model{"vmpvscsi", "pvscsi"},       Model{"ibmvscsi", "spapr-vscsi"},
                                 Model{"am53c974", "am53c974"},     Model{"dc390", "dc390"}};

template <std::size_t n>
std::string device_of(const std::array<Model, n>& models, const Controller& controller) {
    for (const auto& each : models)
        if (each.model == controller.model) return std::string{each.device};
    throw Error{Code::unsupported_configuration,
                fmt::format("{} controller {}: QEMU has no model '{}'", word(controller.type),
                            controller.index.value_or(0), controller.model)};
}

Json pci_controller(const Controller& controller) {
    Json device;
    const ControllerTarget none;
    const auto& target = controller.target ? *controller.target : none;
    device.set("driver",
               controller.model_name == "spapr-pci-host-bridge" ? "spapr-pci-host-bridge" : controller.model_name);
    if (controller.model == "pci-bridge") device.set("chassis_nr", target.chassis_nr);
    if (controller.model == "pcie-root-port" || controller.model == "pcie-switch-downstream-port")
        device.set("port", target.port).set("chassis", target.chassis).set("hotplug", target.hotplug);
    if (controller.model.ends_with("expander-bus")) device.set("bus_nr", target.bus_nr).set("numa_node", target.node);
    if (controller.model == "pci-root") device.set("index", target.index).set("numa_node", target.node);
    return device;
}

void set_xhci_ports(Json& device, const Controller& controller) {
    if (!controller.model.ends_with("xhci")) return;
    device.set("p2", controller.ports);
    device.set("p3", controller.ports);
}

Json scsi_controller(Argv& line, const Controller& controller) {
    Json device;
    if (!is_virtio_model(controller.model)) return device.set("driver", device_of(scsi_models, controller));
    const auto model =
        controller.model == "virtio-scsi" ? std::string_view{"virtio"} : std::string_view{controller.model};
    device.set("driver", line.virtio_driver("virtio-scsi", model, controller.info));
    if (!controller.driver) return device;
    const auto& driver = *controller.driver;
    if (driver.iothread && !has_iothread(line.config, *driver.iothread))
        throw Error{Code::unsupported_configuration,
                    fmt::format("scsi controller {}: there is no iothread {}; <iothreads> or <iothreadids> make them",
                                controller.index.value_or(0), *driver.iothread)};
    if (driver.iothread) device.set("iothread", fmt::format("iothread{}", *driver.iothread));
    device.set("num_queues", driver.queues).set("cmd_per_lun", driver.cmd_per_lun);
    device.set("max_sectors", driver.max_sectors).set("ioeventfd", driver.ioeventfd);
    set_virtio(device, driver.virtio);
    return device;
}

/// What the chipset brings, or what is only a name.
bool is_built_in(const Argv& line, const Controller& controller) {
    const unsigned index = controller.index.value_or(0);
    switch (controller.type) {
        case ControllerType::pci:
            return index == 0;
        case ControllerType::ide:
            return true;
        case ControllerType::sata:
            return index == 0 && line.chipset.sata;
        case ControllerType::fdc:
            return line.chipset.kind == Chipset::Kind::pc || line.chipset.kind == Chipset::Kind::isapc;
        case ControllerType::usb:
            return controller.model == "none";
        case ControllerType::isa:
            return true;
        default:
            return false;
    }
}

Json device_for(Argv& line, const Controller& controller) {
    Json device;
    switch (controller.type) {
        case ControllerType::pci:
            return pci_controller(controller);
        case ControllerType::usb:
            device.set("driver", device_of(usb_models, controller));
            set_xhci_ports(device, controller);
            return device;
        case ControllerType::scsi:
            return scsi_controller(line, controller);
        case ControllerType::sata:
            return device.set("driver", "ich9-ahci");
        case ControllerType::fdc:
            return device.set("driver", "isa-fdc");
        case ControllerType::ccid:
            return device.set("driver", "usb-ccid");
        case ControllerType::nvme:
            return device.set("driver", "nvme")
                .set("serial", controller.serial.empty() ? controller.info.alias : controller.serial);
        case ControllerType::virtio_serial:
            device.set("driver", line.virtio_driver("virtio-serial", controller.model, controller.info));
            device.set("max_ports", controller.ports).set("vectors", controller.vectors);
            set_virtio(device, controller.driver);
            return device;
        default:
            throw Error{Code::unsupported_configuration,
                        fmt::format("QEMU has no controllers of type '{}'", word(controller.type))};
    }
}

/// A companion hangs on its EHCI and has no name of its own.
bool is_companion(const Controller& controller) {
    return controller.info.usb_master_startport.has_value() || controller.model.starts_with("ich9-uhci");
}

void set_master(Json& device, const Controller& controller) {
    const unsigned function = static_cast<unsigned>(controller.model.back() - '1');
    device.remove("id");
    device.set("masterbus", controller.info.alias + ".0");
    device.set("firstport", controller.info.usb_master_startport.value_or(2 * function));
}

std::ptrdiff_t depth(const Hub& hub) {
    const auto* at = hub.info.address_as<UsbAddress>();
    return at ? std::count(at->port.begin(), at->port.end(), '.') : 0;
}

/// Before all that may be behind one; a hub behind another one comes after it.
void add_hubs(Argv& line) {
    std::vector<const Hub*> hubs;
    for (const auto& hub : line.config.devices.hubs) hubs.push_back(&hub);
    std::sort(hubs.begin(), hubs.end(),
              [](const Hub* a, const Hub* b) { return std::pair{depth(*a), a} < std::pair{depth(*b), b}; });
    for (const Hub* hub : hubs) {
        Json device;
        device.set("driver", "usb-hub");
        line.place(device, hub->info);
        line.device(device, hub->info.alias);
    }
}

}  // namespace

/// The 64-bit window of the root bus.
void add_pci_hole(Argv& line) {
    const auto kind = line.chipset.kind;
    const char* bridge = kind == Chipset::Kind::q35  ? "q35-pcihost"
                         : kind == Chipset::Kind::pc ? "i440FX-pcihost"
                                                     : nullptr;
    for (const auto& controller : line.config.devices.controllers) {
        if (controller.type != ControllerType::pci || !controller.pcihole64) continue;
        if (controller.index.value_or(0) != 0 || !bridge)
            throw Error{Code::unsupported_configuration,
                        fmt::format("PCI controller {}: <pcihole64> is for the root bus of x86 machines",
                                    controller.index.value_or(0))};
        line.arg("-global", fmt::format("{}.pci-hole64-size={}K", bridge, *controller.pcihole64 / 1024));
    }
}

void add_controllers(Argv& line) {
    add_pci_hole(line);
    // PCI first: the others hang on it. A companion must come after its EHCI.
    const auto add = [&](auto wanted) {
        for (const auto& controller : line.config.devices.controllers) {
            if (is_built_in(line, controller) || !wanted(controller)) continue;
            Json device = device_for(line, controller);
            line.place(device, controller.info);
            if (controller.type == ControllerType::usb && is_companion(controller)) set_master(device, controller);
            line.device(device, controller.info.alias);
        }
    };
    add([](const Controller& c) { return c.type == ControllerType::pci; });
    add([](const Controller& c) {
        return c.type != ControllerType::pci && !is_companion(c) && c.type != ControllerType::ccid;
    });
    add([](const Controller& c) { return is_companion(c); });
    add_hubs(line);
}

void add_iothreads(Argv& line) {
    const auto& config = line.config;
    const auto add = [&](unsigned id, const Iothread* detail) {
        Json object;
        object.set("qom-type", "iothread").set("id", fmt::format("iothread{}", id));
        if (detail) {
            object.set("thread-pool-min", detail->thread_pool_min).set("thread-pool-max", detail->thread_pool_max);
            if (detail->poll)
                object.set("poll-max-ns", detail->poll->max)
                    .set("poll-grow", detail->poll->grow)
                    .set("poll-shrink", detail->poll->shrink);
        }
        line.object(object);
    };
    if (const auto& own = config.default_iothread)
        line.object(Json{}
                        .set("qom-type", "main-loop")
                        .set("id", "main-loop")
                        .set("thread-pool-min", own->thread_pool_min)
                        .set("thread-pool-max", own->thread_pool_max));
    for (const auto& thread : config.iothreadids) add(thread.id, &thread);
    unsigned id = 0;
    for (std::size_t have = config.iothreadids.size(); have < config.iothreads.value_or(0); ++have) {
        const auto used = [&](unsigned n) {
            for (const auto& thread : config.iothreadids)
                if (thread.id == n) return true;
            return false;
        };
        while (used(++id)) {
        }
        add(id, nullptr);
    }
}

}  // namespace virtbus::qemu
