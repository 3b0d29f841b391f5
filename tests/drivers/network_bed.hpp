// SPDX-License-Identifier: LGPL-2.1-or-later
// For tests of networks: a network namespace, the usual tools, and how what must fail is asked.
#pragma once

#include <gtest/gtest.h>

#include "tests/support/network_namespace.hpp"
#include "virtbus/error.hpp"

namespace virtbus::tests {

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
