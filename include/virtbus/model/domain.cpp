// SPDX-License-Identifier: LGPL-2.1-or-later
#include "virtbus/model/domain.hpp"

#include <algorithm>

#include "virtbus/model/iothreads.hpp"

namespace virtbus {

DomainConfig::DomainConfig() = default;
DomainConfig::DomainConfig(const DomainConfig&) = default;
DomainConfig::DomainConfig(DomainConfig&&) noexcept = default;
DomainConfig& DomainConfig::operator=(const DomainConfig&) = default;
DomainConfig& DomainConfig::operator=(DomainConfig&&) noexcept = default;
DomainConfig::~DomainConfig() = default;
bool DomainConfig::operator==(const DomainConfig&) const = default;

bool has_iothread(const DomainConfig& config, std::uint32_t id) {
    const auto& told = config.iothreadids;
    const auto is_told = [&](std::uint32_t n) { return std::ranges::any_of(told, [&](auto& t) { return t.id == n; }); };
    if (is_told(id)) return true;
    std::size_t more = std::max<std::size_t>(config.iothreads.value_or(0), told.size()) - told.size();
    for (std::uint32_t n = 1; more && n < id; ++n)
        if (!is_told(n)) --more;
    return more > 0 && id > 0;
}

}  // namespace virtbus
