// SPDX-License-Identifier: LGPL-2.1-or-later
#include "test/behaviour.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <variant>

#include "virtbus/error.hpp"

namespace virtbus::test_driver {

namespace {

using Member = std::variant<Duration Behaviour::*, bool Behaviour::*, std::string Behaviour::*>;
struct Row {
    std::string_view attribute;
    Member member;
};
const std::array rows{
    Row{"start-delay-ms", &Behaviour::start_delay},
    Row{"shutdown-delay-ms", &Behaviour::shutdown_delay},
    Row{"die-after-ms", &Behaviour::die_after},
    Row{"ignore-kill-ms", &Behaviour::ignore_kill_for},
    Row{"fail-start", &Behaviour::fail_start},
    Row{"hang-start", &Behaviour::hang_start},
    Row{"hang-shutdown", &Behaviour::hang_shutdown},
    Row{"hang-verbs", &Behaviour::hang_verbs},
    Row{"fail-save", &Behaviour::fail_save},
    Row{"fail-restore", &Behaviour::fail_restore},
    Row{"save-ms", &Behaviour::save_time},
    Row{"hang-save", &Behaviour::hang_save},
    Row{"unresponsive", &Behaviour::unresponsive},
    Row{"ignore-kill", &Behaviour::ignore_kill},
    Row{"fail-adopt", &Behaviour::fail_adopt},
    Row{"open-disks", &Behaviour::open_disks},
    Row{"fail-attach", &Behaviour::fail_attach},
    Row{"hang-attach", &Behaviour::hang_attach},
    Row{"unplug", &Behaviour::unplug},
    Row{"unplug-delay-ms", &Behaviour::unplug_delay},
    Row{"unplug-wait-ms", &Behaviour::unplug_wait},
    Row{"snapshot-ms", &Behaviour::snapshot_time},
    Row{"hang-snapshot", &Behaviour::hang_snapshot},
    Row{"fail-snapshot", &Behaviour::fail_snapshot},
    Row{"fail-revert", &Behaviour::fail_revert},
    Row{"fail-merge", &Behaviour::fail_merge},
    Row{"fail-backup", &Behaviour::fail_backup},
    Row{"agent", &Behaviour::agent},
    Row{"take-devices", &Behaviour::take_devices},
};

[[noreturn]] void refuse(std::string_view attribute, std::string_view value, std::string_view allowed) {
    throw Error{Code::unsupported_configuration,
                fmt::format("test:behaviour: {}='{}' is not possible; {}", attribute, value, allowed)};
}

void set(Behaviour& behaviour, const Row& row, std::string_view value) {
    if (const auto* text = std::get_if<std::string Behaviour::*>(&row.member)) {
        behaviour.** text = value;
    } else if (const auto* flag = std::get_if<bool Behaviour::*>(&row.member)) {
        if (value != "yes" && value != "no") refuse(row.attribute, value, "'yes' or 'no' is");
        behaviour.** flag = value == "yes";
    } else {
        std::int64_t count = 0;
        const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), count);
        constexpr std::int64_t day = 86'400'000;
        if (error != std::errc{} || end != value.data() + value.size() || count < 0 || count > day)
            refuse(row.attribute, value, "a number of milliseconds, at most one day, is");
        behaviour.*std::get<Duration Behaviour::*>(row.member) = Duration{count};
    }
}

/// The text is well-formed: it has been through the XML tables.
void read_attributes(std::string_view tag, Behaviour& behaviour) {
    constexpr std::string_view blanks = " \t\r\n";
    for (;;) {
        tag.remove_prefix(std::min(tag.find_first_not_of(blanks), tag.size()));
        const auto equals = tag.find('=');
        if (equals == tag.npos) return;
        const auto name = tag.substr(0, tag.find_first_of(" \t\r\n="));
        const auto open = tag.find_first_of("'\"", equals);
        if (open == tag.npos) return;
        const auto close = tag.find(tag[open], open + 1);
        if (close == tag.npos) return;
        const auto value = tag.substr(open + 1, close - open - 1);
        tag.remove_prefix(close + 1);
        if (name.starts_with("xmlns")) continue;
        const auto* row =
            std::find_if(rows.begin(), rows.end(), [&](const Row& each) { return each.attribute == name; });
        if (row == rows.end()) refuse(name, value, "no such attribute is known");
        set(behaviour, *row, value);
    }
}

}  // namespace

Behaviour behaviour_of(const DomainConfig& config) {
    Behaviour behaviour;
    for (const auto& element : config.metadata) {
        const std::string_view text{element};
        const auto tag = text.substr(0, text.find('>'));
        if (tag.find(behaviour_namespace) == tag.npos) continue;
        const auto name_end = tag.find_first_of(" \t\r\n");
        if (name_end == tag.npos || tag.find("behaviour") > name_end) continue;
        read_attributes(tag.substr(name_end), behaviour);
    }
    return behaviour;
}

}  // namespace virtbus::test_driver
