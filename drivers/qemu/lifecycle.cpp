// SPDX-License-Identifier: LGPL-2.1-or-later
#include "qemu/lifecycle.hpp"

#include <nlohmann/json.hpp>
#include <utility>

#include "qemu/json.hpp"

namespace virtbus::qemu {

using nlohmann::json;

namespace {

EndAction action_of(std::string_view word, EndAction fallback) {
    static constexpr std::pair<std::string_view, EndAction> words[] = {
        {"destroy", EndAction::destroy},   {"coredump-destroy", EndAction::destroy},
        {"restart", EndAction::restart},   {"coredump-restart", EndAction::restart},
        {"preserve", EndAction::preserve}, {"rename-restart", EndAction::restart},
    };
    for (const auto& [name, action] : words)
        if (name == word) return action;
    return fallback;
}

/// What QEMU calls the reasons of a guest whose CPUs stand still.
struct PausedWord {
    std::string_view status, reason;
};
constexpr PausedWord paused_words[] = {
    {"paused", "user"},
    {"prelaunch", "starting-up"},
    {"io-error", "io-error"},
    {"watchdog", "watchdog"},
    {"debug", "debug"},
    {"internal-error", "internal-error"},
    {"postmigrate", "migrated"},
    {"save-vm", "save"},
    {"restore-vm", "restoring"},
    {"inmigrate", "migration"},
    {"finish-migrate", "migration"},
};

}  // namespace

EndPolicy EndPolicy::from(std::string_view poweroff, std::string_view reboot, std::string_view crash) {
    return {action_of(poweroff, EndAction::destroy), action_of(reboot, EndAction::restart),
            action_of(crash, EndAction::destroy)};
}

json EndPolicy::actions(std::string_view watchdog, bool rebooting) const {
    // A reboot that must not be one comes as a shutdown, so what happens there must be ours as well when they differ.
    const bool ours = rebooting || poweroff != EndAction::destroy || reboot == EndAction::preserve;
    json result{{"reboot", reboot == EndAction::restart ? "reset" : "shutdown"},
                {"shutdown", ours ? "pause" : "poweroff"},
                {"panic", "pause"}};
    if (watchdog == "dump")
        result["watchdog"] = "pause";
    else if (!watchdog.empty())
        result["watchdog"] = watchdog;
    return result;
}

std::string Lifecycle::end_reason(bool exited_cleanly) const {
    if (panicked_) return "crashed";
    if (killed_) return "destroyed";
    return powered_off_ || exited_cleanly ? "shutdown" : "crashed";
}

void Lifecycle::set(State state, std::string reason) {
    state_ = state;
    reason_ = std::move(reason);
}

Lifecycle::Step Lifecycle::change(State state, std::string reason) {
    if (state_ == state && reason_ == reason) return {};
    set(state, std::move(reason));
    return {.changed = true};
}

Lifecycle::Step Lifecycle::on_event(std::string_view name, const json& data) {
    if (name == "STOP") return on_stop();
    if (name == "RESUME") return on_resume();
    if (name == "SHUTDOWN") return on_shutdown(text(data, "reason"));
    if (name == "RESET") return {.rebooted = true};
    if (name == "GUEST_PANICKED") return on_panic();
    if (name == "SUSPEND") return change(State::pmsuspended, "guest");
    if (name == "WAKEUP") return change(State::running, "wakeup");
    if (name == "BLOCK_IO_ERROR" && text(data, "action") == "stop") expect_stop("io-error");
    if (name == "WATCHDOG" && text(data, "action") == "pause") expect_stop("watchdog");
    return {};
}

Lifecycle::Step Lifecycle::on_stop() {
    // What comes after a power-off, a panic or within a restart is no pause of its own.
    if (state_ == State::shutdown || panicked_ || restarting_) return {};
    auto reason = std::exchange(stop_reason_, {});
    return change(State::paused, reason.empty() ? "unknown" : std::move(reason));
}

Lifecycle::Step Lifecycle::on_resume() {
    restarting_ = panicked_ = powered_off_ = false;
    stop_reason_.clear();
    auto reason = std::exchange(resume_reason_, {});
    if (state_ == State::running) return {};
    return change(State::running, reason.empty() ? "unpaused" : std::move(reason));
}

Lifecycle::Step Lifecycle::on_shutdown(std::string_view cause) {
    const bool is_reboot = std::exchange(rebooting_, false) && cause.starts_with("guest-");
    const auto action = is_reboot                     ? EndAction::restart
                        : cause == "guest-reset"      ? policy_.reboot
                        : cause.starts_with("guest-") ? policy_.poweroff
                                                      : EndAction::destroy;  // somebody ended the process
    if (action == EndAction::restart) {
        restarting_ = true;
        return {.task = Task::restart};
    }
    powered_off_ = true;
    auto step = change(State::shutdown, action == EndAction::preserve ? "preserved" : "shutting-down");
    // QEMU leaves by itself unless it was told to wait for another decision.
    const bool waits = policy_.poweroff != EndAction::destroy || policy_.reboot == EndAction::preserve;
    if (action == EndAction::destroy && waits) step.task = Task::kill;
    return step;
}

Lifecycle::Step Lifecycle::on_panic() {
    panicked_ = true;
    if (policy_.crash == EndAction::restart) {
        restarting_ = true;
        return {.task = Task::restart};
    }
    if (policy_.crash == EndAction::preserve) return change(State::crashed, "panicked");
    auto step = change(State::paused, "crashed");
    step.task = Task::kill;
    return step;
}

Lifecycle::Step Lifecycle::on_status(std::string_view status) {
    if (status == "running") return state_ == State::running ? Step{} : change(State::running, "unpaused");
    if (status == "suspended") return change(State::pmsuspended, "guest");
    if (status == "guest-panicked") return on_panic();
    if (status == "shutdown") return state_ == State::shutdown ? Step{} : on_shutdown("guest-shutdown");
    for (const auto& [word, reason] : paused_words)
        if (word == status) return state_ == State::paused ? Step{} : change(State::paused, std::string{reason});
    return {};
}

}  // namespace virtbus::qemu
