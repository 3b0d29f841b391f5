// SPDX-License-Identifier: LGPL-2.1-or-later
#include "virtbus/model/network.hpp"

namespace virtbus {

NetworkConfig::NetworkConfig() = default;
NetworkConfig::NetworkConfig(const NetworkConfig&) = default;
NetworkConfig::NetworkConfig(NetworkConfig&&) noexcept = default;
NetworkConfig& NetworkConfig::operator=(const NetworkConfig&) = default;
NetworkConfig& NetworkConfig::operator=(NetworkConfig&&) noexcept = default;
NetworkConfig::~NetworkConfig() = default;
bool NetworkConfig::operator==(const NetworkConfig&) const = default;

}  // namespace virtbus
