// SPDX-License-Identifier: LGPL-2.1-or-later
// The authority client against a fake polkitd on a bus of the test's own.
#include "polkit/authority.hpp"

#include <glib.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sdbus-c++/sdbus-c++.h>

#include <sstream>

#include "polkit/start_time.hpp"
#include "service/host/loop.hpp"
#include "tests/support/private_bus.hpp"
#include "virtbus/reply.hpp"

namespace virtbus::polkit {
namespace {

using ::testing::HasSubstr;

struct CollectedLog final : Log {
    void write(Priority, std::string_view message, const Fields&) override { text += std::string{message} + "\n"; }
    std::string text;
};

/// The bus of the whole test program: GLib connects to the system bus once in a process.
tests::PrivateBus& bus() {
    static tests::PrivateBus bus;
    return bus;
}

struct AuthorityTest : ::testing::Test {
    AuthorityTest() { bus(); }

    void rules(const std::string& text) { std::ofstream{folder / "rules"} << text; }
    void start_polkitd() {
        polkitd.emplace(std::vector<std::string>{FAKE_POLKITD, folder / "rules", folder / "log"});
        ASSERT_EQ(polkitd->read_line(), "ready");
    }
    std::string questions() const {
        std::ostringstream text;
        text << std::ifstream{folder / "log"}.rdbuf();
        return text.str();
    }
    /// The log changes without an event in this loop, so it is looked at again and again.
    bool logged(const std::string& text) {
        const auto tick = g_timeout_add(2, [](void*) -> gboolean { return G_SOURCE_CONTINUE; }, nullptr);
        const bool seen = loop.run_until([&] { return questions().find(text) != std::string::npos; }, tests::patience);
        g_source_remove(tick);
        return seen;
    }
    /// This process as a peer on the socket.
    static Caller peer() {
        const auto pid = static_cast<std::uint32_t>(::getpid());
        return {"peer:1", ::getuid(), pid, start_time_of(pid), false, false};
    }
    Verdict ask(Caller caller, std::map<std::string, std::string> details = {}) {
        return tests::run(loop,
                          authority.check(std::move(caller), "org.virtbus1.domain.start", std::move(details), {}));
    }

    tests::TemporaryFolder folder;
    host::MainLoop loop;
    CollectedLog log;
    PolkitOptions options{.ask_about_root = true};
    SystemAuthority authority{loop, log, options};
    std::optional<tests::Companion> polkitd;
};

TEST_F(AuthorityTest, AnAbsentPolkitdIsANo) {
    EXPECT_EQ(ask(peer()), Verdict::denied);
    EXPECT_THAT(log.text, HasSubstr("org.virtbus1.domain.start is denied to peer:1"));
    EXPECT_THAT(log.text, HasSubstr("polkit gave no answer"));
}

TEST_F(AuthorityTest, RootIsNotKeptWaitingForPolkit) {
    SystemAuthority plain{loop, log};
    Caller root = peer();
    root.uid = 0;
    EXPECT_EQ(tests::run(loop, plain.check(root, "org.virtbus1.domain.start", {}, {})), Verdict::allowed);
}

TEST_F(AuthorityTest, AsksAboutTheProcessWithItsDetails) {
    rules("* org.virtbus1.domain.start domain-name=web\n");
    start_polkitd();
    EXPECT_EQ(ask(peer(), {{"domain-name", "web"}, {"verb", "start"}}), Verdict::allowed);
    EXPECT_EQ(ask(peer(), {{"domain-name", "db"}}), Verdict::denied);
    EXPECT_THAT(questions(), HasSubstr("uid=" + std::to_string(::getuid()) + " subject=process:" +
                                       std::to_string(::getpid()) + "@" + std::to_string(peer().pid_start_time)));
    EXPECT_THAT(questions(), HasSubstr("domain-name=web verb=start"));
}

TEST_F(AuthorityTest, AsksAboutTheConnectionOnTheBus) {
    rules("* *\n");
    start_polkitd();
    const auto connection = sdbus::createSystemBusConnection();
    const auto name = connection->getUniqueName();
    EXPECT_EQ(ask({name, ::getuid(), 0, 0, true, false}), Verdict::allowed);
    EXPECT_THAT(questions(), HasSubstr("subject=bus:" + name));
}

TEST_F(AuthorityTest, AChallengeFollowsTheInteractiveFlag) {
    rules("challenge * *\n");
    start_polkitd();
    EXPECT_EQ(ask(peer()), Verdict::challenge);
    auto caller = peer();
    caller.interactive = true;
    EXPECT_EQ(ask(caller), Verdict::allowed);
}

TEST_F(AuthorityTest, AReusedPidIsANo) {
    rules("* *\n");
    start_polkitd();
    auto caller = peer();
    caller.pid_start_time += 1;
    EXPECT_EQ(ask(caller), Verdict::denied);
    caller.pid_start_time = 0;
    EXPECT_EQ(ask(caller), Verdict::denied);
    EXPECT_EQ(questions(), "") << "polkit is not even asked";
}

TEST_F(AuthorityTest, AStoppedQuestionIsWithdrawn) {
    rules("hold * *\n");
    start_polkitd();
    std::stop_source stop;
    auto question = authority.check(peer(), "org.virtbus1.domain.start", {}, stop.get_token());
    bool cancelled = false;
    Scope scope;
    scope.spawn([](Task<Verdict> asked, bool& done) -> Task<> {
        try {
            co_await asked;
        } catch (const Cancelled&) {
            done = true;
        }
    }(std::move(question), cancelled));
    ASSERT_TRUE(logged("ruling=held"));
    stop.request_stop();
    EXPECT_TRUE(loop.run_until([&] { return cancelled; }, tests::patience));
    EXPECT_TRUE(logged("cancel"));
}

TEST_F(AuthorityTest, ADestroyedQuestionIsWithdrawn) {
    rules("hold * *\n");
    start_polkitd();
    {
        Scope scope;
        scope.spawn([](Task<Verdict> asked) -> Task<> {
            co_await asked;
        }(authority.check(peer(), "org.virtbus1.domain.start", {}, {})));
        ASSERT_TRUE(logged("ruling=held"));
    }
    EXPECT_TRUE(logged("cancel"));
}

TEST_F(AuthorityTest, ASilentPolkitdIsANo) {
    rules("hold * *\n");
    start_polkitd();
    options.patience = Duration{100};
    SystemAuthority hasty{loop, log, options};
    EXPECT_EQ(tests::run(loop, hasty.check(peer(), "org.virtbus1.domain.start", {}, {})), Verdict::denied);
    EXPECT_THAT(log.text, HasSubstr("did not finish in time"));
}

TEST(OwnerAuthorityTest, TheBusBelongsToItsUser) {
    host::MainLoop loop;
    OwnerAuthority authority{1000};
    const auto ask = [&](std::uint32_t uid) {
        return tests::run(loop, authority.check({":1.1", uid, 0, 0, true, false}, "org.virtbus1.domain.start", {}, {}));
    };
    EXPECT_EQ(ask(1000), Verdict::allowed);
    EXPECT_EQ(ask(0), Verdict::allowed);
    EXPECT_EQ(ask(1001), Verdict::denied);
}

}  // namespace
}  // namespace virtbus::polkit
