// SPDX-License-Identifier: LGPL-2.1-or-later
#include "service/status.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "service/kept_text.hpp"
#include "virtbus/error.hpp"

namespace virtbus {

namespace {

constexpr std::string_view kind = "status";

}  // namespace

std::optional<State> find_state(std::string_view text) {
    const auto found = std::find(state_words.begin(), state_words.end(), text);
    if (found == state_words.end()) return std::nullopt;
    return static_cast<State>(found - state_words.begin());
}

std::string encode(const LiveStatus& status) {
    KeptWriter out;
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
    return out.sealed(kind);
}

LiveStatus decode_status(std::string_view content) {
    const auto in = KeptReader::of_sealed(kind, content);
    LiveStatus status;
    status.boot_id = in.text("boot");
    status.uuid = in.text("uuid");
    status.driver = in.text("driver");
    status.id = static_cast<std::uint32_t>(in.count("id"));
    const auto state = find_state(in.text("state"));
    if (!state) throw Error{Code::internal, fmt::format("its state '{}' is unknown", in.text("state"))};
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
        status.links.push_back({std::string{links[i]}, std::string{i < owners.size() ? owners[i] : ""}});
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
