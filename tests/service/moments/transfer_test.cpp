// SPDX-License-Identifier: LGPL-2.1-or-later
// All snapshots in one document and back: the same tree on another host, all or none, and no hostile document gets far.
#include "service/moments/transfer.hpp"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "service/xml/moment_set.hpp"
#include "service/xml/moment_xml.hpp"
#include "virtbus/error.hpp"

namespace virtbus::tests {
namespace {

constexpr const char* uuid = "11111111-2222-3333-4444-555555555555";

std::string domain(const std::string& memory = "1024") {
    return fmt::format(
        "<domain type='qemu'>\n  <name>d</name>\n  <uuid>{}</uuid>\n  <description>two\n lines\n"
        "</description>\n  <memory>{}</memory>\n  <os>\n    <type>hvm</type>\n  </os>\n</domain>",
        uuid, memory);
}
SnapshotConfig snapshot(const std::string& name, const std::string& parent = "", std::uint64_t time = 1) {
    SnapshotConfig config;
    config.name = name, config.parent = parent, config.state = "running", config.creation_time = time;
    config.domain = domain();
    return config;
}
std::string document(const std::vector<SnapshotConfig>& snapshots, const std::string& current = "") {
    xml::MomentSetWriter writer{current};
    for (const auto& config : snapshots) writer.add(xml::format_snapshot(config));
    return writer.take();
}
std::string set_of(const std::string& inside) {
    return "<domainsnapshots>" + inside + "</domainsnapshots>";
}
std::string small(const std::string& name, const std::string& more = "") {
    return "<domainsnapshot><name>" + name + "</name>" + more + "</domainsnapshot>";
}

SnapshotImport import(const MomentIndex& index, SnapshotSet set, const std::map<std::string, Replaced>& replaced = {}) {
    int next = 0;
    return plan_import(index, std::move(set), uuid, replaced, [&] { return fmt::format("id{}", ++next); });
}
std::vector<std::string> names(const SnapshotImport& plan) {
    std::vector<std::string> list;
    for (const auto& part : plan.parts) list.push_back(part.record.name);
    return list;
}

template <class Action>
void expect_refused(Action&& action, Code code, std::string_view part) try {
    action();
    ADD_FAILURE() << "not refused: " << part;
} catch (const Error& e) {
    EXPECT_EQ(e.code(), code) << e.what();
    EXPECT_NE(std::string_view{e.what()}.find(part), std::string_view::npos) << e.what();
}
void expect_unreadable(const std::string& text, std::string_view part) {
    expect_refused([&] { read_set(text); }, Code::invalid_xml, part);
}

TEST(Transfer, TheSameTreeOnTheOtherSide) {
    const std::vector<SnapshotConfig> all{snapshot("a", "", 1), snapshot("b", "a", 2), snapshot("c 'x' <&>", "a", 3),
                                          snapshot("d", "b", 4), snapshot("e", "", 5)};
    const auto text = document(all, "c 'x' <&>");
    auto set = read_set(text);
    EXPECT_EQ(set.current, "c 'x' <&>");
    EXPECT_EQ(set.snapshots.size(), all.size());
    const auto plan = import(MomentIndex{}, std::move(set));
    EXPECT_EQ(names(plan), (std::vector<std::string>{"a", "b", "d", "c 'x' <&>", "e"})) << "parents first";
    EXPECT_EQ(plan.parts[0].record, all[0]) << "with every blank in it";
    EXPECT_EQ(plan.index.current(), "c 'x' <&>");
    EXPECT_EQ(plan.index.children("a"), (std::vector<std::string>{"b", "c 'x' <&>"}));
    EXPECT_EQ(plan.index.get("a").id, "id1");
    std::vector<SnapshotConfig> again;
    for (const auto* entry : plan.index.list())
        for (const auto& part : plan.parts)
            if (part.record.name == entry->name) again.push_back(part.record);
    EXPECT_EQ(document({all[0], all[1], all[3], all[2], all[4]}), document(again));
}

TEST(Transfer, TheSetMayBeInAnyOrderAndAboveWhatIsThere) {
    MomentIndex index;
    for (const auto* name : {"old", "below"}) {
        MomentEntry entry;
        entry.id = name, entry.name = name, entry.state = "running";
        entry.parent = std::string{"below"} == name ? "old" : "";
        index.add(entry);
    }
    index.set_current("below");
    const auto plan =
        import(index, read_set(document({snapshot("z", "y"), snapshot("y", "below"), snapshot("x")}, "z")));
    EXPECT_EQ(plan.index.size(), 5u);
    EXPECT_EQ(plan.index.get("y").parent, "below");
    EXPECT_EQ(plan.index.current(), "below") << "there is one already";
    EXPECT_EQ(index.size(), 2u);
}

TEST(Transfer, TurningATreeAroundIsNoCircle) {
    MomentIndex index;
    for (const auto& [name, parent] : {std::pair{"a", ""}, {"b", "a"}}) {
        MomentEntry entry;
        entry.id = name, entry.name = name, entry.parent = parent, entry.state = "running";
        index.add(entry);
    }
    const auto plan = import(index, read_set(document({snapshot("a", "b"), snapshot("b")})));
    EXPECT_EQ(plan.index.get("a").parent, "b");
    EXPECT_EQ(plan.index.get("b").parent, "");
    EXPECT_EQ(plan.parts[0].made.replaces, "b");
    // With b left as it is, it is one.
    expect_refused([&] { import(index, read_set(document({snapshot("a", "b")}))); }, Code::invalid_xml, "descends");
}

TEST(Transfer, OneWrongOneRefusesAll) {
    const MomentIndex none;
    expect_refused([&] { import(none, read_set(document({snapshot("a"), snapshot("b", "gone")}))); }, Code::invalid_xml,
                   "'gone'");
    auto timeless = snapshot("b");
    timeless.creation_time.reset();
    expect_refused([&] { import(none, read_set(document({snapshot("a"), timeless}))); }, Code::invalid_xml,
                   "creationTime");
    expect_unreadable(document({snapshot("a"), snapshot("b"), snapshot("a")}), "'a' occurs twice");
    expect_unreadable(document({snapshot("a", "c"), snapshot("b", "a"), snapshot("c", "b"), snapshot("d")}),
                      "ancestor");
    expect_unreadable(document({snapshot("a", "a")}), "ancestor");
    expect_unreadable(set_of(small("a") + small("b/c")), "snapshot 2 of the document");
    expect_unreadable(set_of(small("a") + "<domainsnapshot/>"), "snapshot 2 of the document: <name> is missing");
    MomentIndex index;
    MomentEntry entry;
    entry.id = entry.name = "a", entry.state = "running";
    index.add(entry);
    expect_refused([&] { import(index, read_set(document({snapshot("a")})), {{"a", {domain("4096")}}}); },
                   Code::invalid_xml, "another machine");
}

TEST(Transfer, AnEmptySet) {
    for (const auto* text :
         {"<domainsnapshots/>", "<domainsnapshots></domainsnapshots>",
          "<?xml version='1.0'?>\n<!-- <x> -->\n<domainsnapshots >\n<!-- -->\n</domainsnapshots >\n"})
        EXPECT_TRUE(read_set(text).snapshots.empty()) << text;
    EXPECT_EQ(document({}), "<domainsnapshots>\n</domainsnapshots>\n");
}

TEST(Transfer, Hostile) {
    expect_unreadable("", "cut");
    expect_unreadable("hello", "text");
    expect_unreadable("<domainsnapshots>", "cut");
    expect_unreadable("</domainsnapshots>", "begins with the end");
    expect_unreadable("<domainsnapshot/>", "<domainsnapshots>");
    expect_unreadable("<domainsnapshotsx></domainsnapshotsx>", "domainsnapshotsx");
    expect_unreadable(set_of("text"), "text where only elements");
    expect_unreadable(set_of("") + "<x/>", "something follows");
    expect_unreadable(set_of("<domainsnapshot>"), "cut");
    expect_unreadable(set_of("<domainsnapshot><a></domainsnapshot>"), "cut");
    expect_unreadable(set_of("<domainsnapshot></a>"), "snapshot 1");
    expect_unreadable(set_of("<domain/>"), "<domainsnapshot>");
    expect_unreadable(set_of("<domainsnapshot name=\"</domainsnapshots>"), "cut");
    expect_unreadable("<domainsnapshots></other>", "no beginning");
    expect_unreadable("<!DOCTYPE d [<!ENTITY x SYSTEM 'file:///etc/passwd'>]>" + set_of(""), "document type");
    expect_unreadable(set_of("<!DOCTYPE d>"), "document type");
    expect_unreadable(set_of("<![CDATA[x]]>"), "character data");
    expect_unreadable(set_of("<domainsnapshot><!DOCTYPE d><name>a</name></domainsnapshot>"), "");
    expect_unreadable("<domainsnapshots a='b'></domainsnapshots>", "attribute 'a'");
    expect_unreadable("<domainsnapshots xmlns:q='urn:q'></domainsnapshots>", "namespaces");
    expect_unreadable("<domainsnapshots current='&x;'></domainsnapshots>", "");
    expect_refused([] { read_set(std::string(xml::largest_set + 1, ' ')); }, Code::limits_exceeded, "268435456");
    std::string many;
    for (std::size_t i = 0; i <= xml::most_of_set; ++i) many += "<a/>";
    expect_refused([&] { read_set(set_of(many)); }, Code::limits_exceeded, "10000");
    std::string deep;
    for (int i = 0; i < 100'000; ++i) deep += "<a>";
    expect_refused([&] { read_set(set_of(deep)); }, Code::invalid_xml, "cut");
}

TEST(Transfer, WhatLooksLikeTagsIsNotCountedAsSuch) {
    const auto set = read_set(set_of(small("a",
                                           "<description><![CDATA[</domainsnapshot>]]></description><!-- </a> -->"
                                           "<?x </b> ?><x y='/>'/>") +
                                     small("b")));
    ASSERT_EQ(set.snapshots.size(), 2u);
    EXPECT_EQ(set.snapshots[0].description, "</domainsnapshot>");
}

TEST(Transfer, AThousandInALine) {
    std::vector<SnapshotConfig> all;
    for (int i = 0; i < 1'000; ++i)
        all.push_back(
            snapshot(fmt::format("s{}", i), i ? fmt::format("s{}", i - 1) : "", static_cast<std::uint64_t>(i)));
    const auto plan = import(MomentIndex{}, read_set(document(all, "s999")));
    EXPECT_EQ(plan.index.size(), 1'000u);
    EXPECT_EQ(names(plan).back(), "s999");
}

}  // namespace
}  // namespace virtbus::tests
