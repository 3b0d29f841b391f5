// SPDX-License-Identifier: LGPL-2.1-or-later
// Definitions from the corpus made whole for a known emulator, without anything that differs from run to run.
#pragma once

#include <fmt/format.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <vector>

#include "qemu/command_line.hpp"
#include "qemu/complete.hpp"
#include "qemu/probe.hpp"
#include "service/xml/domain_xml.hpp"
#include "virtbus/error.hpp"

namespace virtbus::tests {

inline std::string read_text(const std::filesystem::path& path) {
    std::ifstream file{path};
    std::stringstream text;
    text << file.rdbuf();
    return text.str();
}

inline std::filesystem::path data_folder() {
    return std::filesystem::path{VIRTBUS_SOURCE_ROOT} / "tests/data";
}

/// The definitions of the corpus, sorted.
inline std::vector<std::string> domain_names() {
    std::vector<std::string> names;
    for (const auto& entry : std::filesystem::directory_iterator{data_folder() / "domains"})
        if (entry.path().extension() == ".xml" && entry.path().stem().extension() != ".out")
            names.push_back(entry.path().stem().string());
    std::sort(names.begin(), names.end());
    return names;
}

/// What the emulator of that architecture can do, as it was probed once.
inline const qemu::Capabilities& known_capabilities(const std::string& arch) {
    static const auto known = [] {
        std::map<std::string, qemu::Capabilities> out;
        for (const char* name : {"x86_64", "aarch64", "ppc64", "s390x", "riscv64"}) {
            const auto path = data_folder() / "capabilities" / fmt::format("{}.json", name);
            out[name] = qemu::capabilities_from_json(nlohmann::json::parse(read_text(path)));
        }
        return out;
    }();
    const auto found = known.find(arch);
    return found == known.end() ? known.at("x86_64") : found->second;
}

inline const qemu::Surroundings& known_surroundings() {
    static const qemu::Surroundings surroundings = [] {
        const auto describe = [](const char* name, const char* code, const char* vars, const char* features) {
            return qemu::parse_firmware(name, fmt::format(R"({{"interface-types":["uefi"],"mapping":{{"device":"flash",
                    "executable":{{"filename":"/usr/share/OVMF/{}","format":"raw"}},
                    "nvram-template":{{"filename":"/usr/share/OVMF/{}","format":"raw"}}}},
                    "targets":[{{"architecture":"x86_64","machines":["pc-q35-*","pc-i440fx-*"]}}],"features":[{}]}})",
                                                          code, vars, features));
        };
        qemu::Surroundings out;
        out.firmwares = {describe("40.json", "OVMF_CODE_4M.ms.fd", "OVMF_VARS_4M.ms.fd",
                                  R"("secure-boot","enrolled-keys","requires-smm")"),
                         describe("60.json", "OVMF_CODE_4M.fd", "OVMF_VARS_4M.fd", R"("acpi-s3")")};
        out.nvram_folder = "/var/lib/virtbus/nvram";
        return out;
    }();
    return surroundings;
}

/// What is random in a definition becomes fixed.
inline void make_steady(DomainConfig& config) {
    if (config.uuid.empty()) config.uuid = "00000000-0000-4000-8000-000000000001";
    if (config.genid && config.genid->uuid.empty()) config.genid->uuid = "00000000-0000-4000-8000-000000000002";
    unsigned number = 0;
    for (auto& interface : config.devices.interfaces)
        if (++number; interface.mac.empty()) interface.mac = fmt::format("52:54:00:00:00:{:02x}", number);
}

inline DomainConfig whole(DomainConfig config, const DomainConfig* previous = nullptr) {
    make_steady(config);
    xml::complete_generic(config);
    qemu::complete(config, previous, known_capabilities(config.os.arch.empty() ? "x86_64" : config.os.arch),
                   known_surroundings());
    return config;
}
inline DomainConfig whole(std::string_view text, const DomainConfig* previous = nullptr) {
    return whole(xml::parse_domain(text).config, previous);
}

/// One option and its value a line.
inline std::string one_a_line(const std::vector<std::string>& argv) {
    std::string out;
    for (std::size_t i = 0; i < argv.size(); ++i) {
        const bool value = i > 0 && argv[i - 1].starts_with('-') && !argv[i].starts_with('-');
        out += (i == 0 ? "" : value ? " " : "\n") + argv[i];
    }
    return out + "\n";
}

}  // namespace virtbus::tests
