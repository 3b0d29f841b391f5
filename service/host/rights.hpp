// SPDX-License-Identifier: LGPL-2.1-or-later
// Rights: a thread works for a while with another's rights on files; and what all work on files says when it fails.
#pragma once

#include <sys/types.h>

#include <string>
#include <string_view>
#include <vector>

#include "virtbus/ports.hpp"

namespace virtbus::host {

/// What is half-written is hidden and ends in this.
inline constexpr std::string_view temporary_suffix = ".virtbus-tmp";

/// NoSpace or Internal: "cannot write /a/b: No space left on device".
[[noreturn]] void fail(const char* verb, const std::string& path, int error);

/// Gives the calling thread another's rights on files as long as it lives.
class Rights {
public:
    explicit Rights(const Identity& identity);
    Rights(const Rights&) = delete;
    Rights& operator=(const Rights&) = delete;
    ~Rights() { restore(); }

private:
    void restore();
    std::vector<gid_t> saved_;
    uid_t uid_ = 0;
    gid_t gid_ = 0;
};

}  // namespace virtbus::host
