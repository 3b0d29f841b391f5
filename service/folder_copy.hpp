// SPDX-License-Identifier: LGPL-2.1-or-later
// Lasting copies of a file, or of a small folder whose content others may have chosen: nothing is followed out of it,
// nothing but files and folders is taken. For workers; it blocks.
#pragma once

#include <cstdint>
#include <string>

namespace virtbus {

/// In place of what has the name `to`, whole or not at all. NoSpace; Internal.
void copy_file(const std::string& from, const std::string& to);
/// With owners and modes. As copy_file; LimitsExceeded for more than 64 MiB, 1,000 entries or 8 levels.
void copy_folder(const std::string& from, const std::string& to);
/// With all that is in it. What is not there is no error.
void remove_folder(const std::string& folder);

}  // namespace virtbus
