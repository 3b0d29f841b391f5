// SPDX-License-Identifier: LGPL-2.1-or-later
#include "qemu/guest_record.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <nlohmann/json.hpp>

#include "qemu/json.hpp"
#include "qemu/proc.hpp"
#include "virtbus/error.hpp"

namespace virtbus::qemu {

using nlohmann::json;

namespace {
constexpr unsigned record_version = 1;

std::vector<std::string> words_of(const json& list) {
    std::vector<std::string> words;
    for (const auto& word : list)
        if (word.is_string()) words.push_back(word.get<std::string>());
    return words;
}

using Parts = std::map<std::string, std::vector<std::string>, std::less<>>;

void read_parts(const json& stored, Parts& parts) {
    for (const auto& [alias, list] : stored.items()) parts[alias] = words_of(list);
}

bool speaks_of(const std::vector<std::string>& parts, const std::string& node) {
    return std::ranges::find(parts, "blockdev:" + node) != parts.end();
}
bool speaks_of(const Parts& all, const std::string& node) {
    return std::ranges::any_of(all, [&](const auto& each) { return speaks_of(each.second, node); });
}

/// Without those that QEMU has closed.
json images_text(const GuestRecord& record) {
    json images = json::object();
    for (const auto& [node, image] : record.images)
        if (speaks_of(record.parts, node) || speaks_of(record.changing, node) || speaks_of(record.coming, node))
            images[node] = {{"path", image.file.path},
                            {"format", image.file.format},
                            {"block-device", image.file.block_device},
                            {"node", image.node},
                            {"storage", image.storage}};
    return images;
}

RecordedImage image_of(const json& stored) {
    return {{text(stored, "path"), text(stored, "format"), flag(stored, "block-device")},
            text(stored, "node"),
            text(stored, "storage")};
}

json text_of(const std::vector<HelperRecord>& helpers) {
    json list = json::array();
    for (const auto& helper : helpers)
        list.push_back({{"program", helper.program},
                        {"alias", helper.alias},
                        {"pid", helper.pid},
                        {"start-time", helper.start_time},
                        {"unit", helper.unit},
                        {"log", helper.log},
                        {"log-start", helper.log_start}});
    return list;
}

json text_of(const std::map<std::string, UnitGrant, std::less<>>& allowed) {
    json all = json::object();
    for (const auto& [alias, nodes] : allowed) all[alias] = {{"devices", nodes.devices}, {"given", nodes.given}};
    return all;
}

std::vector<HelperRecord> helpers_of(const json& list) {
    std::vector<HelperRecord> helpers;
    for (const auto& each : list)
        helpers.push_back({.program = text(each, "program"),
                           .alias = text(each, "alias"),
                           .pid = static_cast<std::uint32_t>(number(each, "pid")),
                           .start_time = number(each, "start-time"),
                           .unit = text(each, "unit"),
                           .log = text(each, "log"),
                           .log_start = number(each, "log-start")});
    return helpers;
}
}  // namespace

std::string GuestRecord::text() const {
    return json{{"version", record_version},
                {"pid", pid},
                {"start-time", start_time},
                {"unit", unit},
                {"folder", folder},
                {"monitor", monitor},
                {"log", log},
                {"log-start", log_start},
                {"state", word(state)},
                {"reason", reason},
                {"rebooting", rebooting},
                {"helpers", text_of(helpers)},
                {"network", network},
                {"parts", parts},
                {"coming", coming},
                {"leaving", leaving},
                {"allowed", text_of(allowed)},
                {"nodes", nodes},
                {"sets", sets},
                {"images", images_text(*this)},
                {"changing", changing},
                {"job", job},
                {"resume", resume},
                {"closing", closing}}
        .dump(-1, ' ', false, json::error_handler_t::replace);
}

GuestRecord GuestRecord::from_text(const std::string& content) {
    json stored;
    try {
        stored = parse_json(content);
    } catch (const Error& error) {
        throw Error{Code::internal, fmt::format("the driver's part of a status file is {}", error.what())};
    }
    if (number(stored, "version") != record_version)
        throw Error{Code::internal, fmt::format("the driver's part of a status file has version {}, known is {}",
                                                number(stored, "version"), record_version)};
    GuestRecord record;
    record.pid = static_cast<std::uint32_t>(number(stored, "pid"));
    record.start_time = number(stored, "start-time");
    record.unit = qemu::text(stored, "unit");
    record.folder = qemu::text(stored, "folder");
    record.monitor = qemu::text(stored, "monitor");
    record.log = qemu::text(stored, "log");
    record.log_start = number(stored, "log-start");
    const auto found = std::ranges::find(state_words, qemu::text(stored, "state"));
    if (found != state_words.end()) record.state = static_cast<State>(found - state_words.begin());
    record.reason = qemu::text(stored, "reason");
    record.rebooting = flag(stored, "rebooting");
    record.helpers = helpers_of(member(stored, "helpers"));
    record.network = flag(stored, "network");
    read_parts(member(stored, "parts"), record.parts);
    record.coming = words_of(member(stored, "coming"));
    for (auto& alias : words_of(member(stored, "leaving"))) record.leaving.insert(std::move(alias));
    for (const auto& [alias, nodes] : member(stored, "allowed").items())
        record.allowed[alias] = {words_of(member(nodes, "devices")), words_of(member(nodes, "given")), 0};
    record.nodes = static_cast<unsigned>(number(stored, "nodes"));
    record.sets = static_cast<unsigned>(number(stored, "sets"));
    for (const auto& [node, image] : member(stored, "images").items()) record.images[node] = image_of(image);
    read_parts(member(stored, "changing"), record.changing);
    record.job = qemu::text(stored, "job");
    record.resume = flag(stored, "resume");
    for (const auto& set : member(stored, "closing"))
        if (set.is_number_unsigned()) record.closing.insert(set.get<unsigned>());
    return record;
}

std::uint64_t process_start_time(std::uint32_t pid) {
    const auto stat = read_proc_stat(fmt::format("/proc/{}/stat", pid));
    return stat ? stat->start_time : 0;
}

}  // namespace virtbus::qemu
