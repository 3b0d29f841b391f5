// SPDX-License-Identifier: LGPL-2.1-or-later
// How a failure is spelled on the bus: the only place where exceptions become D-Bus errors, by one rule code -> name.
#pragma once

#include <exception>
#include <string>
#include <string_view>

#include "virtbus/error.hpp"

struct sd_bus_message;

namespace virtbus {
class Log;
}

namespace virtbus::dbus {

/// "org.virtbus1.Error.NoSuchDomain", "org.freedesktop.DBus.Error.AccessDenied", ...
std::string error_name(Code code);
/// The same for a word(Code) that was kept; "" stays "".
std::string error_name(std::string_view word);

struct Failure {
    std::string name, message;
    bool expected = true;  ///< false: no Error, so a fault of the service itself
};
Failure describe(const std::exception_ptr& error);

/// Answers the call with the error, if it wants an answer. An unexpected one is logged.
void answer_error(sd_bus_message* call, const std::exception_ptr& error, Log& log);

}  // namespace virtbus::dbus
