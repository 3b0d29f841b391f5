// SPDX-License-Identifier: LGPL-2.1-or-later
// What the bus shows of virtual networks that run: the real daemon in system mode, in a network namespace of the test's
// own. What the networks do is tried in tests/network.
#include <filesystem>

#include "tests/bus/network_calls.hpp"
#include "tests/bus/user_bed.hpp"
#include "tests/drivers/network_bed.hpp"

namespace virtbus::tests {
namespace {

using ::testing::AllOf;
using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

/// What is to be seen of the host's network, for comparing before and after; without what links say of their own
/// accord.
std::string host_state() {
    return output_of(
        "ip -o link | awk '{print $2, $5}'; ip -o addr | awk '{print $2, $3, $4}'; ip route | sed 's/ linkdown//; s/ "
        "*$//'; "
        "nft list ruleset; cat /proc/sys/net/ipv4/ip_forward /proc/sys/net/ipv6/conf/all/forwarding");
}

struct LiveNetworks : ::testing::Test {
    void SetUp() override {
        if (!entered) GTEST_SKIP() << "a network namespace needs root";
        // The servers of networks are another user and have to get to their files.
        ::chmod(bed.folder.path().c_str(), 0755);
        before_all = host_state();
        begin();
    }
    void TearDown() override {
        if (!entered) return;
        const int code = bed.stop();
        EXPECT_EQ(code, 0) << read_file(bed.log());
        EXPECT_EQ(read_file(bed.log()).find("AddressSanitizer"), std::string::npos) << read_file(bed.log());
    }
    void begin() {
        client.reset();
        ASSERT_TRUE(bed.start()) << read_file(bed.log());
        client = bed.connect();
        client->call("/org/freedesktop/DBus", "org.freedesktop.DBus", "Ping");
        const auto add =
            client->make("/org/freedesktop/DBus", "org.freedesktop.DBus", "AddMatch", "org.freedesktop.DBus");
        sd_bus_message_append(add.get(), "s", "type='signal',sender='org.virtbus1'");
        ASSERT_TRUE(client->send(add).wait().ok());
    }
    std::string define(const std::string& name, const std::string& more) {
        return define_network(*client, network_xml(name, more));
    }
    /// "" when it succeeds.
    std::string verb(const std::string& path, const char* member) {
        const Answer answer = client->call(path, network, member, "a{sv}", 0);
        return answer.ok() ? "" : answer.error + ": " + answer.message;
    }
    std::string value(const std::string& path, const char* name) { return property(*client, path, network, name); }
    std::string xml(const std::string& path, bool inactive = false) {
        return text_of(client->call(path, network, "GetXML", "a{sv}", 1, "inactive", "b", inactive ? 1 : 0));
    }
    std::vector<std::string> take_heard() {
        std::vector<std::string> all;
        for (const auto& one : client->signals) all.push_back(one.path + " " + one.member);
        client->signals.clear();
        return all;
    }
    std::string record(const std::string& name) const { return bed.folder / ("RUNTIME/network/" + name + ".xml"); }

