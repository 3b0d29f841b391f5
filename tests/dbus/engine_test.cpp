// SPDX-License-Identifier: LGPL-2.1-or-later
// The serving engine with generated code on top and a real connection below: what a caller sees of objects, options,
// permission, errors and signals.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/dbus/lamps.hpp"

namespace virtbus::dbus {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

const std::string one = "/org/example/lamp/one", two = "/org/example/lamp/two", none = "/org/example/lamp/none";

struct EngineTest : ::testing::Test, Bed {
    tests::Client client{loop, connect()};
    using Client = tests::Client;

    tests::Answer engage(const char* option, const char* type, const char* value) {
        return client.call(one, lamp, "Switch", "ba{sv}", 1, 1, option, type, value);
    }
    /// A call answered now has everything before it behind it.
    void settle() { ASSERT_TRUE(client.call(one, "org.freedesktop.DBus.Peer", "Ping").ok()); }
};

// ---- reading ----

TEST_F(EngineTest, AllWaysToReadAPropertyAgree) {
    const std::string get = Client::print(client.call(one, properties, "Get", "ss", lamp, "Level"));
    EXPECT_THAT(get, HasSubstr("UINT32 3"));
    const std::string all = Client::print(client.call(one, properties, "GetAll", "s", lamp));
    EXPECT_THAT(all, HasSubstr("UINT32 3"));
    EXPECT_THAT(all, HasSubstr("OBJECT_PATH \"/org/example/lamp/two\""));
}

TEST_F(EngineTest, GetsOfAnEmptyInterfaceNameFindTheProperty) {
    EXPECT_THAT(Client::print(client.call(two, properties, "Get", "ss", "", "Name")), HasSubstr("the second"));
}

TEST_F(EngineTest, ObjectsComeAndGoWithTheirViews) {
    Tree& tree = dispatcher.tree();
    std::vector<std::string> seen;
    const auto look = [&](const std::string& path, std::span<const Offer>, const void*) { seen.push_back(path); };
    tree.managed("/org/example", look);
    EXPECT_THAT(seen, ElementsAre(one, two));
    lamps.views.erase("one");
    seen.clear();
    tree.managed("/org/example", look);
    EXPECT_THAT(seen, ElementsAre(two));
    EXPECT_EQ(client.call(one, properties, "GetAll", "s", lamp).error, "org.freedesktop.DBus.Error.UnknownObject");
}

TEST_F(EngineTest, IntrospectionLeadsFromTheRootToTheObjects) {
    const auto introspect = [this](const std::string& path) {
        return Client::text(client.call(path, "org.freedesktop.DBus.Introspectable", "Introspect"));
    };
    EXPECT_THAT(introspect("/"), HasSubstr("<node name=\"org\"/>"));
    EXPECT_THAT(introspect("/org"), HasSubstr("<node name=\"example\"/>"));
    EXPECT_THAT(introspect("/org/example"), HasSubstr("<node name=\"lamp\"/>"));
    EXPECT_THAT(introspect("/org/example/lamp"), HasSubstr("<node name=\"two\"/>"));
    const std::string xml = introspect(one);
    EXPECT_THAT(xml, HasSubstr("<method name=\"Switch\">"));
    EXPECT_THAT(xml, HasSubstr("EmitsChangedSignal\" value=\"invalidates\""));
    EXPECT_THAT(xml, Not(HasSubstr("Neighbour the lamp")));
    EXPECT_EQ(introspect("/org/elsewhere"), "org.freedesktop.DBus.Error.UnknownObject");
    EXPECT_EQ(introspect(none), "org.freedesktop.DBus.Error.UnknownObject");
}

// ---- errors that need no object's help ----

TEST_F(EngineTest, WhatIsNotThereHasItsStandardName) {
    const auto error = [this](const std::string& path, const char* interface, const char* member) {
        return client.call(path, interface, member).error;
    };
    EXPECT_EQ(error("/org/example/lamp/one/more", lamp, "Look"), "org.freedesktop.DBus.Error.UnknownObject");
    EXPECT_EQ(error("/elsewhere", lamp, "Look"), "org.freedesktop.DBus.Error.UnknownObject");
    EXPECT_EQ(error(one, "org.example.Fire", "Look"), "org.freedesktop.DBus.Error.UnknownInterface");
    EXPECT_EQ(error(one, lamp, "Burn"), "org.freedesktop.DBus.Error.UnknownMethod");
    EXPECT_EQ(error(one, properties, "Take"), "org.freedesktop.DBus.Error.UnknownMethod");
    EXPECT_EQ(error(one, "", "Burn"), "org.freedesktop.DBus.Error.UnknownMethod");
    EXPECT_EQ(client.call(one, properties, "Get", "ss", lamp, "Heat").error,
              "org.freedesktop.DBus.Error.UnknownProperty");
    EXPECT_EQ(client.call(one, properties, "Get", "ss", "org.example.Fire", "Heat").error,
              "org.freedesktop.DBus.Error.UnknownInterface");
    EXPECT_EQ(client.call(one, properties, "Set", "ssv", lamp, "Lit", "b", 1).error,
              "org.freedesktop.DBus.Error.PropertyReadOnly");
    EXPECT_EQ(client.call(one, "org.freedesktop.DBus.ObjectManager", "GetManagedObjects").error,
              "org.freedesktop.DBus.Error.UnknownInterface");
}

TEST_F(EngineTest, WrongArgumentsAreRefusedBeforeAnythingIsAsked) {
    EXPECT_EQ(client.call(one, lamp, "Switch", "s", "on").error, "org.freedesktop.DBus.Error.InvalidArgs");
    EXPECT_EQ(client.call(one, lamp, "Look", "s", "on").error, "org.freedesktop.DBus.Error.InvalidArgs");
    EXPECT_EQ(client.call(one, properties, "Get", "s", lamp).error, "org.freedesktop.DBus.Error.InvalidArgs");
    EXPECT_TRUE(rules.asked.empty());
    EXPECT_EQ(lamps.handled, 0u);
}

TEST_F(EngineTest, ACallWithoutAnInterfaceFindsTheMethod) {
    EXPECT_EQ(Client::text(client.call(two, "", "Look")), "the second");
}

// ---- options ----

TEST_F(EngineTest, OptionsArriveTyped) {
    EXPECT_EQ(Client::text(client.call(one, lamp, "Switch", "ba{sv}", 1, 3, "level", "u", 5u, "colour", "s", "red",
                                       "tags", "as", 2, "a", "b")),
              "true 5 red a,b");
    EXPECT_EQ(Client::text(client.call(one, lamp, "Switch", "ba{sv}", 0, 0)), "false 0  ");
}

TEST_F(EngineTest, AWrongOptionIsNamed) {
    const auto unknown = engage("brightness", "s", "high");
    EXPECT_EQ(unknown.error, "org.virtbus1.Error.InvalidOption");
    EXPECT_THAT(unknown.message, HasSubstr("'brightness'"));
    EXPECT_THAT(unknown.message, HasSubstr("level, colour, tags"));
    const auto type = engage("level", "s", "5");
    EXPECT_EQ(type.error, "org.virtbus1.Error.InvalidOption");
    EXPECT_THAT(type.message, HasSubstr("'level'"));
    const auto word = engage("colour", "s", "re");
    EXPECT_EQ(word.error, "org.virtbus1.Error.InvalidOption");
    EXPECT_THAT(word.message, HasSubstr("red|green"));
    EXPECT_EQ(engage("colour", "s", "red green").error, "org.virtbus1.Error.InvalidOption");
    const auto twice = client.call(one, lamp, "Switch", "ba{sv}", 1, 2, "level", "u", 5u, "level", "u", 6u);
    EXPECT_EQ(twice.error, "org.virtbus1.Error.InvalidOption");
    EXPECT_EQ(lamps.handled, 0u);
}

TEST_F(EngineTest, ArraysAndStringsAreBounded) {
    const auto message = client.make(one, lamp, "Switch");
    sd_bus_message_append(message.get(), "b", 1);
    sd_bus_message_open_container(message.get(), 'a', "{sv}");
    sd_bus_message_open_container(message.get(), 'e', "sv");
    sd_bus_message_append(message.get(), "s", "tags");
    sd_bus_message_open_container(message.get(), 'v', "as");
    sd_bus_message_open_container(message.get(), 'a', "s");
    for (int i = 0; i < 1025; i++) sd_bus_message_append(message.get(), "s", "t");
    for (int i = 0; i < 4; i++) sd_bus_message_close_container(message.get());
    EXPECT_EQ(client.send(message).wait().error, "org.virtbus1.Error.LimitsExceeded");

    EXPECT_TRUE(client.call(one, lamp, "Engrave", "s", std::string(1 << 20, 'x').c_str()).ok());
    const auto longer = client.call(one, lamp, "Engrave", "s", std::string((1 << 20) + 1, 'x').c_str());
    EXPECT_EQ(longer.error, "org.virtbus1.Error.LimitsExceeded");
    EXPECT_THAT(longer.message, HasSubstr("1048577"));
    EXPECT_EQ(client.call(one, lamp, "Break", "s", std::string(65537, 'x').c_str()).error,
              "org.virtbus1.Error.LimitsExceeded");
}

// ---- permission ----

TEST_F(EngineTest, AStrangerLearnsNothingAboutWhatExists) {
    rules.allowed = false;
    const auto there = client.call(one, lamp, "Look");
    const auto not_there = client.call(none, lamp, "Look");
    EXPECT_EQ(there.error, "org.freedesktop.DBus.Error.AccessDenied");
    EXPECT_EQ(not_there.error, there.error);
    EXPECT_EQ(not_there.message, there.message);
    EXPECT_EQ(lamps.handled, 0u);
    rules.allowed = true;
    EXPECT_EQ(client.call(none, lamp, "Break", "s", "").error, "org.freedesktop.DBus.Error.UnknownObject");
}

TEST_F(EngineTest, TheQuestionNamesActionDetailsAndWhetherADialogueMayAppear) {
    const auto message = client.make(one, lamp, "Break");
    sd_bus_message_append(message.get(), "s", "");
    sd_bus_message_set_allow_interactive_authorization(message.get(), 1);
    ASSERT_TRUE(client.send(message).wait().ok());
    ASSERT_EQ(rules.asked.size(), 1u);
    EXPECT_EQ(rules.asked[0].action, "lamp.switch");
    EXPECT_EQ(rules.asked[0].details.at("name"), "the first");
    EXPECT_TRUE(rules.asked[0].interactive);
    ASSERT_TRUE(client.call(one, lamp, "Break", "s", "").ok());
    EXPECT_FALSE(rules.asked.at(1).interactive);
}

TEST_F(EngineTest, AnOptionMayNeedAFurtherPermission) {
    ASSERT_TRUE(client.call(one, lamp, "Switch", "ba{sv}", 1, 1, "for-all", "b", 0).ok());
    EXPECT_EQ(rules.asked.size(), 1u);
    ASSERT_TRUE(client.call(one, lamp, "Switch", "ba{sv}", 1, 1, "for-all", "b", 1).ok());
    ASSERT_EQ(rules.asked.size(), 3u);
    EXPECT_EQ(rules.asked[2].action, "lamp.rule");
}

TEST_F(EngineTest, OnlyAYesToReadingIsRemembered) {
    for (int i = 0; i < 3; i++) ASSERT_TRUE(client.call(one, lamp, "Look").ok());
    EXPECT_EQ(rules.asked.size(), 1u);
    ASSERT_TRUE(client.call(two, lamp, "Look").ok());
    EXPECT_EQ(rules.asked.size(), 2u) << "another object is another question";
    tests::Client other{loop, connect()};
    ASSERT_TRUE(other.call(one, lamp, "Look").ok());
    EXPECT_EQ(rules.asked.size(), 3u) << "another caller is another question";
    for (int i = 0; i < 2; i++) ASSERT_TRUE(client.call(one, lamp, "Break", "s", "").ok());
    EXPECT_EQ(rules.asked.size(), 5u) << "verbs are asked about each time";
    rules.allowed = false;
    for (int i = 0; i < 2; i++) EXPECT_FALSE(client.call(none, lamp, "Look").ok());
    EXPECT_EQ(rules.asked.size(), 7u) << "a no is not remembered";
}

TEST_F(EngineTest, AnObjectRenamedWhileTheAnswerComesIsAskedAboutAgain) {
    rules.held = true;
    auto pending = client.start(one, lamp, "Break", "s", "");
    ASSERT_TRUE(run_until([&] { return rules.pending.size() == 1; }));
    lamps.views["one"].name = "the renamed";
    rules.held = false;
    rules.pending[0].set();
    EXPECT_TRUE(pending.wait().ok());
    ASSERT_EQ(rules.asked.size(), 2u);
    EXPECT_EQ(rules.asked[1].details.at("name"), "the renamed");
}

TEST_F(EngineTest, AnObjectGoneWhileTheAnswerComesIsUnknown) {
    rules.held = true;
    auto pending = client.start(one, lamp, "Break", "s", "");
    ASSERT_TRUE(run_until([&] { return rules.pending.size() == 1; }));
    lamps.views.erase("one");
    rules.pending[0].set();
    EXPECT_EQ(pending.wait().error, "org.freedesktop.DBus.Error.UnknownObject");
    EXPECT_EQ(rules.asked.size(), 1u);
}

TEST_F(EngineTest, ACallerThatLeavesTakesItsQuestionAlong) {
    rules.held = true;
    tests::Client leaver{loop, connect()};
    (void)leaver.start(one, lamp, "Break", "s", "");
    ASSERT_TRUE(run_until([&] { return rules.pending.size() == 1; }));
    leaver.leave();
    EXPECT_TRUE(run_until([&] { return rules.dropped == 1 && !dispatcher.busy(); }));
    EXPECT_EQ(lamps.handled, 0u);
}

TEST_F(EngineTest, ACallerThatLeavesAfterwardsLeavesTheWorkAlone) {
    tests::Client leaver{loop, connect()};
    (void)leaver.start(one, lamp, "Wait");
    ASSERT_TRUE(run_until([&] { return lamps.waiting.size() == 1; }));
    leaver.leave();
    settle();
    EXPECT_TRUE(dispatcher.busy());
    lamps.waiting[0].set();
    EXPECT_TRUE(run_until([&] { return !dispatcher.busy(); }));
}

TEST_F(EngineTest, TheCallerOfAPeerIsWhatTheKernelSays) {
    ASSERT_TRUE(client.call(one, lamp, "Look").ok());
    EXPECT_EQ(lamps.last_caller.uid, ::getuid());
    EXPECT_EQ(lamps.last_caller.pid, static_cast<std::uint32_t>(::getpid()));
    EXPECT_NE(lamps.last_caller.pid_start_time, 0u);
    EXPECT_FALSE(lamps.last_caller.on_bus);
}

// ---- answers ----

TEST_F(EngineTest, FailuresHaveTheirNames) {
    const auto broken = client.call(one, lamp, "Break", "s", "state");
    EXPECT_EQ(broken.error, "org.virtbus1.Error.InvalidState");
    EXPECT_EQ(broken.message, "it is broken already");
    EXPECT_EQ(log.text, "");
    EXPECT_EQ(client.call(one, lamp, "Break", "s", "standard").error, "org.virtbus1.Error.Internal");
    EXPECT_THAT(log.text, HasSubstr("what no room expected"));
    EXPECT_EQ(client.call(one, lamp, "Break", "s", "nothing").error, "org.virtbus1.Error.Internal");
    EXPECT_TRUE(client.call(one, lamp, "Look").ok());
}

TEST_F(EngineTest, BytesThatAreNoTextDoNotCostTheConnection) {
    const auto answer = client.call(one, lamp, "Break", "s", "bytes");
    EXPECT_EQ(answer.error, "org.virtbus1.Error.HypervisorFailed");
    EXPECT_THAT(answer.message, HasSubstr("its last words: "));
    lamps.views["one"].name = "\xff\xfe";
    EXPECT_TRUE(client.call(one, lamp, "Look").ok());
    EXPECT_TRUE(client.call(one, properties, "GetAll", "s", lamp).ok());
    EXPECT_FALSE(client.closed);
}

TEST_F(EngineTest, WorkIsDoneForACallerThatWantsNoAnswer) {
    const auto message = client.make(one, lamp, "Switch");
    sd_bus_message_append(message.get(), "ba{sv}", 1, 0);
    sd_bus_message_set_expect_reply(message.get(), 0);
    sd_bus_send(client.bus(), message.get(), nullptr);
    const auto failing = client.make(one, lamp, "Burn");
    sd_bus_message_set_expect_reply(failing.get(), 0);
    sd_bus_send(client.bus(), failing.get(), nullptr);
    settle();
    EXPECT_TRUE(lamps.views["one"].lit);
}

TEST_F(EngineTest, DescriptorsTravel) {
    const auto answer = client.call(one, lamp, "Shine");
    ASSERT_TRUE(answer.ok()) << answer.error << answer.message;
    int fd = -1;
    const char* colour = nullptr;
    ASSERT_GE(sd_bus_message_read(answer.body.get(), "hs", &fd, &colour), 0);
    char text[5] = {};
    EXPECT_EQ(::read(fd, text, 4), 4);
    EXPECT_STREQ(text, "beam");
    EXPECT_STREQ(colour, "white");
    EXPECT_EQ(::read(fd, text, 4), 0) << "the other end is closed";
}

TEST_F(EngineTest, AnAnswerBeyondTheLimitIsRefused) {
    EXPECT_TRUE(client.call(one, lamp, "Glow", "u", (24u << 20) - 8).ok());
    EXPECT_EQ(client.call(one, lamp, "Glow", "u", 24u << 20).error, "org.virtbus1.Error.LimitsExceeded");
}

TEST_F(EngineTest, ACallerHasSoManyCallsUnderWay) {
    std::vector<tests::Client::Pending> pending;
    for (unsigned i = 0; i < most_calls; i++) pending.push_back(client.start(one, lamp, "Wait"));
    EXPECT_EQ(client.call(one, lamp, "Wait").error, "org.virtbus1.Error.LimitsExceeded");
    EXPECT_TRUE(client.call(one, properties, "GetAll", "s", lamp).ok()) << "reading is not counted";
    for (const auto& waiting : std::exchange(lamps.waiting, {})) waiting.set();
    for (auto& one_of_them : pending) EXPECT_TRUE(one_of_them.wait().ok());
    auto again = client.start(one, lamp, "Wait");
    ASSERT_TRUE(run_until([&] { return !lamps.waiting.empty(); }));
    lamps.waiting[0].set();
    EXPECT_TRUE(again.wait().ok());
}

TEST_F(EngineTest, ACallerHoldsSoManyBytes) {
    rules.held = true;
    const std::string text(1 << 20, 'x');
    std::vector<tests::Client::Pending> pending;
    for (int i = 0; i < 64; i++) pending.push_back(client.start(one, lamp, "Engrave", "s", text.c_str()));
    EXPECT_EQ(client.call(one, lamp, "Engrave", "s", text.c_str()).error, "org.virtbus1.Error.LimitsExceeded");
    for (const auto& question : rules.pending) question.set();
    for (auto& one_of_them : pending) EXPECT_TRUE(one_of_them.wait().ok());
}

// ---- signals ----

TEST_F(EngineTest, OnlyWhatChangedIsSignalledAndBeforeTheAnswer) {
    bool answered_first = true;
    auto pending = client.start(one, lamp, "Switch", "ba{sv}", 1, 0);
    ASSERT_TRUE(run_until([&] {
        if (pending.finished() && answered_first) answered_first = client.signals.size() < 2;
        return pending.finished();
    }));
    EXPECT_FALSE(answered_first);
    ASSERT_EQ(client.signals.size(), 2u);
    EXPECT_EQ(client.signals[0].member, "PropertiesChanged");
    EXPECT_EQ(client.signals[0].path, one);
    const tests::Answer printed{"", "", Message::share(client.signals[0].message.get())};
    const std::string text = Client::print(printed);
    EXPECT_THAT(text, HasSubstr("\"Lit\""));
    EXPECT_THAT(text, HasSubstr("STRING \"History\""));
    EXPECT_THAT(text, Not(HasSubstr("Level")));
    EXPECT_THAT(text, Not(HasSubstr("Name")));
    EXPECT_THAT(text, Not(HasSubstr("made"))) << "what is invalidated is not sent";
    EXPECT_EQ(client.signals[1].member, "Switched");
}

TEST_F(EngineTest, NothingIsSignalledWhenNothingChanged) {
    settle();
    const LampView view = lamps.views["one"];
    signals.properties_changed(one, lamp_interface, &view, &view);
    settle();
    EXPECT_TRUE(client.signals.empty());
}

TEST_F(EngineTest, ObjectsThatComeAndGoAreSignalledAtTheRoot) {
    settle();
    signals.added(one, &lamps.views["one"]);
    signals.removed(one);
    settle();
    ASSERT_EQ(client.signals.size(), 2u);
    EXPECT_EQ(client.signals[0].path, "/org/example");
    EXPECT_EQ(client.signals[0].member, "InterfacesAdded");
    EXPECT_EQ(client.signals[1].member, "InterfacesRemoved");
}

TEST(PermissionTable, HasARowForEachActionOfEachMethod) {
    std::vector<std::string> rows;
    for (const auto& row : lamp_permissions)
        rows.push_back(std::string{row.method} + " " + std::string{row.action} + " " + std::string{row.option});
    EXPECT_THAT(rows, ::testing::IsSupersetOf({"Switch lamp.switch ", "Switch lamp.rule for-all", "Look lamp.read "}));
}

}  // namespace
}  // namespace virtbus::dbus
