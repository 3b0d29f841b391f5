// SPDX-License-Identifier: LGPL-2.1-or-later
#include "qemu/host_devices.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <fstream>

namespace virtbus::qemu {

namespace {

namespace fs = std::filesystem;

std::optional<std::uint32_t> read_number(const fs::path& path, int base) {
    std::ifstream file{path};
    std::string text;
    std::uint32_t value = 0;
    if (!(file >> text)) return std::nullopt;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, base);
    return error == std::errc{} && end == text.data() + text.size() ? std::optional{value} : std::nullopt;
}

std::string link_name(const fs::path& link) {
    std::error_code error;
    const auto target = fs::read_symlink(link, error);
    return error ? std::string{} : target.filename().string();
}

}  // namespace

std::string UsbDevice::node() const {
    return fmt::format("/dev/bus/usb/{:03}/{:03}", bus, device);
}

std::vector<UsbDevice> find_usb_devices(const std::string& root, std::optional<std::uint32_t> vendor,
                                        std::optional<std::uint32_t> product, std::optional<std::uint32_t> bus,
                                        std::optional<std::uint32_t> device) {
    std::vector<UsbDevice> found;
    std::error_code error;
    for (const auto& entry : fs::directory_iterator{root + "/sys/bus/usb/devices", error}) {
        const auto number = [&](const char* name, int base) { return read_number(entry.path() / name, base); };
        const auto has = [](const auto& wanted, const auto& there) { return !wanted || wanted == there; };
        const auto on = number("busnum", 10), at = number("devnum", 10);
        if (!on || !at || !has(bus, on) || !has(device, at)) continue;  // interfaces have no numbers
        if (has(vendor, number("idVendor", 16)) && has(product, number("idProduct", 16))) found.push_back({*on, *at});
    }
    std::ranges::sort(found, {}, [](const UsbDevice& each) { return std::pair{each.bus, each.device}; });
    return found;
}

std::string find_scsi_generic(const std::string& root, unsigned host, unsigned bus, unsigned target,
                              std::uint64_t unit) {
    std::error_code error;
    const auto folder = fmt::format("{}/sys/bus/scsi/devices/{}:{}:{}:{}/scsi_generic", root, host, bus, target, unit);
    for (const auto& entry : fs::directory_iterator{folder, error})
        if (const auto name = entry.path().filename().string(); name.starts_with("sg")) return "/dev/" + name;
    return {};
}

std::string find_vfio_group(const std::string& root, const std::string& device) {
    const auto group = link_name(root + "/sys/bus/" + device + "/iommu_group");
    return group.empty() ? group : "/dev/vfio/" + group;
}

}  // namespace virtbus::qemu
