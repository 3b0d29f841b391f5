// SPDX-License-Identifier: LGPL-2.1-or-later
// Firmware in flash or ROM with its variable store, and kernels booted without a disk.
#include <fmt/format.h>

#include "qemu/command/families.hpp"
#include "virtbus/error.hpp"

namespace virtbus::qemu {

namespace {

/// Flash of that size, empty, for a line that must run anywhere.
Json empty_flash(const std::string& name, std::uint64_t size) {
    return Json{}.set("driver", "null-co").set("node-name", name).set("size", size).set("read-zeroes", true);
}

void add_flash(Argv& line, const char* key, const std::string& node, bool read_only) {
    OpenedFile* file = line.find(key);
    if (!file) return;
    const std::string storage = node + "-storage";
    if (line.runnable()) {
        line.blockdev(empty_flash(storage, std::string_view{key} == "loader" ? 3 << 20 : 1 << 20));
    } else {
        Json bottom;
        const auto& nvram = line.config.os.nvram;
        const bool device = std::string_view{key} == "nvram" && nvram && nvram->type == StorageType::block;
        bottom.set("driver", device ? "host_device" : "file")
            .set("filename", line.fdset(*file))
            .set("node-name", storage);
        // See add_file() of the disks.
        bottom.set("auto-read-only", line.by_path() || read_only).set("discard", "unmap");
        line.blockdev(bottom);
    }
    const std::string format = line.runnable() || file->format.empty() ? "raw" : file->format;
    line.blockdev(Json{}
                      .set("node-name", node + "-format")
                      .set("read-only", read_only)
                      .set("driver", format)
                      .set("file", storage));
}

void require_local_store(const Os& os) {
    if (!os.nvram || !os.nvram->source) return;
    const auto type = os.nvram->type.value_or(StorageType::file);
    if (type != StorageType::file && type != StorageType::block)
        throw Error{Code::unsupported_configuration,
                    fmt::format("the variable store of the loader '{}' is of type '{}'; 'file' and 'block' are served",
                                os.loader->path, word(type))};
}

}  // namespace

void add_firmware_images(Argv& line) {
    const auto& loader = line.config.os.loader;
    if (!loader || loader->type != "pflash") return;
    require_local_store(line.config.os);
    add_flash(line, "loader", "libvirt-pflash0", loader->readonly.value_or(true));
    add_flash(line, "nvram", "libvirt-pflash1", false);
}

void add_direct_boot(Argv& line) {
    const Os& os = line.config.os;
    if (os.loader && os.loader->type == "pflash" && os.loader->secure.value_or(false) &&
        line.chipset.kind == Chipset::Kind::q35)
        line.arg("-global", "driver=cfi.pflash01,property=secure,value=on");
    if (os.loader && os.loader->type != "pflash")
        if (auto* file = line.find("loader")) line.arg("-bios", line.proc_path(*file));
    const auto add = [&](const char* key, const char* option) {
        OpenedFile* file = line.find(key);
        if (file) line.arg(option, line.proc_path(*file));
        return file != nullptr;
    };
    if (add("kernel", "-kernel") && !os.cmdline.empty()) line.arg("-append", os.cmdline);
    add("initrd", "-initrd");
    add("dtb", "-dtb");
    add("shim", "-shim");
    for (std::size_t i = 0; i < os.acpi_tables.size(); ++i)
        if (auto* file = line.find(fmt::format("acpi:{}", i))) {
            KeyValues table;
            if (os.acpi_tables[i].type == "slic") table.add("sig", "SLIC");
            line.arg("-acpitable", table.add("file", line.proc_path(*file)));
        }
}

}  // namespace virtbus::qemu
