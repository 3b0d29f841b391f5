// SPDX-License-Identifier: LGPL-2.1-or-later
#include "qemu/files_of.hpp"

#include <fmt/format.h>

#include "qemu/pci_devices.hpp"

namespace virtbus::qemu {

namespace {

using Use = NamedFile::Use;

class Collector {
public:
    explicit Collector(const std::string& runtime_folder) : runtime_folder_{runtime_folder} {}

    void add(NamedFile file) {
        if (!file.path.empty()) out.push_back(std::move(file));
    }

    void add_os(const Os& os) {
        const bool flash = os.loader && os.loader->type == "pflash";
        if (os.loader) {
            const bool writable = flash && !os.loader->readonly.value_or(true);
            add({"loader", os.loader->path, flash ? Use::plain : Use::copy,
                 writable ? Access::read_write : Access::read, os.loader->format.empty() ? "raw" : os.loader->format});
        }
        if (flash && os.nvram && !os.loader->stateless.value_or(false)) {
            const auto& source = os.nvram->source;
            const std::string& path = !source ? os.nvram->path : source->file.empty() ? source->dev : source->file;
            add({"nvram", path, Use::store, Access::read_write, os.nvram->format.empty() ? "raw" : os.nvram->format});
        }
        add({"kernel", os.kernel, Use::copy});
        add({"initrd", os.initrd, Use::copy});
        add({"dtb", os.dtb, Use::copy});
        add({"shim", os.shim, Use::copy});
        for (std::size_t i = 0; i < os.acpi_tables.size(); ++i)
            add({fmt::format("acpi:{}", i), os.acpi_tables[i].path, Use::copy});
    }

    template <class Device>
    void add_chardev(const Device& device, ChardevType type, const ChardevBackend& backend, bool listens = true) {
        const std::string key = "chardev:" + device.info.alias;
        const ChardevSource none;
        const auto& source = backend.source() ? *backend.source() : none;
        if (type == ChardevType::dev) add({key, source.path, Use::plain, Access::read_write});
        if (type == ChardevType::file)
            add({key, source.path, Use::output, Access::read_write, "", source.append.value_or(false)});
        if (type == ChardevType::unix_socket && source.mode == "bind" && listens) {
            std::string path = source.path;
            if (path.empty() && !runtime_folder_.empty())
                path = fmt::format("{}/{}.sock", runtime_folder_, device.info.alias);
            add({key, path, Use::listener});
        }
        if (backend.log)
            add({key + "/log", backend.log->file, Use::log, Access::read_write, "",
                 backend.log->append.value_or(true)});
    }

    std::vector<NamedFile> out;

private:
    const std::string& runtime_folder_;
};

/// Whether the kernel's own virtio-net back end is used: asked for, or taken where it is there.
enum class Vhost { none, wished, required };

Vhost vhost_of(const DomainConfig& config, const Interface& interface) {
    const auto type = actual_type(interface);
    const bool tap = type == InterfaceType::bridge || type == InterfaceType::direct || type == InterfaceType::ethernet;
    const std::string name = interface.driver ? interface.driver->name : "";
    if (!tap || !is_virtio_model(interface.model) || name == "qemu") return Vhost::none;
    if (name == "vhost" || (interface.backend && !interface.backend->vhost.empty())) return Vhost::required;
    return config.type == "kvm" ? Vhost::wished : Vhost::none;
}

bool is_paired(const DomainConfig& config, const Console& console) {
    const bool serial = !console.target || console.target->type == "serial" || console.target->type.empty();
    return serial && !config.devices.serials.empty();
}

}  // namespace

std::vector<NamedFile> files_of(const DomainConfig& config, const std::string& runtime_folder) {
    Collector files{runtime_folder};
    const Devices& devices = config.devices;
    files.add_os(config.os);
    std::size_t blob = 0;
    for (const auto& info : config.sysinfos)
        if (info.type == "fwcfg")
            for (const auto& entry : info.entries) files.add({fmt::format("fwcfg:{}", blob++), entry.file, Use::copy});
    for (const auto& serial : devices.serials) files.add_chardev(serial, serial.type, serial.backend);
    for (const auto& parallel : devices.parallels) files.add_chardev(parallel, parallel.type, parallel.backend);
    for (const auto& channel : devices.channels) files.add_chardev(channel, channel.type, channel.backend);
    for (const auto& console : devices.consoles)
        if (!is_paired(config, console)) files.add_chardev(console, console.type, console.backend);
    for (const auto& redirdev : devices.redirdevs) files.add_chardev(redirdev, redirdev.type, redirdev.backend);
    for (const auto& graphics : devices.graphics)
        if (graphics.type == GraphicsType::sdl) files.add({"xauth", graphics.xauth, Use::copy});
    for (const auto& card : devices.smartcards)
        if (card.type) files.add_chardev(card, *card.type, card.backend);
    for (const auto& rng : devices.rngs)
        if (rng.backend.model == "random") files.add({"rng:" + rng.info.alias, rng.backend.path, Use::plain});
    if (devices.vsock) files.add({"vsock", "/dev/vhost-vsock", Use::plain, Access::read_write});
    for (std::size_t i = 0; i < devices.interfaces.size(); ++i) {
        const auto& interface = devices.interfaces[i];
        const auto& info = interface.info;
        if (interface.source && interface.type == InterfaceType::vdpa)
            files.add({fmt::format("vdpa:{}", i), interface.source->dev, Use::plain, Access::read_write});
        if (info.rom && info.rom->enabled.value_or(true)) files.add({"rom:" + info.alias, info.rom->file, Use::copy});
        const Vhost vhost = vhost_of(config, interface);
        if (vhost == Vhost::none) continue;
        const bool elsewhere = interface.backend && !interface.backend->vhost.empty();
        const unsigned queues = interface.driver ? std::max(interface.driver->queues.value_or(1), 1u) : 1;
        for (unsigned queue = 0; queue < queues; ++queue)
            files.add({.key = fmt::format("vhost:{}{}", i, queue ? fmt::format("/{}", queue) : ""),
                       .path = elsewhere ? interface.backend->vhost : "/dev/vhost-net",
                       .access = Access::read_write,
                       .optional = vhost == Vhost::wished});
    }
    for (const auto& hostdev : devices.hostdevs)
        if (hostdev.info.rom && hostdev.info.rom->enabled.value_or(true))
            files.add({"rom:" + hostdev.info.alias, hostdev.info.rom->file, Use::copy});
    return std::move(files.out);
}

}  // namespace virtbus::qemu
