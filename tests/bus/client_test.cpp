// SPDX-License-Identifier: LGPL-2.1-or-later
// A desktop program's view: proxies made by sdbus-c++-xml2cpp from the installed interface files, on an event loop of
// their own, against the real daemon. What a well-kept client library cannot send is tried in the other suites.
#include <gmock/gmock.h>
#include <sdbus-c++/sdbus-c++.h>

#include <algorithm>
#include <condition_variable>
#include <cstdlib>
#include <mutex>

#include "domain_proxy.hpp"
#include "job_proxy.hpp"
#include "manager_proxy.hpp"
#include "network_proxy.hpp"
#include "tests/bus/daemon.hpp"
#include "tests/bus/network_calls.hpp"

namespace virtbus::tests {
namespace {

using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::IsSupersetOf;
using Options = std::map<std::string, sdbus::Variant>;
using Interfaces = std::map<std::string, std::map<std::string, sdbus::Variant>>;

constexpr auto bus_name = "org.virtbus1";
const Options none;

/// Words written down by the client's thread, waited for by the test's.
class Heard {
public:
    void add(std::string word) {
        const std::lock_guard lock{mutex_};
        words_.push_back(std::move(word));
        changed_.notify_all();
    }
    bool wait_for(const std::string& word) {
        std::unique_lock lock{mutex_};
        return changed_.wait_for(lock, patience, [&] { return std::ranges::find(words_, word) != words_.end(); });
    }
    std::vector<std::string> words() {
        const std::lock_guard lock{mutex_};
        return words_;
    }

private:
    std::mutex mutex_;
    std::condition_variable changed_;
    std::vector<std::string> words_;
};

class ManagerClient final : public sdbus::ProxyInterfaces<org::virtbus1::Manager_proxy, sdbus::ObjectManager_proxy> {
public:
    ManagerClient(sdbus::IConnection& connection, Heard& heard)
        : ProxyInterfaces{connection, bus_name, "/org/virtbus1"}, heard_{heard} {
        registerProxy();
    }
    ~ManagerClient() { unregisterProxy(); }

private:
    void onInterfacesAdded(const sdbus::ObjectPath& path, const Interfaces&) override { heard_.add("added " + path); }
    void onInterfacesRemoved(const sdbus::ObjectPath& path, const std::vector<std::string>&) override {
        heard_.add("removed " + path);
    }
    Heard& heard_;
};

class DomainClient final : public sdbus::ProxyInterfaces<org::virtbus1::Domain_proxy, sdbus::Properties_proxy> {
public:
    DomainClient(sdbus::IConnection& connection, const sdbus::ObjectPath& path, Heard& heard)
        : ProxyInterfaces{connection, bus_name, path}, heard_{heard} {
        registerProxy();
    }
    ~DomainClient() { unregisterProxy(); }

private:
    void onStateChanged(const std::string& old, const std::string& now, const std::string& reason) override {
        heard_.add(old + " -> " + now + " (" + reason + ")");
    }
    void onRebooted() override {}
    void onDeviceAdded(const std::string&) override {}
    void onDeviceRemoved(const std::string&) override {}
    void onDeviceRemovalFailed(const std::string&) override {}
    void onIOError(const std::string&, const std::string&, const std::string&) override {}
    void onWatchdogFired(const std::string&) override {}
    void onAgentChanged(const bool&) override {}
    void onPropertiesChanged(const std::string&, const std::map<std::string, sdbus::Variant>& changed,
                             const std::vector<std::string>&) override {
        for (const auto& [name, value] : changed) heard_.add("changed " + name);
    }
    Heard& heard_;
};

class NetworkClient final : public sdbus::ProxyInterfaces<org::virtbus1::Network_proxy, sdbus::Properties_proxy> {
public:
    NetworkClient(sdbus::IConnection& connection, const sdbus::ObjectPath& path, Heard& heard)
        : ProxyInterfaces{connection, bus_name, path}, heard_{heard} {
        registerProxy();
    }
    ~NetworkClient() { unregisterProxy(); }

private:
    void onPropertiesChanged(const std::string&, const std::map<std::string, sdbus::Variant>& changed,
                             const std::vector<std::string>&) override {
        for (const auto& [name, value] : changed) heard_.add("changed " + name);
    }
    Heard& heard_;
};

class SdbusClient : public ::testing::Test {
protected:
    void SetUp() override {
        ASSERT_TRUE(bed_.start()) << read_file(bed_.log());
        ::setenv("DBUS_SESSION_BUS_ADDRESS", bed_.bus.address().c_str(), 1);
        connection_ = sdbus::createSessionBusConnection();
        manager_ = std::make_unique<ManagerClient>(*connection_, heard);
        connection_->enterEventLoopAsync();
    }
    void TearDown() override {
        if (connection_) connection_->leaveEventLoop();
        EXPECT_EQ(bed_.stop(), 0) << read_file(bed_.log());
    }
    static std::string xml(const std::string& name) {
        return "<domain type='test'><name>" + name +
               "</name><memory>65536</memory><vcpu>2</vcpu><os><type>hvm</type></os></domain>";
    }
    /// The name of the error that the call ends with; "" when it succeeds.
    static std::string error_of(const std::function<void()>& call) {
        try {
            call();
        } catch (const sdbus::Error& error) {
            return error.getName();
        }
        return {};
    }

