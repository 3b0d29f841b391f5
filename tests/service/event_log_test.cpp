// SPDX-License-Identifier: LGPL-2.1-or-later
// What happens to domains and networks, as lines of the log with their fields.
#include "service/event_log.hpp"

#include "networking/networking_bed.hpp"
#include "virtbus/message_ids.hpp"

namespace virtbus::tests {
namespace {

/// One line per entry: the domain's or network's name and the message id.
struct FieldLog final : Log {
    void write(Priority, std::string_view, const Fields& fields) override {
        std::string line;
        for (const auto& [name, value] : fields)
            if (name != "DOMAIN_UUID" && name != "NETWORK_UUID") line += value + ' ';
        lines.push_back(line);
    }
    std::size_t count(const std::string& domain, std::string_view id) const {
        return static_cast<std::size_t>(std::count(lines.begin(), lines.end(), domain + ' ' + std::string{id} + ' '));
    }
    std::vector<std::string> lines;
};

class EventLogTest : public NetworkWorld {
protected:
    void boot_logged() {
        room.reset();
        events.emplace(written, audience);
        driver.emplace(*ports);
        room.emplace(*ports, std::vector<HypervisorDriver*>{&*driver}, &links, network_driver, callers, *events,
                     patience);
        run(room->load());
        events->start();
    }
    FieldLog written;
    std::optional<EventLog> events;
    ~EventLogTest() override { room.reset(); }
};

TEST_F(EventLogTest, ALifeIsWrittenWithAnIdForEachKind) {
    boot_logged();
    const auto domain = running("web");
    EXPECT_EQ(written.count("web", message_id::domain_defined), 1u);
    EXPECT_EQ(written.count("web", message_id::domain_started), 1u);
    finish(domain->suspend(caller));
    finish(domain->resume(caller));
    EXPECT_EQ(written.count("web", message_id::domain_started), 1u);
    finish(domain->stop({}, caller));
    EXPECT_EQ(written.count("web", message_id::domain_stopped), 1u);
    undefine("web");
    EXPECT_EQ(written.count("web", message_id::domain_undefined), 1u);
}

TEST_F(EventLogTest, ItHandsEverythingOn) {
    boot_logged();
    running("web");
    EXPECT_TRUE(audience.heard("added web"));
    EXPECT_TRUE(audience.heard("state web running booted"));
}

TEST_F(EventLogTest, TheLifeOfANetworkIsWritten) {
    boot_logged();
    const auto lan = define_network(nat("lan"));
    EXPECT_EQ(written.count("lan", message_id::network_started), 0u);
    finish(lan->start(caller));
    EXPECT_EQ(written.count("lan", message_id::network_started), 1u);
    finish(lan->stop(caller));
    EXPECT_EQ(written.count("lan", message_id::network_stopped), 1u);
    create_network(nat("tmp", 51));
    stop_network("tmp");
    EXPECT_EQ(written.count("tmp", message_id::network_started), 1u);
    EXPECT_EQ(written.count("tmp", message_id::network_stopped), 1u);
}

TEST_F(EventLogTest, WhatWasThereBeforeIsNoNews) {
    boot_logged();
    define(xml("web"));
    written.lines.clear();
    boot_logged();
    EXPECT_EQ(written.count("web", message_id::domain_defined), 0u);
}

}  // namespace
}  // namespace virtbus::tests
