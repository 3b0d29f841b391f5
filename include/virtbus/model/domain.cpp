// SPDX-License-Identifier: LGPL-2.1-or-later
#include "virtbus/model/domain.hpp"

namespace virtbus {

DomainConfig::DomainConfig() = default;
DomainConfig::DomainConfig(const DomainConfig&) = default;
DomainConfig::DomainConfig(DomainConfig&&) noexcept = default;
DomainConfig& DomainConfig::operator=(const DomainConfig&) = default;
DomainConfig& DomainConfig::operator=(DomainConfig&&) noexcept = default;
DomainConfig::~DomainConfig() = default;
bool DomainConfig::operator==(const DomainConfig&) const = default;

}  // namespace virtbus
