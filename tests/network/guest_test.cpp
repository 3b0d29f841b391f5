// SPDX-License-Identifier: LGPL-2.1-or-later
// A real guest on virtual networks: it gets addresses, keeps its links over a restart of the network and of the daemon,
// and is not started on a network that is down.
#include "tests/bus/guest_shell.hpp"
#include "tests/network/network_bed.hpp"
#include "tests/support/kernel.hpp"

using namespace virtbus;
using namespace virtbus::tests;

namespace {

struct GuestOnNetworks : NetworkBed {
    void SetUp() override {
        NetworkBed::SetUp();
        if (IsSkipped() || HasFatalFailure()) return;
        kernel = newest_kernel();
        if (kernel.empty()) GTEST_SKIP() << "no cloud kernel in /boot (package linux-image-cloud-amd64)";
        const auto* script = std::getenv("VIRTBUS_MAKE_INITRAMFS");
        ASSERT_TRUE(script);
        ASSERT_EQ(std::system((std::string{script} + " " + initrd()).c_str()), 0);
    }
    void TearDown() override {
        shell.close();
        if (client && !guest.empty()) client->call(guest, domain, "Stop", "a{sv}", 0);
        NetworkBed::TearDown();
    }
    std::string initrd() const { return bed.folder / "initrd"; }

