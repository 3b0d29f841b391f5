// SPDX-License-Identifier: LGPL-2.1-or-later
// Every definition of the corpus is read, written as expected, and read back the same; no cut of it does harm.
#include "support.hpp"

namespace virtbus::xml {
namespace {

class Corpus : public testing::TestWithParam<std::string> {};

TEST_P(Corpus, IsWrittenAsExpected) {
    EXPECT_EQ(format_domain(parse_domain(definition(GetParam())).config, {.secure = true}), expected(GetParam()));
}

TEST_P(Corpus, ReadsBackWhatItWrote) {
    const auto first = parse_domain(definition(GetParam()));
    const auto text = format_domain(first.config, {.secure = true});
    const auto second = parse_domain(text);
    EXPECT_EQ(format_domain(second.config, {.secure = true}), text);
    EXPECT_TRUE(second.config == first.config);
    EXPECT_EQ(second.unknown.size(), first.unknown.size());
    EXPECT_EQ(abi_difference(first.config, second.config), std::nullopt);
}

TEST_P(Corpus, InactiveFormIsAFixedPoint) {
    const auto text = format_domain(parse_domain(definition(GetParam())).config, {.secure = true, .inactive = true});
    EXPECT_EQ(format_domain(parse_domain(text).config, {.secure = true, .inactive = true}), text);
}

TEST_P(Corpus, CompletedFormIsAFixedPoint) {
    auto config = parse_domain(definition(GetParam())).config;
    if (refusal([&] { complete_generic(config); }).code == Code::invalid_xml)
        GTEST_SKIP() << "only a part of a machine";
    const auto text = format_domain(config, {.secure = true});
    auto again = parse_domain(text).config;
    complete_generic(again);
    EXPECT_EQ(format_domain(again, {.secure = true}), text);
}

TEST_P(Corpus, OnlyTheUnknownPartsFileHasUnknownParts) {
    const auto unknown = parse_domain(definition(GetParam())).unknown;
    EXPECT_EQ(unknown.empty(), GetParam() != "unknown-parts") << testing::PrintToString(unknown);
}

TEST_P(Corpus, EveryCutIsRefused) {
    const auto whole = definition(GetParam());
    const auto end = whole.find_last_not_of(" \n") + 1;
    for (std::size_t length = 0; length < end; length += 23) {
        const auto refused = parse_refusal(whole.substr(0, length));
        ASSERT_EQ(refused.code, Code::invalid_xml) << length << ": " << refused.message;
    }
}

TEST_P(Corpus, EveryBrokenByteIsAnErrorOrADefinition) {
    const auto whole = definition(GetParam());
    for (std::size_t at = 3; at < whole.size(); at += 61) {
        auto broken = whole;
        broken[at] = "<>&'\"/=\x01\xff 9"[at % 11];
        const auto refused = parse_refusal(broken);
        ASSERT_TRUE(refused.message.empty() || refused.code == Code::invalid_xml ||
                    refused.code == Code::limits_exceeded)
            << at;
    }
}

INSTANTIATE_TEST_SUITE_P(Domains, Corpus, testing::ValuesIn(corpus()), [](const auto& info) {
    auto name = info.param;
    std::replace(name.begin(), name.end(), '-', '_');
    return name;
});

TEST(CorpusFolder, IsNotEmpty) {
    EXPECT_GE(corpus().size(), 60U);
}

}  // namespace
}  // namespace virtbus::xml
