// SPDX-License-Identifier: LGPL-2.1-or-later
// LiveStatus: what must be known of a running domain to take it up after a restart of the daemon, and its form as a
// file that shows when it was cut or altered. Where the file lies is the store's knowledge.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "service/resource_broker.hpp"
#include "virtbus/caller.hpp"
#include "virtbus/state.hpp"

namespace virtbus {

/// A save under way; the file has its name once it is whole.
struct Saving {
    std::string id, path, temporary;
    std::optional<std::uint32_t> uid;       ///< whose rights opened it
    bool running = false, managed = false;  ///< its CPUs ran; the file is the managed one
};
/// A guest that has been restored, while its managed-save image may still be there and its CPUs may still wait.
struct Restoring {
    bool running = false, managed = false;
};

struct LiveStatus {
    std::string boot_id, uuid, driver;
    std::uint32_t id = 0;
    State state = State::shutoff;
    std::string reason;
    std::uint64_t state_changed = 0, started_at = 0;
    bool persistent = false;
    bool live_changed = false;          ///< the live definition has moved away from the one it started from
    std::string live_xml, started_xml;  ///< as it runs; the definition it was started from
    std::string driver_state;           ///< opaque; empty until the driver has started something
    std::vector<OpenLink> links;
    std::optional<Caller> dies_with;    ///< autodestroy
    std::optional<Saving> saving;
    std::optional<Restoring> restoring;
    bool remove_nvram = false, remove_tpm = false, keep_tpm = false;  ///< wanted at the end by an undefine while it ran
};

std::string encode(const LiveStatus& status);
/// Error (Internal) saying what is wrong: cut, altered, of an unknown version.
LiveStatus decode_status(std::string_view content);

/// The first State with that word.
std::optional<State> find_state(std::string_view word);

}  // namespace virtbus
