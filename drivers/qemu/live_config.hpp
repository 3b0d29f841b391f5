// SPDX-License-Identifier: LGPL-2.1-or-later
// What only a running QEMU knows, filled into the live definition: terminals, ports.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>

#include "virtbus/model/domain.hpp"

namespace virtbus::qemu {

/// The paths of pty back ends, from query-chardev.
void fill_terminals(DomainConfig& config, const nlohmann::json& chardevs);
/// The port of a VNC display that chose its own, from query-vnc; of SPICE from query-spice.
void fill_vnc_port(DomainConfig& config, const nlohmann::json& vnc);
void fill_spice_ports(DomainConfig& config, const nlohmann::json& spice);
bool has_terminals(const DomainConfig& config);
/// Where the guest sees memory devices, and how much there is of those that grow, from query-memory-devices.
void fill_memories(DomainConfig& config, const nlohmann::json& memories);

/// "virtio-disk0" of "/machine/peripheral/virtio-disk0/virtio-backend"; a plain id is itself; else the fallback.
std::string alias_of_path(std::string_view path, std::string_view fallback);

}  // namespace virtbus::qemu
