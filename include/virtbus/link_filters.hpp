// SPDX-License-Identifier: LGPL-2.1-or-later
// What providers of links may be able to do beside their contract: filter what goes through a link. Who cannot is not
// one of these, and refuses an interface with a <filterref>.
#pragma once

#include <memory>
#include <stop_token>
#include <string>

#include "virtbus/driver.hpp"

namespace virtbus {

struct LinkFilter;
using LinkFilterPtr = std::shared_ptr<const LinkFilter>;

/// A LinkProvider (and MovableLinks) that can. The verbs are those of these, with what the interface's <filterref>
/// comes to: null when it has none. The filter stands before the link takes or gives the first frame.
class FilteringLinks {
public:
    virtual ~FilteringLinks() = default;
    virtual Task<Link> open_filtered(LinkRequest request, LinkFilterPtr filter, Deadline deadline,
                                     std::stop_token stop) = 0;
    virtual Task<> reconnect_filtered(std::string undo_key, LinkRequest request, LinkFilterPtr filter,
                                      Deadline deadline) = 0;
    virtual Task<Link> move_filtered(std::string undo_key, LinkRequest request, LinkFilterPtr filter,
                                     Deadline deadline) = 0;
    /// A daemon that starts has told of all links that it knows: what an earlier one has left of others goes.
    virtual Task<> links_are_known(Deadline deadline) = 0;
};

}  // namespace virtbus
