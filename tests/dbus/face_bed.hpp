// SPDX-License-Identifier: LGPL-2.1-or-later
// For tests: the whole face over domains and networks that keep what they are told, and a peer on its socket.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <optional>

#include "dbus/face.hpp"
#include "service/host/workers.hpp"
#include "tests/dbus/fake_domains.hpp"
#include "tests/dbus/fake_networks.hpp"
#include "tests/support/bus_client.hpp"

namespace virtbus::dbus {

using tests::Client;

struct SilentLog final : Log {
    void write(Priority, std::string_view, const Fields&) override {}
};

inline constexpr const char* domain = "org.virtbus1.Domain";
inline constexpr const char* manager = "org.virtbus1.Manager";
inline constexpr const char* job = "org.virtbus1.Job";
inline constexpr const char* properties = "org.freedesktop.DBus.Properties";
inline const std::string root = "/org/virtbus1";

struct FaceTest : ::testing::Test {
    FaceTest() {
        face.present(domains, networks, jobs, workers);
        face.serve_socket(folder / "bus");
        client.emplace(loop, "unix:path=" + (folder / "bus"), "org.virtbus1");
        one = &domains.add(1);
        path = root + "/domain/00000000_0000_4000_8000_000000000001";
    }
    ~FaceTest() override {
        client.reset();
        face.close();
    }
    Task<> allow(Caller, std::string action, Details details) {
        const auto about = details.contains("domain-name") ? "domain-name" : "network-name";
        asked.push_back(action + " " + (details.contains(about) ? details.at(about) : "-") + " " + details.at("verb"));
        co_return;
    }
    tests::Answer verb(const char* member) { return client->call(path, domain, member, "a{sv}", 0); }
    void listen() {
        ASSERT_TRUE(client->call(root, "org.freedesktop.DBus.Peer", "Ping").ok());
        const auto match =
            client->make("/org/freedesktop/DBus", "org.freedesktop.DBus", "AddMatch", "org.freedesktop.DBus");
        sd_bus_message_append(match.get(), "s", "type='signal'");
        ASSERT_TRUE(client->send(match).wait().ok());
    }
    std::vector<std::string> heard() {
        EXPECT_TRUE(client->call(root, "org.freedesktop.DBus.Peer", "Ping").ok());
        std::vector<std::string> members;
        for (const auto& signal : client->signals) members.push_back(signal.member);
        client->signals.clear();
        return members;
    }

    host::MainLoop loop;
    host::SystemClock clock;
    host::ThreadPool workers{loop, 1};
    SilentLog log;
    tests::TemporaryFolder folder;
    std::vector<std::string> asked;
    Face face{loop, log,
              [this](Caller caller, std::string action, Details details, std::stop_token) {
                  return allow(std::move(caller), std::move(action), std::move(details));
              },
              "1.2.3", false};
    Jobs jobs{loop, clock, log, face.audience()};
    FakeDomains domains{jobs, face.audience(), loop};
    FakeNetworks networks{jobs, face.audience(), loop};
    std::optional<Client> client;
    FakeDomain* one = nullptr;
    std::string path;
};

}  // namespace virtbus::dbus
