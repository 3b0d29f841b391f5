// SPDX-License-Identifier: LGPL-2.1-or-later
// QemuAgent: finds the agent's channel in the running definition, has it to itself while it speaks, and knows the
// commands. A further command is one more line with AgentTalk; how lines are spoken is agent_talk.hpp's knowledge.
#pragma once

#include <memory>

#include "qemu/agent/agent_talk.hpp"
#include "qemu/guest.hpp"

namespace virtbus::qemu {

class QemuAgent final : public Agent {
public:
    /// How long the guest may take; tests shorten it.
    struct Times {
        Duration greeting{5000};   ///< to answer the first words
        Duration freezing{60000};  ///< to write out all it has in memory
        Duration leaving{10000};   ///< to take a shutdown
    };

    explicit QemuAgent(std::shared_ptr<GuestCore> core) : QemuAgent{std::move(core), Times{}} {}
    QemuAgent(std::shared_ptr<GuestCore> core, Times times);

    /// A freeze whose end is not seen is thawed again.
    Task<> freeze(std::stop_token stop) override;
    Task<> thaw() override;
    /// "powerdown", "reboot". Returns when the guest has taken it.
    Task<> shut_down(std::string mode, std::stop_token stop);

private:
    struct Line;
    std::shared_ptr<Line> line_;
};

}  // namespace virtbus::qemu
