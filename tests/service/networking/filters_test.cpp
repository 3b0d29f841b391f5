// SPDX-License-Identifier: LGPL-2.1-or-later
// What network filters come to for an interface: found, with variables replaced, bounded; and that the shipped ones do.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "service/host/files.hpp"
#include "service/host/loop.hpp"
#include "service/host/workers.hpp"
#include "service/networking/filter_tree.hpp"
#include "service/networking/filters.hpp"
#include "service/xml/filter_xml.hpp"
#include "tests/support/run.hpp"
#include "virtbus/error.hpp"

using namespace virtbus;
using namespace std::chrono_literals;

namespace {

using Parameters = std::vector<std::pair<std::string, std::string>>;

Interface card(const std::string& filter, const Parameters& parameters = {}) {
    Interface interface;
    interface.type = InterfaceType::bridge;
    interface.mac = "52:54:00:00:00:01";
    interface.filterref.emplace();
    interface.filterref->filter = filter;
    for (const auto& [name, value] : parameters) interface.filterref->parameters.push_back({name, value, {}});
    return interface;
}

/// By name, from text.
struct Shelf {
    std::map<std::string, NetworkFilter> filters;
    void put(const std::string& name, const std::string& inside, const std::string& more = "") {
        filters[name] = xml::parse_filter("<filter name='" + name + "' " + more + ">" + inside + "</filter>");
    }
    LinkFilter resolve(const Interface& interface) const {
        return resolve_filter(interface, [this](const std::string& name) -> const NetworkFilter& {
            const auto found = filters.find(name);
            if (found == filters.end()) throw Error{Code::unsupported_configuration, "no " + name};
            return found->second;
        });
    }
    std::string refusal(const Interface& interface) const {
        try {
            resolve(interface);
        } catch (const Error& error) {
            EXPECT_EQ(error.code(), Code::unsupported_configuration) << error.what();
            return error.what();
        }
        return "nothing";
    }
    /// Of a filter with one rule.
    std::string refusal(const std::string& match, const Parameters& parameters = {}) {
        put("f", "<rule action='accept' direction='in'>" + match + "</rule>");
        return refusal(card("f", parameters));
    }
};

std::vector<std::string> texts(const LinkFilter& filter, const std::string& name) {
    std::vector<std::string> out;
    for (const auto& rule : filter.rules) {
        const auto found = rule.values.find(name);
        out.push_back(found == rule.values.end() ? "-" : found->second.text);
    }
    return out;
}

bool says(const std::string& text, std::initializer_list<const char*> words) {
    for (const auto* each : words)
        if (text.find(each) == text.npos) return false;
    return true;
}

TEST(FilterTree, ValuesHaveOneSpelling) {
    Shelf shelf;
    shelf.put("f",
              "<rule action='drop' direction='out'><arp opcode='Reply' arpsrcipmask='16' arpsrcipaddr='10.0.0.1' "
              "hwtype='0x1' srcmacaddr='52:54:0:A:b:C' gratuitous='TRUE'/></rule>"
              "<rule action='drop' direction='out'><mac protocolid='ipv6' match='yes'/></rule>"
              "<rule action='drop' direction='out'><tcp flags='SYN,ACK/SYN' state='NEW,NONE'/></rule>"
              "<rule action='drop' direction='out'><ipv6 srcipaddr='FE80::' srcipmask='10' protocol='UDP'/></rule>");
    const auto rules = shelf.resolve(card("f")).rules;
    EXPECT_EQ(rules[0].values.at("opcode").text, "2");
    EXPECT_EQ(rules[0].values.at("arpsrcipmask").text, "255.255.0.0");
    EXPECT_EQ(rules[0].values.at("hwtype").text, "1");
    EXPECT_EQ(rules[0].values.at("srcmacaddr").text, "52:54:00:0a:0b:0c");
    EXPECT_EQ(rules[0].values.at("gratuitous").text, "1");
    EXPECT_EQ(rules[1].values.at("protocolid").text, "34525");
    EXPECT_EQ(rules[2].values.at("flags").text, "syn,ack/syn");
    EXPECT_EQ(rules[2].values.at("state").text, "new,untracked");
    EXPECT_EQ(rules[3].values.at("srcipaddr").text, "fe80::");
    EXPECT_EQ(rules[3].values.at("srcipmask").text, "ffc0::");
    EXPECT_EQ(rules[3].values.at("protocol").text, "17");
}

TEST(FilterTree, ListsAreGoneThroughTogetherOrInAllCombinations) {
    Shelf shelf;
    const Parameters both{{"A", "10.0.0.1"}, {"A", "10.0.0.2"}, {"P", "80"}, {"P", "8080"}};
    shelf.put("f", "<rule action='accept' direction='in'><tcp srcipaddr='$A' dstportstart='$P[@0]'/></rule>");
    auto filter = shelf.resolve(card("f", both));
    EXPECT_EQ(texts(filter, "srcipaddr"), (std::vector<std::string>{"10.0.0.1", "10.0.0.2"}));
    EXPECT_EQ(texts(filter, "dstportstart"), (std::vector<std::string>{"80", "8080"}));
    shelf.put("f", "<rule action='accept' direction='in'><tcp srcipaddr='$A[@1]' dstportstart='$P[@2]'/></rule>");
    filter = shelf.resolve(card("f", both));
    ASSERT_EQ(filter.rules.size(), 4u);
    std::set<std::string> pairs;
    for (const auto& rule : filter.rules)
        pairs.insert(rule.values.at("srcipaddr").text + " " + rule.values.at("dstportstart").text);
    EXPECT_EQ(pairs.size(), 4u);
    shelf.put("f", "<rule action='accept' direction='in'><tcp dstportstart='$P[1]'/></rule>");
    EXPECT_EQ(texts(shelf.resolve(card("f", both)), "dstportstart"), std::vector<std::string>{"8080"});
    EXPECT_TRUE(says(shelf.refusal("<tcp dstportstart='$P[2]'/>", both), {"'f'", "$P[2]", "2 values"}));
    auto odd = both;
    odd.push_back({"P", "443"});
    EXPECT_TRUE(says(shelf.refusal("<tcp srcipaddr='$A' dstportstart='$P'/>", odd), {"one length"}));
}

TEST(FilterTree, WhatIsGivenOutsideCountsMore) {
    Shelf shelf;
    shelf.put("top",
              "<filterref filter='low'><parameter name='P' value='1'/><parameter name='Q' value='2'/></filterref>");
    shelf.put("low", "<rule action='accept' direction='in'><tcp srcportstart='$P' dstportstart='$Q'/></rule>");
    const auto filter = shelf.resolve(card("top", {{"P", "9"}}));
    EXPECT_EQ(filter.rules.at(0).values.at("srcportstart").text, "9");
    EXPECT_EQ(filter.rules.at(0).values.at("dstportstart").text, "2");
    EXPECT_EQ(filter.rules.at(0).filter, "low");
    EXPECT_TRUE(says(shelf.refusal(card("low", {{"P", "9"}})), {"'low'", "'Q'", "<parameter name='Q'"}));
}

TEST(FilterTree, TheAddressIsLearnedWhereNobodyGivesIt) {
    Shelf shelf;
    shelf.put("f", "<rule action='drop' direction='out'><ip match='no' srcipaddr='$IP'/></rule>");
    auto value = shelf.resolve(card("f")).rules.at(0).values.at("srcipaddr");
    EXPECT_TRUE(value.learned && value.negated);
    value = shelf.resolve(card("f", {{"IP", "10.0.0.7"}})).rules.at(0).values.at("srcipaddr");
    EXPECT_FALSE(value.learned);
    EXPECT_EQ(value.text, "10.0.0.7");
    EXPECT_TRUE(says(shelf.refusal(card("f", {{"CTRL_IP_LEARNING", "none"}})), {"'IP'", "none"}));
    EXPECT_TRUE(says(shelf.refusal(card("f", {{"CTRL_IP_LEARNING", "dhcp"}})), {"'dhcp'", "not served"}));
    EXPECT_TRUE(says(shelf.refusal(card("f", {{"CTRL_IP_LEARNING", "guess"}})), {"'guess'"}));
    EXPECT_EQ(shelf.resolve(card("f", {{"CTRL_IP_LEARNING", "dhcp"}, {"IP", "10.0.0.7"}})).rules.size(), 1u);
    EXPECT_TRUE(says(shelf.refusal("<ip srcipaddr='$IP' srcipmask='24'/>"), {"learned"}));
    EXPECT_TRUE(says(shelf.refusal("<ipv6 srcipaddr='$IPV6'/>"), {"'IPV6'"}));
    EXPECT_TRUE(says(shelf.refusal("<tcp dstportstart='$IP'/>"), {"'IP'"}));
}

TEST(FilterTree, RulesAreSortedAndRememberTheirChain) {
    Shelf shelf;
    shelf.put("f",
              "<rule action='drop' direction='in' priority='700'/><rule action='accept' direction='in'/>"
              "<rule action='return' direction='in'/><rule action='drop' direction='in' priority='-1000'/>",
              "chain='arp-mine'");
    const auto rules = shelf.resolve(card("f")).rules;
    std::vector<int> order;
    for (const auto& rule : rules) order.push_back(rule.priority);
    EXPECT_EQ(order, (std::vector{-1000, 500, 500, 700}));
    EXPECT_EQ(rules[1].action, FilterAction::accept);
    EXPECT_EQ(rules[0].chain, "arp-mine");
    EXPECT_EQ(rules[0].chain_priority, -500);
    shelf.put("f", "", "chain='tcp'");
    EXPECT_TRUE(says(shelf.refusal(card("f")), {"'tcp'", "no chain"}));
    shelf.put("f", "", "chain='arp-} drop'");
    EXPECT_TRUE(says(shelf.refusal(card("f")), {"no chain"}));
}

TEST(FilterTree, BadValuesAreRefusedByName) {
    Shelf shelf;
    EXPECT_TRUE(says(shelf.refusal("<tcp srpipaddr='10.0.0.1'/>"), {"<tcp>", "'srpipaddr'", "srcipaddr"}));
    EXPECT_TRUE(says(shelf.refusal("<ip srcipaddr='$A'/>", {{"A", "10.0.0"}}), {"'f'", "srcipaddr='$A'", "'10.0.0'"}));
    for (const auto* match : {"<mac srcmacaddr='52:54'/>",
                              "<mac srcmacaddr='52:54:00:00:00:100'/>",
                              "<mac protocolid='0x100'/>",
                              "<ip dscp='64'/>",
                              "<ip srcportstart='1'/>",
                              "<ip protocol='icmp' dstportstart='1'/>",
                              "<ip protocol='tpc'/>",
                              "<tcp dstportend='5'/>",
                              "<tcp dstportstart='9' dstportend='5'/>",
                              "<tcp dstportstart='65536'/>",
                              "<tcp dstportstart='-1'/>",
                              "<tcp flags='SYN'/>",
                              "<tcp flags='SIN/ALL'/>",
                              "<tcp state='OLD'/>",
                              "<ipv6 srcipaddr='10.0.0.1'/>",
                              "<ip srcipmask='24'/>",
                              "<ip srcipaddr='10.0.0.1' srcipmask='33'/>",
                              "<ipv6 type='1'/>",
                              "<arp opcode='Ask'/>",
                              "<vlan vlanid='4096'/>",
                              "<tcp dstportstart='$'/>",
                              "<tcp dstportstart='$P['/>",
                              "<tcp dstportstart='$P[@]'/>",
                              "<tcp dstportstart='$P[@99999]'/>",
                              "<tcp ipset='a;b'/>",
                              "<stp srcmacaddr='01:02:03:04:05:06' type='256'/>",
                              "<tcp dstportstart='$P;drop'/>"})
        EXPECT_NE(shelf.refusal(match, {{"P", "1"}}), "nothing") << match;
    EXPECT_NE(shelf.refusal(card("f", {{"A B", "1"}})), "nothing");
}

TEST(FilterTree, CirclesDepthsAndProductsEnd) {
    Shelf shelf;
    shelf.put("a", "<filterref filter='b'/>");
    shelf.put("b", "<filterref filter='c'/>");
    shelf.put("c", "<filterref filter='a'/>");
    EXPECT_TRUE(says(shelf.refusal(card("a")), {"circle", "a -> b -> c -> a"}));
    // Each refers twice to the next: two to the power of its depth, if one followed all.
    for (int i = 0; i < 15; ++i) {
        const auto next = "<filterref filter='n" + std::to_string(i + 1) + "'/>";
        shelf.put("n" + std::to_string(i), next + next);
    }
    shelf.put("n15", "");
    EXPECT_TRUE(says(shelf.refusal(card("n0")), {"more than 512 filters"}));
    for (int i = 0; i < 40; ++i)
        shelf.put("d" + std::to_string(i), "<filterref filter='d" + std::to_string(i + 1) + "'/>");
    EXPECT_TRUE(says(shelf.refusal(card("d0")), {"deep"}));
    Parameters many;
    for (int i = 1; i <= 300; ++i) many.emplace_back("P", std::to_string(i));
    EXPECT_TRUE(
        says(shelf.refusal("<tcp srcportstart='$P[@1]' dstportstart='$P[@2]'/>", many), {"more than 4096 rules"}));
    for (int i = 0; i < 2000; ++i) many.emplace_back("P", "1");
    EXPECT_TRUE(says(shelf.refusal(card("f", many)), {"'P'", "values"}));
}

// ---- where definitions are

struct Filters : ::testing::Test {
    Filters() {
        std::filesystem::create_directories(own());
        std::filesystem::create_directories(shipped());
    }
    std::string own() const { return folder.path() + "/nwfilter"; }
    std::string shipped() const { return folder.path() + "/filters"; }
    static void write(const std::string& path, const std::string& text) { std::ofstream{path} << text; }
    std::shared_ptr<const LinkFilter> resolve(const Interface& interface) {
        return run(loop, filters.resolve(interface, in(1min)));
    }
    std::string refusal(const Interface& interface) {
        try {
            resolve(interface);
        } catch (const Error& error) {
            EXPECT_EQ(error.code(), Code::unsupported_configuration) << error.what();
            return error.what();
        }
        return "nothing";
    }
    virtbus::tests::TemporaryFolder folder;
    host::MainLoop loop;
    host::ThreadPool workers{loop, 1};
    host::LinuxFiles files{workers, workers};
    NetworkFilters filters{files, std::vector<std::string>{own(), shipped()}};
    template <class T>
    static T run(host::MainLoop& on, Task<T> task) {
        return virtbus::tests::run(on, std::move(task));
    }
};

TEST_F(Filters, AnAdministratorsComesBeforeTheShippedOne) {
    EXPECT_EQ(resolve(Interface{}), nullptr);
    write(shipped() + "/f.xml", "<filter name='f'><rule action='drop' direction='in'/></filter>");
    EXPECT_EQ(resolve(card("f"))->rules.at(0).action, FilterAction::drop);
    write(own() + "/f.xml", "<filter name='f'><rule action='accept' direction='in'/></filter>");
    EXPECT_EQ(resolve(card("f"))->rules.at(0).action, FilterAction::accept);
}

TEST_F(Filters, WhatIsMissingIsSaidWithItsPlaces) {
    EXPECT_TRUE(says(refusal(card("f")), {"interface 52:54:00:00:00:01", "'f'", own().c_str(), shipped().c_str()}));
    write(own() + "/f.xml", "<filter name='f'><filterref filter='g'/></filter>");
    EXPECT_TRUE(says(refusal(card("f")), {"network filter 'f'", "'g'"}));
    write(own() + "/f.xml", "<filter name='g'/>");
    EXPECT_TRUE(says(refusal(card("f")), {"'f'", "'g'"}));
    write(own() + "/f.xml", "<filter");
    EXPECT_TRUE(says(refusal(card("f")), {"f.xml", "line"}));
    write(own() + "/f.xml", "<filter name='f'/>");
    EXPECT_EQ(resolve(card("f"))->rules.size(), 0u);
    std::filesystem::permissions(own() + "/f.xml", std::filesystem::perms::others_write,
                                 std::filesystem::perm_options::add);
    EXPECT_TRUE(says(refusal(card("f")), {"f.xml", "written"}));
    for (const auto* name : {"../f", "", ".", "..", "a/b"}) EXPECT_NE(refusal(card(name)), "nothing") << name;
}

TEST_F(Filters, CirclesOfFilesEnd) {
    write(own() + "/f.xml", "<filter name='f'><filterref filter='g'/></filter>");
    write(own() + "/g.xml", "<filter name='g'><filterref filter='f'/></filter>");
    EXPECT_TRUE(says(refusal(card("f")), {"f -> g -> f"}));
}

TEST_F(Filters, TheShippedOnesAreWhole) {
    NetworkFilters standard{files, std::vector<std::string>{own(), SHIPPED_FILTERS}};
    std::size_t count = 0;
    for (const auto& entry : std::filesystem::directory_iterator{SHIPPED_FILTERS}) {
        if (entry.path().extension() != ".xml") continue;
        ++count;
        const auto name = entry.path().stem().string();
        const auto server = name.find("v6") == name.npos ? "10.0.0.3" : "fd00::3";
        const auto filter = run(loop, standard.resolve(card(name, {{"IP", "10.0.0.2"},
                                                                   {"IPV6", "fd00::2"},
                                                                   {"DHCPSERVER", server},
                                                                   {"GATEWAY_MAC", "52:54:00:00:00:09"}}),
                                                       in(1min)));
        EXPECT_FALSE(filter->rules.empty()) << name;
        EXPECT_EQ(run(loop, standard.problems({card(name)}, in(1min))).empty(),
                  name.find("server") == name.npos && name.find("gateway") == name.npos &&
                      name.find("no-ipv6-spoofing") == name.npos)
            << name;
    }
    EXPECT_EQ(count, 24u);
}

}  // namespace
