// SPDX-License-Identifier: LGPL-2.1-or-later
#include "dbus/server/answer.hpp"

#include <gtest/gtest.h>

#include <set>

namespace virtbus::dbus {
namespace {

TEST(Answer, EachCodeHasANameOfItsOwn) {
    std::set<std::string> names;
    for (std::size_t i = 0; i < detail::code_words.size(); i++) {
        const auto code = static_cast<Code>(i);
        EXPECT_TRUE(names.insert(error_name(code)).second) << error_name(code);
        EXPECT_EQ(error_name(word(code)), error_name(code));
    }
}

TEST(Answer, StandardFaultsHaveStandardNames) {
    EXPECT_EQ(error_name(Code::no_such_domain), "org.virtbus1.Error.NoSuchDomain");
    EXPECT_EQ(error_name(Code::internal), "org.virtbus1.Error.Internal");
    EXPECT_EQ(error_name(Code::access_denied), "org.freedesktop.DBus.Error.AccessDenied");
    EXPECT_EQ(error_name(Code::unknown_interface), "org.freedesktop.DBus.Error.UnknownInterface");
    EXPECT_EQ(error_name(Code::interactive_authorization_required),
              "org.freedesktop.DBus.Error.InteractiveAuthorizationRequired");
    EXPECT_EQ(error_name(std::string_view{}), "");
}

TEST(Answer, OnlyErrorsAreExpected) {
    EXPECT_TRUE(describe(std::make_exception_ptr(Error{Code::busy, "later"})).expected);
    EXPECT_FALSE(describe(std::make_exception_ptr(Error{Code::internal, "oh"})).expected);
    const Failure unknown = describe(std::make_exception_ptr(std::bad_alloc{}));
    EXPECT_FALSE(unknown.expected);
    EXPECT_EQ(unknown.name, "org.virtbus1.Error.Internal");
}

}  // namespace
}  // namespace virtbus::dbus
