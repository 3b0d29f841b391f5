// SPDX-License-Identifier: LGPL-2.1-or-later
// Virtual networks over a real bus: what of them needs no network that runs.
#include <sys/stat.h>

#include "tests/bus/network_calls.hpp"
#include "tests/bus/user_bed.hpp"

namespace virtbus::tests {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::StartsWith;

struct Networks : SharedDaemon<Networks> {
    static constexpr bool system_mode = false;

    std::string define(const std::string& name, const std::string& more = "") {
        return define_network(client, network_xml(name, more));
    }
    Answer verb(const std::string& path, const char* member) { return client.call(path, network, member, "a{sv}", 0); }
    std::string xml(const std::string& path) { return text_of(verb(path, "GetXML")); }
    std::string value(const std::string& path, const char* name) { return property(client, path, network, name); }
    std::string update(const std::string& path, const char* command, const char* section, const std::string& part) {
        return client.call(path, network, "Update", "ssisa{sv}", command, section, -1, part.c_str(), 0).error;
    }
};

TEST_F(Networks, AreDefinedFoundAndForgotten) {
    listen();
    const std::string path = define("lan", nat_of(101));
    ASSERT_THAT(path, StartsWith(root + "/network/"));
    EXPECT_TRUE(has_heard(root, "InterfacesAdded")) << "before the answer";
    const std::string uuid = value(path, "UUID");
    EXPECT_EQ(text_of(client.call(root, manager, "GetNetwork", "s", "lan")), path);
    EXPECT_EQ(text_of(client.call(root, manager, "GetNetwork", "s", uuid.c_str())), path);
    EXPECT_EQ(client.call(root, manager, "GetNetwork", "s", "none").error, error_prefix + "NoSuchNetwork");
    EXPECT_THAT(Client::print(client.call(root, manager, "ListNetworks", "a{sv}", 0)),
                AllOf(HasSubstr(path), HasSubstr("\"lan\""), HasSubstr(uuid)));
    EXPECT_THAT(Client::print(client.call(root, "org.freedesktop.DBus.ObjectManager", "GetManagedObjects")),
                AllOf(HasSubstr(path), HasSubstr(network)));
    EXPECT_EQ(value(path, "Name"), "lan");
    EXPECT_EQ(value(path, "Active"), "0");
    EXPECT_EQ(value(path, "Persistent"), "1");
    EXPECT_EQ(value(path, "Autostart"), "0");
    EXPECT_EQ(value(path, "ForwardMode"), "nat");
    EXPECT_THAT(value(path, "Bridge"), StartsWith("virbr"));
    EXPECT_THAT(value(path, "Addresses"), HasSubstr("192.168.101.1/24"));
    EXPECT_EQ(value(path, "DomainName"), "example.org");
    EXPECT_EQ(value(path, "Problem"), "");
    EXPECT_THAT(xml(path), AllOf(HasSubstr("<name>lan</name>"), HasSubstr(uuid), HasSubstr("192.168.101.1")));
    EXPECT_THAT(Client::print(verb(path, "GetLeases")), Not(HasSubstr("mac")));
    EXPECT_EQ(verb(path, "Undefine").error, "");
    EXPECT_TRUE(has_heard(root, "InterfacesRemoved"));
    EXPECT_EQ(verb(path, "GetXML").error, "org.freedesktop.DBus.Error.UnknownObject");
    EXPECT_EQ(client.call(root, manager, "GetNetwork", "s", "lan").error, error_prefix + "NoSuchNetwork");
}

TEST_F(Networks, AreRedefinedUnderTheirUuid) {
    const std::string path = define("again", nat_of(102));
    EXPECT_THAT(define("again", nat_of(103)), StartsWith(error_prefix + "AlreadyExists")) << "the XML names no UUID";
    listen();
    const std::string uuid = "<uuid>" + value(path, "UUID") + "</uuid>";
    EXPECT_EQ(define("again", uuid + nat_of(104)), path);
    EXPECT_THAT(value(path, "Addresses"), HasSubstr("192.168.104.1/24"));
    EXPECT_THAT(heard(path), ElementsAre("PropertiesChanged"));
    EXPECT_THAT(define("another", uuid), StartsWith(error_prefix + "AlreadyExists"));
    EXPECT_EQ(verb(path, "Undefine").error, "");
}

TEST_F(Networks, WrongCallsAreToldSo) {
    EXPECT_THAT(define_network(client, "<network><name>x</name>"), StartsWith(error_prefix + "InvalidXML"));
    EXPECT_THAT(define_network(client, "<domain/>"), StartsWith(error_prefix + "InvalidXML"));
    EXPECT_THAT(define("../../etc/passwd"), StartsWith(error_prefix + "InvalidXML"));
    EXPECT_THAT(define(std::string(300, 'x')), StartsWith(error_prefix + "InvalidXML"));
    EXPECT_THAT(define("odd", "<ip address='192.168.300.1' prefix='24'/>"), StartsWith(error_prefix + "InvalidXML"));
    const std::string unknown = network_xml("unknown", "<blinkenlights/>");
    EXPECT_EQ(client.call(root, manager, "DefineNetwork", "sa{sv}", unknown.c_str(), 1, "validate", "b", 1).error,
              error_prefix + "InvalidXML");
    EXPECT_EQ(client.call(root, manager, "DefineNetwork", "sa{sv}", unknown.c_str(), 1, "colour", "b", 1).error,
              error_prefix + "InvalidOption");
    const std::string path = define_network(client, unknown);
    EXPECT_THAT(xml(path), HasSubstr("<blinkenlights/>")) << "kept";
    EXPECT_EQ(verb(path, "Stop").error, error_prefix + "InvalidState");
    EXPECT_EQ(client.call(path, network, "GetLeases", "a{sv}", 1, "mac", "s", "web").error,
              error_prefix + "InvalidOption");
    EXPECT_EQ(client.call(path, domain, "Start", "a{sv}", 0).error, "org.freedesktop.DBus.Error.UnknownInterface");
    EXPECT_EQ(verb(path, "Undefine").error, "");
}

TEST_F(Networks, PartsOfTheStoredDefinitionAreUpdated) {
    const std::string path = define("parts", nat_of(105));
    const std::string host = "<host mac='52:54:00:00:00:01' name='web' ip='192.168.105.50'/>";
    EXPECT_EQ(update(path, "add-last", "ip-dhcp-host", host), "");
    EXPECT_THAT(xml(path), HasSubstr("192.168.105.50"));
    EXPECT_EQ(update(path, "add-last", "ip-dhcp-host", host), error_prefix + "AlreadyExists");
    EXPECT_EQ(update(path, "modify", "ip-dhcp-host", "<host mac='52:54:00:00:00:01' ip='192.168.105.51'/>"), "");
    EXPECT_THAT(xml(path), AllOf(HasSubstr("192.168.105.51"), Not(HasSubstr("192.168.105.50"))));
    EXPECT_EQ(update(path, "delete", "ip-dhcp-host", "<host mac='52:54:00:00:00:01'/>"), "");
    EXPECT_THAT(xml(path), Not(HasSubstr("192.168.105.51")));
    EXPECT_EQ(update(path, "delete", "ip-dhcp-host", "<host mac='52:54:00:00:00:01'/>"), error_prefix + "InvalidState");
    EXPECT_EQ(update(path, "add-first", "dns-txt", "<txt name='a' value='b'/>"), "");
    EXPECT_THAT(xml(path), HasSubstr("<txt name='a' value='b'/>"));
    EXPECT_EQ(update(path, "paint", "dns-txt", "<txt name='a' value='b'/>"), "org.freedesktop.DBus.Error.InvalidArgs");
    EXPECT_EQ(update(path, "add-first", "colours", "<txt/>"), "org.freedesktop.DBus.Error.InvalidArgs");
    EXPECT_EQ(update(path, "add-first", "dns-txt", "<txt"), error_prefix + "InvalidXML");
    EXPECT_EQ(client
                  .call(path, network, "Update", "ssisa{sv}", "delete", "dns-txt", -1, "<txt name='a'/>", 1, "scope",
                        "s", "live")
                  .error,
              error_prefix + "InvalidState")
        << "it is not active";
    EXPECT_EQ(verb(path, "Undefine").error, "");
}

TEST_F(Networks, AutostartIsALinkInTheConfiguration) {
    const std::string path = define("early");
    const std::string link = bed().folder / ("CONFIGURATION/networks/autostart/" + value(path, "UUID") + ".xml");
    struct stat facts{};
    listen();
    ASSERT_EQ(client.call(path, network, "SetAutostart", "ba{sv}", 1, 0).error, "");
    EXPECT_EQ(value(path, "Autostart"), "1");
    EXPECT_THAT(heard(path), ElementsAre("PropertiesChanged"));
    EXPECT_EQ(::stat(link.c_str(), &facts), 0) << link;
    ASSERT_EQ(client.call(path, network, "SetAutostart", "ba{sv}", 0, 0).error, "");
    EXPECT_NE(::lstat(link.c_str(), &facts), 0);
    ASSERT_EQ(client.call(path, network, "SetAutostart", "ba{sv}", 1, 0).error, "");
    EXPECT_EQ(verb(path, "Undefine").error, "");
    EXPECT_NE(::lstat(link.c_str(), &facts), 0);
}

struct NetworkRestart : ::testing::Test {
    DaemonBed bed{false};
    std::unique_ptr<Client> client;

