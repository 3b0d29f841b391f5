// SPDX-License-Identifier: LGPL-2.1-or-later
// SMBIOS tables and blobs for the firmware.
#include <fmt/format.h>

#include "qemu/command/families.hpp"

namespace virtbus::qemu {

namespace {

struct Name {
    std::string_view xml, qemu;
};
constexpr Name bios_names[]{{"vendor", "vendor"}, {"version", "version"}, {"date", "date"}, {"release", "release"}};
constexpr Name system_names[]{{"manufacturer", "manufacturer"},
                              {"product", "product"},
                              {"version", "version"},
                              {"serial", "serial"},
                              {"uuid", "uuid"},
                              {"sku", "sku"},
                              {"family", "family"}};
constexpr Name board_names[]{{"manufacturer", "manufacturer"},
                             {"product", "product"},
                             {"version", "version"},
                             {"serial", "serial"},
                             {"asset", "asset"},
                             {"location", "location"}};
constexpr Name chassis_names[]{
    {"manufacturer", "manufacturer"}, {"version", "version"}, {"serial", "serial"}, {"asset", "asset"}, {"sku", "sku"}};

template <std::size_t n>
void add_table(Argv& line, int type, const SysinfoBlock& block, const Name (&names)[n]) {
    KeyValues table{fmt::format("type={}", type)};
    bool any = false;
    for (const auto& name : names)
        for (const auto& entry : block.entries) {
            // An empty entry says nothing; QEMU's own words stay.
            if (entry.name != name.xml || entry.value.empty()) continue;
            table.add(name.qemu, entry.value);
            any = true;
        }
    if (any) line.arg("-smbios", table);
}

void add_smbios(Argv& line, const Sysinfo& info) {
    if (info.bios) add_table(line, 0, *info.bios, bios_names);
    if (info.system) add_table(line, 1, *info.system, system_names);
    for (const auto& board : info.base_boards) add_table(line, 2, board, board_names);
    if (info.chassis) add_table(line, 3, *info.chassis, chassis_names);
    if (!info.oem_strings || info.oem_strings->entries.empty()) return;
    KeyValues strings{"type=11"};
    for (const auto& entry : info.oem_strings->entries) strings.add("value", entry.value);
    line.arg("-smbios", strings);
}

void add_fw_cfg(Argv& line, const Sysinfo& info, std::size_t& number) {
    for (const auto& entry : info.entries) {
        const std::string key = fmt::format("fwcfg:{}", number++);
        KeyValues value;
        value.add("name", entry.name);
        if (auto* file = line.find(key))
            value.add("file", line.proc_path(*file));
        else if (entry.file.empty())
            value.add("string", entry.value);
        else
            continue;
        line.arg("-fw_cfg", value);
    }
}

}  // namespace

void add_sysinfo(Argv& line) {
    std::size_t number = 0;
    if (line.config.os.smbios_mode == "host" && line.opened.host_smbios) add_smbios(line, *line.opened.host_smbios);
    for (const auto& info : line.config.sysinfos) {
        if (info.type == "smbios" && line.config.os.smbios_mode == "sysinfo") add_smbios(line, info);
        if (info.type == "fwcfg") add_fw_cfg(line, info, number);
    }
}

}  // namespace virtbus::qemu
