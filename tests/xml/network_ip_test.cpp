// SPDX-License-Identifier: LGPL-2.1-or-later
// Addresses as values: read and written as the C library does, and their arithmetic at the borders.
#include <arpa/inet.h>
#include <gtest/gtest.h>

#include <limits>
#include <random>

#include "virtbus/ip.hpp"

namespace virtbus {
namespace {

Ip ip(std::string_view text) {
    return Ip::parse(text).value();
}
IpNet net(std::string_view text) {
    return IpNet::parse(text).value();
}

/// What the C library reads, as our value.
std::optional<Ip> reference(const std::string& text) {
    Ip value;
    value.v6 = text.find(':') != text.npos;
    if (inet_pton(value.v6 ? AF_INET6 : AF_INET, text.c_str(), value.bytes.data()) == 1) return value;
    return {};
}
std::string reference(const Ip& value) {
    char text[INET6_ADDRSTRLEN];
    return inet_ntop(value.v6 ? AF_INET6 : AF_INET, value.bytes.data(), text, sizeof text);
}

TEST(Ip, IsWrittenAsTheCLibraryDoes) {
    std::mt19937 random{7};
    for (int i = 0; i < 20000; ++i) {
        Ip value;
        value.v6 = i % 4 != 0;
        const auto sparse = random() % 4;
        for (unsigned at = 0; at < value.bits() / 8; ++at)
            value.bytes[at] = random() % 4 < sparse ? static_cast<std::uint8_t>(random()) : 0;
        if (i % 8 == 1) std::fill_n(value.bytes.begin(), 10, 0), value.bytes[10] = value.bytes[11] = 0xff;
        ASSERT_EQ(value.text(), reference(value));
        ASSERT_EQ(Ip::parse(value.text()), value) << value.text();
    }
}

TEST(Ip, IsReadAsTheCLibraryDoes) {
    for (const auto* text : {"0.0.0.0",
                             "255.255.255.255",
                             "256.1.1.1",
                             "01.2.3.4",
                             "1.2.3",
                             "1.2.3.4.5",
                             "1..2.3",
                             "1.2.3.4 ",
                             " 1.2.3.4",
                             "1.2.3.-4",
                             "1.2.3.+4",
                             "",
                             ".",
                             ":",
                             "::",
                             ":::",
                             "::1",
                             "1::",
                             "1:2:3:4:5:6:7:8",
                             "1:2:3:4:5:6:7:8:9",
                             "1:2:3:4:5:6:7",
                             "1:2:3:4:5:6:7::",
                             "::2:3:4:5:6:7:8",
                             "1::2::3",
                             ":1:2:3:4:5:6:7",
                             "1:2:3:4:5:6:7:",
                             "::ffff:1.2.3.4",
                             "::1.2.3.4",
                             "1:2:3:4:5:6:1.2.3.4",
                             "1:2:3:4:5:6:7:1.2.3.4",
                             "::1.2.3.4:1",
                             "::1.2.3",
                             "12345::",
                             "g::",
                             "::0x1",
                             "fe80::1%eth0",
                             "ABCD::EF",
                             "1:2:3:4::5:6:7:8",
                             "00001::",
                             "::-1",
                             "1.2.3.4::"})
        EXPECT_EQ(Ip::parse(text), reference(std::string{text})) << text;
}

TEST(Ip, ReadsRandomTextAsTheCLibraryDoes) {
    std::mt19937 random{11};
    for (int i = 0; i < 200000; ++i) {
        std::string text;
        for (auto length = random() % 18; length; --length) text += "0123:::.af1"[random() % 11];
        ASSERT_EQ(Ip::parse(text), reference(text)) << text;
    }
}

TEST(IpNet, ReadsAndWritesPrefixes) {
    EXPECT_EQ(net("10.1.2.3/8").text(), "10.1.2.3/8");
    EXPECT_EQ(net("10.1.2.3").prefix, 32U);
    EXPECT_EQ(net("::1/0").prefix, 0U);
    for (const auto* text : {"10.0.0.0/33", "10.0.0.0/", "10.0.0.0/08", "10.0.0.0/-1", "::/129", "/8", "1.2.3.4/8 "})
        EXPECT_FALSE(IpNet::parse(text)) << text;
}

TEST(IpNet, KnowsItsEnds) {
    EXPECT_EQ(net("192.168.122.77/24").network(), net("192.168.122.0/24"));
    EXPECT_EQ(net("192.168.122.77/24").last(), ip("192.168.122.255"));
    EXPECT_EQ(net("10.9.8.7/13").network().address, ip("10.8.0.0"));
    EXPECT_EQ(net("10.9.8.7/13").last(), ip("10.15.255.255"));
    EXPECT_EQ(net("1.2.3.4/32").last(), ip("1.2.3.4"));
    EXPECT_EQ(net("1.2.3.4/0").last(), ip("255.255.255.255"));
    EXPECT_EQ(net("2001:db8::1/65").last(), ip("2001:db8::7fff:ffff:ffff:ffff"));
}

TEST(IpNet, ContainsAndOverlaps) {
    EXPECT_TRUE(net("10.0.0.1/9").contains(ip("10.127.255.255")));
    EXPECT_FALSE(net("10.0.0.1/9").contains(ip("10.128.0.0")));
    EXPECT_TRUE(net("0.0.0.0/0").contains(ip("255.1.2.3")));
    EXPECT_FALSE(net("0.0.0.0/0").contains(ip("::1")));
    EXPECT_TRUE(net("10.0.0.0/8").overlaps(net("10.200.0.0/24")));
    EXPECT_TRUE(net("10.200.0.0/24").overlaps(net("10.0.0.0/8")));
    EXPECT_FALSE(net("10.200.0.0/24").overlaps(net("10.200.1.0/24")));
    EXPECT_FALSE(net("0.0.0.0/0").overlaps(net("::/0")));
}

TEST(Netmask, IsOnesAndThenZeros) {
    EXPECT_EQ(prefix_of_netmask(ip("255.255.255.0")), 24U);
    EXPECT_EQ(prefix_of_netmask(ip("0.0.0.0")), 0U);
    EXPECT_EQ(prefix_of_netmask(ip("255.255.255.255")), 32U);
    EXPECT_EQ(prefix_of_netmask(ip("255.255.254.0")), 23U);
    EXPECT_EQ(prefix_of_netmask(ip("255.0.255.0")), std::nullopt);
    EXPECT_EQ(prefix_of_netmask(ip("0.255.255.255")), std::nullopt);
}

TEST(Count, IsOfBothEndsAndBounded) {
    constexpr auto most = std::numeric_limits<std::uint64_t>::max();
    EXPECT_EQ(count_between(ip("10.0.0.1"), ip("10.0.0.1")), 1U);
    EXPECT_EQ(count_between(ip("10.0.0.200"), ip("10.0.1.2")), 59U);
    EXPECT_EQ(count_between(ip("0.0.0.0"), ip("255.255.255.255")), 1ULL << 32U);
    EXPECT_EQ(count_between(ip("10.0.0.2"), ip("10.0.0.1")), 0U);
    EXPECT_EQ(count_between(ip("10.0.0.2"), ip("::")), 0U);
    EXPECT_EQ(count_between(ip("::1:ffff"), ip("::2:1")), 3U);
    EXPECT_EQ(count_between(ip("::"), ip("::ffff:ffff:ffff:fffe")), most);
    EXPECT_EQ(count_between(ip("::"), ip("::ffff:ffff:ffff:ffff")), most);
    EXPECT_EQ(count_between(ip("1::"), ip("1:0:0:1::")), most);
    EXPECT_EQ(count_between(ip("1::ffff:ffff:ffff:ffff"), ip("1:0:0:1::")), 2U);
}

}  // namespace
}  // namespace virtbus
