// SPDX-License-Identifier: LGPL-2.1-or-later
#include "qemu/firmware.hpp"

#include <fnmatch.h>

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>

#include "qemu/json.hpp"
#include "virtbus/error.hpp"

namespace virtbus::qemu {

namespace {

using Json = nlohmann::json;
constexpr std::size_t longest_descriptor = 64 * 1024;

std::vector<std::string> texts(const Json& list) {
    std::vector<std::string> out;
    if (list.is_array())
        for (const auto& entry : list)
            if (entry.is_string()) out.push_back(entry.get<std::string>());
    return out;
}

/// QEMU's words for targets and libvirt's for architectures are the same but for these.
std::string_view target_of(std::string_view arch) {
    if (arch == "i686") return "i386";
    if (arch == "armv7l") return "arm";
    return arch;
}

bool fits_machine(const Firmware& firmware, const Os& os) {
    return std::any_of(firmware.targets.begin(), firmware.targets.end(), [&](const FirmwareTarget& target) {
        return target.arch == target_of(os.arch) &&
               std::any_of(target.machines.begin(), target.machines.end(), [&](const std::string& pattern) {
                   return ::fnmatch(pattern.c_str(), os.machine.c_str(), 0) == 0;
               });
    });
}

std::optional<bool> wanted(const Os& os, std::string_view feature) {
    for (const auto& each : os.firmware_features)
        if (each.name == feature) return each.enabled;
    return std::nullopt;
}

bool fits_features(const Firmware& firmware, const Os& os, const Features* features) {
    for (const std::string_view feature : {"secure-boot", "enrolled-keys"})
        if (const auto want = wanted(os, feature); want && *want != firmware.has(feature)) return false;
    if (os.loader && os.loader->secure && *os.loader->secure != firmware.has("secure-boot")) return false;
    const bool no_smm = features && features->smm && !features->smm->on();
    return !(firmware.has("requires-smm") && no_smm);
}

bool fits_loader(const Firmware& firmware, const Os& os) {
    if (!os.loader) return true;
    if (!os.loader->path.empty() && os.loader->path != firmware.executable) return false;
    if (!os.loader->format.empty() && os.loader->format != firmware.executable_format) return false;
    if (os.loader->type == "rom" && firmware.device != "memory") return false;
    if (os.loader->type == "pflash" && firmware.device != "flash") return false;
    return os.loader->stateless.value_or(false) == (firmware.mode == "stateless");
}

}  // namespace

bool Firmware::has(std::string_view feature) const {
    return std::find(features.begin(), features.end(), feature) != features.end();
}

Firmware parse_firmware(std::string name, std::string_view content) try {
    const Json json = parse_json(content);
    Firmware out;
    out.descriptor = std::move(name);
    for (const auto& type : texts(member(json, "interface-types"))) {
        out.uefi |= type == "uefi";
        out.bios |= type == "bios";
    }
    const Json& mapping = member(json, "mapping");
    out.device = text(mapping, "device");
    if (out.device == "flash") {
        out.mode = text(mapping, "mode", "split");
        out.executable = text(member(mapping, "executable"), "filename");
        out.executable_format = text(member(mapping, "executable"), "format", "raw");
        out.nvram_template = text(member(mapping, "nvram-template"), "filename");
        out.template_format = text(member(mapping, "nvram-template"), "format", "raw");
        if (out.mode == "split" && out.nvram_template.empty()) return {};
    } else if (out.device == "memory") {
        out.executable = text(mapping, "filename");
        out.executable_format = "raw";
    } else {
        return {};
    }
    for (const auto& target : member(json, "targets"))
        out.targets.push_back({text(target, "architecture"), texts(member(target, "machines"))});
    out.features = texts(member(json, "features"));
    if (out.executable.empty() || out.executable.front() != '/') return {};
    return out;
} catch (const Error&) {
    return {};
}

std::vector<Firmware> load_firmwares(Files& files, const std::string& user_folder) {
    std::map<std::string, Firmware> by_name;  // its order is the order of preference
    for (const std::string& folder :
         {std::string{"/usr/share/qemu/firmware"}, std::string{"/etc/qemu/firmware"}, user_folder}) {
        if (folder.empty()) continue;
        for (const auto& name : files.list(folder)) {
            if (!name.ends_with(".json")) continue;
            const auto content = files.read(folder + "/" + name, longest_descriptor);
            if (content) by_name[name] = parse_firmware(name, *content);
        }
    }
    std::vector<Firmware> out;
    for (auto& [name, firmware] : by_name)
        if (!firmware.executable.empty()) out.push_back(std::move(firmware));
    return out;
}

const Firmware* choose_firmware(const std::vector<Firmware>& firmwares, const Os& os, const Features* features) {
    for (const auto& firmware : firmwares) {
        const bool type = os.firmware == "efi" ? firmware.uefi : firmware.bios;
        if (type && fits_machine(firmware, os) && fits_features(firmware, os, features) && fits_loader(firmware, os))
            return &firmware;
    }
    return nullptr;
}

const Firmware* find_firmware(const std::vector<Firmware>& firmwares, std::string_view executable) {
    const auto found =
        std::find_if(firmwares.begin(), firmwares.end(), [&](auto& f) { return f.executable == executable; });
    return found == firmwares.end() ? nullptr : &*found;
}

}  // namespace virtbus::qemu
