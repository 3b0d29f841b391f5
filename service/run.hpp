// SPDX-License-Identifier: LGPL-2.1-or-later
// Run: one life of a machine, from the first opened resource to the last undone one. Plain data that the machine works
// on.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "service/resource_broker.hpp"
#include "service/status.hpp"
#include "virtbus/caller.hpp"
#include "virtbus/driver.hpp"
#include "virtbus/reply.hpp"

namespace virtbus {

struct Run {
    std::uint32_t id = 0;
    HypervisorDriver* driver = nullptr;
    std::shared_ptr<Guest> guest;  ///< null while it starts or is taken up; verbs keep a copy while they wait for it
    std::string unfinished;        ///< while it starts: what the driver needs to end what there is so far
    std::unique_ptr<ResourceBroker> resources;
    DomainConfig live;
    std::string started_text;                         ///< the stored form of the definition it was started from
    bool live_changed = false;                        ///< it has moved away from that by itself or by a verb
    mutable std::string live_text, live_public_text;  ///< renderings of `live`; "" when they must be made anew
    std::vector<std::string> unknown;
    std::uint64_t started_at = 0;

    std::optional<Caller> dies_with;
    Registration caller_watch;

    std::optional<GuestEnd> end;  ///< it is over; what is left is to undo the resources
    std::vector<Reply<>::Promise> waiting_for_end;

    bool remove_nvram = false, remove_tpm = false,
         keep_tpm = false;  ///< what an undefine while it ran wants at its end

    Stats last_stats;
    std::uint64_t last_sample = 0;
    bool sampling = false, sample_overdue = false, sample_failed = false;
    std::vector<Reply<>::Promise> waiting_for_sample;

    std::optional<Saving> saving;
    bool saved = false;  ///< its state lies in a whole image; it is ended because of that
    std::optional<Restoring> restoring;

    std::string unsettled;  ///< why what it merged could not be put on record at its end; "" when nothing is left to do

    bool giving_up = false;  ///< the start has failed; the end is awaited by whoever undoes it

    bool over() const { return end.has_value(); }
    void live_moved() { live_text.clear(), live_public_text.clear(); }
    const std::string& text(bool secure) const;
};
using RunPtr = std::shared_ptr<Run>;

}  // namespace virtbus
