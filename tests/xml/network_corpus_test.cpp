// SPDX-License-Identifier: LGPL-2.1-or-later
// Every network of the corpus is read, written as expected, read back the same, and is complete; no cut of it does
// harm.
#include "network_support.hpp"

namespace virtbus::xml {
namespace {

class NetworkCorpus : public testing::TestWithParam<std::string> {
protected:
    ParsedNetwork parsed() const { return parse_network(network_file(GetParam())); }
};

TEST_P(NetworkCorpus, IsWrittenAsExpected) {
    EXPECT_EQ(format_network(parsed().config), network_file(GetParam() + ".out"));
}

TEST_P(NetworkCorpus, ReadsBackWhatItWrote) {
    const auto first = parsed();
    const auto text = format_network(first.config);
    const auto second = parse_network(text);
    EXPECT_EQ(format_network(second.config), text);
    EXPECT_TRUE(second.config == first.config);
    EXPECT_EQ(second.unknown.size(), first.unknown.size());
}

TEST_P(NetworkCorpus, CompletedFormIsAFixedPoint) {
    auto config = parsed().config;
    complete_network(config);
    const auto text = format_network(config);
    auto again = parse_network(text).config;
    EXPECT_TRUE(again == config) << text;
    complete_network(again);
    EXPECT_EQ(format_network(again), text);
}

TEST_P(NetworkCorpus, StoredFormHasNoCounts) {
    const auto text = format_network(without_live(parsed().config));
    EXPECT_FALSE(contains(text, "connections=")) << text;
    EXPECT_EQ(format_network(without_live(parse_network(text).config)), text);
}

TEST_P(NetworkCorpus, OnlyTheUnknownPartsFileHasUnknownParts) {
    EXPECT_EQ(parsed().unknown.empty(), GetParam() != "unknown-parts") << testing::PrintToString(parsed().unknown);
}

TEST_P(NetworkCorpus, EveryCutIsRefused) {
    const auto whole = network_file(GetParam());
    const auto end = whole.find_last_not_of(" \n") + 1;
    for (std::size_t length = 0; length < end; length += 7) {
        const auto refused = refusal([&] { parse_network(whole.substr(0, length)); });
        ASSERT_EQ(refused.code, Code::invalid_xml) << length << ": " << refused.message;
    }
}

TEST_P(NetworkCorpus, EveryBrokenByteIsAnErrorOrADefinition) {
    const auto whole = network_file(GetParam());
    for (std::size_t at = 3; at < whole.size(); at += 5) {
        auto broken = whole;
        broken[at] = "<>&'\"/=\x01\xff 9"[at % 11];
        const auto refused = refusal([&] {
            auto config = parse_network(broken).config;
            complete_network(config);
        });
        ASSERT_TRUE(refused.message.empty() || refused.code == Code::invalid_xml ||
                    refused.code == Code::limits_exceeded)
            << at;
    }
}

INSTANTIATE_TEST_SUITE_P(Networks, NetworkCorpus, testing::ValuesIn(network_corpus()), [](const auto& info) {
    auto name = info.param;
    std::replace(name.begin(), name.end(), '-', '_');
    return name;
});

TEST(NetworkCorpusFolder, IsNotEmpty) {
    EXPECT_GE(network_corpus().size(), 45U);
}

}  // namespace
}  // namespace virtbus::xml
