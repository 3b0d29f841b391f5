// SPDX-License-Identifier: LGPL-2.1-or-later
#include "qemu/lifecycle.hpp"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

namespace virtbus::qemu {
namespace {

using nlohmann::json;
using Task = Lifecycle::Task;

Lifecycle running(EndPolicy policy = {}) {
    Lifecycle life{policy};
    life.set(State::running, "booted");
    return life;
}

std::string at(const Lifecycle& life) {
    return std::string{word(life.state())} + "/" + life.reason();
}

TEST(Lifecycle, StopsHaveTheReasonThatWentBefore) {
    auto life = running();
    life.expect_stop("user");
    EXPECT_TRUE(life.on_event("STOP", {}).changed);
    EXPECT_EQ(at(life), "paused/user");
    EXPECT_TRUE(life.on_event("RESUME", {}).changed);
    EXPECT_EQ(at(life), "running/unpaused");
    life.on_event("BLOCK_IO_ERROR", json{{"action", "stop"}});
    life.on_event("STOP", {});
    EXPECT_EQ(at(life), "paused/io-error");
    life.on_event("RESUME", {});
    life.on_event("BLOCK_IO_ERROR", json{{"action", "report"}});
    life.on_event("STOP", {});
    EXPECT_EQ(at(life), "paused/unknown");
    life.on_event("RESUME", {});
    life.on_event("WATCHDOG", json{{"action", "pause"}});
    life.on_event("STOP", {});
    EXPECT_EQ(at(life), "paused/watchdog");
}

TEST(Lifecycle, AResumeThatChangesNothingIsNoNews) {
    auto life = running();
    EXPECT_FALSE(life.on_event("RESUME", {}).changed);
    EXPECT_EQ(at(life), "running/booted");
}

TEST(Lifecycle, PowerOffEndsInShutdown) {
    auto life = running();
    const auto step = life.on_event("SHUTDOWN", json{{"guest", true}, {"reason", "guest-shutdown"}});
    EXPECT_TRUE(step.changed);
    EXPECT_EQ(step.task, Task::nothing);  // QEMU goes by itself
    EXPECT_EQ(at(life), "shutdown/shutting-down");
    EXPECT_EQ(life.end_reason(false), "shutdown");
    EXPECT_EQ(life.policy().actions("")["shutdown"], "poweroff");
}

TEST(Lifecycle, EndReasons) {
    EXPECT_EQ(running().end_reason(false), "crashed");
    EXPECT_EQ(running().end_reason(true), "shutdown");
    auto life = running();
    life.expect_kill();
    EXPECT_EQ(life.end_reason(false), "destroyed");
}

TEST(Lifecycle, PowerOffMayRestartOrPreserve) {
    const auto restart = EndPolicy::from("restart", "", "");
    EXPECT_EQ(restart.actions("")["shutdown"], "pause");
    auto life = running(restart);
    EXPECT_EQ(life.on_event("SHUTDOWN", json{{"reason", "guest-shutdown"}}).task, Task::restart);
    EXPECT_FALSE(life.on_event("STOP", {}).changed);
    EXPECT_TRUE(life.on_event("RESET", {}).rebooted);
    life.on_event("RESUME", {});
    EXPECT_EQ(at(life), "running/booted");

    auto preserved = running(EndPolicy::from("preserve", "restart", ""));
    EXPECT_EQ(preserved.on_event("SHUTDOWN", json{{"reason", "guest-shutdown"}}).task, Task::nothing);
    EXPECT_FALSE(preserved.on_event("STOP", {}).changed);
    EXPECT_EQ(at(preserved), "shutdown/preserved");
}

TEST(Lifecycle, ARebootThatMustEnd) {
    const auto policy = EndPolicy::from("preserve", "destroy", "");
    EXPECT_EQ(policy.actions("")["reboot"], "shutdown");
    auto life = running(policy);
    EXPECT_EQ(life.on_event("SHUTDOWN", json{{"reason", "guest-reset"}}).task, Task::kill);
    EXPECT_EQ(life.end_reason(false), "shutdown");
}

TEST(Lifecycle, AnExpectedRebootIsNotAnEnd) {
    auto life = running();
    EXPECT_EQ(life.policy().actions("", true)["shutdown"], "pause");
    life.expect_reboot(true);
    EXPECT_EQ(life.on_event("SHUTDOWN", json{{"reason", "guest-shutdown"}}).task, Task::restart);
    EXPECT_FALSE(life.on_event("STOP", {}).changed);
    life.on_event("RESUME", {});
    EXPECT_EQ(life.on_event("SHUTDOWN", json{{"reason", "guest-shutdown"}}).task, Task::nothing);
    EXPECT_EQ(at(life), "shutdown/shutting-down");
}

TEST(Lifecycle, AnEndFromOutsideIsNoReboot) {
    auto life = running(EndPolicy::from("restart", "restart", "restart"));
    life.expect_reboot(true);
    EXPECT_NE(life.on_event("SHUTDOWN", json{{"reason", "host-signal"}}).task, Task::restart);
    EXPECT_EQ(at(life), "shutdown/shutting-down");
}

TEST(Lifecycle, PanicsFollowThePolicy) {
    auto destroyed = running();
    EXPECT_EQ(destroyed.on_event("GUEST_PANICKED", json{{"action", "pause"}}).task, Task::kill);
    EXPECT_EQ(at(destroyed), "paused/crashed");
    EXPECT_EQ(destroyed.end_reason(false), "crashed");
    auto preserved = running(EndPolicy::from("", "", "preserve"));
    EXPECT_EQ(preserved.on_event("GUEST_PANICKED", {}).task, Task::nothing);
    EXPECT_EQ(at(preserved), "crashed/panicked");
    EXPECT_FALSE(preserved.on_event("STOP", {}).changed);
    auto restarted = running(EndPolicy::from("", "", "restart"));
    EXPECT_EQ(restarted.on_event("GUEST_PANICKED", {}).task, Task::restart);
}

TEST(Lifecycle, SleepAndWake) {
    auto life = running();
    EXPECT_TRUE(life.on_event("SUSPEND", {}).changed);
    EXPECT_EQ(at(life), "pmsuspended/guest");
    EXPECT_TRUE(life.on_event("WAKEUP", {}).changed);
    EXPECT_EQ(at(life), "running/wakeup");
}

TEST(Lifecycle, StatusWordsFillInForMissedEvents) {
    auto life = running();
    EXPECT_FALSE(life.on_status("running").changed);
    EXPECT_TRUE(life.on_status("io-error").changed);
    EXPECT_EQ(at(life), "paused/io-error");
    EXPECT_FALSE(life.on_status("paused").changed);
    EXPECT_TRUE(life.on_status("suspended").changed);
    EXPECT_EQ(life.on_status("guest-panicked").task, Task::kill);
    EXPECT_FALSE(life.on_status("a word of the future").changed);
    EXPECT_EQ(running(EndPolicy::from("restart", "", "")).on_status("shutdown").task, Task::restart);
}

TEST(Lifecycle, EventsOfAnotherShapeDoNoHarm) {
    auto life = running();
    for (const auto* name : {"SHUTDOWN", "BLOCK_IO_ERROR", "WATCHDOG", "GUEST_PANICKED", "STOP", "X"})
        for (const auto& data : {json{}, json(7), json("x"), json{{"reason", 7}}, json::array()})
            life.on_event(name, data);
}

}  // namespace
}  // namespace virtbus::qemu
