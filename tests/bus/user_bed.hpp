// SPDX-License-Identifier: LGPL-2.1-or-later
// For tests: one daemon in user mode for a whole suite, and a client for each test.
#pragma once

#include <gmock/gmock.h>

#include "tests/bus/daemon.hpp"

namespace virtbus::tests {

template <class Suite>
class SharedDaemon : public ::testing::Test {
protected:
    static void SetUpTestSuite() {
        bed_ = new DaemonBed{Suite::system_mode};
        Suite::prepare(*bed_);
        ASSERT_TRUE(bed_->start()) << read_file(bed_->log());
    }
    static void TearDownTestSuite() {
        const int code = bed_->stop();
        const std::string log = read_file(bed_->log());
        delete bed_;
        bed_ = nullptr;
        EXPECT_EQ(code, 0) << log;
        EXPECT_EQ(log.find("AddressSanitizer"), std::string::npos) << log;
        EXPECT_EQ(log.find("runtime error"), std::string::npos) << log;
    }
    static void prepare(DaemonBed&) {}
    static DaemonBed& bed() { return *bed_; }
    static bool run_until(const std::function<bool()>& condition) {
        const auto tick = bed_->loop_tick();
        return bed_->loop.run_until(condition, patience);
    }

    std::unique_ptr<Client> client_ = bed().connect();
    Client& client = *client_;

    void listen() {
        const auto add =
            client.make("/org/freedesktop/DBus", "org.freedesktop.DBus", "AddMatch", "org.freedesktop.DBus");
        sd_bus_message_append(add.get(), "s", "type='signal',sender='org.virtbus1'");
        ASSERT_TRUE(client.send(add).wait().ok());
    }
    /// The members of the signals of that path, in the order they came.
    std::vector<std::string> heard(const std::string& path) const {
        std::vector<std::string> members;
        for (const auto& one : client.signals)
            if (one.path == path) members.push_back(one.member);
        return members;
    }
    bool has_heard(const std::string& path, const std::string& member) const {
        const auto members = heard(path);
        return std::find(members.begin(), members.end(), member) != members.end();
    }
    Answer verb(const std::string& path, const char* member) { return client.call(path, domain, member, "a{sv}", 0); }
    std::string state(const std::string& path) { return property(client, path, domain, "State"); }

private:
    static inline DaemonBed* bed_ = nullptr;
};

}  // namespace virtbus::tests
