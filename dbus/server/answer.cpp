// SPDX-License-Identifier: LGPL-2.1-or-later
#include "dbus/server/answer.hpp"

#include <fmt/format.h>
#include <glib.h>
#include <systemd/sd-bus.h>

#include <algorithm>

#include "virtbus/ports.hpp"

namespace virtbus::dbus {

namespace {

constexpr std::size_t longest_message = 64 * 1024;

/// A bus disconnects whoever sends bytes that are no UTF-8, and messages quote guests, files and programs.
std::string as_utf8(std::string text) {
    if (text.size() > longest_message) text.resize(longest_message);
    char* valid = g_utf8_make_valid(text.data(), static_cast<gssize>(text.size()));
    std::string mended{valid};
    g_free(valid);
    return mended;
}

}  // namespace

std::string error_name(Code code) {
    return fmt::format("{}{}", is_standard(code) ? "org.freedesktop.DBus.Error." : "org.virtbus1.Error.", word(code));
}

std::string error_name(std::string_view kept) {
    if (kept.empty()) return "";
    const auto found = std::find(detail::code_words.begin(), detail::code_words.end(), kept);
    if (found == detail::code_words.end()) return error_name(Code::internal);
    return error_name(static_cast<Code>(found - detail::code_words.begin()));
}

Failure describe(const std::exception_ptr& error) {
    try {
        std::rethrow_exception(error);
    } catch (const Error& known) {
        return {error_name(known.code()), as_utf8(known.what()), known.code() != Code::internal};
    } catch (const std::exception& unknown) {
        return {error_name(Code::internal), as_utf8(unknown.what()), false};
    } catch (...) {
        return {error_name(Code::internal), "an exception of unknown type", false};
    }
}

void answer_error(sd_bus_message* call, const std::exception_ptr& error, Log& log) {
    const Failure failure = describe(error);
    if (!failure.expected)
        log.error(fmt::format("{} of {} failed: {}", sd_bus_message_get_member(call), sd_bus_message_get_path(call),
                              failure.message));
    if (sd_bus_message_get_expect_reply(call) <= 0) return;
    const sd_bus_error wire{failure.name.c_str(), failure.message.c_str(), 0};
    sd_bus_reply_method_error(call, &wire);
}

}  // namespace virtbus::dbus
