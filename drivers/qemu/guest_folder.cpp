// SPDX-License-Identifier: LGPL-2.1-or-later
#include "qemu/guest_folder.hpp"

#include <fmt/format.h>

#include <filesystem>

namespace virtbus::qemu {

namespace {

constexpr Duration patience{5000};
constexpr int attempts = 3;

/// A QEMU that is about to end removes its sockets itself, which stops remove_all in the middle.
void remove_all(const std::string& folder) {
    std::error_code error;
    for (int i = 0; i < attempts; ++i) {
        std::filesystem::remove_all(folder, error);
        if (!error) return;
    }
}

}  // namespace

std::string guests_folder(const Ports& ports) {
    return ports.folders.runtime + "/qemu";
}

std::string guest_folder(const Ports& ports, std::uint32_t id, const std::string& uuid) {
    return fmt::format("{}/{}-{}", guests_folder(ports), id, uuid);
}

std::string monitor_path(const std::string& guest_folder) {
    return guest_folder + "/monitor.sock";
}

Task<> remove_guest_folder(Ports& ports, std::string folder) {
    co_await ports.workers.run(
        "removing the sockets", [folder = std::move(folder)] { remove_all(folder); }, in(patience));
}

}  // namespace virtbus::qemu
