// SPDX-License-Identifier: LGPL-2.1-or-later
// For tests of networks: a network namespace of the test's own, entered before any thread starts, and what the usual
// tools say in it.
#pragma once

#include <gtest/gtest.h>
#include <sched.h>

#include <cstdio>
#include <cstdlib>
#include <string>

#include "virtbus/error.hpp"

namespace virtbus::tests {

/// False where that is not permitted.
inline bool enter_network_namespace() {
    static const bool entered = ::unshare(CLONE_NEWNET) == 0 && std::system("ip link set lo up") == 0;
    return entered;
}

inline std::string output_of(const std::string& command) {
    std::string out;
    FILE* pipe = ::popen(command.c_str(), "r");
    for (int c; pipe && (c = std::fgetc(pipe)) != EOF;) out += static_cast<char>(c);
    if (pipe) ::pclose(pipe);
    return out;
}

inline bool succeeds(const std::string& command) {
    return std::system(command.c_str()) == 0;
}

/// The error of what must fail; its code `internal` and no text when it does not.
template <class Work>
Error failure_of(Work work) {
    try {
        work();
    } catch (const Error& error) {
        return error;
    }
    ADD_FAILURE() << "nothing was thrown";
    return {Code::internal, ""};
}

}  // namespace virtbus::tests
