// SPDX-License-Identifier: LGPL-2.1-or-later
#include "service/xml/kept_xml.hpp"

#include "service/xml/domain_xml.hpp"
#include "virtbus/model/device_lists.hpp"

namespace virtbus::xml {

DomainConfig without_run(const DomainConfig& config) {
    auto kept = without_live(config);
    for (const auto place : all_devices(config.devices)) {
        const auto live = device_at(config.devices, place.kind, place.number);
        auto device = device_at(kept.devices, place.kind, place.number);
        auto* info = find_info(device);
        if (!info) continue;
        info->alias = find_info(live)->alias;
        replace_device(kept.devices, place.number, std::move(device));
    }
    return kept;
}

std::string format_kept(const DomainConfig& config) {
    return format_domain(without_run(config), {.secure = true});
}

}  // namespace virtbus::xml
