// SPDX-License-Identifier: LGPL-2.1-or-later
// Network filters with the kernel's own nftables and frames by hand: what is dropped, what passes, to the host and to
// other guests, and that filters stand as long as their interfaces.
#include "tests/drivers/filter_bed.hpp"

#include "network/filter_table.hpp"

using namespace virtbus;
using namespace virtbus::tests;

namespace {

constexpr const char* guest_mac = "52:54:00:00:00:01";
constexpr const char* other_mac = "52:54:00:00:00:02";
constexpr const char* liar_mac = "52:54:00:00:00:99";
constexpr const char* host_ip = "10.0.0.1";

using Filtered = FilterBed;

Bytes ping(const char* from_mac, const char* from_ip, unsigned port = 9) {
    return frame(from_mac, everybody, 0x800, ipv4(from_ip, host_ip, 17, udp(port, 9, "text")));
}
Bytes tagged(Bytes bytes) {
    return bytes.insert(12, number16(0x8100) + number16(5));
}

TEST_F(Filtered, WhatIsNotTheGuestsOwnReachesNobody) {
    open_marker();
    const auto guest = open_filtered(card(guest_mac, "clean-traffic", {{"IP", "10.0.0.2"}}));
    const auto other = open(card(other_mac));
    const HostEars host{"br0"};
    const auto honest_arp = arp(guest_mac, guest_mac, "10.0.0.2", host_ip);
    const auto honest_ip = ping(guest_mac, "10.0.0.2");
    const auto asking = frame(guest_mac, everybody, 0x800, ipv4("0.0.0.0", "255.255.255.255", 17, udp(68, 67, "who")));
    const std::pair<const char*, Bytes> lies[]{
        {"another MAC", ping(liar_mac, "10.0.0.2")},
        {"another address", ping(guest_mac, "10.0.0.3")},
        {"another MAC in ARP", arp(guest_mac, liar_mac, "10.0.0.2", host_ip)},
        {"another address in ARP", arp(guest_mac, guest_mac, "10.0.0.3", host_ip)},
        {"another address in an answer", arp(guest_mac, guest_mac, host_ip, "10.0.0.9", 2)},
        {"IPv6", frame(guest_mac, everybody, 0x86dd, Bytes(40, '\0'))},
        {"a protocol of its own", frame(guest_mac, everybody, mark_type, "?")},
        {"another address within a VLAN", tagged(ping(guest_mac, "10.0.0.3"))},
        {"RARP that is not QEMU's", arp(guest_mac, guest_mac, "10.0.0.3", host_ip, 3, 0x8035)},
    };
    for (const auto& [what, lie] : lies) send(guest, lie);
    for (const auto& each : {honest_arp, honest_ip, asking}) send(guest, each);
    const auto end = mark();
    for (const int ears : {host.fd(), other.fds.at(0).get()}) {
        const auto came = heard(ears, end);
        for (const auto& [what, lie] : lies) EXPECT_FALSE(contains(came, lie)) << what;
        for (const auto& each : {honest_arp, honest_ip, asking}) EXPECT_TRUE(contains(came, each));
    }
    close(guest);
    EXPECT_EQ(rules().find("chain"), std::string::npos) << rules();
}

TEST_F(Filtered, WithoutAFilterAllOfItPasses) {
    open_marker();
    const auto guest = open(card(guest_mac));
    const HostEars host{"br0"};
    send(guest, ping(liar_mac, "10.0.0.3"));
    EXPECT_TRUE(contains(heard(host.fd(), mark()), ping(liar_mac, "10.0.0.3")));
}

TEST_F(Filtered, TheFirstAddressIsTheGuestsAndStaysSo) {
    open_marker();
    auto wanted = card(guest_mac, "clean-traffic");
    const auto guest = open_filtered(wanted);
    const HostEars host{"br0"};
    send(guest, ping(liar_mac, "10.0.0.66"));  // is not learned from
    send(guest, arp(guest_mac, guest_mac, "0.0.0.0", "10.0.0.2"));
    send(guest, ping(guest_mac, "10.0.0.2"));
    send(guest, ping(guest_mac, "10.0.0.3"));
    send(guest, arp(guest_mac, guest_mac, "10.0.0.2", host_ip));
    send(guest, arp(guest_mac, guest_mac, "10.0.0.3", host_ip));
    auto came = heard(host.fd(), mark());
    EXPECT_TRUE(contains(came, ping(guest_mac, "10.0.0.2"))) << rules();
    EXPECT_FALSE(contains(came, ping(guest_mac, "10.0.0.3")));
    EXPECT_TRUE(contains(came, arp(guest_mac, guest_mac, "10.0.0.2", host_ip)));
    EXPECT_FALSE(contains(came, arp(guest_mac, guest_mac, "10.0.0.3", host_ip)));
    // The next daemon makes the rules again, and what was learned stays.
    network::TapLinks later{workers, &spawner};
    run(loop, later.reconnect_filtered(guest.undo_key, wanted, wanted.filter, in(patience)));
    run(loop, later.links_are_known(in(patience)));
    send(guest, ping(guest_mac, "10.0.0.3"));
    send(guest, ping(guest_mac, "10.0.0.2", 10));
    came = heard(host.fd(), mark());
    EXPECT_FALSE(contains(came, ping(guest_mac, "10.0.0.3")));
    EXPECT_TRUE(contains(came, ping(guest_mac, "10.0.0.2", 10)));
    run(loop, later.close_link(guest.undo_key));
    EXPECT_EQ(rules().find("chain"), std::string::npos) << rules();
}

TEST_F(Filtered, WhatOthersSendIsFilteredToo) {
    open_marker();
    define("quiet",
           "<rule action='accept' direction='in' priority='100'><ip srcipaddr='10.0.0.1' protocol='udp' "
           "srcportstart='50' srcportend='60'/></rule>"
           "<rule action='accept' direction='in' priority='200'><mac protocolid='0x88b5'/></rule>"
           "<rule action='drop' direction='in' priority='1000'/>");
    const auto guest = open_filtered(card(guest_mac, "quiet"));
    const auto other = open(card(other_mac));
    const auto good = frame(other_mac, everybody, 0x800, ipv4(host_ip, "10.0.0.2", 17, udp(55, 9, "yes")));
    const auto bad = frame(other_mac, everybody, 0x800, ipv4(host_ip, "10.0.0.2", 17, udp(61, 9, "no")));
    const auto worse = frame(other_mac, everybody, 0x800, ipv4("10.0.0.8", "10.0.0.2", 17, udp(55, 9, "no")));
    for (const auto& each : {bad, worse, good}) send(other, each);
    const auto came = heard(guest.fds.at(0).get(), mark());
    EXPECT_TRUE(contains(came, good));
    EXPECT_FALSE(contains(came, bad));
    EXPECT_FALSE(contains(came, worse));
}

TEST_F(Filtered, TheSecondLayerSeesWhatTheFirstAccepted) {
    open_marker();
    define("both",
           "<rule action='accept' direction='out' priority='1'><mac protocolid='ipv4'/></rule>"
           "<rule action='drop' direction='out' statematch='false'><udp dstportstart='53'/></rule>");
    const auto guest = open_filtered(card(guest_mac, "both"));
    const HostEars host{"br0"};
    const auto question = frame(guest_mac, everybody, 0x800, ipv4("10.0.0.2", host_ip, 17, udp(1, 53, "dns")));
    send(guest, question);
    send(guest, ping(guest_mac, "10.0.0.2"));
    const auto came = heard(host.fd(), mark());
    EXPECT_FALSE(contains(came, question));
    EXPECT_TRUE(contains(came, ping(guest_mac, "10.0.0.2")));
}

TEST_F(Filtered, ARuleThatTakesConnectionTrackingIsDoneOrRefusedByName) {
    define("stateful", "<rule action='accept' direction='in'><tcp dstportstart='22'/></rule>");
    const auto wanted = card(guest_mac, "stateful");
    try {
        close(open_filtered(wanted));
    } catch (const Error& error) {
        EXPECT_EQ(error.code(), Code::unsupported);
        const std::string said = error.what();
        for (const auto* word : {"<tcp>", "'stateful'", "nf_conntrack_bridge", "web"})
            EXPECT_NE(said.find(word), std::string::npos) << said;
    }
    EXPECT_EQ(output_of("ip -o link | grep -c vnet0"), "0\n") << "nothing is left of what failed";
    EXPECT_EQ(rules().find("chain eth-"), std::string::npos) << rules();
}

TEST_F(Filtered, OthersTablesAndFlushesAreSeen) {
    open_marker();
    auto first = card(guest_mac, "clean-traffic", {{"IP", "10.0.0.2"}});
    const auto one = open_filtered(first);
    ASSERT_EQ(std::system("nft flush ruleset"), 0);
    const auto two = open_filtered(card(other_mac, "clean-traffic", {{"IP", "10.0.0.3"}}));
    const HostEars host{"br0"};
    send(one, ping(guest_mac, "10.0.0.9"));
    send(two, ping(other_mac, "10.0.0.9"));
    const auto came = heard(host.fd(), mark());
    EXPECT_FALSE(contains(came, ping(guest_mac, "10.0.0.9"))) << "the change of one repairs the other's";
    EXPECT_FALSE(contains(came, ping(other_mac, "10.0.0.9")));
    close(one);
    EXPECT_NE(rules().find("chain eth-out-"), std::string::npos);
    close(two);
    EXPECT_EQ(rules().find("chain"), std::string::npos) << rules();
}

TEST_F(Filtered, WhoTakesThemAwayHasThemBack) {
    links.watch_filters(loop);
    const auto guest = open_filtered(card(guest_mac, "clean-traffic"));
    for (const auto* deed : {"nft flush ruleset", "nft delete table bridge virtbus"}) {
        ASSERT_EQ(std::system(deed), 0);
        EXPECT_EQ(rules().find("chain"), std::string::npos);
        EXPECT_TRUE(loop.run_until([] { return rules().find("chain eth-out-") != std::string::npos; }, patience))
            << deed;
    }
    close(guest);
}

TEST_F(Filtered, WhatADeadDaemonLeftOfAGuestThatIsGoneIsSwept) {
    std::string lost;
    {
        network::TapLinks dead{workers, &spawner};
        const auto wanted = card(guest_mac, "clean-traffic");
        const auto gone = run(loop, dead.open_filtered(wanted, wanted.filter, in(patience), {}));
        lost = "chain eth-out-" + std::to_string(::if_nametoindex(gone.ifname.c_str())) + "-";
    }
    EXPECT_NE(rules().find(lost), std::string::npos);
    const auto running = open_filtered(card(other_mac, "clean-traffic"));
    network::TapLinks next{workers, &spawner};
    run(loop, next.links_are_known(in(patience)));
    const auto said = rules();
    EXPECT_NE(said.find("eth-out-" + std::to_string(::if_nametoindex(running.ifname.c_str())) + "-"), std::string::npos)
        << "what runs keeps its own: " << said;
    EXPECT_EQ(said.find(lost), std::string::npos) << said;
    close(running);
}

TEST_F(Filtered, AFilterComesAndGoesWhileTheGuestRuns) {
    open_marker();
    const auto guest = open(card(guest_mac));
    const HostEars host{"br0"};
    const auto filtered = card(guest_mac, "no-ip-spoofing", {{"IP", "10.0.0.2"}}), plain = card(guest_mac);
    run(loop, links.move_filtered(guest.undo_key, filtered, filtered.filter, in(patience)));
    send(guest, ping(guest_mac, "10.0.0.9"));
    EXPECT_FALSE(contains(heard(host.fd(), mark()), ping(guest_mac, "10.0.0.9")));
    auto lost = filtered;
    lost.interface.source->bridge = "nowhere";
    lost.filter = card(guest_mac, "allow-arp").filter;
    EXPECT_THROW(run(loop, links.move_filtered(guest.undo_key, lost, lost.filter, in(patience))), Error);
    send(guest, ping(guest_mac, "10.0.0.9"));
    EXPECT_FALSE(contains(heard(host.fd(), mark()), ping(guest_mac, "10.0.0.9"))) << "the old one is back";
    run(loop, links.move_link(guest.undo_key, plain, in(patience)));
    send(guest, ping(guest_mac, "10.0.0.9"));
    EXPECT_TRUE(contains(heard(host.fd(), mark()), ping(guest_mac, "10.0.0.9")));
    EXPECT_EQ(rules().find("chain"), std::string::npos) << rules();
    close(guest);
}

TEST_F(Filtered, ADeviceOfSomebodyElseMustBeOnABridge) {
    ASSERT_EQ(std::system("ip tuntap add dev theirs0 mode tap; ip link set theirs0 up"), 0);
    auto wanted = card(guest_mac, "clean-traffic", {{"IP", "10.0.0.2"}});
    wanted.interface.type = InterfaceType::ethernet;
    wanted.interface.source.reset();
    EXPECT_EQ(refusal_of(wanted), Code::unsupported) << words;
    wanted.interface.target.emplace();
    wanted.interface.target->dev = "theirs0";
    wanted.interface.target->managed = false;
    EXPECT_EQ(refusal_of(wanted), Code::unsupported_configuration) << words;
    ASSERT_EQ(std::system("ip link set theirs0 master br0"), 0);
    const auto link = open_filtered(wanted);
    EXPECT_NE(rules().find("-theirs0"), std::string::npos);
    close(link);
    EXPECT_EQ(rules().find("chain"), std::string::npos) << rules();
    (void)std::system("ip link del theirs0");
    auto direct = card(guest_mac, "clean-traffic");
    direct.interface.type = InterfaceType::direct;
    direct.interface.source->dev = "card0";
    EXPECT_EQ(refusal_of(direct), Code::unsupported) << words;
}

TEST_F(Filtered, EveryShippedFilterAndEveryFieldIsTakenByTheKernel) {
    for (const auto& entry : std::filesystem::directory_iterator{SHIPPED_FILTERS}) {
        if (entry.path().extension() != ".xml") continue;
        const auto name = entry.path().stem().string();
        const std::string server = name.find("v6") == name.npos ? "10.0.0.3" : "fd00::3";
        for (const bool learned : {false, true}) {
            std::vector<std::pair<std::string, std::string>> parameters{
                {"IPV6", "fd00::2"}, {"DHCPSERVER", server}, {"GATEWAY_MAC", other_mac}};
            if (!learned) parameters.emplace_back("IP", "10.0.0.2");
            EXPECT_NO_THROW(close(open_filtered(card(guest_mac, name, parameters)))) << name;
        }
    }
    int number = 0;
    for (const char* match :
         {"<mac srcmacaddr='52:54:00:00:00:01' srcmacmask='ff:ff:ff:00:00:00' dstmacaddr='52:54:00:00:00:02' "
          "protocolid='0x1234' comment='a \"b\" $c; drop }'/>",
          "<mac match='no' srcmacaddr='52:54:00:00:00:01' srcmacmask='ff:ff:00:00:00:00' protocolid='arp'/>",
          "<vlan vlanid='5' encap-protocol='ipv4'/>", "<vlan match='no' vlanid='0x5'/>",
          "<stp type='1' flags='2' root-priority='1' root-priority-hi='9' root-address='02:00:00:00:00:01' "
          "root-address-mask='ff:00:00:00:00:00' root-cost='1' root-cost-hi='70000' sender-priority='3' "
          "sender-address='02:00:00:00:00:01' port='1' port_hi='5' msg-age='1' max-age='2' hello-time='3' "
          "forward-delay='4' forward-delay-hi='6'/>",
          "<stp match='no' srcmacaddr='52:54:00:00:00:01' root-address='02:00:00:00:00:01' port='1' port-hi='2'/>",
          "<arp hwtype='1' protocoltype='0x800' opcode='Reply' arpsrcmacaddr='$MAC' arpdstmacaddr='52:54:00:00:00:02' "
          "arpsrcipaddr='10.0.0.0' arpsrcipmask='24' arpdstipaddr='10.0.0.1'/>",
          "<arp match='no' opcode='1' arpsrcmacaddr='$MAC' arpsrcipaddr='10.1.2.3' arpsrcipmask='255.0.255.0'/>",
          "<rarp match='no' hwtype='1' opcode='3' arpsrcmacaddr='$MAC' arpdstmacaddr='$MAC' arpsrcipaddr='10.0.0.0' "
          "arpsrcipmask='8' arpdstipaddr='10.0.0.1'/>",
          "<ip srcipaddr='10.1.2.3' srcipmask='20' dstipaddr='10.0.0.2' protocol='tcp' srcportstart='1' srcportend='9' "
          "dstportstart='22' dscp='46'/>",
          "<ip protocol='udp'/><ip match='no' srcipaddr='$IP' dstipaddr='$IP' srcportstart='1' srcportend='9' "
          "dscp='1'/>",
          "<ipv6 srcipaddr='fe80::1' srcipmask='10' protocol='icmpv6' type='128' typeend='130' code='0' codeend='1'/>",
          "<ipv6 match='no' dstipaddr='ff02::1' protocol='udp' dscp='3'/>"})
        for (const auto* direction : {"in", "out", "inout"})
            for (const auto* action : {"accept", "drop", "reject", "return", "continue"}) {
                if (std::string{match}.find("stp match='no'") != std::string::npos && *direction != 'i') continue;
                const auto name = "m" + std::to_string(number++);
                define(name,
                       std::string{"<rule action='"} + action + "' direction='" + direction + "'>" + match + "</rule>");
                EXPECT_NO_THROW(close(open_filtered(card(guest_mac, name)))) << match << direction << action;
            }
    for (const char* match :
         {"<tcp srcmacaddr='$MAC' srcipaddr='10.0.0.1' srcipmask='24' dstipaddr='$IP' srcportstart='1' srcportend='9' "
          "dstportstart='22' dscp='1' flags='SYN,ACK/SYN' option='8'/>",
          "<tcp match='no' srcipfrom='10.0.0.1' srcipto='10.0.0.9' dstportstart='22' dstportend='23' flags='ALL/NONE' "
          "option='8'/>",
          "<udp dstipfrom='10.0.0.1' dstipto='10.0.0.9'/>", "<udplite dscp='2'/>", "<sctp srcportstart='5'/>",
          "<icmp type='8' code='0'/>", "<igmp/>", "<esp/>", "<ah/>", "<all srcipaddr='$IP'/>",
          "<tcp-ipv6 srcipaddr='fd00::1' dstportstart='5'/>", "<udp-ipv6/>", "<udplite-ipv6/>", "<sctp-ipv6/>",
          "<icmpv6 type='135' srcipfrom='fd00::1' srcipto='fd00::9'/>", "<esp-ipv6/>", "<ah-ipv6/>",
          "<all-ipv6 match='no' dstipaddr='fd00::1' dstipmask='64'/>"})
        for (const auto* direction : {"in", "out", "inout"}) {
            const auto name = "m" + std::to_string(number++);
            define(name, std::string{"<rule action='accept' statematch='0' direction='"} + direction + "'>" + match +
                             "</rule>");
            EXPECT_NO_THROW(close(open_filtered(card(guest_mac, name)))) << match << direction;
        }
    EXPECT_EQ(refusal_of([&] {
                  define("set", "<rule action='drop' direction='in'><tcp ipset='s' ipsetflags='src'/></rule>");
                  return card(guest_mac, "set");
              }()),
              Code::unsupported)
        << words;
}

}  // namespace
