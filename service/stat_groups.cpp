// SPDX-License-Identifier: LGPL-2.1-or-later
#include "service/stat_groups.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <ranges>
#include <string_view>

namespace virtbus {

namespace {

struct Group {
    std::string_view word, prefix;
};
constexpr std::array groups_known{
    Group{"state", "state"}, Group{"cpu-total", "cpu"}, Group{"cpu", "cpu"}, Group{"balloon", "balloon"},
    Group{"vcpu", "vcpu"},   Group{"interface", "net"}, Group{"net", "net"}, Group{"block", "block"},
};

const Group* find_group(std::string_view word) {
    const auto found = std::ranges::find(groups_known, word, &Group::word);
    return found == groups_known.end() ? nullptr : &*found;
}

}  // namespace

void require_stat_groups(const std::vector<std::string>& groups) {
    for (const auto& group : groups)
        if (!find_group(group))
            throw Error{Code::invalid_option,
                        fmt::format("option 'groups': '{}' is no group of statistics; there are {}",
                                    std::string_view{group}.substr(0, 64),
                                    fmt::join(groups_known | std::views::transform(&Group::word), ", "))};
}

void keep_stat_groups(Stats& stats, const std::vector<std::string>& groups) {
    if (groups.empty()) return;
    std::erase_if(stats, [&](const auto& entry) {
        const auto prefix = std::string_view{entry.first}.substr(0, entry.first.find('.'));
        return std::ranges::none_of(groups, [&](const auto& word) {
            const auto* group = find_group(word);
            return group && group->prefix == prefix;
        });
    });
}

}  // namespace virtbus
