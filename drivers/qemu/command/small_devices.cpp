// SPDX-License-Identifier: LGPL-2.1-or-later
// Balloon, randomness, watchdog, panic, vsock, shared memory, IOMMU, crypto, pstore.
#include <fmt/format.h>

#include "qemu/command/families.hpp"
#include "virtbus/error.hpp"

namespace virtbus::qemu {

namespace {

[[noreturn]] void refuse(const std::string& why) {
    throw Error{Code::unsupported_configuration, why};
}

void add_placed(Argv& line, Json device, const DeviceInfo& info) {
    line.place(device, info);
    line.device(std::move(device), info.alias);
}

void add_balloon(Argv& line) {
    const auto& balloon = line.config.devices.memballoon;
    if (!balloon || balloon->model == "none") return;
    if (balloon->model == "xen") refuse("a memory balloon of model 'xen' is for Xen");
    Json device;
    device.set("driver", line.virtio_driver("virtio-balloon", balloon->model, balloon->info));
    device.set("deflate-on-oom", balloon->autodeflate).set("free-page-reporting", balloon->free_page_reporting);
    set_virtio(device, balloon->driver);
    add_placed(line, device, balloon->info);
}

void add_rng(Argv& line, const Rng& rng) {
    const std::string id = "obj" + rng.info.alias;
    Json object;
    if (rng.backend.model == "builtin" || (line.runnable() && rng.backend.model == "egd")) {
        object.set("qom-type", "rng-builtin").set("id", id);
    } else if (rng.backend.model == "egd") {
        const std::string chardev =
            add_chardev(line, rng.backend.type.value_or(ChardevType::null), rng.backend.chardev, rng.info.alias);
        object.set("qom-type", "rng-egd").set("id", id).set("chardev", chardev);
    } else {
        auto* source = line.find("rng:" + rng.info.alias);
        object.set("qom-type", "rng-random").set("id", id);
        object.set("filename", source ? line.fdset(*source) : rng.backend.path);
    }
    line.object(object);
    Json device;
    device.set("driver", line.virtio_driver("virtio-rng", rng.model, rng.info)).set("rng", id);
    if (rng.rate) device.set("max-bytes", rng.rate->bytes).set("period", rng.rate->period.value_or(1000));
    set_virtio(device, rng.driver);
    add_placed(line, device, rng.info);
}

void add_watchdog(Argv& line, const Watchdog& watchdog) {
    if (watchdog.model == "itco") {
        line.arg("-global", "ICH9-LPC.noreboot=off");
        return;
    }
    add_placed(line, Json{}.set("driver", watchdog.model), watchdog.info);
}

void add_panic(Argv& line, const Panic& panic) {
    if (panic.model == "pseries" || panic.model == "s390" || panic.model == "hyperv")
        return;  // the machine's or the CPU's
    Json device;
    device.set("driver", panic.model == "isa" ? "pvpanic" : "pvpanic-pci");
    if (panic.model == "isa") {
        // Its port is called otherwise than other ISA devices' are.
        device.set("id", panic.info.alias);
        if (const auto* isa = panic.info.address_as<IsaAddress>()) device.set("ioport", isa->iobase);
        return line.device(device, panic.info.alias);
    }
    add_placed(line, device, panic.info);
}

void add_vsock(Argv& line) {
    const auto& vsock = line.config.devices.vsock;
    if (!vsock || line.runnable()) return;
    Json device;
    device.set("driver", line.virtio_driver("vhost-vsock", vsock->model, vsock->info));
    // The kernel gave the address when the device was opened; a hotplugged one has it in the definition.
    const auto said = vsock->cid ? vsock->cid->address : std::nullopt;
    device.set("guest-cid", line.opened.vsock_cid.value_or(said.value_or(3)));
    if (auto* node = line.find("vsock"); node && node->fd)
        device.set("vhostfd", std::to_string(line.give(std::move(node->fd))));
    set_virtio(device, vsock->driver);
    add_placed(line, device, vsock->info);
}

void add_shmem(Argv& line, const Shmem& shmem) {
    Json device;
    if (shmem.model == "ivshmem-doorbell" || shmem.server) {
        if (line.runnable()) return;
        const std::string id = "char" + shmem.info.alias;
        line.arg("-chardev",
                 KeyValues{"socket"}.add("id", id).add("path", shmem.server && !shmem.server->path.empty()
                                                                   ? shmem.server->path
                                                                   : "/var/lib/libvirt/shmem-" + shmem.name + "-sock"));
        device.set("driver", "ivshmem-doorbell").set("chardev", id);
        if (shmem.msi) device.set("vectors", shmem.msi->vectors).set("ioeventfd", shmem.msi->ioeventfd);
    } else {
        const std::string id = "shmmem-" + shmem.info.alias;
        Json object;
        const bool file = !line.runnable();
        object.set("qom-type", file ? "memory-backend-file" : "memory-backend-ram").set("id", id);
        if (file) object.set("mem-path", "/dev/shm/" + shmem.name);
        line.object(object.set("size", shmem.size.value_or(4 << 20)).set("share", true));
        device.set("driver", "ivshmem-plain").set("memdev", id);
    }
    if (!shmem.role.empty()) device.set("master", shmem.role == "master" ? "on" : "off");
    add_placed(line, device, shmem.info);
}

void add_crypto(Argv& line, const Crypto& crypto) {
    const std::string id = "obj" + crypto.info.alias;
    line.object(
        Json{}
            .set("qom-type", crypto.backend.model == "lkcf" ? "cryptodev-backend-lkcf" : "cryptodev-backend-builtin")
            .set("id", id)
            .set("queues", crypto.backend.queues));
    Json device;
    device.set("driver", line.virtio_driver("virtio-crypto", "", crypto.info)).set("cryptodev", id);
    set_virtio(device, crypto.driver);
    add_placed(line, device, crypto.info);
}

void add_pstore(Argv& line) {
    const auto& pstore = line.config.devices.pstore;
    if (!pstore) return;
    const std::uint64_t size = pstore->size.value_or(256 << 10);
    Json object;
    const bool file = !line.runnable();
    object.set("qom-type", file ? "memory-backend-file" : "memory-backend-ram").set("id", "mem" + pstore->info.alias);
    if (file) object.set("mem-path", pstore->path);
    line.object(object.set("size", size).set("share", true));
    add_placed(line, Json{}.set("driver", "acpi-erst").set("memdev", "mem" + pstore->info.alias), pstore->info);
}

}  // namespace

void add_iommus(Argv& line) {
    for (const auto& iommu : line.config.devices.iommus) {
        Json device;
        const IommuDriver none;
        const auto& driver = iommu.driver ? *iommu.driver : none;
        if (iommu.model == "smmuv3") {
            line.arg("-machine", "iommu=smmuv3");
            continue;
        }
        if (iommu.model == "virtio") {
            device.set("driver", line.virtio_driver("virtio-iommu", "", iommu.info));
            device.set_text("granule", driver.granule);
        } else if (iommu.model == "amd") {
            device.set("driver", "amd-iommu").set_on_off("intremap", driver.intremap).set("device-iotlb", driver.iotlb);
            device.set("pt", driver.passthrough).set("xtsup", driver.xtsup);
        } else {
            device.set("driver", "intel-iommu").set_on_off("intremap", driver.intremap);
            device.set("caching-mode", driver.caching_mode)
                .set_on_off("eim", driver.eim)
                .set("device-iotlb", driver.iotlb);
            device.set("aw-bits", driver.aw_bits).set("dma-translation", driver.dma_translation);
        }
        add_placed(line, device, iommu.info);
    }
}

void add_small_devices(Argv& line) {
    const Devices& devices = line.config.devices;
    add_tpms(line);
    for (const auto& watchdog : devices.watchdogs) add_watchdog(line, watchdog);
    add_balloon(line);
    for (const auto& rng : devices.rngs) add_rng(line, rng);
    for (const auto& panic : devices.panics) add_panic(line, panic);
    for (const auto& shmem : devices.shmems) add_shmem(line, shmem);
    for (const auto& crypto : devices.cryptos) add_crypto(line, crypto);
    add_vsock(line);
    add_pstore(line);
    if (devices.nvram)
        if (const auto* at = devices.nvram->info.address_as<SpaprVioAddress>(); at && at->reg)
            line.arg("-global", fmt::format("spapr-nvram.reg={:#x}", *at->reg));
    if (line.config.genid) {
        Json device;
        device.set("driver", "vmgenid")
            .set("guid", line.config.genid->uuid.empty() ? "auto" : line.config.genid->uuid.c_str())
            .set("id", "vmgenid0");
        line.device(device, "");
    }
}

}  // namespace virtbus::qemu
