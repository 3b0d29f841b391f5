// SPDX-License-Identifier: LGPL-2.1-or-later
// Virtual networks: one of them with its verbs, and the list with the verbs that make them. Verbs run as jobs in the
// network's lane; reads answer from what is held here. How a network becomes bridges and servers is its driver's
// business, what a verb is called on the bus the face's.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "service/domain.hpp"
#include "service/jobs.hpp"
#include "service/views.hpp"
#include "virtbus/caller.hpp"
#include "virtbus/network_driver.hpp"
#include "virtbus/task.hpp"

namespace virtbus {

/// A change of one part of a network's definition, in libvirt's words.
struct NetworkUpdate {
    std::string command;  ///< add-first, add-last, modify, delete
    std::string section;  ///< ip-dhcp-host, dns-txt, portgroup, ...
    int parent_index = -1;
    std::string xml;  ///< the part's element
};

class Network {
public:
    virtual ~Network() = default;

    virtual const NetworkView& view() const = 0;
    /// The definition as text. `inactive`: the stored one of an active network.
    virtual std::string xml(bool inactive) const = 0;
    /// Those of that MAC address in any spelling; "" = all. Empty when it is not active.
    virtual std::vector<DhcpLease> leases(const std::string& mac) const = 0;

    virtual JobPtr start(Caller caller) = 0;
    virtual JobPtr stop(Caller caller) = 0;
    virtual JobPtr set_autostart(bool autostart, Caller caller) = 0;
    virtual JobPtr undefine(Caller caller) = 0;
    /// NetworkInUse, naming the guests, when it would break what they use, unless `force`.
    virtual JobPtr update(NetworkUpdate update, ChangeScope scope, bool force, Caller caller) = 0;
};
using NetworkPtr = std::shared_ptr<Network>;

class Networks {
public:
    virtual ~Networks() = default;

    virtual NetworkPtr find(std::string_view uuid) const = 0;
    virtual NetworkPtr find_by_name(std::string_view name) const = 0;
    /// Name first, then uuid in any of its spellings; NoSuchNetwork.
    virtual NetworkPtr get(std::string_view name_or_uuid) const = 0;
    /// In uuid order.
    virtual std::vector<NetworkPtr> list() const = 0;
    virtual std::size_t size() const = 0;

    struct Identity {
        std::string name, uuid;
    };
    /// What an XML text says it is, before anybody is asked for permission (InvalidXML).
    virtual Identity identify(std::string_view xml) const = 0;

    /// `strict`: what is not understood is an error.
    virtual Task<NetworkPtr> define(std::string xml, bool strict, Caller caller) = 0;
    /// Starts it; without a stored definition it is gone when it stops.
    virtual Task<NetworkPtr> create(std::string xml, bool strict, Caller caller) = 0;
};

}  // namespace virtbus
