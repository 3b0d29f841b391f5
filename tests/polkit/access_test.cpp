// SPDX-License-Identifier: LGPL-2.1-or-later
#include "polkit/access.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "service/host/loop.hpp"
#include "tests/support/run.hpp"
#include "virtbus/error.hpp"

namespace virtbus::polkit {
namespace {

/// Says what the table says; no entry is a no.
struct TableAuthority final : Authority {
    Task<Verdict> check(Caller, std::string action, std::map<std::string, std::string>, std::stop_token) override {
        asked.push_back(action);
        const auto found = verdicts.find(action);
        co_return found == verdicts.end() ? Verdict::denied : found->second;
    }
    std::map<std::string, Verdict> verdicts;
    std::vector<std::string> asked;
};

struct AccessTest : ::testing::Test {
    Code refusal(std::vector<std::string> wanted) {
        try {
            virtbus::tests::run(loop, access.check(Caller{}, std::move(wanted), {}));
        } catch (const Error& error) {
            words = error.what();
            return error.code();
        }
        throw std::logic_error{"was allowed"};
    }
    host::MainLoop loop;
    TableAuthority authority;
    Access access{authority};
    std::string words;
};

TEST_F(AccessTest, AYesToEachActionIsAYes) {
    authority.verdicts = {{"org.virtbus1.domain.start", Verdict::allowed},
                          {"org.virtbus1.domain.configure", Verdict::allowed}};
    virtbus::tests::run(loop, access.check(Caller{}, std::vector<std::string>{"domain.configure", "domain.start"}, {}));
    EXPECT_THAT(authority.asked, ::testing::ElementsAre("org.virtbus1.domain.configure", "org.virtbus1.domain.start"));
}

TEST_F(AccessTest, OneNoIsANoThatNamesTheAction) {
    authority.verdicts = {{"org.virtbus1.domain.configure", Verdict::allowed}};
    EXPECT_EQ(refusal({"domain.configure", "org.virtbus1.domain.start"}), Code::access_denied);
    EXPECT_EQ(words, "org.virtbus1.domain.start is not permitted to you");
}

TEST_F(AccessTest, AChallengeAsksForADialogue) {
    authority.verdicts = {{"org.virtbus1.domain.start", Verdict::challenge}};
    EXPECT_EQ(refusal({"domain.start"}), Code::interactive_authorization_required);
    EXPECT_THAT(words, ::testing::HasSubstr("org.virtbus1.domain.start"));
}

TEST_F(AccessTest, AnUnknownActionIsOurMistake) {
    EXPECT_EQ(refusal({"domain.explode"}), Code::internal);
    EXPECT_TRUE(authority.asked.empty());
}

}  // namespace
}  // namespace virtbus::polkit
