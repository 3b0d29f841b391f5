// SPDX-License-Identifier: LGPL-2.1-or-later
// Bad input, each with its error by name; whatever came, the daemon serves on and nothing was stored.
#include "tests/bus/user_bed.hpp"

namespace virtbus::tests {
namespace {

using ::testing::HasSubstr;

struct BadInput : SharedDaemon<BadInput> {
    static constexpr bool system_mode = false;

    Answer define_text(const std::string& xml) {
        return client.call(root, manager, "DefineDomain", "sa{sv}", xml.c_str(), 0);
    }
    std::string error_of_text(const std::string& xml) { return define_text(xml).error; }
    void TearDown() override {
        const Answer list = client.call(root, manager, "ListDomains", "a{sv}", 0);
        ASSERT_TRUE(list.ok());
        EXPECT_THAT(Client::print(list), Not(HasSubstr("STRING \"bad"))) << "nothing bad is kept";
    }
};

TEST_F(BadInput, XmlThatIsNone) {
    const std::string invalid = error_prefix + "InvalidXML";
    EXPECT_EQ(error_of_text(""), invalid);
    EXPECT_EQ(error_of_text("bad"), invalid);
    EXPECT_EQ(error_of_text("<network><name>bad</name></network>"), invalid);
    const std::string whole = test_xml("bad");
    for (std::size_t size : {std::size_t{1}, whole.size() / 2, whole.size() - 1})
        EXPECT_EQ(error_of_text(whole.substr(0, size)), invalid);
    EXPECT_EQ(error_of_text("<domain type='test'><memory>1024</memory></domain>"), invalid) << "no name";
}

TEST_F(BadInput, DtdsAndEntities) {
    const std::string invalid = error_prefix + "InvalidXML";
    EXPECT_EQ(error_of_text("<!DOCTYPE domain [<!ENTITY a 'bad'>]>" + test_xml("&a;")), invalid);
    EXPECT_EQ(error_of_text("<!DOCTYPE domain SYSTEM 'file:///etc/passwd'>" + test_xml("bad")), invalid);
    EXPECT_EQ(error_of_text(test_xml("&undefined;")), invalid);
}

TEST_F(BadInput, Depth) {
    std::string deep = "<domain type='test'><name>bad</name><metadata>";
    for (int i = 0; i < 100'000; i++) deep += "<a>";
    for (int i = 0; i < 100'000; i++) deep += "</a>";
    EXPECT_EQ(error_of_text(deep + "</metadata></domain>"), error_prefix + "LimitsExceeded");
}

TEST_F(BadInput, Size) {
    const std::string padding((8u << 20) - test_xml("bad", "", "<description></description>").size() + 1, 'x');
    const Answer answer = define_text(test_xml("bad", "", "<description>" + padding + "</description>"));
    EXPECT_EQ(answer.error, error_prefix + "LimitsExceeded");
    EXPECT_THAT(answer.message, HasSubstr("8388608"));
}

TEST_F(BadInput, Names) {
    const auto error = [&](const std::string& name) { return error_of_text(test_xml(name)); };
    const std::string invalid = error_prefix + "InvalidXML";
    EXPECT_EQ(error("bad/name"), invalid);
    EXPECT_EQ(error(std::string(300, 'b')), invalid);
    EXPECT_EQ(error("bad&#10;name"), invalid);
    EXPECT_EQ(error(""), invalid);
    EXPECT_EQ(error("bad&#1;name"), invalid);
    const std::string path = define(client, "good name");
    for (const std::string& name :
         {std::string{"bad/name"}, std::string(300, 'b'), std::string{"bad\nname"}, std::string{}})
        EXPECT_FALSE(client.call(path, domain, "Rename", "sa{sv}", name.c_str(), 0).ok()) << name;
    EXPECT_EQ(property(client, path, domain, "Name"), "good name");
}

TEST_F(BadInput, IdentitiesThatAreTaken) {
    const std::string uuid = "<uuid>11111111-2222-4333-8444-555555555555</uuid>";
    const std::string first = define(client, "taken", "", uuid);
    EXPECT_EQ(first, "/org/virtbus1/domain/11111111_2222_4333_8444_555555555555");
    EXPECT_EQ(error_of_text(test_xml("bad", "", uuid)), error_prefix + "AlreadyExists") << "the uuid with another name";
    EXPECT_EQ(error_of_text(test_xml("taken", "", "<uuid>11111111-2222-4333-8444-666666666666</uuid>")),
              error_prefix + "AlreadyExists")
        << "the name with another uuid";
    EXPECT_EQ(define(client, "taken", "", uuid + "<title>again</title>"), first) << "both: defined anew";
    EXPECT_EQ(property(client, first, domain, "Title"), "again");
    define(client, "other");
    EXPECT_EQ(client.call(first, domain, "Rename", "sa{sv}", "other", 0).error, error_prefix + "AlreadyExists");
}

TEST_F(BadInput, Options) {
    const std::string path = define(client, "options");
    const std::string invalid = error_prefix + "InvalidOption";
    const auto error = [&](const char* option, const char* type, const char* value) {
        return client.call(path, domain, "Start", "a{sv}", 1, option, type, value);
    };
    const Answer unknown = error("pasued", "s", "yes");
    EXPECT_EQ(unknown.error, invalid);
    EXPECT_THAT(unknown.message, HasSubstr("pasued"));
    const Answer type = error("paused", "s", "yes");
    EXPECT_EQ(type.error, invalid);
    EXPECT_THAT(type.message, HasSubstr("paused"));
    EXPECT_EQ(client.call(path, domain, "Start", "a{sv}", 1, "paused", "i", 1).error, invalid);
    EXPECT_EQ(client.call(path, domain, "Start", "a{sv}", 2, "paused", "b", 1, "paused", "b", 0).error, invalid);
    EXPECT_EQ(client.call(path, domain, "Shutdown", "a{sv}", 1, "mode", "s", "hard").error, invalid);
    EXPECT_EQ(client.call(path, domain, "SetMemory", "ta{sv}", std::uint64_t{1} << 26, 1, "scope", "s", "all").error,
              invalid);
    EXPECT_EQ(client.call(path, domain, "SetAutostart", "ba{sv}", 1, 1, "why", "b", 1).error, invalid);
    EXPECT_EQ(client.call(root, manager, "GetStats", "a{sv}", 1, "states", "as", 1, "happy").error, invalid);
    EXPECT_EQ(client.call(root, manager, "GetStats", "a{sv}", 1, "groups", "as", 1, "happiness").error, invalid);
    EXPECT_EQ(client.call(root, manager, "ListDomains", "a{sv}", 1, "limit", "t", std::uint64_t{1}).error, invalid);
    EXPECT_EQ(state(path), "shutoff");
}

TEST_F(BadInput, Calls) {
    const std::string path = define(client, "calls");
    const std::string standard = "org.freedesktop.DBus.Error.";
    EXPECT_EQ(client.call(path, domain, "Start", "s", "now").error, standard + "InvalidArgs");
    EXPECT_EQ(client.call(path, domain, "Fly", "a{sv}", 0).error, standard + "UnknownMethod");
    EXPECT_EQ(client.call(path, manager, "ListDomains", "a{sv}", 0).error, standard + "UnknownInterface");
    EXPECT_EQ(client.call(root + "/domain/bad", domain, "Start", "a{sv}", 0).error, standard + "UnknownObject");
    EXPECT_EQ(client.call(root + "/job/1000000", job, "Cancel", "a{sv}", 0).error, standard + "UnknownObject");
    EXPECT_EQ(client.call(root + "/volume/bad", domain, "Start", "a{sv}", 0).error, standard + "UnknownObject");
    EXPECT_EQ(client.call(path, properties, "Set", "ssv", domain, "Name", "s", "bad").error,
              standard + "PropertyReadOnly");
    EXPECT_EQ(client.call(path, properties, "Get", "ss", domain, "Colour").error, standard + "UnknownProperty");
}

TEST_F(BadInput, WhatDoesNotFitTheState) {
    const std::string path = define(client, "state");
    const Answer answer = verb(path, "Suspend");
    EXPECT_EQ(answer.error, error_prefix + "InvalidState");
    EXPECT_THAT(answer.message, HasSubstr("shutoff"));
    EXPECT_EQ(verb(path, "Stop").error, error_prefix + "InvalidState");
    ASSERT_EQ(text_of(verb(path, "Start")), "/");
    EXPECT_EQ(verb(path, "Start").error, error_prefix + "InvalidState");
}

struct FullHouse : SharedDaemon<FullHouse> {
    static constexpr bool system_mode = false;
};

TEST_F(FullHouse, WhatIsTooMuchForOneAnswerComesInPages) {
    constexpr int count = 400;
    const std::string words(65'000, 'w');
    constexpr int at_once = 16;
    for (int begin = 0; begin < count; begin += at_once) {
        std::vector<Client::Pending> pending;
        for (int i = begin; i < begin + at_once; i++)
            pending.push_back(client.start(
                root, manager, "DefineDomain", "sa{sv}",
                test_xml("house-" + std::to_string(i), "", "<description>" + words + "</description>").c_str(), 0));
        for (auto& one : pending) ASSERT_EQ(one.wait().message, "");
    }
    const Answer all = client.call(root, "org.freedesktop.DBus.ObjectManager", "GetManagedObjects");
    EXPECT_EQ(all.error, error_prefix + "LimitsExceeded");
    EXPECT_THAT(all.message, HasSubstr("ListDomains"));
    const Answer list = client.call(root, manager, "ListDomains", "a{sv}", 0);
    ASSERT_TRUE(list.ok());
    int rows = 0;
    sd_bus_message_enter_container(list.body.get(), 'a', "(osssb)");
    while (sd_bus_message_skip(list.body.get(), "(osssb)") > 0) rows++;
    EXPECT_EQ(rows, count);
}

}  // namespace
}  // namespace virtbus::tests
