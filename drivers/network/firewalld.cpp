// SPDX-License-Identifier: LGPL-2.1-or-later
#include "network/firewalld.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include "virtbus/error.hpp"

namespace virtbus::network {

namespace {

std::string last_line(std::string text) {
    while (text.ends_with('\n')) text.pop_back();
    return text.substr(text.rfind('\n') + 1);
}

}  // namespace

Task<> Firewalld::join(std::string bridge, std::string zone, Deadline deadline, std::stop_token stop) {
    const auto wanted = fmt::format("bridge '{}' is to be in firewalld's zone '{}'", bridge, zone);
    if (::access(program_.c_str(), X_OK) != 0)
        throw Error{Code::unsupported_configuration,
                    fmt::format("{}, and there is no firewalld here ({}); remove the attribute 'zone' or install it",
                                wanted, program_)};
    Command command;
    command.argv = {program_, "--zone=" + zone, "--change-interface=" + bridge};
    const auto result = co_await spawner_.run(std::move(command), deadline, std::move(stop));
    if (result.status != 0)
        throw Error{Code::unsupported_configuration, fmt::format("{}: {}", wanted, last_line(result.errors))};
}

Task<> Firewalld::leave(std::string bridge, std::string zone, Deadline deadline) {
    if (::access(program_.c_str(), X_OK) != 0) co_return;
    Command command;
    command.argv = {program_, "--zone=" + zone, "--remove-interface=" + bridge};
    (void)co_await spawner_.run(std::move(command), deadline);
}

}  // namespace virtbus::network
