// SPDX-License-Identifier: LGPL-2.1-or-later
#include "dbus/paths.hpp"

#include <gtest/gtest.h>

namespace virtbus::dbus {
namespace {

TEST(Paths, AUuidHasOneSpelling) {
    EXPECT_EQ(domain_path("0f2e1c1e-7d5c-4cb5-a3b8-5a2f1b6c7d8e"),
              "/org/virtbus1/domain/0f2e1c1e_7d5c_4cb5_a3b8_5a2f1b6c7d8e");
    EXPECT_EQ(element_to_uuid("0f2e1c1e_7d5c_4cb5_a3b8_5a2f1b6c7d8e"), "0f2e1c1e-7d5c-4cb5-a3b8-5a2f1b6c7d8e");
    for (const char* wrong : {"", "0f2e1c1e", "0f2e1c1e-7d5c-4cb5-a3b8-5a2f1b6c7d8e",
                              "0F2e1c1e_7d5c_4cb5_a3b8_5a2f1b6c7d8e", "0f2e1c1e_7d5c_4cb5_a3b85_a2f1b6c7d8e",
                              "0f2e1c1e_7d5c_4cb5_a3b8_5a2f1b6c7d8g", "0f2e1c1e_7d5c_4cb5_a3b8_5a2f1b6c7d8ef"})
        EXPECT_FALSE(element_to_uuid(wrong)) << wrong;
}

TEST(Paths, ANameKeepsItsBytes) {
    EXPECT_EQ(name_to_element("before update-1"), "before_20update_2d1");
    EXPECT_EQ(name_to_element("_"), "_5f");
    std::string all;
    for (int byte = 1; byte < 256; byte++) all += static_cast<char>(byte);
    EXPECT_EQ(element_to_name(name_to_element(all)), all);
    for (const char* wrong : {"_", "_2", "_2D", "a_", "_61", "a b", "_zz"})
        EXPECT_FALSE(element_to_name(wrong)) << wrong;
}

TEST(Paths, AJobHasANumber) {
    EXPECT_EQ(job_path(17), "/org/virtbus1/job/17");
    EXPECT_EQ(element_to_number("17"), 17u);
    for (const char* wrong : {"", "0", "017", "-1", "+1", "1x", " 1", "99999999999999999999999"})
        EXPECT_FALSE(element_to_number(wrong)) << wrong;
}

}  // namespace
}  // namespace virtbus::dbus
