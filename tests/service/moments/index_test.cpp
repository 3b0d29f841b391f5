// SPDX-License-Identifier: LGPL-2.1-or-later
// The tree of moments: its rules, its orders and its text.
#include "service/moments/index.hpp"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "service/kept_text.hpp"

namespace virtbus {
namespace {

using Names = std::vector<std::string>;

MomentEntry entry(const std::string& name, const std::string& parent = "", std::uint64_t time = 0) {
    MomentEntry e;
    e.id = "id-" + name, e.name = name, e.parent = parent, e.state = "running", e.creation_time = time;
    return e;
}

/// a - b - d
///   \ c      e
MomentIndex sample() {
    MomentIndex index;
    index.add(entry("a", "", 1));
    index.add(entry("b", "a", 2));
    index.add(entry("c", "a", 3));
    index.add(entry("d", "b", 4));
    index.add(entry("e", "", 5));
    index.set_current("d");
    return index;
}

Names listed(const MomentIndex& index) {
    Names names;
    for (const auto* e : index.list()) names.push_back(e->name);
    return names;
}

template <class Action>
std::pair<Code, std::string> refusal(Action&& action) try {
    action();
    return {Code::timeout, "nothing was refused"};
} catch (const Error& error) {
    return {error.code(), error.what()};
}
#define EXPECT_REFUSED(action, wanted, part)                         \
    do {                                                             \
        const auto [code, message] = refusal([&] { action; });       \
        EXPECT_EQ(code, wanted) << message;                          \
        EXPECT_NE(message.find(part), std::string::npos) << message; \
    } while (false)

TEST(MomentIndex, FindsAndOrders) {
    const auto index = sample();
    EXPECT_EQ(index.size(), 5u);
    EXPECT_EQ(index.get("d").parent, "b");
    EXPECT_EQ(index.find("x"), nullptr);
    EXPECT_REFUSED(index.get("x"), Code::no_such_snapshot, "'x'");
    EXPECT_REFUSED(MomentIndex{MomentKind::checkpoint}.get("x"), Code::no_such_checkpoint, "checkpoint 'x'");
    EXPECT_EQ(index.children(""), (Names{"a", "e"}));
    EXPECT_EQ(index.children("a"), (Names{"b", "c"}));
    EXPECT_EQ(index.children("d"), Names{});
    EXPECT_EQ(listed(index), (Names{"a", "b", "d", "c", "e"})) << "parents first";
    EXPECT_EQ(index.descendants("a"), (Names{"b", "d", "c"}));
    EXPECT_EQ(index.leaves_first("a"), (Names{"c", "d", "b", "a"}));
    EXPECT_EQ(index.current(), "d");
}

TEST(MomentIndex, ChildrenAreInOrderOfCreationNotOfComing) {
    MomentIndex index;
    index.add(entry("late", "", 9));
    index.add(entry("early", "", 1));
    index.add(entry("z", "", 5));
    index.add(entry("a", "", 5));
    EXPECT_EQ(index.children(""), (Names{"early", "z", "a", "late"})) << "of the same time: as they came";
}

TEST(MomentIndex, AddRefuses) {
    auto index = sample();
    const auto before = index;
    EXPECT_REFUSED(index.add(entry("a")), Code::already_exists, "'a'");
    EXPECT_REFUSED(index.add(entry("n", "x")), Code::invalid_xml, "'x' of snapshot 'n' does not exist");
    EXPECT_REFUSED(index.add(entry("n", "n")), Code::invalid_xml, "is itself");
    EXPECT_REFUSED(index.set_current("x"), Code::no_such_snapshot, "'x'");
    EXPECT_EQ(index, before);
}

TEST(MomentIndex, ReplaceKeepsChildren) {
    auto index = sample();
    auto changed = entry("b", "e", 2);
    changed.description = "new";
    index.replace(changed);
    EXPECT_EQ(index.get("b").description, "new");
    EXPECT_EQ(index.children("b"), Names{"d"});
    EXPECT_EQ(index.children("a"), Names{"c"});
    EXPECT_EQ(index.children("e"), Names{"b"});
    EXPECT_REFUSED(index.replace(entry("b", "d")), Code::invalid_xml, "descends from it");
    EXPECT_REFUSED(index.replace(entry("b", "b")), Code::invalid_xml, "is itself");
    EXPECT_REFUSED(index.replace(entry("x")), Code::no_such_snapshot, "'x'");
    EXPECT_EQ(index.get("b"), changed);
}

TEST(MomentIndex, RemoveMovesChildrenAndCurrentToTheParent) {
    auto index = sample();
    index.set_current("a");
    index.remove("a");
    EXPECT_EQ(index.children(""), (Names{"b", "c", "e"}));
    EXPECT_EQ(index.get("b").parent, "");
    EXPECT_EQ(index.current(), "") << "a root has no parent";
    index.set_current("d");
    index.remove("d");
    EXPECT_EQ(index.current(), "b");
    index.remove("c");
    EXPECT_EQ(index.current(), "b") << "another one's end does not matter";
    EXPECT_REFUSED(index.remove("c"), Code::no_such_snapshot, "'c'");
}

TEST(MomentIndex, EverythingComesBackFromTheText) {
    auto index = sample();
    auto full = entry("full \n 17\nname x", "c", 77);
    full.id = "0f-A_1";
    full.description = std::string{"two\nlines\0", 10};
    full.state = "disk-snapshot";
    full.kind = SnapshotKind::disk_only;
    full.has_domain = true;
    full.disks = {{"vda", SnapshotPlace::external, {"/a b", "qcow2", false}, {"/over", "qcow2", true}, ""},
                  {"vdb", SnapshotPlace::no, {}, {}, "bit"}};
    full.memory_file = "/memory";
    full.store_kept = true;
    index.add(full);
    index.made = {"/one", "/two\nlines"};
    index.pending = "merge 3\nabc\n";
    const auto again = MomentIndex::decode(MomentKind::snapshot, index.encode());
    EXPECT_EQ(again, index);
    EXPECT_EQ(again.get(full.name), full);
    EXPECT_EQ(listed(again), listed(index));
    EXPECT_EQ(again.encode(), index.encode());
    const MomentIndex none;
    EXPECT_EQ(MomentIndex::decode(MomentKind::snapshot, none.encode()), none);
}

TEST(MomentIndex, EveryCutAndEveryAlteredByteIsNoticed) {
    const auto text = sample().encode();
    for (std::size_t length = 0; length < text.size(); ++length)
        EXPECT_EQ(refusal([&] { MomentIndex::decode(MomentKind::snapshot, text.substr(0, length)); }).first,
                  Code::internal)
            << length;
    for (std::size_t at = 0; at < text.size(); ++at) {
        auto altered = text;
        altered[at] = static_cast<char>(altered[at] ^ 1);
        EXPECT_EQ(refusal([&] { MomentIndex::decode(MomentKind::snapshot, altered); }).first, Code::internal) << at;
    }
    EXPECT_REFUSED(MomentIndex::decode(MomentKind::checkpoint, text), Code::internal, "no checkpoints file");
}

/// Well sealed, and yet no tree.
std::string sealed(const std::vector<MomentEntry>& entries, const std::string& current = "") {
    KeptWriter out;
    out.add("current", current);
    for (const auto& e : entries) {
        KeptWriter inner;
        inner.add("id", e.id), inner.add("name", e.name), inner.add("parent", e.parent);
        inner.add("kind", word(e.kind)), inner.add("creation-time", e.creation_time);
        out.add("entry", inner.take());
    }
    return out.sealed("snapshots");
}

TEST(MomentIndex, WhatIsNoTreeIsRefused) {
    const auto decode = [](const std::string& text) { return MomentIndex::decode(MomentKind::snapshot, text); };
    EXPECT_EQ(decode(sealed({entry("b", "a"), entry("a")})).size(), 2u) << "in any order";
    EXPECT_REFUSED(decode(sealed({entry("a", "b"), entry("b", "c"), entry("c", "a"), entry("r")})), Code::internal,
                   "its own ancestor");
    EXPECT_REFUSED(decode(sealed({entry("a", "a")})), Code::internal, "its own ancestor");
    EXPECT_REFUSED(decode(sealed({entry("a", "gone")})), Code::internal, "'gone' of 'a' is not there");
    auto twin = entry("a");
    twin.id = "id-b";
    EXPECT_REFUSED(decode(sealed({entry("a"), twin})), Code::internal, "twice");
    EXPECT_REFUSED(decode(sealed({entry("a")}, "gone")), Code::internal, "current");
    auto same = entry("b");
    same.id = "id-a";
    EXPECT_REFUSED(decode(sealed({entry("a"), same})), Code::internal, "two entries");
    for (const auto* id : {"", "../x", "a/b", "."}) {
        auto bad = entry("a");
        bad.id = id;
        EXPECT_REFUSED(decode(sealed({bad})), Code::internal, "its id");
    }
    EXPECT_REFUSED(decode(sealed({entry("")})), Code::internal, "no name");
}

TEST(MomentIndex, ALongChain) {
    MomentIndex index;
    for (int i = 0; i < 2'000; ++i)
        index.add(entry(fmt::format("s{}", i), i ? fmt::format("s{}", i - 1) : "", static_cast<std::uint64_t>(i)));
    const auto again = MomentIndex::decode(MomentKind::snapshot, index.encode());
    EXPECT_EQ(again.descendants("s0").size(), 1'999u);
    EXPECT_EQ(again.leaves_first("s0").front(), "s1999");
}

}  // namespace
}  // namespace virtbus
