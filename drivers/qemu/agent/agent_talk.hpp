// SPDX-License-Identifier: LGPL-2.1-or-later
// One conversation with the agent inside a guest, over a connected socket: lines of JSON from a peer that is not
// trusted and may have words of an earlier conversation left. Which commands there are is agent.hpp's knowledge.
#pragma once

#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <stop_token>
#include <string>

#include "virtbus/fd.hpp"
#include "virtbus/loop.hpp"
#include "virtbus/task.hpp"

namespace virtbus::qemu {

class AgentTalk {
public:
    static constexpr std::size_t line_limit = 1U << 20;  ///< of one answer

    /// `who` names the guest in messages ("domain 'web'").
    AgentTalk(Loop& loop, Fd socket, std::string who);
    ~AgentTalk();
    AgentTalk(const AgentTalk&) = delete;
    AgentTalk& operator=(const AgentTalk&) = delete;

    /// The first words: what is left of earlier conversations is thrown away. AgentUnavailable when nobody answers.
    Task<> sync(Deadline deadline, std::stop_token stop);
    /// AgentFailed with the guest's own words when it refuses, AgentUnavailable when it goes away or talks rubbish,
    /// Timeout when it is silent.
    Task<nlohmann::json> ask(std::string command, nlohmann::json arguments, Deadline deadline, std::stop_token stop);
    /// For what has an answer only when it is refused: returns when it has been taken, or the guest has gone.
    Task<> tell(std::string command, nlohmann::json arguments, Deadline deadline, std::stop_token stop);

private:
    struct Core;
    std::shared_ptr<Core> core_;
};

}  // namespace virtbus::qemu
