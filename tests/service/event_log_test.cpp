// SPDX-License-Identifier: LGPL-2.1-or-later
// What happens to domains, as lines of the log with their fields.
#include "service/event_log.hpp"

#include "virtbus/message_ids.hpp"
#include "world.hpp"

namespace virtbus::tests {
namespace {

/// One line per entry: the domain's name and the message id.
struct FieldLog final : Log {
    void write(Priority, std::string_view, const Fields& fields) override {
        std::string line;
        for (const auto& [name, value] : fields)
            if (name != "DOMAIN_UUID") line += value + ' ';
        lines.push_back(line);
    }
    std::size_t count(const std::string& domain, std::string_view id) const {
        return static_cast<std::size_t>(std::count(lines.begin(), lines.end(), domain + ' ' + std::string{id} + ' '));
    }
    std::vector<std::string> lines;
};

class EventLogTest : public World {
protected:
    void boot_logged() {
        room.reset();
        events.emplace(written, audience);
        driver.emplace(*ports);
        room.emplace(*ports, std::vector<HypervisorDriver*>{&*driver}, &links, callers, *events, patience);
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

TEST_F(EventLogTest, WhatWasThereBeforeIsNoNews) {
    boot_logged();
    define(xml("web"));
    written.lines.clear();
    boot_logged();
    EXPECT_EQ(written.count("web", message_id::domain_defined), 0u);
}

}  // namespace
}  // namespace virtbus::tests
