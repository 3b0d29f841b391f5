// SPDX-License-Identifier: LGPL-2.1-or-later
// The live state of a network: what is written comes back, older layouts are read, and nothing hostile does harm.
#include "service/xml/network_status.hpp"

#include <random>

#include <fmt/format.h>

#include "network_support.hpp"

namespace virtbus::xml {
namespace {

constexpr const char* boot = "0b5e9b6c-9c1c-4f4e-8f0e-3c2f8f1f2a55";

NetworkPort port(int number) {
    NetworkPort port;
    port.id = "11111111-1111-4111-8111-00000000000" + std::to_string(number);
    port.domain_uuid = "22222222-2222-4222-8222-00000000000" + std::to_string(number);
    port.domain_name = "a <guest> & 'co'";
    port.mac = "52:54:00:00:00:0" + std::to_string(number);
    return port;
}

NetworkStatus full() {
    NetworkStatus status;
    status.boot_id = boot;
    status.config = parse_network(network_file("dnsmasq-options")).config;
    complete_network(status.config);
    status.config.connections = 2;
    status.config.description = "two\n    lines";
    status.driver_state = std::string{"a\0b\r\n\xff]]>", 9};
    status.started = true;
    status.class_ids = {9, 10, 11, 65535};
    status.floor_sum = 1500;
    status.ports = {port(1), port(2)};
    status.ports[0].class_id = 3;
    status.ports[0].inbound.emplace().floor = 1500;
    status.ports[0].port_group = "sales";
    status.ports[1].device = "0000:04:00.1";
    return status;
}

Refusal status_refusal(const std::string& text) {
    return refusal([&] { parse_network_status(text); });
}
std::string own(const std::string& attributes, const std::string& elements = "") {
    return "<networkstatus><virtbus version='1' started='yes' " + attributes + ">" + elements +
           "</virtbus><network><name>n</name></network></networkstatus>";
}

TEST(NetworkStatus, ComesBackAsItWas) {
    const auto status = full();
    const auto text = format_network_status(status);
    EXPECT_TRUE(parse_network_status(text) == status) << text;
    EXPECT_TRUE(contains(text, "<class_id bitmap='0-3,9-11,65535'/>")) << text;
    EXPECT_TRUE(contains(text, "<floor sum='1500'/>")) << text;
}

TEST(NetworkStatus, OneThatIsBeingStartedSaysSo) {
    NetworkStatus status;
    status.boot_id = boot;
    status.config.name = "n";
    EXPECT_TRUE(parse_network_status(format_network_status(status)) == status) << format_network_status(status);
}

TEST(NetworkStatus, KeepsAnyBytesOfTheDriver) {
    std::mt19937 random{3};
    NetworkStatus status;
    status.config.name = "n";
    for (int i = 0; i < 200; ++i) {
        status.driver_state.clear();
        for (int byte = 0; byte < 256; ++byte) status.driver_state += static_cast<char>(random());
        ASSERT_EQ(parse_network_status(format_network_status(status)).driver_state, status.driver_state);
    }
}

TEST(NetworkStatus, ReadsEveryNetworkOfTheCorpus) {
    for (const auto& name : network_corpus()) {
        NetworkStatus status;
        status.config = parse_network(network_file(name)).config;
        const auto text = format_network_status(status);
        EXPECT_TRUE(parse_network_status(text) == status) << text;
    }
}

TEST(NetworkStatus, ReadsWhatLibvirtWrote) {
    const auto status = parse_network_status(
        "<!--\nWARNING: THIS IS AN AUTO-GENERATED FILE.\n-->\n\n<networkstatus>\n  <class_id bitmap='0-2,5,7-8'/>\n"
        "  <floor sum='3000'/>\n" +
        network_file("nat-default") + "</networkstatus>\n");
    EXPECT_EQ(status.config.name, "default");
    EXPECT_EQ(status.class_ids, (std::vector<std::uint32_t>{5, 7, 8}));
    EXPECT_EQ(status.floor_sum, 3000U);
    EXPECT_TRUE(status.started);
    EXPECT_EQ(status.boot_id, "");
    EXPECT_EQ(status.driver_state, "");
    EXPECT_TRUE(status.ports.empty());
}

TEST(NetworkStatus, ReadsABareNetwork) {
    const auto status = parse_network_status(network_file("nat-device"));
    EXPECT_EQ(status.config.connections, 3U);
    EXPECT_EQ(status.config.forward->interfaces.at(0).dev, "eth1");
    EXPECT_TRUE(status.started);
    EXPECT_TRUE(status.class_ids.empty());
}

TEST(NetworkStatus, KeepsWhatTheNetworkHasThatIsNotKnown) {
    const auto status = parse_network_status(
        "<networkstatus><network xmlns:x='urn:x' x:a='1'><name>n</name><x:b/></network></networkstatus>");
    EXPECT_TRUE(parse_network_status(format_network_status(status)) == status) << format_network_status(status);
    EXPECT_TRUE(contains(format_network_status(status), "x:a='1'"));
}

TEST(NetworkStatus, RefusesWhatIsBroken) {
    const auto id = "id='11111111-1111-4111-8111-000000000001'";
    EXPECT_REFUSED(status_refusal(""), Code::invalid_xml, "");
    EXPECT_REFUSED(status_refusal("<domain/>"), Code::invalid_xml, "networkstatus");
    EXPECT_REFUSED(status_refusal("<networkstatus/>"), Code::invalid_xml, "<network> is missing");
    EXPECT_REFUSED(status_refusal(own("x='", "")), Code::invalid_xml, "");
    EXPECT_REFUSED(status_refusal(own("", "<driver>abc</driver>")), Code::invalid_xml, "odd number");
    EXPECT_REFUSED(status_refusal(own("", "<driver>ag</driver>")), Code::invalid_xml, "hexadecimal");
    EXPECT_REFUSED(status_refusal(own("", "<port/>")), Code::invalid_xml, "'id' is missing");
    EXPECT_REFUSED(status_refusal(own("", "<port id='../../etc'/>")), Code::invalid_xml, "id=");
    EXPECT_REFUSED(status_refusal(own("", fmt::format("<port {} class='2'/>", id))), Code::invalid_xml, "class='2'");
    EXPECT_REFUSED(status_refusal(own("", fmt::format("<port {}/><port {}/>", id, id))), Code::invalid_xml,
                   "two ports have the id");
    EXPECT_REFUSED(status_refusal(own("", fmt::format("<port {} class='3'/>"
                                                      "<port id='11111111-1111-4111-8111-000000000002' class='3'/>",
                                                      id))),
                   Code::invalid_xml, "two ports have the class 3");
    EXPECT_REFUSED(status_refusal("<networkstatus><virtbus version='2' started='yes'/><network><name>n</name>"
                                  "</network></networkstatus>"),
                   Code::invalid_xml, "version='2'");
}

TEST(NetworkStatus, RefusesOddSetsOfClasses) {
    for (const auto* classes : {"x", "1-", "-1", "3-2", "1,,2", "1,", ",1", "65536", "0-99999999999", "1 2", "1-2-3"})
        EXPECT_EQ(status_refusal(fmt::format("<networkstatus><class_id bitmap='{}'/><network><name>n</name></network>"
                                             "</networkstatus>",
                                             classes))
                      .code,
                  Code::invalid_xml)
            << classes;
}

TEST(NetworkStatus, EveryCutIsRefused) {
    const auto whole = format_network_status(full());
    for (std::size_t length = 0; length + 1 < whole.size(); length += 3)
        ASSERT_EQ(status_refusal(whole.substr(0, length)).code, Code::invalid_xml) << length;
}

TEST(NetworkStatus, IsBounded) {
    EXPECT_EQ(status_refusal(own("", "<driver>" + std::string(9UL << 20U, 'a') + "</driver>")).code,
              Code::limits_exceeded);
}

}  // namespace
}  // namespace virtbus::xml