    const bool entered = ::geteuid() == 0 && enter_network_namespace();
    DaemonBed bed{true};
    std::unique_ptr<Client> client;
    std::string before_all;
};

TEST_F(LiveNetworks, StopLeavesTheHostAsStartFoundIt) {
    const std::string path = define("lan", nat_of(121) + "<ip family='ipv6' address='fd00:121::1' prefix='64'/>");
    const std::string bridge = value(path, "Bridge");
    const std::string stored = xml(path);
    (void)take_heard();
    ASSERT_EQ(verb(path, "Start"), "");
    EXPECT_THAT(take_heard(), Contains(path + " PropertiesChanged")) << "before the answer";
    EXPECT_EQ(value(path, "Active"), "1");
    EXPECT_EQ(value(path, "Problem"), "");
    EXPECT_EQ(value(path, "Updated"), "0");
    EXPECT_THAT(output_of("ip addr show dev " + bridge),
                AllOf(HasSubstr("192.168.121.1/24"), HasSubstr("fd00:121::1")));
    EXPECT_THAT(output_of("nft list ruleset"), HasSubstr(bridge));
    EXPECT_THAT(read_file(record("lan")), HasSubstr("lan"));
    EXPECT_EQ(xml(path, true), stored);
    EXPECT_THAT(verb(path, "Start"), StartsWith(error_prefix + "InvalidState"));
    ASSERT_EQ(verb(path, "Stop"), "");
    EXPECT_THAT(take_heard(), Contains(path + " PropertiesChanged"));
    EXPECT_EQ(value(path, "Active"), "0");
    EXPECT_EQ(host_state(), before_all);
    EXPECT_FALSE(std::filesystem::exists(record("lan")));
    EXPECT_EQ(output_of("ls " + (bed.folder / "RUNTIME/network")), "");
    EXPECT_EQ(verb(path, "Undefine"), "");
}

TEST_F(LiveNetworks, ATransientOneIsGoneWhenItStops) {
    const auto text = network_xml("passing", nat_of(122));
    const std::string path = text_of(client->call(root, manager, "CreateNetwork", "sa{sv}", text.c_str(), 0));
    ASSERT_THAT(path, StartsWith(root + "/network/"));
    EXPECT_THAT(take_heard(), Contains(root + " InterfacesAdded")) << "before the answer";
    EXPECT_EQ(value(path, "Active"), "1");
    EXPECT_EQ(value(path, "Persistent"), "0");
    EXPECT_THAT(verb(path, "Undefine"), StartsWith(error_prefix + "InvalidState"));
    ASSERT_EQ(verb(path, "Stop"), "");
    EXPECT_EQ(take_heard().back(), root + " InterfacesRemoved") << "the last signal of its path";
    EXPECT_THAT(verb(path, "Start"), StartsWith("org.freedesktop.DBus.Error.UnknownObject"));
    EXPECT_EQ(host_state(), before_all);
    const std::string kept = define("kept", nat_of(122));
    ASSERT_EQ(verb(kept, "Start"), "");
    ASSERT_EQ(verb(kept, "Undefine"), "");
    EXPECT_EQ(value(kept, "Persistent"), "0") << "it goes on";
    ASSERT_EQ(verb(kept, "Stop"), "");
    EXPECT_EQ(host_state(), before_all);
}

TEST_F(LiveNetworks, GuestsAreServedAndLeasesShown) {
    const std::string text =
        "<network xmlns:dnsmasq='http://libvirt.org/schemas/network/dnsmasq/1.0'><name>served</name>" + nat_of(126) +
        "<dnsmasq:options><dnsmasq:option value='no-ping'/></dnsmasq:options></network>";
    const std::string served = define_network(*client, text);
    ASSERT_EQ(verb(served, "Start"), "");
    const auto update = [&](const char* command, const std::string& host) {
        return client->call(served, network, "Update", "ssisa{sv}", command, "ip-dhcp-host", -1, host.c_str(), 0).error;
    };
    EXPECT_EQ(update("add-last", "<host mac='52:54:00:00:00:01' name='web' ip='192.168.126.50'/>"), "");
    EXPECT_EQ(value(served, "Updated"), "1") << "live only";
    EXPECT_THAT(xml(served), HasSubstr("192.168.126.50"));
    EXPECT_THAT(xml(served, true), Not(HasSubstr("192.168.126.50")));

    ASSERT_TRUE(succeeds("ip link add vbguest type veth peer name vbport && ip link set vbport master " +
                         value(served, "Bridge") + " up && ip link set vbguest address 52:54:00:00:00:01 up"));
    const std::string script = bed.folder / "bound";
    std::ofstream{script} << "#!/bin/sh\n[ \"$1\" = bound ] && echo \"$ip/$mask $dns\" >" << (bed.folder / "told")
                          << "\n";
    ::chmod(script.c_str(), 0755);
    (void)output_of("timeout 60 busybox udhcpc -i vbguest -f -q -n -t 20 -T 1 -x hostname:guest -s " + script +
                    " 2>&1");
    EXPECT_EQ(read_file(bed.folder / "told"), "192.168.126.50/24 192.168.126.1\n");
    const auto leases = [&](const char* mac) {
        return Client::print(client->call(served, network, "GetLeases", "a{sv}", 1, "mac", "s", mac));
    };
    const auto tick = bed.loop_tick();
    EXPECT_TRUE(bed.loop.run_until([&] { return leases("").find("192.168.126.50") != std::string::npos; }, patience));
    EXPECT_THAT(leases("52:54:0:0:0:1"), AllOf(HasSubstr("192.168.126.50"), HasSubstr("UINT32 24")));
    EXPECT_THAT(leases("52:54:00:00:00:02"), Not(HasSubstr("192.168.126.50")));
    ASSERT_TRUE(succeeds("ip link del vbguest"));
    ASSERT_EQ(verb(served, "Stop"), "");
    EXPECT_EQ(host_state(), before_all);
}

TEST_F(LiveNetworks, GuestsOnItAreNamedWhereAChangeWouldBreakThem) {
    const std::string path = define("used", nat_of(127) + "<portgroup name='fast'/>");
    const std::string web = virtbus::tests::define(
        *client, "web", "",
        "<devices><interface type='network'><source network='used' portgroup='fast'/></interface></devices>");
    const Answer down = client->call(web, domain, "Start", "a{sv}", 0);
    EXPECT_EQ(down.error, error_prefix + "InvalidState");
    EXPECT_THAT(down.message, HasSubstr("'used'"));
    ASSERT_EQ(verb(path, "Start"), "");
    ASSERT_EQ(text_of(client->call(web, domain, "Start", "a{sv}", 0)), "/");
    const auto remove = [&](bool force) {
        return client->call(path, network, "Update", "ssisa{sv}", "delete", "portgroup", -1, "<portgroup name='fast'/>",
                            1, "force", "b", force ? 1 : 0);
    };
    const Answer refused = remove(false);
    EXPECT_EQ(refused.error, error_prefix + "NetworkInUse");
    EXPECT_THAT(refused.message, HasSubstr("'web'"));
    EXPECT_EQ(remove(true).error, "");
    EXPECT_THAT(xml(path), Not(HasSubstr("fast")));
    ASSERT_EQ(verb(path, "Stop"), "") << "with a guest on it";
    EXPECT_EQ(property(*client, web, domain, "State"), "running");
    ASSERT_EQ(text_of(client->call(web, domain, "Stop", "a{sv}", 0)), "/");
    EXPECT_EQ(host_state(), before_all);
}

}  // namespace
}  // namespace virtbus::tests
