// SPDX-License-Identifier: LGPL-2.1-or-later
#include "qemu/host_smbios.hpp"

#include <algorithm>
#include <array>
#include <fstream>

namespace virtbus::qemu {

namespace {

enum Block { bios, system, board, chassis, blocks };

struct Entry {
    Block block;
    const char *name, *file;
};
constexpr Entry entries[]{
    {bios, "vendor", "bios_vendor"},
    {bios, "version", "bios_version"},
    {bios, "date", "bios_date"},
    {bios, "release", "bios_release"},
    {system, "manufacturer", "sys_vendor"},
    {system, "product", "product_name"},
    {system, "version", "product_version"},
    {system, "serial", "product_serial"},
    {system, "sku", "product_sku"},
    {system, "family", "product_family"},
    {board, "manufacturer", "board_vendor"},
    {board, "product", "board_name"},
    {board, "version", "board_version"},
    {board, "serial", "board_serial"},
    {board, "asset", "board_asset_tag"},
    {chassis, "manufacturer", "chassis_vendor"},
    {chassis, "version", "chassis_version"},
    {chassis, "serial", "chassis_serial"},
    {chassis, "asset", "chassis_asset_tag"},
};

/// Its line without what a table cannot hold; "" where it is not there, or for root alone and this is not root.
std::string line_of(const std::string& path) {
    std::ifstream file{path};
    std::string line;
    std::getline(file, line);
    std::erase_if(line, [](unsigned char c) { return c < ' ' || c == 0x7f; });
    line.erase(line.find_last_not_of(' ') + 1);
    return line;
}

}  // namespace

std::optional<Sysinfo> read_host_smbios(const std::string& root) {
    std::array<std::optional<SysinfoBlock>, blocks> found;
    for (const auto& entry : entries) {
        auto value = line_of(root + "/sys/class/dmi/id/" + entry.file);
        if (value.empty()) continue;
        auto& block = found[entry.block];
        if (!block) block.emplace();
        block->entries.push_back({.name = entry.name, .file = {}, .value = std::move(value), .unknown = {}});
    }
    if (std::ranges::none_of(found, [](auto& block) { return block.has_value(); })) return std::nullopt;
    Sysinfo out;
    out.bios = std::move(found[bios]);
    out.system = std::move(found[system]);
    if (found[board]) out.base_boards.push_back(std::move(*found[board]));
    out.chassis = std::move(found[chassis]);
    return out;
}

}  // namespace virtbus::qemu
