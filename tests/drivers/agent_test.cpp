// SPDX-License-Identifier: LGPL-2.1-or-later
// The guest agent's side of a running guest, with an agent of our own at the other end: an honest one, and ones that
// are silent, talk rubbish, or answer what was asked long ago.
#include "qemu/agent/agent.hpp"

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

#include "qemu/guest_verbs.hpp"
#include "qemu/json.hpp"
#include "tests/drivers/host_bed.hpp"

namespace virtbus::tests {
namespace {

using nlohmann::json;
using qemu::QemuAgent;

struct Deaf final : GuestEvents {
    void state_changed(State, std::string) override {}
    void ended(GuestEnd) override {}
    void rebooted() override {}
    void config_changed(DomainConfig) override {}
    void responsive_changed(bool) override {}
    void device_added(std::string) override {}
    void device_removed(std::string) override {}
    void device_removal_failed(std::string) override {}
    void io_error(std::string, std::string, std::string) override {}
    void watchdog_fired(std::string) override {}
    void agent_changed(bool) override {}
};

/// A program in the guest that keeps to the protocol as far as the test lets it.
struct FakeAgent {
    Loop& loop;
    Fd listening, peer;
    Registration accepting, reading;
    std::string heard;
    std::vector<std::string> commands;  ///< but the syncs
    std::vector<std::string> modes;
    bool answers_sync = true;
    std::string before_sync;                     ///< said ahead of each sync's answer
    std::map<std::string, std::string> answers;  ///< by command; "" = silence; {"return": 3} when not listed
    std::string hang_up_on;
    std::function<void()> when_asked, when_synced;

    FakeAgent(Loop& on, const std::string& path) : loop{on} {
        listening = Fd{::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)};
        sockaddr_un address{};
        address.sun_family = AF_UNIX;
        path.copy(address.sun_path, sizeof address.sun_path - 1);
        EXPECT_EQ(::bind(listening.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
        EXPECT_EQ(::listen(listening.get(), 1), 0);
        accepting = loop.watch(listening.get(), readable, [this](unsigned) { accept_one(); });
    }
    void accept_one() {
        if (peer) return;  // like QEMU: one at a time
        peer = Fd{::accept4(listening.get(), nullptr, nullptr, SOCK_CLOEXEC)};
        accepting.reset();
        reading = loop.watch(peer.get(), readable, [this](unsigned) { hear(); });
    }
    void close() {
        reading.reset();
        peer = Fd{};
        heard.clear();
        accepting = loop.watch(listening.get(), readable, [this](unsigned) { accept_one(); });
    }
    void say(std::string_view words) const { ::send(peer.get(), words.data(), words.size(), MSG_NOSIGNAL); }
    void hear() {
        char buffer[4096];
        const auto got = ::recv(peer.get(), buffer, sizeof buffer, MSG_DONTWAIT);
        if (got <= 0) return close();
        heard.append(buffer, static_cast<std::size_t>(got));
        for (auto end = heard.find('\n'); end != std::string::npos; end = heard.find('\n')) {
            auto line = heard.substr(0, end);
            heard.erase(0, end + 1);
            if (line.starts_with('\xff')) line.erase(0, 1);
            obey(json::parse(line));
            if (!peer) return;
        }
    }
    void obey(const json& message) {
        const auto command = qemu::text(message, "execute");
        if (command == "guest-sync-delimited") {
            if (when_synced) std::exchange(when_synced, nullptr)();
            if (!answers_sync) return;
            say(before_sync + "\xff" + json{{"return", message["arguments"]["id"]}}.dump() + "\n");
            return;
        }
        commands.push_back(command);
        if (message.contains("arguments")) modes.push_back(qemu::text(message["arguments"], "mode"));
        if (when_asked) std::exchange(when_asked, nullptr)();
        if (command == hang_up_on) return close();
        const auto known = answers.find(command);
        const auto answer = known == answers.end() ? "{\"return\": 3}" : known->second;
        if (!answer.empty()) say(answer + "\n");
    }
};

class AgentTest : public testing::Test {
protected:
    static DomainConfig config(const std::string& path) {
        DomainConfig config;
        config.name = "web";
        auto& channel = config.devices.channels.emplace_back();
        channel.type = ChardevType::unix_socket;
        channel.info.alias = "channel0";
        channel.target.emplace().name = "org.qemu.guest_agent.0";
        auto& source = channel.backend.make_source();
        source.mode = "bind";
        source.path = path;
        return config;
    }
    static QemuAgent::Times brief() {
        return {.greeting = Duration{300}, .freezing = Duration{300}, .leaving = Duration{300}};
    }
    Error failure(Task<> task) {
        try {
            bed.run(std::move(task));
        } catch (const Error& error) {
            return error;
        }
        return Error{Code::internal, "nothing failed"};
    }
    void expect_error(const Error& error, Code code, const std::string& part) {
        EXPECT_EQ(error.code(), code) << error.what();
        EXPECT_NE(std::string{error.what()}.find(part), std::string::npos) << error.what();
    }
    ChannelTarget& target() { return *core->config.devices.channels[0].target; }