    DaemonBed bed_{false};
    Heard heard;
    std::unique_ptr<sdbus::IConnection> connection_;
    std::unique_ptr<ManagerClient> manager_;
};

TEST_F(SdbusClient, LivesThroughAMachinesLife) {
    const auto path = manager_->DefineDomain(xml("web"), none);
    EXPECT_TRUE(heard.wait_for("added " + path));
    DomainClient web{*connection_, path, heard};
    EXPECT_EQ(web.Name(), "web");
    EXPECT_EQ(web.State(), "shutoff");
    EXPECT_EQ(web.MaxVCpus(), 2U);
    EXPECT_EQ(web.Start(none), "/");
    EXPECT_TRUE(heard.wait_for("starting -> running (booted)"));
    EXPECT_TRUE(heard.wait_for("changed State"));
    EXPECT_GT(web.StartedAt(), 0U);
    EXPECT_THAT(web.GetXML(none), HasSubstr("<name>web</name>"));
    const auto stats = web.GetStats(Options{{"groups", sdbus::Variant{std::vector<std::string>{"cpu-total"}}}});
    EXPECT_TRUE(stats.contains("cpu.time"));
    EXPECT_FALSE(stats.contains("balloon.current"));
    EXPECT_EQ(web.Stop(none), "/");
    EXPECT_TRUE(heard.wait_for("running -> shutoff (destroyed)"));
    web.Undefine(none);
    EXPECT_TRUE(heard.wait_for("removed " + path));
}

TEST_F(SdbusClient, SeesEverythingInOneCall) {
    const auto path = manager_->DefineDomain(xml("list"), none);
    const auto objects = manager_->GetManagedObjects();
    ASSERT_TRUE(objects.contains(path));
    const auto& domain = objects.at(path).at("org.virtbus1.Domain");
    EXPECT_EQ(domain.at("Name").get<std::string>(), "list");
    EXPECT_EQ(domain.at("Memory").get<std::uint64_t>(), 65536U * 1024U);
    const auto list = manager_->ListDomains(none);
    ASSERT_EQ(list.size(), 1U);
    EXPECT_EQ(list[0].get<1>(), "list");
    EXPECT_TRUE(list[0].get<4>());
}

TEST_F(SdbusClient, ErrorsAreTyped) {
    EXPECT_EQ(error_of([&] { manager_->GetDomain("nobody"); }), "org.virtbus1.Error.NoSuchDomain");
    EXPECT_EQ(error_of([&] { manager_->DefineDomain("<domain", none); }), "org.virtbus1.Error.InvalidXML");
    EXPECT_EQ(error_of([&] { manager_->DefineDomain(xml("x"), {{"colour", sdbus::Variant{true}}}); }),
              "org.virtbus1.Error.InvalidOption");
    const auto path = manager_->DefineDomain(xml("twice"), none);
    DomainClient twice{*connection_, path, heard};
    EXPECT_EQ(error_of([&] { twice.Stop(none); }), "org.virtbus1.Error.InvalidState");
}

TEST_F(SdbusClient, WaitsForAJob) {
    const auto behaviour =
        "<metadata><test:behaviour xmlns:test='http://virtbus.org/domain/test/1.0' "
        "start-delay-ms='50'/></metadata><memory>";
    auto slow = xml("slow");
    slow.replace(slow.find("<memory>"), 8, behaviour);
    const auto path = manager_->DefineDomain(slow, none);
    DomainClient domain{*connection_, path, heard};
    const auto job_path = domain.Start(Options{{"no-wait", sdbus::Variant{true}}});
    EXPECT_THAT(job_path, HasSubstr("/org/virtbus1/job/"));
    EXPECT_TRUE(heard.wait_for("added " + job_path));
    EXPECT_TRUE(heard.wait_for("starting -> running (booted)"));
}

TEST_F(SdbusClient, LivesThroughANetworksLife) {
    const auto path = manager_->DefineNetwork(network_xml("lan", nat_of(110)), none);
    EXPECT_TRUE(heard.wait_for("added " + path));
    EXPECT_EQ(manager_->GetNetwork("lan"), path);
    NetworkClient lan{*connection_, path, heard};
    EXPECT_EQ(lan.Name(), "lan");
    EXPECT_EQ(lan.ForwardMode(), "nat");
    EXPECT_EQ(lan.Addresses(), std::vector<std::string>{"192.168.110.1/24"});
    EXPECT_FALSE(lan.Active());
    EXPECT_EQ(lan.Problem(), "");
    const auto list = manager_->ListNetworks(none);
    ASSERT_EQ(list.size(), 1U);
    EXPECT_EQ(list[0].get<1>(), "lan");
    EXPECT_TRUE(list[0].get<4>());
    EXPECT_TRUE(lan.GetLeases(none).empty());
    lan.SetAutostart(true, none);
    EXPECT_TRUE(heard.wait_for("changed Autostart"));
    lan.Update("add-last", "dns-txt", -1, "<txt name='colour' value='blue'/>", none);
    EXPECT_THAT(lan.GetXML(none), HasSubstr("colour"));
    EXPECT_EQ(error_of([&] { lan.Stop(none); }), "org.virtbus1.Error.InvalidState");
    EXPECT_EQ(error_of([&] { manager_->GetNetwork("none"); }), "org.virtbus1.Error.NoSuchNetwork");
    lan.Undefine(none);
    EXPECT_TRUE(heard.wait_for("removed " + path));
}

}  // namespace
}  // namespace virtbus::tests