    void begin() {
        client.reset();
        ASSERT_TRUE(bed.start()) << read_file(bed.log());
        client = bed.connect();
    }
    std::string look(const std::string& path) {
        return Client::print(client->call(path, properties, "GetAll", "s", network)) +
               text_of(client->call(path, network, "GetXML", "a{sv}", 0));
    }
};

TEST_F(NetworkRestart, DefinitionsAreThereAgainHoweverTheDaemonEnds) {
    begin();
    const std::string lan = define_network(*client, network_xml("lan", nat_of(106)));
    const std::string gone = define_network(*client, network_xml("gone"));
    ASSERT_EQ(client->call(lan, network, "SetAutostart", "ba{sv}", 1, 0).error, "");
    ASSERT_EQ(client->call(gone, network, "Undefine", "a{sv}", 0).error, "");
    // Once started with the host is once a boot; before that an autostart that cannot be is tried.
    for (const int signal : {SIGTERM, SIGKILL}) {
        const std::string before = look(lan);
        ASSERT_THAT(before, AllOf(HasSubstr("192.168.106.1/24"), HasSubstr("<name>lan</name>")));
        bed.stop(signal);
        begin();
        EXPECT_EQ(look(lan), before);
        EXPECT_EQ(client->call(gone, network, "GetXML", "a{sv}", 0).error, "org.freedesktop.DBus.Error.UnknownObject");
    }
    EXPECT_EQ(bed.stop(), 0);
}

TEST_F(NetworkRestart, ADefinitionThatCannotBeUsedIsListedWithTheReason) {
    begin();
    const std::string path = define_network(*client, network_xml("broken", nat_of(107)));
    const std::string file =
        bed.folder / ("CONFIGURATION/networks/" + property(*client, path, network, "UUID") + ".xml");
    bed.stop();
    std::string text = read_file(file);
    ASSERT_THAT(text, HasSubstr("mode='nat'"));
    text.replace(text.find("mode='nat'"), 10, "mode='bat'");
    std::ofstream{file} << text;
    begin();
    EXPECT_EQ(property(*client, path, network, "Name"), "broken");
    EXPECT_THAT(property(*client, path, network, "Problem"), HasSubstr("bat"));
    EXPECT_EQ(client->call(path, network, "Start", "a{sv}", 0).error, error_prefix + "UnsupportedConfiguration");
    EXPECT_EQ(client->call(path, network, "Undefine", "a{sv}", 0).error, "");
}

}  // namespace
}  // namespace virtbus::tests