    HostBed bed;
    Deaf deaf;
    Scope scope;
    std::string path = bed.folder.path() + "/agent.sock";
    std::shared_ptr<qemu::GuestCore> core = std::make_shared<qemu::GuestCore>(bed.ports, scope, qemu::GuestTimes{},
                                                                              deaf, config(path), qemu::GuestRecord{});
    FakeAgent fake{bed.loop, path};
    QemuAgent agent{core};
    QemuAgent impatient{core, brief()};
    using Commands = std::vector<std::string>;
};

TEST_F(AgentTest, FreezesAndThaws) {
    bed.run(agent.freeze({}));
    bed.run(agent.thaw());
    EXPECT_EQ(fake.commands, (Commands{"guest-fsfreeze-freeze", "guest-fsfreeze-thaw"}));
    QemuAgent of_a_later_daemon{core};
    bed.run(of_a_later_daemon.thaw());
}

TEST_F(AgentTest, ASocketThatQemuWasGivenWithoutANameIsFoundInTheGuestsFolder) {
    core->record.folder = bed.folder.path();
    core->config.devices.channels[0].backend.make_source().path.clear();
    bed.files.make_folder(bed.folder.path() + "/guest", 0700);
    std::filesystem::rename(path, bed.folder.path() + "/guest/channel0.sock");
    bed.run(agent.freeze({}));
}

TEST_F(AgentTest, WordsOfAnEarlierConversationAreThrownAway) {
    fake.before_sync = "{\"return\": 99}\n\xff{\"return\": 12345}\n{\"error\": {\"desc\": \"old\"}}\nhalf a li";
    bed.run(agent.freeze({}));
    fake.before_sync = std::string(2000, '{') + "\n";
    bed.run(agent.thaw());
}

TEST_F(AgentTest, SaysWhyNobodyCanBeAsked) {
    target().state = "disconnected";
    expect_error(failure(agent.freeze({})), Code::agent_unavailable, "not open");
    target().state = "connected";
    target().name = "com.redhat.spice.0";
    expect_error(failure(agent.freeze({})), Code::agent_unavailable, "no channel");
    target().name = "org.qemu.guest_agent.0";
    core->config.devices.channels[0].type = ChardevType::spicevmc;
    expect_error(failure(agent.freeze({})), Code::agent_unavailable, "unix socket");
    core->config.devices.channels[0].type = ChardevType::unix_socket;
    core->config.devices.channels[0].backend.make_source().path = bed.folder.path() + "/gone";
    expect_error(failure(agent.freeze({})), Code::agent_unavailable, "gone");
    EXPECT_TRUE(fake.commands.empty());
}

TEST_F(AgentTest, ASilentAgentIsUnavailableAndNothingIsAskedOfIt) {
    fake.answers_sync = false;
    expect_error(failure(impatient.freeze({})), Code::agent_unavailable, "does not answer");
    EXPECT_TRUE(fake.commands.empty());
    fake.answers_sync = true;
    bed.run(agent.freeze({}));
}

TEST_F(AgentTest, ARefusalComesInTheGuestsOwnWordsAndBounded) {
    fake.answers["guest-fsfreeze-freeze"] =
        json{{"error", {{"class", "GenericError"}, {"desc", "no \x01 such luck"}}}}.dump();
    expect_error(failure(agent.freeze({})), Code::agent_failed, "no ? such luck");
    EXPECT_EQ(fake.commands, Commands{"guest-fsfreeze-freeze"}) << "what was refused needs no thaw";
    fake.answers["guest-fsfreeze-freeze"] = json{{"error", {{"desc", std::string(5000, 'x')}}}}.dump();
    EXPECT_LT(std::string{failure(agent.freeze({})).what()}.size(), 700U);
    fake.answers["guest-fsfreeze-freeze"] = "{\"error\": 7}";
    expect_error(failure(agent.freeze({})), Code::agent_failed, "no reason");
}

TEST_F(AgentTest, AFreezeWhoseEndIsNotSeenIsThawed) {
    for (const std::string answer : {"", "rubbish", "[]", "{\"neither\": 1}"}) {
        fake.commands.clear();
        fake.answers["guest-fsfreeze-freeze"] = answer;
        const auto code = failure(impatient.freeze({})).code();
        EXPECT_EQ(code, answer.empty() ? Code::timeout : Code::agent_unavailable) << answer;
        EXPECT_EQ(fake.commands, (Commands{"guest-fsfreeze-freeze", "guest-fsfreeze-thaw"})) << answer;
    }
    fake.commands.clear();
    fake.hang_up_on = "guest-fsfreeze-freeze";
    expect_error(failure(impatient.freeze({})), Code::agent_unavailable, "gone away");
    EXPECT_EQ(fake.commands.back(), "guest-fsfreeze-thaw");
}

TEST_F(AgentTest, ACancelledFreezeIsThawed) {
    fake.answers["guest-fsfreeze-freeze"] = "";
    std::stop_source stop;
    fake.when_asked = [&] { stop.request_stop(); };
    expect_error(failure(agent.freeze(stop.get_token())), Code::cancelled, "");
    EXPECT_EQ(fake.commands, (Commands{"guest-fsfreeze-freeze", "guest-fsfreeze-thaw"}));
}

TEST_F(AgentTest, ALineWithoutEndIsNotKept) {
    fake.answers_sync = false;
    // The socket holds less than that, so a thread says it; it ends with the connection.
    std::thread flood;
    fake.when_synced = [&] {
        flood = std::thread{[own = Fd{::dup(fake.peer.get())}] {
            const std::string line(64U << 10, 'a');
            while (::send(own.get(), line.data(), line.size(), MSG_NOSIGNAL) > 0) {
            }
        }};
    };
    expect_error(failure(agent.freeze({})), Code::agent_unavailable, "line of more than");
    if (flood.joinable()) flood.join();
}

TEST_F(AgentTest, ItsChannelAndConsolesExcludeEachOther) {
    const Fd console = bed.run(qemu::open_console(core, "channel0", false));
    expect_error(failure(agent.freeze({})), Code::device_in_use, "console");
    // A guest must not stay frozen because somebody looks at its channel.
    bed.run(agent.thaw());
    EXPECT_FALSE(core->consoles.is_open(path));

    fake.answers["guest-fsfreeze-freeze"] = "";
    std::stop_source stop;
    std::optional<Error> refused;
    fake.when_asked = [&] {
        scope.spawn([](std::shared_ptr<qemu::GuestCore> of, std::optional<Error>& result) -> Task<> {
            try {
                co_await qemu::open_console(of, "channel0", true);
            } catch (const Error& error) {
                result = error;
            }
        }(core, refused));
        stop.request_stop();
    };
    EXPECT_EQ(failure(agent.freeze(stop.get_token())).code(), Code::cancelled);
    ASSERT_TRUE(refused);
    expect_error(*refused, Code::device_in_use, "agent");
    const Fd again = bed.run(qemu::open_console(core, "channel0", false));
}

TEST_F(AgentTest, AShutdownThatIsTakenHasNoAnswer) {
    fake.answers["guest-shutdown"] = "";
    bed.run(agent.shut_down("powerdown", {}));
    bed.run(agent.shut_down("reboot", {}));
    EXPECT_EQ(fake.modes, (std::vector<std::string>{"powerdown", "reboot"}));
    fake.hang_up_on = "guest-shutdown";
    bed.run(agent.shut_down("powerdown", {}));
    fake.hang_up_on.clear();
    fake.answers["guest-shutdown"] = "{\"error\": {\"desc\": \"not now\"}}";
    expect_error(failure(agent.shut_down("powerdown", {})), Code::agent_failed, "not now");
}

}  // namespace
}  // namespace virtbus::tests
