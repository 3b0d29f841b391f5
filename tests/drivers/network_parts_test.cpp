// SPDX-License-Identifier: LGPL-2.1-or-later
// Small parts of the network driver: the record of a network, what is said to firewalld (a program that stands for
// firewall-cmd), and a start that is given up while the kernel is at work.
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <fstream>
#include <sstream>

#include "network/bridge.hpp"
#include "network/driver.hpp"
#include "network/firewalld.hpp"
#include "network/network_record.hpp"
#include "service/host/loop.hpp"
#include "service/host/spawner.hpp"
#include "tests/drivers/host_bed.hpp"
#include "tests/drivers/network_bed.hpp"
#include "tests/support/run.hpp"
#include "virtbus/error.hpp"

namespace virtbus::network {
namespace {

using namespace std::chrono_literals;
using tests::run;

TEST(NetworkRecordText, ComesBackAsItWas) {
    NetworkRecord record;
    record.bridge = "virbr0";
    record.index = 7;
    record.mac = "52:54:00:00:00:01";
    record.dnsmasq = {4711, 123456789012, "virtbus-network-7-lab.service"};
    record.classes.push_back(
        {3, "52:54:00:00:00:02", {.average = 1000, .peak = {}, .floor = 500, .burst = 64, .unknown = {}}});
    const auto back = decode_network_record(encode(record));
    EXPECT_EQ(back.bridge, record.bridge);
    EXPECT_EQ(back.index, record.index);
    EXPECT_EQ(back.mac, record.mac);
    EXPECT_EQ(back.dnsmasq, record.dnsmasq);
    EXPECT_EQ(back.classes, record.classes);
}

TEST(NetworkRecordText, WhatIsNoneIsAnError) {
    const auto whole = encode(NetworkRecord{});
    for (const auto& text : {std::string{}, std::string{"{}"}, std::string{"[]"}, whole.substr(0, whole.size() / 2),
                             std::string{R"({"version":2})"}, std::string{R"({"version":"1"})"}})
        EXPECT_THROW(decode_network_record(text), Error) << text;
}

struct FirewalldZones : ::testing::Test {
    /// Notes its arguments and ends with the code and the words.
    std::string program(int code, const std::string& words = "") {
        const auto path = folder / "firewall-cmd";
        std::ofstream{path} << "#!/bin/sh\necho \"$@\" >>" << (folder / "said") << "\necho '" << words << "' >&2\nexit "
                            << code << "\n";
        ::chmod(path.c_str(), 0755);
        return path;
    }
    std::string said() const {
        std::ostringstream text;
        text << std::ifstream{folder / "said"}.rdbuf();
        return text.str();
    }
    Error refusal(Firewalld& firewalld) {
        try {
            run(loop, firewalld.join("virbr0", "lab", in(1min)));
        } catch (const Error& error) {
            return error;
        }
        ADD_FAILURE() << "it was not refused";
        return {Code::internal, ""};
    }

    tests::TemporaryFolder folder;
    host::MainLoop loop;
    host::ChildSpawner spawner{loop};
};

TEST_F(FirewalldZones, ABridgeJoinsAndLeavesItsZone) {
    Firewalld firewalld{spawner, program(0)};
    run(loop, firewalld.join("virbr0", "lab", in(1min)));
    run(loop, firewalld.leave("virbr0", "lab", in(1min)));
    EXPECT_EQ(said(), "--zone=lab --change-interface=virbr0\n--zone=lab --remove-interface=virbr0\n");
}

TEST_F(FirewalldZones, WhatFirewalldRefusesIsTold) {
    Firewalld firewalld{spawner, program(112, "Error: INVALID_ZONE: lab")};
    const auto error = refusal(firewalld);
    EXPECT_EQ(error.code(), Code::unsupported_configuration);
    EXPECT_NE(std::string{error.what()}.find("INVALID_ZONE: lab"), std::string::npos) << error.what();
    run(loop, firewalld.leave("virbr0", "lab", in(1min)));  // a zone that is gone is no error
}

TEST_F(FirewalldZones, WithoutFirewalldThereIsNoZone) {
    Firewalld firewalld{spawner, folder / "none"};
    const auto error = refusal(firewalld);
    EXPECT_EQ(error.code(), Code::unsupported_configuration);
    EXPECT_NE(std::string{error.what()}.find("remove the attribute 'zone'"), std::string::npos) << error.what();
    run(loop, firewalld.leave("virbr0", "lab", in(1min)));
}

// ---- a start that nobody waits for any more

/// Does the first piece of work at once and keeps the others until they are wanted.
class SlowWorkers final : public Workers {
public:
    using Workers::Workers;
    void go_on() {
        for (const auto& work : std::exchange(kept_, {})) work();
    }
    std::size_t waiting() const { return kept_.size(); }

protected:
    void submit(std::function<void()> work) override {
        if (std::exchange(first_, false)) return work();
        kept_.push_back(std::move(work));
    }

private:
    bool first_ = true;
    std::vector<std::function<void()>> kept_;
};

struct NoEvents final : NetworkEvents {
    void state_moved() override {}
    void leases_changed() override {}
    void problem_changed(std::string) override {}
};

TEST(AStartThatIsGivenUp, LeavesNoBridgeThatIsMadeLater) {
    if (!tests::enter_network_namespace()) GTEST_SKIP() << "a network namespace needs root";
    tests::HostBed bed;
    SlowWorkers workers{bed.loop};
    Ports ports{bed.loop, bed.clock,  workers,           bed.files,         bed.spawner,
                bed.log,  *bed.units, bed.ports.folders, bed.ports.boot_id, false};
    VirtualNetworks driver{ports};
    NoEvents events;
    std::stop_source stop;
    NetworkStartRequest request{.config = {}, .events = events, .deadline = in(1min), .stop = stop.get_token()};
    request.config.name = "late";
    request.config.uuid = "6f0f6f0c-8f0e-4a55-9d5a-0a1b2c3d4e5f";
    request.config.mac = "52:54:00:00:00:01";
    request.config.bridge.emplace().name = "late0";
    std::string how;
    const auto starting = [](VirtualNetworks& on, NetworkStartRequest asked, std::string& end) -> Task<> {
        try {
            co_await on.start(std::move(asked));
            end = "started";
        } catch (const Error& error) {
            end = word(error.code());
        }
    };
    Scope scope;
    scope.spawn(starting(driver, std::move(request), how));
    bed.run_until([&] { return workers.waiting() == 1; });
    stop.request_stop();
    bed.run_until([&] { return !how.empty(); });
    EXPECT_EQ(how, word(Code::cancelled));
    workers.go_on();
    EXPECT_NE(find_bridge("late0"), 0) << "the test is too late itself";
    bed.run_until([] { return find_bridge("late0") == 0; });
}

}  // namespace
}  // namespace virtbus::network
