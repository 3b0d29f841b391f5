// SPDX-License-Identifier: LGPL-2.1-or-later
// What QEMU's events and status words mean for the state of a domain, as a state machine without I/O. Carrying out what
// it asks for is guest.hpp's work.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>

#include "virtbus/state.hpp"

namespace virtbus::qemu {

/// <on_poweroff>, <on_reboot>, <on_crash> as this driver can do them.
enum class EndAction { destroy, restart, preserve };

struct EndPolicy {
    EndAction poweroff = EndAction::destroy;
    EndAction reboot = EndAction::restart;
    EndAction crash = EndAction::destroy;

    /// From the words of the definition; unknown and empty ones are the defaults.
    static EndPolicy from(std::string_view poweroff, std::string_view reboot, std::string_view crash);

    /// The arguments of set-action that make QEMU wait where a decision is ours. `rebooting`: the next power-off is
    /// half of a reboot.
    nlohmann::json actions(std::string_view watchdog, bool rebooting = false) const;
};

class Lifecycle {
public:
    /// What is to be done after an event.
    enum class Task {
        nothing,
        kill,    ///< end the process; the domain ends with end_reason()
        restart  ///< system_reset, then cont
    };
    struct Step {
        bool changed = false;  ///< state() and reason() are news
        bool rebooted = false;
        Task task = Task::nothing;
    };

    explicit Lifecycle(EndPolicy policy) : policy_{policy} {}

    State state() const noexcept { return state_; }
    const std::string& reason() const noexcept { return reason_; }
    const EndPolicy& policy() const noexcept { return policy_; }
    /// Why the domain is shut off once its process is gone with that exit code (signal: none).
    std::string end_reason(bool exited_cleanly) const;

    void set(State state, std::string reason);
    /// The reason to give when the CPUs stop next.
    void expect_stop(std::string reason) { stop_reason_ = std::move(reason); }
    /// The reason to give when they run next.
    void expect_resume(std::string reason) { resume_reason_ = std::move(reason); }
    /// We are about to end the process.
    void expect_kill() { killed_ = true; }
    /// The next power-off of the guest is half of a reboot.
    void expect_reboot(bool expected) { rebooting_ = expected; }
    bool expects_reboot() const noexcept { return rebooting_; }

    Step on_event(std::string_view name, const nlohmann::json& data);
    /// The word of query-status, for a guest whose events were missed.
    Step on_status(std::string_view status);

private:
    Step change(State state, std::string reason);
    Step on_shutdown(std::string_view cause);
    Step on_panic();
    Step on_stop();
    Step on_resume();

    EndPolicy policy_;
    State state_ = State::starting;
    std::string reason_;
    std::string stop_reason_, resume_reason_;
    bool rebooting_ = false, restarting_ = false, killed_ = false, powered_off_ = false, panicked_ = false;
};

}  // namespace virtbus::qemu
