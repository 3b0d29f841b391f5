// SPDX-License-Identifier: LGPL-2.1-or-later
// libvirt's <filter>: what is read of it, and what is refused.
#include <gtest/gtest.h>

#include "service/xml/filter_xml.hpp"
#include "virtbus/error.hpp"

using namespace virtbus;

namespace {

std::string refusal(const std::string& text) {
    try {
        xml::parse_filter(text);
    } catch (const Error& error) {
        EXPECT_TRUE(error.code() == Code::invalid_xml || error.code() == Code::limits_exceeded) << error.what();
        return error.what();
    }
    return "nothing";
}

TEST(FilterXml, RulesAndReferencesKeepTheirOrder) {
    const auto filter = xml::parse_filter(
        "<filter name='mine' chain='ipv4-mine' priority='-705'><uuid>6ef53069ba3494a0d33d17751b9b8cb1</uuid>"
        "<rule action='accept' direction='out' priority='-3' statematch='false'><tcp dstportstart='$P[@1]'/>"
        "<tcp match='no' srcipaddr='10.0.0.1' comment='why'/></rule>"
        "<filterref filter='other'><parameter name='A' value='1'/><parameter name='A' value='2'/></filterref>"
        "<rule action='return' direction='inout'/></filter>");
    EXPECT_EQ(filter.name, "mine");
    EXPECT_EQ(filter.chain, "ipv4-mine");
    EXPECT_EQ(filter.priority, -705);
    EXPECT_EQ(filter.uuid, "6ef53069-ba34-94a0-d33d-17751b9b8cb1");
    ASSERT_EQ(filter.entries.size(), 3u);
    const auto& first = std::get<FilterRule>(filter.entries[0]);
    EXPECT_EQ(first.action, FilterAction::accept);
    EXPECT_EQ(first.direction, FilterDirection::out);
    EXPECT_EQ(first.priority, -3);
    EXPECT_FALSE(first.statematch);
    EXPECT_EQ(first.protocol, "tcp");
    EXPECT_EQ(first.attributes,
              (std::vector<FilterAttribute>{
                  {"dstportstart", "$P[@1]", false}, {"srcipaddr", "10.0.0.1", true}, {"comment", "why", true}}));
    const auto& second = std::get<FilterRef>(filter.entries[1]);
    EXPECT_EQ(second.filter, "other");
    ASSERT_EQ(second.parameters.size(), 2u);
    EXPECT_EQ(second.parameters[1].value, "2");
    const auto& third = std::get<FilterRule>(filter.entries[2]);
    EXPECT_EQ(third.action, FilterAction::back);
    EXPECT_EQ(third.priority, usual_rule_priority);
    EXPECT_TRUE(third.statematch);
    EXPECT_EQ(third.protocol, "");
}

TEST(FilterXml, WhatIsNotUnderstoodIsRefusedSinceItWouldBeForEveryFrame) {
    const auto rule = [](const std::string& inside) {
        return refusal("<filter name='f'><rule action='accept' direction='in'>" + inside + "</rule></filter>");
    };
    EXPECT_NE(rule("<tpc/>").find("<tpc>"), std::string::npos) << rule("<tpc/>");
    EXPECT_NE(rule("<tcp/><udp/>").find("one protocol"), std::string::npos) << rule("<tcp/><udp/>");
    EXPECT_NE(rule("<ip srcipaddr='1.1.1.1'/><ip srcipaddr='2.2.2.2'/>").find("twice"), std::string::npos);
    EXPECT_NE(rule("<ip match='maybe'/>").find("match"), std::string::npos);
}

TEST(FilterXml, BrokenOnesAreRefused) {
    for (const auto* text : {"", "<filter/>", "<pool name='f'/>", "<filter name='f'><rule direction='in'/></filter>",
                             "<filter name='f'><rule action='accept'/></filter>",
                             "<filter name='f'><rule action='let' direction='in'/></filter>",
                             "<filter name='f'><rule action='drop' direction='up'/></filter>",
                             "<filter name='f'><rule action='drop' direction='in' priority='1001'/></filter>",
                             "<filter name='f' priority='x'/>", "<filter name='f'><filterref/></filter>",
                             "<!DOCTYPE filter><filter name='f'/>"})
        EXPECT_NE(refusal(text), "nothing") << text;
    std::string deep = "<filter name='f'>", many = deep;
    for (int i = 0; i < 20; ++i) deep += "<a>";
    for (int i = 0; i < 5000; ++i) many += "<rule action='drop' direction='in'/>";
    EXPECT_NE(refusal(deep), "nothing");
    EXPECT_NE(refusal(many + "</filter>"), "nothing");
    EXPECT_NE(refusal("<filter name='" + std::string(2 << 20, 'f') + "'/>"), "nothing");
}

}  // namespace
