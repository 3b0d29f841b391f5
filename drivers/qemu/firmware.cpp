// SPDX-License-Identifier: LGPL-2.1-or-later
#include "qemu/firmware.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>
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
    if (feature == "secure-boot" && os.loader) return os.loader->secure;
    return std::nullopt;
}

using Misfits = std::vector<std::string>;

void compare_features(const Firmware& firmware, const Os& os, const Features* features, Misfits& misfits) {
    for (const std::string_view feature : {"secure-boot", "enrolled-keys"})
        if (const auto want = wanted(os, feature); want && *want != firmware.has(feature))
            misfits.push_back(fmt::format("{} {}", firmware.has(feature) ? "has" : "lacks", feature));
    if (firmware.has("requires-smm") && features && features->smm && !features->smm->on())
        misfits.emplace_back("needs SMM, which is off");
}

void compare_loader(const Firmware& firmware, const Os& os, Misfits& misfits) {
    // Code and variables in one file would be one file for all machines.
    if (firmware.mode == "combined") misfits.emplace_back("keeps variables in the file of the code");
    if (!os.loader) {
        if (firmware.mode == "stateless") misfits.emplace_back("keeps no variables");
        return;
    }
    const Loader& loader = *os.loader;
    if (!loader.path.empty() && loader.path != firmware.executable)
        misfits.push_back(fmt::format("is {}", firmware.executable));
    if (!loader.format.empty() && loader.format != firmware.executable_format)
        misfits.push_back(fmt::format("has the format {}", firmware.executable_format));
    if ((loader.type == "rom" && firmware.device != "memory") ||
        (loader.type == "pflash" && firmware.device != "flash"))
        misfits.push_back(fmt::format("is for {}", firmware.device));
    if (loader.stateless.value_or(false) != (firmware.mode == "stateless"))
        misfits.emplace_back(firmware.mode == "stateless" ? "keeps no variables" : "keeps variables");
}

/// Why it cannot be taken; empty when it can.
Misfits misfits_of(const Firmware& firmware, const Os& os, const Features* features) {
    Misfits misfits;
    if (!fits_machine(firmware, os)) misfits.push_back(fmt::format("is not for {} {}", os.arch, os.machine));
    compare_features(firmware, os, features, misfits);
    compare_loader(firmware, os, misfits);
    return misfits;
}

bool is_of_type(const Firmware& firmware, const Os& os) {
    return os.firmware == "efi" ? firmware.uefi : firmware.bios;
}

/// A name that means what it says.
bool is_plain_path(const std::string& path) {
    if (path.empty() || path.front() != '/' || path.size() > 4096) return false;
    if (std::any_of(path.begin(), path.end(), [](char c) { return static_cast<unsigned char>(c) < ' ' || c == 0x7f; }))
        return false;
    return (path + '/').find("/../") == std::string::npos;
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
    if (!is_plain_path(out.executable)) return {};
    if (!out.nvram_template.empty() && !is_plain_path(out.nvram_template)) return {};
    return out;
} catch (const Error&) {
    return {};
}

std::vector<Firmware> load_firmwares(Files& files, const std::vector<std::string>& folders,
                                     std::vector<std::string>& problems) {
    std::map<std::string, Firmware> by_name;  // its order is the order of preference
    for (const std::string& folder : folders) {
        for (const auto& name : files.list(folder)) {
            if (!name.ends_with(".json")) continue;
            auto& firmware = by_name[name];
            firmware = Firmware{};
            try {
                const auto content = files.read(folder + "/" + name, longest_descriptor);
                if (content) firmware = parse_firmware(name, *content);
                if (content && !content->empty() && firmware.executable.empty())
                    problems.push_back(fmt::format("{}/{} describes no firmware that can be used", folder, name));
            } catch (const Error& error) {
                problems.emplace_back(error.what());
            }
        }
    }
    std::vector<Firmware> out;
    for (auto& [name, firmware] : by_name)
        if (!firmware.executable.empty()) out.push_back(std::move(firmware));
    return out;
}

void require_sound_firmware(const Os& os, const Features* features, const Chipset& chipset) {
    const auto refuse = [](std::string why) { throw Error{Code::invalid_xml, std::move(why)}; };
    if (wanted(os, "enrolled-keys").value_or(false) && !wanted(os, "secure-boot").value_or(true))
        refuse("<firmware>: 'enrolled-keys' are of use with 'secure-boot' only, which is disabled");
    if (os.firmware == "bios" && os.nvram) refuse("<nvram> is given, but a BIOS keeps no variables");
    if (!os.loader) return;
    const Loader& loader = *os.loader;
    const bool rom = loader.type == "rom" || os.firmware == "bios" || (os.firmware.empty() && loader.type.empty());
    if (os.firmware.empty() && loader.path.empty())
        refuse("<loader> names no file; with <os firmware='efi'> one is chosen");
    if (rom && loader.stateless == false) refuse("<loader stateless='no'>: a loader of type 'rom' keeps no variables");
    // It would be the file of all machines of the host.
    if (os.firmware == "efi" && loader.readonly == false)
        refuse(
            "<loader readonly='no'> is for a file of the guest's own, named in <loader> without <os firmware='efi'>");
    if (!loader.secure.value_or(false) || !chipset.x86()) return;
    if (chipset.kind != Chipset::Kind::q35) refuse("<loader secure='yes'> needs the machine q35");
    if (features && features->smm && !features->smm->on()) refuse("<loader secure='yes'> needs <smm state='on'/>");
}