    std::string card(const std::string& network_name, const std::string& mac) const {
        return "<interface type='network'><source network='" + network_name + "'/><mac address='" + mac +
               "'/><model type='virtio'/></interface>";
    }
    void define_guest(const std::string& cards) {
        const auto text =
            "<domain type='qemu'><name>guest</name><memory unit='MiB'>192</memory><vcpu>1</vcpu>"
            "<os><type arch='x86_64' machine='q35'>hvm</type><kernel>" +
            kernel + "</kernel><initrd>" + initrd() +
            "</initrd><cmdline>console=ttyS0 quiet no_timer_check</cmdline></os><features><acpi/></features>"
            "<devices><serial type='pty'/>" +
            cards + "</devices></domain>";
        guest = text_of(client->call(root, manager, "DefineDomain", "sa{sv}", text.c_str(), 0));
        ASSERT_EQ(guest.rfind("/org/virtbus1/domain/", 0), 0u) << guest;
    }
    void boot() {
        auto answer = client->call(guest, domain, "Start", "a{sv}", 1, "paused", "b", 1);
        ASSERT_TRUE(answer.ok()) << answer.message;
        ASSERT_EQ(shell.open(*client, guest), "");
        ASSERT_TRUE(client->call(guest, domain, "Resume", "a{sv}", 0).ok());
        ASSERT_TRUE(shell.is_ready()) << shell.said;
    }
    std::string kernel, guest;
    GuestShell shell{bed};
};

constexpr const char* first =
    "<bridge name='first0' stp='off'/><ip address='192.168.61.1' prefix='24'>"
    "<dhcp><range start='192.168.61.100' end='192.168.61.150'/></dhcp></ip>";
constexpr const char* second =
    "<forward mode='nat'/><bridge name='second0' stp='off'/>"
    "<ip address='192.168.62.1' prefix='24'/>"
    "<ip family='ipv6' address='fd00:62::1' prefix='64'/>";

TEST_F(GuestOnNetworks, ItPingsOnBothAndKeepsItsLinks) {
    const auto one = up(xml("first", first)), two = up(xml("second", second));
    define_guest(card("first", "52:54:00:00:61:01") + card("second", "52:54:00:00:62:01"));
    boot();
    ASSERT_TRUE(
        shell.does("ip link set eth0 up && ip link set eth1 up && ip addr add 192.168.62.2/24 dev eth1 && "
                   "ip -6 addr add fd00:62::2/64 dev eth1"))
        << shell.said;
    EXPECT_TRUE(shell.does("udhcpc -i eth0 -n -q -t 10 -s /bin/true 2>&1 | grep -q obtained")) << shell.said;
    EXPECT_NE(leases(one).find("52:54:00:00:61:01"), std::string::npos);
    ASSERT_TRUE(shell.does("ip addr add 192.168.61.2/24 dev eth0"));
    EXPECT_TRUE(shell.does("ping -c 1 -W 5 192.168.61.1")) << shell.said;
    EXPECT_TRUE(shell.does("ping -c 1 -W 5 192.168.62.1")) << shell.said;
    EXPECT_TRUE(shell.does("ping -c 3 -W 5 fd00:62::1")) << shell.said;

    ASSERT_TRUE(verb(one, "Stop").ok());
    EXPECT_FALSE(shell.does("ping -c 1 -W 1 192.168.61.1"));
    EXPECT_TRUE(shell.does("ping -c 1 -W 5 192.168.62.1")) << shell.said;
    ASSERT_TRUE(verb(one, "Start").ok());
    EXPECT_TRUE(shell.does("ping -c 1 -W 5 192.168.61.1")) << shell.said;

    restart(SIGKILL);
    ASSERT_EQ(property(*client, guest, domain, "State"), "running");
    ASSERT_EQ(shell.open(*client, guest), "");
    EXPECT_TRUE(shell.does("ping -c 1 -W 5 192.168.61.1")) << shell.said;
    ASSERT_TRUE(verb(two, "Stop").ok());
    ASSERT_TRUE(verb(two, "Start").ok());
    EXPECT_TRUE(shell.does("ping -c 1 -W 5 192.168.62.1")) << shell.said;

    shell.close();
    ASSERT_TRUE(client->call(guest, domain, "Stop", "a{sv}", 0).ok());
    EXPECT_EQ(say("ip -br link | grep -E 'vnet|tap'").text, "");
}

TEST_F(GuestOnNetworks, AFilterLetsItBeItselfAndNobodyElse) {
    up(xml("first", first));
    const auto plain = card("first", "52:54:00:00:61:01");
    auto filtered = plain;
    filtered.insert(filtered.find("</interface>"), "<filterref filter='clean-traffic'/>");
    define_guest(filtered);
    boot();
    const auto use = [&](const std::string& address) {
        return shell.does("ip addr flush dev eth0 && ip addr add " + address + "/24 dev eth0");
    };
    const auto talks = [&] { return shell.does("ping -c 1 -W 3 192.168.61.1"); };
    ASSERT_TRUE(shell.does("ip link set eth0 up")) << shell.said;
    EXPECT_TRUE(shell.does("udhcpc -i eth0 -n -q -t 10 -s /bin/true 2>&1 | grep -q obtained")) << shell.said;
    ASSERT_TRUE(use("192.168.61.2"));
    EXPECT_TRUE(talks()) << shell.said << say("nft list table bridge virtbus").text;
    ASSERT_TRUE(use("192.168.61.3"));
    EXPECT_FALSE(talks()) << "the first address is its own";

    // Nobody watches while the daemon is away, and the next one knows what has been learned.
    restart(SIGKILL);
    ASSERT_EQ(shell.open(*client, guest), "");
    EXPECT_FALSE(talks());
    ASSERT_TRUE(use("192.168.61.2"));
    EXPECT_TRUE(talks()) << shell.said;

    const auto change = [&](const std::string& device) {
        return client->call(guest, domain, "UpdateDevice", "sa{sv}", device.c_str(), 1, "scope", "s", "live");
    };
    auto other = plain;
    other.insert(other.find("</interface>"),
                 "<filterref filter='clean-traffic'><parameter name='IP' value='192.168.61.4'/></filterref>");
    auto answer = change(other);
    ASSERT_TRUE(answer.ok()) << answer.message;
    EXPECT_FALSE(talks());
    ASSERT_TRUE(use("192.168.61.4"));
    EXPECT_TRUE(talks()) << shell.said << say("nft list table bridge virtbus").text;
    EXPECT_NE(text_of(client->call(guest, domain, "GetXML", "a{sv}", 0)).find("192.168.61.4"), std::string::npos);
    other.replace(other.find("clean-traffic"), 13, "no-such-filter");
    answer = change(other);
    EXPECT_EQ(answer.error, error_prefix + "UnsupportedConfiguration") << answer.message;
    EXPECT_TRUE(talks()) << "what was refused has changed nothing";
    answer = change(plain);
    ASSERT_TRUE(answer.ok()) << answer.message;
    ASSERT_TRUE(use("192.168.61.3"));
    EXPECT_TRUE(talks()) << shell.said;
    EXPECT_EQ(say("nft list table bridge virtbus 2>&1").text.find("chain"), std::string::npos);
    answer = change(filtered);
    ASSERT_TRUE(answer.ok()) << answer.message;
    EXPECT_NE(say("nft list table bridge virtbus").text.find("chain eth-out-"), std::string::npos);

    shell.close();
    ASSERT_TRUE(client->call(guest, domain, "Stop", "a{sv}", 0).ok());
    EXPECT_EQ(say("nft list table bridge virtbus 2>&1").text.find("chain"), std::string::npos);
}

TEST_F(GuestOnNetworks, ItMovesToAnotherNetworkWhileItRuns) {
    const auto one = up(xml("first", first)), two = up(xml("second", second));
    define_guest(card("first", "52:54:00:00:61:01"));
    boot();
    ASSERT_TRUE(shell.does(
        "ip link set eth0 up && ip addr add 192.168.61.2/24 dev eth0 && ip addr add 192.168.62.2/24 dev eth0"))
        << shell.said;
    EXPECT_TRUE(shell.does("ping -c 1 -W 5 192.168.61.1")) << shell.said;
    const auto change = [&](const std::string& device) {
        return client->call(guest, domain, "UpdateDevice", "sa{sv}", device.c_str(), 1, "scope", "s", "live");
    };
    const auto text_of_network = [&](const std::string& path) {
        return text_of(client->call(path, network, "GetXML", "a{sv}", 0));
    };
    auto answer = change(card("second", "52:54:00:00:61:01"));
    ASSERT_TRUE(answer.ok()) << answer.message;
    EXPECT_EQ(text_of_network(one).find("connections"), std::string::npos) << text_of_network(one);
    EXPECT_NE(text_of_network(two).find("connections='1'"), std::string::npos) << text_of_network(two);
    EXPECT_TRUE(shell.does("ping -c 3 -W 5 192.168.62.1")) << shell.said;
    EXPECT_FALSE(shell.does("ping -c 1 -W 1 192.168.61.1"));

    // As it was told, it is: over restarts of the network and of the daemon.
    ASSERT_TRUE(verb(two, "Stop").ok());
    ASSERT_TRUE(verb(two, "Start").ok());
    EXPECT_TRUE(shell.does("ping -c 3 -W 5 192.168.62.1")) << shell.said;
    restart(SIGKILL);
    ASSERT_EQ(shell.open(*client, guest), "");
    EXPECT_NE(text_of_network(two).find("connections='1'"), std::string::npos) << text_of_network(two);

    // The link alone, as somebody who knows nothing of what the network filled in would say it.
    auto down = card("second", "52:54:00:00:61:01");
    down.insert(down.find("</interface>"), "<link state='down'/>");
    answer = change(down);
    ASSERT_TRUE(answer.ok()) << answer.message;
    EXPECT_FALSE(shell.does("ping -c 1 -W 1 192.168.62.1"));
    down.replace(down.find("down"), 4, "up");
    answer = change(down);
    ASSERT_TRUE(answer.ok()) << answer.message;
    EXPECT_TRUE(shell.does("ping -c 3 -W 5 192.168.62.1")) << shell.said;

    answer = change(card("third", "52:54:00:00:61:01"));
    EXPECT_EQ(answer.error, error_prefix + "NoSuchNetwork") << answer.message;
    EXPECT_TRUE(shell.does("ping -c 1 -W 5 192.168.62.1")) << shell.said;
}

TEST_F(GuestOnNetworks, ItTalksThroughACardThatAPoolHasGivenIt) {
    ASSERT_EQ(say("ip link add card0 type veth peer name card1 && ip link set card0 up && ip link set card1 up && "
                  "ip addr add 192.168.63.1/24 dev card1")
                  .text,
              "");
    const auto pool = up(xml("pool", "<forward mode='bridge'><interface dev='card0'/></forward>"));
    define_guest(card("pool", "52:54:00:00:63:01"));
    boot();
    EXPECT_NE(say("ip -d link show type macvtap").text.find("@card0"), std::string::npos);
    ASSERT_TRUE(shell.does("ip link set eth0 up && ip addr add 192.168.63.2/24 dev eth0")) << shell.said;
    EXPECT_TRUE(shell.does("ping -c 3 -W 5 192.168.63.1")) << shell.said;
    restart(SIGKILL);
    ASSERT_EQ(shell.open(*client, guest), "");
    EXPECT_TRUE(shell.does("ping -c 1 -W 5 192.168.63.1")) << shell.said;
    shell.close();
    ASSERT_TRUE(client->call(guest, domain, "Stop", "a{sv}", 0).ok());
    EXPECT_EQ(say("ip -br link show type macvtap").text, "");
    say("ip link del card0");
}

TEST_F(GuestOnNetworks, ItIsNotStartedOnANetworkThatIsDown) {
    const auto path = define(xml("first", first));
    define_guest(card("first", "52:54:00:00:61:01"));
    auto answer = client->call(guest, domain, "Start", "a{sv}", 0);
    EXPECT_EQ(answer.error, error_prefix + "InvalidState");
    EXPECT_NE(answer.message.find("network 'first'"), std::string::npos) << answer.message;
    ASSERT_TRUE(client->call(path, network, "Undefine", "a{sv}", 0).ok());
    made.clear();
    answer = client->call(guest, domain, "Start", "a{sv}", 0);
    EXPECT_EQ(answer.error, error_prefix + "NoSuchNetwork") << answer.message;
}

/// A machine without a system is enough here: it has its links from the start.
struct LinksOfNetworks : NetworkBed {
    void TearDown() override {
        if (client && !guest.empty()) client->call(guest, domain, "Stop", "a{sv}", 0);
        NetworkBed::TearDown();
        say("ip link del lower0");
    }
    void run_guest(const std::string& cards) {
        guest =
            text_of(client->call(root, manager, "CreateDomain", "sa{sv}",
                                 ("<domain type='qemu'><name>bare</name><memory unit='MiB'>32</memory><vcpu>1</vcpu>"
                                  "<os><type arch='x86_64' machine='q35'>hvm</type></os><devices>" +
                                  cards + "</devices></domain>")
                                     .c_str(),
                                 0));
        ASSERT_EQ(guest.rfind("/org/virtbus1/domain/", 0), 0u) << guest;
    }
    std::string live() { return text_of(client->call(guest, domain, "GetXML", "a{sv}", 0)); }
    std::string guest;
};

TEST_F(LinksOfNetworks, FiltersComeWithPluggedCardsAndTheirDefinitionsAreLookedFor) {
    up(xml("first", first));
    const auto filtered = [](const std::string& mac, const std::string& filter) {
        return "<interface type='network'><source network='first'/><mac address='" + mac +
               "'/><model type='virtio'/><filterref filter='" + filter + "'/></interface>";
    };
    const auto chains = [] {
        auto said = say("nft list chains bridge 2>&1 | grep -c 'chain eth-out-[0-9]*-[a-z0-9]* '");
        said.text.pop_back();
        return said.text;
    };
    std::string ports;
    for (int i = 0; i < 6; ++i) ports += "<controller type='pci' model='pcie-root-port'/>";
    run_guest(filtered("52:54:00:00:61:01", "clean-traffic") + ports);
    EXPECT_EQ(chains(), "1");
    const auto attach = [&](const char* verb, const std::string& device) {
        return client->call(guest, domain, verb, "sa{sv}", device.c_str(), 1, "scope", "s", "live");
    };
    auto answer = attach("AttachDevice", filtered("52:54:00:00:61:02", "mine"));
    EXPECT_EQ(answer.error, error_prefix + "UnsupportedConfiguration");
    for (const auto* word : {"52:54:00:00:61:02", "'mine'", "/nwfilter/mine.xml", "data/filters"})
        EXPECT_NE(answer.message.find(word), std::string::npos) << answer.message;
    EXPECT_EQ(chains(), "1");
    const auto looked_at = [&](const std::string& filter) {
        const auto text =
            "<domain type='qemu'><name>looked-at</name><memory unit='MiB'>32</memory><vcpu>1</vcpu>"
            "<os><type arch='x86_64' machine='q35'>hvm</type></os><devices>" +
            filtered("52:54:00:00:61:03", filter) + "</devices></domain>";
        return Client::print(client->call(root, manager, "CheckDomain", "sa{sv}", text.c_str(), 0));
    };
    EXPECT_NE(looked_at("mine").find("there is no network filter 'mine'"), std::string::npos) << looked_at("mine");
    EXPECT_EQ(looked_at("clean-traffic").find("there is no network filter"), std::string::npos);
    EXPECT_NE(looked_at("clean-traffic").find("-netdev"), std::string::npos) << looked_at("clean-traffic");
    std::filesystem::create_directories(bed.folder / "CONFIGURATION/nwfilter");
    std::ofstream{bed.folder / "CONFIGURATION/nwfilter/mine.xml"}
        << "<filter name='mine'><rule action='drop' direction='in'><ip protocol='udp'/></rule></filter>";
    answer = attach("AttachDevice", filtered("52:54:00:00:61:02", "mine"));
    ASSERT_TRUE(answer.ok()) << answer.message;
    EXPECT_EQ(chains(), "2");
    // Of a guest that dies while no daemon watches nothing stays.
    restart(SIGKILL);
    EXPECT_EQ(chains(), "2");
    ASSERT_EQ(say("nft flush ruleset").text, "");
    restart(SIGKILL);
    EXPECT_EQ(chains(), "2") << "who flushed them has not unleashed the guest";
    ASSERT_TRUE(client->call(guest, domain, "Stop", "a{sv}", 0).ok());
    guest.clear();
    EXPECT_EQ(chains(), "0");
}

TEST_F(LinksOfNetworks, APoolGivesOutADeviceOfTheHost) {
    ASSERT_TRUE(say("ip link add lower0 type veth peer name far0; ip link set lower0 up; ip link set far0 up").ok());
    const auto path =
        up(xml("pool", "<forward mode='private'><interface dev='lower0'/><interface dev='far0'/></forward>"));
    run_guest("<interface type='network'><source network='pool'/><mac address='52:54:00:00:99:01'/></interface>");
    EXPECT_NE(say("ip -d link").text.find("macvtap mode private"), std::string::npos);
    EXPECT_NE(live().find("dev='lower0'"), std::string::npos) << live();
    const auto text = text_of(client->call(path, network, "GetXML", "a{sv}", 0));
    EXPECT_NE(text.find("connections='1'"), std::string::npos) << text;
    EXPECT_EQ(update(path, "delete", "forward-interface", "<interface dev='lower0'/>").error,
              error_prefix + "NetworkInUse");
    ASSERT_TRUE(client->call(guest, domain, "Stop", "a{sv}", 0).ok());
    guest.clear();
    EXPECT_EQ(say("ip -d link").text.find("macvtap"), std::string::npos);
}

TEST_F(LinksOfNetworks, ClassesAndPortsSurviveTheDaemon) {
    const auto path = up(xml("wide",
                             "<bridge name='wide0'/><bandwidth><inbound average='10000' peak='20000'/></bandwidth>"
                             "<ip address='192.168.66.1' prefix='24'/><portgroup name='gold'><bandwidth>"
                             "<inbound average='2000' floor='1000'/></bandwidth></portgroup>"));
    run_guest(
        "<interface type='network'><source network='wide' portgroup='gold'/><mac address='52:54:00:00:66:01'/>"
        "</interface>");
    const auto classes = say("tc class show dev wide0").text;
    EXPECT_NE(classes.find("htb 1:3"), std::string::npos) << classes;
    const auto ports = say("ls /sys/class/net >/dev/null; ip -br link show master wide0").text;
    EXPECT_NE(ports.find("vnet"), std::string::npos) << ports;
    restart(SIGKILL);
    EXPECT_EQ(say("tc class show dev wide0").text, classes);
    ASSERT_TRUE(verb(path, "Stop").ok());
    EXPECT_EQ(say("ip -br link show master wide0").ok(), false);
    ASSERT_TRUE(verb(path, "Start").ok());
    EXPECT_EQ(say("ip -br link show master wide0").text, ports);
    EXPECT_EQ(say("tc class show dev wide0").text, classes);
    ASSERT_TRUE(client->call(guest, domain, "Stop", "a{sv}", 0).ok());
    guest.clear();
    EXPECT_EQ(say("tc class show dev wide0").text.find("htb 1:3"), std::string::npos);
    EXPECT_EQ(say("ip -br link show master wide0").text, "");
}

}  // namespace
