// SPDX-License-Identifier: LGPL-2.1-or-later
// What providers of links and those who open resources may be able to do beside their contracts: put a link elsewhere
// while its guest has it. Who cannot is not one of these.
#pragma once

#include <string>

#include "virtbus/driver.hpp"

namespace virtbus {

/// A LinkProvider that can.
class MovableLinks {
public:
    virtual ~MovableLinks() = default;
    /// On another bridge or network, with other limits. The result has no descriptors; its key replaces the old one.
    /// Unsupported for links that stay where they were made.
    virtual Task<Link> move_link(std::string undo_key, LinkRequest request, Deadline deadline) = 0;
};

/// Resources that can.
class LinkMover {
public:
    virtual ~LinkMover() = default;
    /// The link of the device with the request's alias.
    virtual Task<Link> move_link(LinkRequest request) = 0;
};

}  // namespace virtbus
