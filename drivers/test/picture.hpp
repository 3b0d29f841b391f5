// SPDX-License-Identifier: LGPL-2.1-or-later
// A small picture, as a screen that runs nothing would show it.
#pragma once

#include <string>

namespace virtbus::test_driver {

/// A valid PNG of 64 x 48 pixels.
std::string test_picture();

}  // namespace virtbus::test_driver
