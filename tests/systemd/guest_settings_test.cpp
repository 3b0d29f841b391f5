// SPDX-License-Identifier: LGPL-2.1-or-later
#include "guests/settings.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "tests/support/run.hpp"
#include "virtbus/error.hpp"

namespace virtbus::systemd {
namespace {

struct GuestSettingsTest : ::testing::Test {
    GuestSettings load(const std::string& text) {
        std::ofstream{folder / "guests.conf"} << text;
        return load_guest_settings(folder / "guests.conf");
    }
    tests::TemporaryFolder folder;
};

TEST_F(GuestSettingsTest, NoFileMeansTheDefaults) {
    const auto settings = load_guest_settings(folder / "nothing");
    EXPECT_EQ(settings.on_stop, OnStop::shutdown);
    EXPECT_EQ(settings.timeout, std::chrono::seconds{120});
}

TEST_F(GuestSettingsTest, TheShippedFileMeansTheDefaults) {
    const auto settings = load_guest_settings(SHIPPED);
    EXPECT_EQ(settings.on_stop, OnStop::shutdown);
    EXPECT_EQ(settings.timeout, std::chrono::seconds{120});
    EXPECT_TRUE(settings.domains.empty());
}

TEST_F(GuestSettingsTest, ADomainHasItsOwnWord) {
    const auto settings = load(
        "[Guests]\nOnStop=save\nTimeoutSec=30\n[Domain web]\nOnStop=stop\n"
        "[Domain 6e1c0ab0-52e2-4a61-b0a3-2c6b1d1c1f00]\nOnStop=shutdown\n");
    EXPECT_EQ(settings.timeout, std::chrono::seconds{30});
    EXPECT_EQ(settings.for_domain("db", ""), OnStop::save);
    EXPECT_EQ(settings.for_domain("web", ""), OnStop::stop);
    EXPECT_EQ(settings.for_domain("web", "6e1c0ab0-52e2-4a61-b0a3-2c6b1d1c1f00"), OnStop::shutdown);
}

TEST_F(GuestSettingsTest, WhatItDoesNotKnowIsNamed) {
    for (const auto* text : {"[Guests]\nOnStop=explode\n", "[Guests]\nTimeoutSec=soon\n", "[Guests]\nTimeoutSec=0\n",
                             "[Domains]\nOnStop=save\n", "nonsense\n"}) {
        try {
            load(text);
            ADD_FAILURE() << text;
        } catch (const Error& error) {
            EXPECT_EQ(error.code(), Code::invalid_option);
            EXPECT_THAT(error.what(), ::testing::HasSubstr("guests.conf")) << text;
        }
    }
}

}  // namespace
}  // namespace virtbus::systemd
