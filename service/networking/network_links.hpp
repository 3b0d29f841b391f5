// SPDX-License-Identifier: LGPL-2.1-or-later
// NetworkLinks: links of interfaces on virtual networks. It asks the network for a place, has the link made that this
// place means, and remembers who has which, so that a network that comes anew gets its guests back. Making links, and
// all interfaces of other types, are the driver's.
#pragma once

#include <map>
#include <string>

#include "service/networking/network_context.hpp"
#include "service/networking/network_list.hpp"
#include "virtbus/driver.hpp"
#include "virtbus/link_filters.hpp"
#include "virtbus/link_mover.hpp"

namespace virtbus {

class NetworkLinks final : public LinkProvider, public MovableLinks, public NetworkGuests {
public:
    /// `driver` may be null: then there are no links at all.
    NetworkLinks(const NetworkContext& context, const NetworkList& networks, LinkProvider* driver)
        : context_{context}, networks_{networks}, driver_{driver} {}

    // ---- LinkProvider
    Task<Link> open_link(LinkRequest request, Deadline deadline, std::stop_token stop) override;
    Task<> close_link(std::string undo_key) override;
    Task<> reconnect_link(std::string undo_key, LinkRequest request, Deadline deadline) override;
    /// All links of running guests have been told of.
    Task<> links_are_known(Deadline deadline);

    // ---- MovableLinks
    Task<Link> move_link(std::string undo_key, LinkRequest request, Deadline deadline) override;

    // ---- NetworkGuests
    Task<> reconnect(VirtualNetworkPtr network) override;
    bool has(const std::string& port_id) const override;

private:
    struct Place {
        std::string network;  ///< uuid
        LinkRequest request;  ///< with the interface as the guest has it
        LinkFilterPtr filter;
        std::string driver_key;
    };
    Task<LinkFilterPtr> find_filter(LinkRequest request, Deadline deadline, std::stop_token stop);
    Task<Link> open_by_driver(LinkRequest request, LinkFilterPtr filter, Deadline deadline, std::stop_token stop);
    Task<Link> move_by_driver(std::string key, LinkRequest request, LinkFilterPtr filter, Deadline deadline);
    Task<> reconnect_by_driver(std::string key, LinkRequest request, LinkFilterPtr filter, Deadline deadline);
    VirtualNetworkPtr network_for(const LinkRequest& request) const;
    Task<Link> open_on(VirtualNetworkPtr network, Attachment attachment, LinkRequest request, LinkFilterPtr filter,
                       Deadline deadline, std::stop_token stop);
    Task<Link> move_to(VirtualNetworkPtr network, std::string driver_key, LinkRequest request, LinkFilterPtr filter,
                       Deadline deadline);
    Task<> reconnect_place(VirtualNetworkPtr network, std::string port_id);

    const NetworkContext& context_;
    const NetworkList& networks_;
    LinkProvider* driver_;
    std::map<std::string, Place> places_;  ///< by the port's id
};

}  // namespace virtbus
