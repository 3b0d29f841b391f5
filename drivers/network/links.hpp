// SPDX-License-Identifier: LGPL-2.1-or-later
// The host's side of interfaces of type bridge and ethernet: a tap of the definition's name or a generated one, on its
// bridge, with its MTU; of type hostdev: the MAC of the card's virtual function. How a tap is made is tap.hpp's work;
// virtual networks and macvtap are not served here.
#pragma once

#include "virtbus/driver.hpp"

namespace virtbus::network {

class TapLinks final : public LinkProvider {
public:
    /// `root` stands for the host's root, where its sysfs is.
    explicit TapLinks(Workers& workers, std::string root = {}) : workers_{workers}, root_{std::move(root)} {}

    Task<Link> open_link(LinkRequest request, Deadline deadline, std::stop_token stop) override;
    Task<> close_link(std::string undo_key) override;

private:
    Workers& workers_;
    const std::string root_;
};

}  // namespace virtbus::network
