// SPDX-License-Identifier: LGPL-2.1-or-later
// Whether a disk of another domain lies on an image, through however many others: a clone of it may be anywhere.
#pragma once

#include <optional>
#include <stop_token>
#include <string>
#include <vector>

#include "virtbus/disk_work.hpp"
#include "virtbus/ports.hpp"

namespace virtbus {

/// An image that a disk of a domain names.
struct ImageUse {
    std::string domain;
    ImageFile image;
};

/// The first of `uses` whose chain has one of `images`, which it then names instead of its own. Files are known by what
/// they are, not by their names. An image that cannot be read ends its chain.
Task<std::optional<ImageUse>> find_use(std::vector<ImageUse> uses, std::vector<std::string> images, Images& tool,
                                       Workers& workers, std::stop_token stop);

}  // namespace virtbus
