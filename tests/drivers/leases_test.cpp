// SPDX-License-Identifier: LGPL-2.1-or-later
#include "network/leases.hpp"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>

#include "tests/drivers/poll_loop.hpp"
#include "tests/support/run.hpp"

namespace virtbus::network {
namespace {

NetworkConfig network() {
    NetworkConfig config;
    for (const auto& [family, address, prefix] :
         {std::tuple{"ipv4", "192.168.77.1", 24U}, std::tuple{"ipv6", "fd00:77::1", 64U}}) {
        auto& ip = config.ips.emplace_back();
        ip.family = family;
        ip.address = address;
        ip.prefix = prefix;
    }
    return config;
}

std::vector<DhcpLease> parsed(std::string_view text) {
    return parse_leases(text, network());
}

TEST(Leases, BothFamiliesAreRead) {
    const auto leases = parsed(
        "1700003600 52:54:00:00:00:01 192.168.77.15 web 01:52:54:00:00:00:01\n"
        "0 52:54:00:00:00:02 10.9.9.9 * *\n"
        "duid 00:01:00:01:2c:00:00:01:52:54:00:aa:bb:cc\n"
        "1700003601 5505025 fd00:77::123 six 00:01:00:01:2c:00:00:02:52:54:00:00:00:03\n"
        "1700003602 T77 fd00:77::124 * 00:03:00:01:52:54:00:00:00:04\n"
        "1700003603 78 fd00:77::125 * 00:04:aa:bb\n");
    const std::vector<DhcpLease> expected{
        {"52:54:00:00:00:01", "192.168.77.15", 24, "web", "01:52:54:00:00:00:01", 1700003600'000000},
        {"52:54:00:00:00:02", "10.9.9.9", 0, "", "", 0},
        {"52:54:00:00:00:03", "fd00:77::123", 64, "six", "00:01:00:01:2c:00:00:02:52:54:00:00:00:03/5505025",
         1700003601'000000},
        {"52:54:00:00:00:04", "fd00:77::124", 64, "", "00:03:00:01:52:54:00:00:00:04/77", 1700003602'000000},
        {"", "fd00:77::125", 64, "", "00:04:aa:bb/78", 1700003603'000000},
    };
    EXPECT_EQ(leases, expected);
}

TEST(Leases, WhatIsNoLeaseIsPassedOver) {
    EXPECT_TRUE(parsed("").empty());
    EXPECT_TRUE(parsed("1700003600 52:54:00:00:00:01 192.168.77.15 web *").empty()) << "its end is not written yet";
    for (const auto* line :
         {"\n", "x 52:54:00:00:00:01 192.168.77.15 web *\n", "1 52:54:00:00:00:01 nowhere web *\n",
          "1 52:54:00:00:00:01 192.168.77.15 web\n", "1 52:54:00:00:00:01 192.168.77.15 web * more\n",
          "1  52:54:00:00:00:01 192.168.77.15 web *\n", "99999999999999999999 52:54:00:00:00:01 192.168.77.15 web *\n",
          "18446744073709551615 52:54:00:00:00:01 192.168.77.15 web *\n", "1 gibberish 192.168.77.15 web *\n",
          "1 x fd00::1 web *\n"})
        EXPECT_TRUE(parsed(line).empty()) << line;
    EXPECT_EQ(parsed("rubbish\n1 52:54:00:00:00:01 192.168.77.15 web *\nrubbish").size(), 1u);
}

TEST(Leases, HostileNamesAndIdentifiersAreLeftOut) {
    const auto leases = parsed(
        "1 52:54:00:00:00:01 192.168.77.15 <b>\x01\xff no-id;\n1 06-aa 192.168.77.16 ok aa:bb\n1 52:54:00:00:00:01 "
        "192.168.77.15 " +
        std::string(300, 'a') + " " + std::string(3000, 'a') + "\n");
    ASSERT_EQ(leases.size(), 3u);
    EXPECT_EQ(leases[0].hostname, "");
    EXPECT_EQ(leases[0].client_id, "");
    EXPECT_EQ(leases[1].mac, "") << "no Ethernet address";
    EXPECT_EQ(leases[1].hostname, "ok");
    EXPECT_EQ(leases[2].hostname, "");
    EXPECT_EQ(leases[2].client_id, "");
}

TEST(Leases, ThereIsABoundToThem) {
    std::string text;
    for (int i = 0; i < 70000; ++i) text += "1 52:54:00:00:00:01 192.168.77.15 web *\n";
    EXPECT_EQ(parsed(text).size(), 65536u);
    const tests::TemporaryFolder folder;
    std::ofstream{folder.path() + "/big"} << std::string(5 << 20, 'x');
    EXPECT_EQ(read_leases(folder.path() + "/big").size(), 4u << 20);
}

TEST(Leases, OnlyAFileIsRead) {
    const tests::TemporaryFolder folder;
    const auto path = folder.path() + "/leases";
    EXPECT_EQ(read_leases(path), "");
    std::ofstream{folder.path() + "/secret"} << "secret";
    std::filesystem::create_symlink(folder.path() + "/secret", path);
    EXPECT_EQ(read_leases(path), "");
    std::filesystem::remove(path);
    ASSERT_EQ(::mkfifo(path.c_str(), 0600), 0);
    EXPECT_EQ(read_leases(path), "") << "and nobody waits for a writer";
}

TEST(LeaseWatch, TellsOfChangesAndOfAFileMadeAnew) {
    tests::PollLoop loop;
    const tests::TemporaryFolder folder;
    int told = 0, told_other = 0;
    const LeaseWatch watch{loop, folder.path(), "leases", [&] { ++told; }};
    {
        const LeaseWatch other{loop, folder.path(), "other", [&] { ++told_other; }};
        std::ofstream{folder.path() + "/other"} << "x";
        ASSERT_TRUE(loop.run_until([&] { return told_other == 1; }));
    }
    EXPECT_EQ(told, 0) << "that was another file";
    std::ofstream{folder.path() + "/leases"} << "one\n";
    ASSERT_TRUE(loop.run_until([&] { return told == 1; }));
    std::ofstream{folder.path() + "/leases", std::ios::app} << "two\n";
    ASSERT_TRUE(loop.run_until([&] { return told == 2; }));
    std::ofstream{folder.path() + "/new"} << "three\n";
    std::filesystem::rename(folder.path() + "/new", folder.path() + "/leases");
    ASSERT_TRUE(loop.run_until([&] { return told == 3; }));
    std::ofstream{folder.path() + "/other"} << "y";
    std::filesystem::remove(folder.path() + "/leases");
    ASSERT_TRUE(loop.run_until([&] { return told == 4; }));
    EXPECT_EQ(told_other, 1) << "nobody listens there any more";
}

TEST(LeaseWatch, AFolderThatIsNotThereIsAnError) {
    tests::PollLoop loop;
    EXPECT_ANY_THROW((LeaseWatch{loop, "/nowhere/at/all", "leases", [] {}}));
}

}  // namespace
}  // namespace virtbus::network
