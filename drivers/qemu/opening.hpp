// SPDX-License-Identifier: LGPL-2.1-or-later
// Shared by the files that open what a guest uses: resources.cpp, open_disks.cpp, open_hostdevs.cpp.
#pragma once

#include <string>
#include <string_view>

#include "qemu/command_line.hpp"

namespace virtbus::qemu {

inline constexpr Duration opening_patience{30000};

/// What opening needs; lives as long as open_resources.
struct Opening {
    const DomainConfig& config;
    Resources& resources;
    Workers& workers;
    const OpenOptions& options;
    OpenedResources opened;

    template <class F>
    auto work(std::string what, F function) {
        return workers.run(std::move(what), std::move(function), in(opening_patience), resources.stop());
    }
};

Fd duplicate(const Fd& fd);
/// Memory that nobody can change any more and QEMU can open by name under /proc.
Fd sealed_memory(std::string_view content);
/// A connection to a unix socket; blocks until it is accepted or refused.
Fd connect_to(const std::string& path);

/// Fetches a secret into sealed memory, under the key.
Task<> open_secret(Opening& opening, std::string key, SecretRef reference);

/// Images with their chains, their secrets and sockets.
Task<> open_disks(Opening& opening);
Task<> open_hostdevs(Opening& opening);

}  // namespace virtbus::qemu
