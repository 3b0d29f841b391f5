// SPDX-License-Identifier: LGPL-2.1-or-later
// Notes down what a guest tells its owner, for tests of drivers.
#pragma once

#include <algorithm>
#include <string>
#include <vector>

#include "virtbus/driver.hpp"

namespace virtbus::tests {

/// What a guest told its owner, as words: "state paused user", "ended destroyed" ...
struct Notes final : GuestEvents {
    std::vector<std::string> list;
    GuestEnd end;
    DomainConfig config;

    bool has(const std::string& note) const { return std::find(list.begin(), list.end(), note) != list.end(); }
    bool ended() const { return !end.reason.empty(); }

    void state_changed(State state, std::string reason) override {
        list.push_back("state " + std::string{word(state)} + " " + reason);
    }
    void ended(GuestEnd how) override {
        list.push_back("ended " + how.reason);
        end = std::move(how);
    }
    void rebooted() override { list.emplace_back("rebooted"); }
    void config_changed(DomainConfig changed) override { config = std::move(changed); }
    void responsive_changed(bool responsive) override { list.emplace_back(responsive ? "responsive" : "silent"); }
    void device_added(std::string alias) override { list.push_back("added " + alias); }
    void device_removed(std::string alias) override { list.push_back("removed " + alias); }
    void device_removal_failed(std::string alias) override { list.push_back("stays " + alias); }
    void io_error(std::string alias, std::string action, std::string reason) override {
        list.push_back("io-error " + alias + " " + action + " " + reason);
    }
    void watchdog_fired(std::string action) override { list.push_back("watchdog " + action); }
    void agent_changed(bool connected) override { list.emplace_back(connected ? "agent" : "no agent"); }
};

}  // namespace virtbus::tests