const Firmware* choose_firmware(const std::vector<Firmware>& firmwares, const Os& os, const Features* features) {
    for (const auto& firmware : firmwares)
        if (is_of_type(firmware, os) && misfits_of(firmware, os, features).empty()) return &firmware;
    return nullptr;
}

std::string explain_no_firmware(const std::vector<Firmware>& firmwares, const Os& os, const Features* features) {
    std::vector<std::pair<Misfits, const Firmware*>> near;
    for (const auto& firmware : firmwares)
        if (is_of_type(firmware, os)) near.emplace_back(misfits_of(firmware, os, features), &firmware);
    std::sort(near.begin(), near.end(), [](auto& one, auto& other) {
        return std::make_pair(one.first.size(), one.second) < std::make_pair(other.first.size(), other.second);
    });
    std::string asked = fmt::format("machine {}", os.machine);
    for (const std::string_view feature : {"secure-boot", "enrolled-keys"})
        if (const auto want = wanted(os, feature)) asked += fmt::format(", {}{}", *want ? "" : "no ", feature);
    if (os.loader && !os.loader->path.empty()) asked += ", loader " + os.loader->path;
    if (os.loader && os.loader->stateless.value_or(false)) asked += ", stateless";
    std::string out = fmt::format("firmware {}: no descriptor of this host fits {}", os.firmware, asked);
    if (near.empty()) return out + "; there is none of that kind at all";
    for (std::size_t i = 0; i < std::min<std::size_t>(near.size(), 3); ++i)
        out += fmt::format("{} {} {}", i == 0 ? "; the closest:" : ",", near[i].second->descriptor,
                           fmt::join(near[i].first, " and "));
    return out;
}

const Firmware* find_firmware(const std::vector<Firmware>& firmwares, std::string_view executable) {
    const auto found =
        std::find_if(firmwares.begin(), firmwares.end(), [&](auto& f) { return f.executable == executable; });
    return found == firmwares.end() ? nullptr : &*found;
}

std::string known_template(std::string_view loader) {
    struct Pair {
        std::string_view code, variables;
    };
    static constexpr Pair pairs[] = {
        {"/usr/share/OVMF/OVMF_CODE.fd", "/usr/share/OVMF/OVMF_VARS.fd"},
        {"/usr/share/OVMF/OVMF_CODE.secboot.fd", "/usr/share/OVMF/OVMF_VARS.fd"},
        {"/usr/share/OVMF/OVMF_CODE.ms.fd", "/usr/share/OVMF/OVMF_VARS.ms.fd"},
        {"/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd"},
        {"/usr/share/OVMF/OVMF_CODE_4M.secboot.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd"},
        {"/usr/share/OVMF/OVMF_CODE_4M.ms.fd", "/usr/share/OVMF/OVMF_VARS_4M.ms.fd"},
        {"/usr/share/OVMF/OVMF_CODE_4M.snakeoil.fd", "/usr/share/OVMF/OVMF_VARS_4M.snakeoil.fd"},
        {"/usr/share/edk2/ovmf/OVMF_CODE.fd", "/usr/share/edk2/ovmf/OVMF_VARS.fd"},
        {"/usr/share/edk2/ovmf/OVMF_CODE.secboot.fd", "/usr/share/edk2/ovmf/OVMF_VARS.secboot.fd"},
        {"/usr/share/edk2/x64/OVMF_CODE.4m.fd", "/usr/share/edk2/x64/OVMF_VARS.4m.fd"},
        {"/usr/share/qemu/ovmf-x86_64-code.bin", "/usr/share/qemu/ovmf-x86_64-vars.bin"},
        {"/usr/share/AAVMF/AAVMF_CODE.fd", "/usr/share/AAVMF/AAVMF_VARS.fd"},
        {"/usr/share/AAVMF/AAVMF32_CODE.fd", "/usr/share/AAVMF/AAVMF32_VARS.fd"},
    };
    for (const auto& [code, variables] : pairs)
        if (code == loader) return std::string{variables};
    return {};
}

}  // namespace virtbus::qemu
