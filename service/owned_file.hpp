// SPDX-License-Identifier: LGPL-2.1-or-later
// A file that an administrator leaves for the daemon: it is believed only when nobody else could have put it there.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <string>

#include "virtbus/fd.hpp"

namespace virtbus {

struct OwnedFile {
    std::string words;  ///< how messages call it, e.g. "secret /etc/virtbus/secrets/x"
    std::string path;
    std::size_t longest;     ///< bytes
    mode_t forbidden;        ///< rights that others must not have
    std::string rights;      ///< what they would be able to do, e.g. "read"
    std::string right_mode;  ///< what to say to chmod
};

/// Its content, read from the descriptor that was checked. UnsupportedConfiguration, telling what to do, when it is no
/// regular file, of another user than root and the daemon's, too open, too long, or empty.
std::string read_owned(const Fd& fd, const OwnedFile& file);

}  // namespace virtbus
