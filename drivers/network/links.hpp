// SPDX-License-Identifier: LGPL-2.1-or-later
// The host's side of interfaces: of type bridge and ethernet a tap of the definition's name or a generated one, on its
// bridge or switch, with its MTU, VLANs and limits; of type direct a macvtap device; of type hostdev the MAC of the
// card's virtual function. How these are made is tap.hpp's, macvtap.hpp's and virtual_function.hpp's work; which of
// them a virtual network means has been found out before. The state
// of a link is the guest's side of it: devices here are up.
#pragma once

#include "virtbus/driver.hpp"
#include "virtbus/link_filters.hpp"
#include "virtbus/link_mover.hpp"
#include "virtbus/ports.hpp"

namespace virtbus::network {

class FilterTable;
class TableWatch;

class TapLinks final : public LinkProvider, public MovableLinks, public FilteringLinks {
public:
    struct Setting {
        std::string root;  ///< stands for the host's root, where its sysfs is
        /// What tells Open vSwitch of ports, and words it always gets.
        std::vector<std::string> switch_program{"/usr/bin/ovs-vsctl"};
    };
    /// Without a spawner there are no ports of Open vSwitch.
    explicit TapLinks(Workers& workers, Spawner* spawner = nullptr) : TapLinks{workers, spawner, Setting{}} {}
    TapLinks(Workers& workers, Spawner* spawner, Setting setting);
    ~TapLinks() override;

    Task<Link> open_link(LinkRequest request, Deadline deadline, std::stop_token stop) override {
        return open_filtered(std::move(request), nullptr, deadline, std::move(stop));
    }
    Task<> close_link(std::string undo_key) override;
    Task<> reconnect_link(std::string undo_key, LinkRequest request, Deadline deadline) override {
        return reconnect_filtered(std::move(undo_key), std::move(request), nullptr, deadline);
    }
    Task<Link> move_link(std::string undo_key, LinkRequest request, Deadline deadline) override {
        return move_filtered(std::move(undo_key), std::move(request), nullptr, deadline);
    }

    Task<Link> open_filtered(LinkRequest request, LinkFilterPtr filter, Deadline deadline,
                             std::stop_token stop) override;
    Task<> reconnect_filtered(std::string undo_key, LinkRequest request, LinkFilterPtr filter,
                              Deadline deadline) override;
    Task<Link> move_filtered(std::string undo_key, LinkRequest request, LinkFilterPtr filter,
                             Deadline deadline) override;
    Task<> links_are_known(Deadline deadline) override;

    /// Puts filters back when somebody takes them away.
    void watch_filters(Loop& loop);

private:
    Task<> put_filters_back();

    Task<> tell_switch(std::string what, std::vector<std::string> arguments, Deadline deadline, std::stop_token stop);

    Workers& workers_;
    Spawner* const spawner_;
    const Setting setting_;
    const std::shared_ptr<FilterTable> filters_;  ///< shared with work that nobody waits for any more
    bool putting_back_ = false, again_ = false;
    std::unique_ptr<TableWatch> watch_;
    Scope scope_;
};

}  // namespace virtbus::network
