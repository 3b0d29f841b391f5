// SPDX-License-Identifier: LGPL-2.1-or-later
#include "service/status.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <map>

#include "virtbus/error.hpp"

namespace virtbus {

namespace {

constexpr std::string_view magic = "virtbus-status 1 ";

/// FNV-1a: notices damage, which is all that is asked; the folder is the daemon's own.
std::uint64_t checksum(std::string_view bytes) {
    std::uint64_t hash = 14695981039346656037u;
    for (const unsigned char byte : bytes) hash = (hash ^ byte) * 1099511628211u;
    return hash;
}

[[noreturn]] void damaged(const std::string& how) {
    throw Error{Code::internal, how};
}

std::uint64_t number(std::string_view text, int base = 10) {
    std::uint64_t value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, base);
    if (error != std::errc{} || end != text.data() + text.size()) damaged(fmt::format("'{}' is not a number", text));
    return value;
}

/// "name length\nbytes\n" for each value, so that any bytes may be kept.
class Writer {
public:
    void add(std::string_view name, std::string_view value) {
        fmt::format_to(std::back_inserter(text_), "{} {}\n{}\n", name, value.size(), value);
    }
    void add(std::string_view name, std::uint64_t value) { add(name, fmt::to_string(value)); }
    std::string take() { return std::move(text_); }

private:
    std::string text_;
};

class Reader {
public:
    explicit Reader(std::string_view rest) {
        while (!rest.empty()) {
            const auto space = rest.find(' '), line = rest.find('\n');
            if (line == rest.npos || space > line) damaged("a value has no name and length");
            const auto length = number(rest.substr(space + 1, line - space - 1));
            if (length >= rest.size() - line - 1) damaged("a value is cut");
            values_.emplace(rest.substr(0, space), rest.substr(line + 1, length));
            rest.remove_prefix(line + 1 + length + 1);
        }
    }
    std::string text(std::string_view name) const {
        const auto found = values_.find(name);
        return found == values_.end() ? std::string{} : std::string{found->second};
    }
    std::uint64_t count(std::string_view name) const {
        const auto found = values_.find(name);
        return found == values_.end() ? 0 : number(found->second);
    }
    std::vector<std::string> all(std::string_view name) const {
        std::vector<std::string> list;
        const auto [first, last] = values_.equal_range(name);
        std::transform(first, last, std::back_inserter(list),
                       [](const auto& entry) { return std::string{entry.second}; });
        return list;
    }

private:
    std::multimap<std::string_view, std::string_view> values_;
};

}  // namespace

std::optional<State> find_state(std::string_view text) {
    const auto found = std::find(state_words.begin(), state_words.end(), text);
    if (found == state_words.end()) return std::nullopt;
    return static_cast<State>(found - state_words.begin());
}

std::string encode(const LiveStatus& status) {
    Writer out;
    out.add("boot", status.boot_id);
    out.add("uuid", status.uuid);
    out.add("driver", status.driver);
    out.add("id", status.id);
    out.add("state", word(status.state));
    out.add("reason", status.reason);
    out.add("state-changed", status.state_changed);
    out.add("started-at", status.started_at);
    out.add("persistent", status.persistent);
    out.add("live-changed", status.live_changed);
    out.add("live-xml", status.live_xml);
    out.add("started-xml", status.started_xml);
    out.add("driver-state", status.driver_state);
    for (const auto& link : status.links) {
        out.add("link", link.key);
        out.add("link-of", link.alias);
    }
    if (status.dies_with) {
        out.add("dies-with", status.dies_with->name);
        out.add("dies-with-uid", status.dies_with->uid);
        out.add("dies-with-bus", status.dies_with->on_bus);
    }
    if (status.saving) {
        out.add("saving", status.saving->id);
        out.add("saving-path", status.saving->path);
        out.add("saving-temporary", status.saving->temporary);
        if (status.saving->uid) out.add("saving-uid", *status.saving->uid);
        out.add("saving-running", status.saving->running);
        out.add("saving-managed", status.saving->managed);
    }
    if (status.restoring) {
        out.add("restoring", std::string_view{status.restoring->running ? "running" : "paused"});
        out.add("restoring-managed", status.restoring->managed);
    }
    out.add("remove-nvram", status.remove_nvram);
    out.add("remove-tpm", status.remove_tpm);
    out.add("keep-tpm", status.keep_tpm);
    const auto body = out.take();
    return fmt::format("{}{} {:016x}\n{}", magic, body.size(), checksum(body), body);
}

LiveStatus decode_status(std::string_view content) {
    if (!content.starts_with(magic)) damaged("it is no status file of version 1");
    const auto line = content.find('\n');
    if (line == content.npos) damaged("it is cut in its first line");
    const auto head = content.substr(magic.size(), line - magic.size());
    const auto space = head.find(' ');
    if (space == head.npos) damaged("its first line has no checksum");
    const auto body = content.substr(line + 1);
    if (const auto length = number(head.substr(0, space)); length != body.size())
        damaged(fmt::format("it is {} bytes long and should be {}", body.size(), length));
    if (number(head.substr(space + 1), 16) != checksum(body)) damaged("its checksum is wrong");

    const Reader in{body};
    LiveStatus status;
    status.boot_id = in.text("boot");
    status.uuid = in.text("uuid");
    status.driver = in.text("driver");
    status.id = static_cast<std::uint32_t>(in.count("id"));
    const auto state = find_state(in.text("state"));
    if (!state) damaged(fmt::format("its state '{}' is unknown", in.text("state")));
    status.state = *state;
    status.reason = in.text("reason");
    status.state_changed = in.count("state-changed");
    status.started_at = in.count("started-at");
    status.persistent = in.count("persistent") != 0;
    status.live_changed = in.count("live-changed") != 0;
    status.live_xml = in.text("live-xml");
    status.started_xml = in.text("started-xml");
    status.driver_state = in.text("driver-state");
    const auto links = in.all("link"), owners = in.all("link-of");
    for (std::size_t i = 0; i < links.size(); ++i)
        status.links.push_back({links[i], i < owners.size() ? owners[i] : std::string{}});
    if (const auto name = in.text("dies-with"); !name.empty()) {
        Caller caller;
        caller.name = name;
        caller.uid = static_cast<std::uint32_t>(in.count("dies-with-uid"));
        caller.on_bus = in.count("dies-with-bus") != 0;
        status.dies_with = caller;
    }
    if (const auto id = in.text("saving"); !id.empty()) {
        auto& saving = status.saving.emplace();
        saving.id = id;
        saving.path = in.text("saving-path");
        saving.temporary = in.text("saving-temporary");
        if (!in.text("saving-uid").empty()) saving.uid = static_cast<std::uint32_t>(in.count("saving-uid"));
        saving.running = in.count("saving-running") != 0;
        saving.managed = in.count("saving-managed") != 0;
    }
    if (const auto restoring = in.text("restoring"); !restoring.empty())
        status.restoring = Restoring{restoring == "running", in.count("restoring-managed") != 0};
    status.remove_nvram = in.count("remove-nvram") != 0;
    status.remove_tpm = in.count("remove-tpm") != 0;
    status.keep_tpm = in.count("keep-tpm") != 0;
    return status;
}

}  // namespace virtbus
