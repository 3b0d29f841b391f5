// SPDX-License-Identifier: LGPL-2.1-or-later
// The face of virtual networks over networks that keep what they are told.
#include "tests/dbus/face_bed.hpp"

namespace virtbus::dbus {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

constexpr const char* interface = "org.virtbus1.Network";
constexpr const char* object_manager = "org.freedesktop.DBus.ObjectManager";

struct NetworkFaceTest : FaceTest {
    NetworkFaceTest() { net = &networks.add(1); }
    std::string said(const char* member, const char* types, auto... arguments) {
        const auto answer = client->call(net_path, interface, member, types, arguments...);
        return answer.ok() ? net->said : answer.error + ": " + answer.message;
    }
    std::string objects() { return Client::print(client->call(root, object_manager, "GetManagedObjects")); }

    FakeNetwork* net = nullptr;
    const std::string net_path = root + "/network/00000000_0000_4000_9000_000000000001";
};

TEST_F(NetworkFaceTest, VerbsArriveWithTheirArguments) {
    EXPECT_EQ(said("Start", "a{sv}", 0), "start");
    EXPECT_EQ(said("Stop", "a{sv}", 0), "stop");
    EXPECT_EQ(said("SetAutostart", "ba{sv}", 1, 0), "set-autostart true");
    EXPECT_EQ(said("SetAutostart", "ba{sv}", 0, 0), "set-autostart false");
    EXPECT_EQ(said("Undefine", "a{sv}", 0), "undefine");
    EXPECT_EQ(said("Update", "ssisa{sv}", "add-last", "ip-dhcp-host", -1, "<host/>", 0),
              "update add-last ip-dhcp-host -1 <host/> 0 false");
    EXPECT_EQ(said("Update", "ssisa{sv}", "delete", "dns-txt", 2, "<txt/>", 2, "scope", "s", "both", "force", "b", 1),
              "update delete dns-txt 2 <txt/> 3 true");
    EXPECT_EQ(said("Update", "ssisa{sv}", "delete", "dns-txt", 2, "<txt/>", 1, "scope", "s", "live"),
              "update delete dns-txt 2 <txt/> 1 false");
    EXPECT_EQ(net->asked_by.uid, ::getuid());
    EXPECT_THAT(said("Update", "ssisa{sv}", "delete", "dns-txt", 2, "<txt/>", 1, "scope", "s", "now"),
                AllOf(StartsWith("org.virtbus1.Error.InvalidOption"), HasSubstr("scope")));
    EXPECT_THAT(said("Start", "a{sv}", 1, "paused", "b", 1), StartsWith("org.virtbus1.Error.InvalidOption"));
}

TEST_F(NetworkFaceTest, TheManagerListsFindsAndMakesNetworks) {
    networks.add(2, false);
    const auto list = Client::print(client->call(root, manager, "ListNetworks", "a{sv}", 0));
    EXPECT_LT(list.find("network-1"), list.find("network-2"));
    EXPECT_THAT(list, HasSubstr(net_path));
    const auto find = [&](const char* what) {
        return Client::text(client->call(root, manager, "GetNetwork", "s", what));
    };
    EXPECT_EQ(find("network-1"), net_path);
    EXPECT_EQ(find("00000000-0000-4000-9000-000000000001"), net_path);
    EXPECT_EQ(find("none"), "org.virtbus1.Error.NoSuchNetwork");
    EXPECT_EQ(Client::text(client->call(root, manager, "DefineNetwork", "sa{sv}", "<n/>", 0)),
              root + "/network/00000000_0000_4000_9000_000000000003");
    EXPECT_EQ(networks.said, "define false");
    (void)client->call(root, manager, "DefineNetwork", "sa{sv}", "<n/>", 1, "validate", "b", 1);
    EXPECT_EQ(networks.said, "define true");
    EXPECT_EQ(Client::text(client->call(root, manager, "CreateNetwork", "sa{sv}", "<n/>", 1, "validate", "b", 1)),
              root + "/network/00000000_0000_4000_9000_000000000005");
    EXPECT_EQ(networks.said, "create true");
    EXPECT_EQ(client->call(root, manager, "CreateNetwork", "sa{sv}", "", 0).error, "org.virtbus1.Error.InvalidXML");
}

TEST_F(NetworkFaceTest, PropertiesAreThoseOfTheView) {
    net->change([](NetworkView& view) {
        view.active = view.autostart = view.updated = true;
        view.problem = "its server ended";
    });
    const auto all = Client::print(client->call(net_path, properties, "GetAll", "s", interface));
    for (const char* part : {"network-1", "00000000-0000-4000-9000-000000000001", "virbr1", "\"nat\"", "example.org",
                             "192.168.1.1/24", "fd00::1/64", "its server ended"})
        EXPECT_THAT(all, HasSubstr(part));
    const auto truth = [&](const char* name) {
        return Client::print(client->call(net_path, properties, "Get", "ss", interface, name));
    };
    for (const char* name : {"Active", "Persistent", "Autostart", "Updated"})
        EXPECT_THAT(truth(name), HasSubstr("BOOLEAN true")) << name;
    EXPECT_THAT(objects(), AllOf(HasSubstr(net_path), HasSubstr(path), HasSubstr("its server ended")));
    EXPECT_EQ(Client::text(client->call(net_path, interface, "GetXML", "a{sv}", 0)),
              "<network name='network-1' inactive='false'/>");
    EXPECT_EQ(Client::text(client->call(net_path, interface, "GetXML", "a{sv}", 1, "inactive", "b", 1)),
              "<network name='network-1' inactive='true'/>");
    const auto introspect = [&](const std::string& object) {
        return Client::text(client->call(object, "org.freedesktop.DBus.Introspectable", "Introspect"));
    };
    EXPECT_THAT(introspect(root), HasSubstr("<node name=\"network\"/>"));
    EXPECT_THAT(introspect(net_path), AllOf(HasSubstr(interface), Not(HasSubstr("GetManagedObjects"))));
}

TEST_F(NetworkFaceTest, LeasesAreDictionaries) {
    net->given = {{"52:54:00:00:00:01", "192.168.1.10", 24, "web", "01:52", 1700000000000000},
                  {"52:54:00:00:00:02", "192.168.1.11", 24, "bad\xff", "", 0}};
    const auto all = Client::print(client->call(net_path, interface, "GetLeases", "a{sv}", 0));
    for (const char* part : {"\"mac\"", "52:54:00:00:00:01", "\"address\"", "192.168.1.10", "\"prefix\"", "UINT32 24",
                             "\"hostname\"", "\"web\"", "\"client-id\"", "01:52", "\"expires\"",
                             "UINT64 1700000000000000", "192.168.1.11", "UINT64 0", "bad\xef\xbf\xbd"})
        EXPECT_THAT(all, HasSubstr(part));
    const auto of = [&](const char* mac) {
        return Client::print(client->call(net_path, interface, "GetLeases", "a{sv}", 1, "mac", "s", mac));
    };
    EXPECT_THAT(of("52:54:00:00:00:02"), AllOf(HasSubstr("192.168.1.11"), Not(HasSubstr("192.168.1.10"))));
    for (const char* one_too : {"52:54:0:0:0:2", "52-54-00-00-00-02", "525400000002", "52:54:00:00:00:FF"})
        EXPECT_THAT(of(one_too), Not(HasSubstr("InvalidOption"))) << one_too;
    for (const char* none : {"web", "52:54:00:00:00", "52:54:00:00:00:00:02", "52:54:00:00:00:zz",
                             "52:54:00:00:00:", ":52:54:00:00:00", "52:54:00:00:00:002", " 52:54:00:00:00:02",
                             "52:54-00:00:00:02", "52540000000", "5254000000022", "52540000000g"})
        EXPECT_EQ(of(none), "org.virtbus1.Error.InvalidOption") << none;
}

TEST_F(NetworkFaceTest, QuestionsNameTheNetwork) {
    for (const char* member : {"Start", "Stop", "Undefine", "GetXML", "GetLeases"})
        (void)client->call(net_path, interface, member, "a{sv}", 0);
    (void)client->call(net_path, interface, "SetAutostart", "ba{sv}", 1, 0);
    (void)client->call(net_path, interface, "Update", "ssisa{sv}", "delete", "dns-txt", 2, "<txt/>", 0);
    (void)client->call(root, manager, "GetNetwork", "s", "network-1");
    (void)client->call(root, manager, "ListNetworks", "a{sv}", 0);
    (void)client->call(root, manager, "DefineNetwork", "sa{sv}", "from-xml", 0);
    (void)client->call(root, manager, "CreateNetwork", "sa{sv}", "from-xml", 0);
    EXPECT_THAT(asked, ElementsAre("network.start network-1 Start", "network.stop network-1 Stop",
                                   "network.delete network-1 Undefine", "network.read network-1 GetXML",
                                   "network.read network-1 GetLeases", "network.configure network-1 SetAutostart",
                                   "network.configure network-1 Update", "network.read network-1 GetNetwork",
                                   "network.read - ListNetworks", "network.configure from-xml DefineNetwork",
                                   "network.start from-xml CreateNetwork"));
    const std::string none = root + "/network/00000000_0000_4000_9000_000000000009";
    EXPECT_EQ(client->call(none, interface, "Start", "a{sv}", 0).error, "org.freedesktop.DBus.Error.UnknownObject");
    EXPECT_EQ(asked.back(), "network.start - Start") << "a stranger learns nothing before";
}

TEST_F(NetworkFaceTest, SignalsComeBeforeTheReply) {
    listen();
    client->signals.clear();
    ASSERT_TRUE(client->call(net_path, interface, "Start", "a{sv}", 0).ok());
    ASSERT_EQ(client->signals.size(), 1u) << "there when the answer is";
    EXPECT_EQ(client->signals[0].path + " " + client->signals[0].member, net_path + " PropertiesChanged");
    (void)heard();
    net->change([](NetworkView&) {});
    EXPECT_THAT(heard(), ElementsAre());
    ASSERT_TRUE(client->call(root, manager, "DefineNetwork", "sa{sv}", "<n/>", 0).ok());
    ASSERT_EQ(client->signals.size(), 1u);
    EXPECT_EQ(client->signals[0].path + " " + client->signals[0].member, root + " InterfacesAdded");
    (void)heard();
    networks.remove("00000000-0000-4000-9000-000000000001");
    EXPECT_THAT(heard(), ElementsAre("InterfacesRemoved"));
    EXPECT_EQ(client->call(net_path, interface, "Stop", "a{sv}", 0).error, "org.freedesktop.DBus.Error.UnknownObject");
}

TEST_F(NetworkFaceTest, AVerbAnswersWhenItIsDoneAndIsAJobMeanwhile) {
    net->held = true;
    auto waiting = client->start(net_path, interface, "Start", "a{sv}", 0);
    ASSERT_TRUE(loop.run_until([&] { return net->release.size() == 1; }, tests::patience));
    EXPECT_FALSE(waiting.finished());
    ASSERT_EQ(jobs.list().size(), 1u);
    const std::string path_of_job = root + "/job/" + std::to_string(jobs.list()[0]->id());
    EXPECT_THAT(Client::print(client->call(path_of_job, properties, "Get", "ss", job, "Objects")), HasSubstr(net_path));
    EXPECT_TRUE(client->call(path_of_job, job, "Cancel", "a{sv}", 0).ok());
    EXPECT_EQ(asked.back(), "network.start network-1 Cancel") << "the action of the verb it cancels";
    EXPECT_EQ(waiting.wait().error, "org.virtbus1.Error.Cancelled");
    net->held = false;
    net->fails = true;
    const auto refused = client->call(net_path, interface, "Stop", "a{sv}", 0);
    EXPECT_EQ(refused.error + ": " + refused.message, "org.virtbus1.Error.NetworkInUse: web is connected");
}

}  // namespace
}  // namespace virtbus::dbus
