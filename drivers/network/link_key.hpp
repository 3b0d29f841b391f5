// SPDX-License-Identifier: LGPL-2.1-or-later
// What is on record of a link, so that it can be found, put back on its bridge and taken down by a later daemon. Status
// files of running guests hold these texts: forms may be added, never changed.
#pragma once

#include <string>

#include "network/tap.hpp"

namespace virtbus::network {

struct LinkKey {
    enum class Kind {
        tap,          ///< tap:<index>:<name>
        switch_port,  ///< ovs:<index>:<name>:<bridge>, of Open vSwitch
        macvtap,      ///< macvtap:<index>:<name>
        passthrough,  ///< macvtap-pt:<index>:<name>:<lower device>:<its own MAC, 17 characters>
        function,     ///< vf:<number>:<vlan>:<mac, 17 characters>:<parent>
        foreign       ///< foreign: made by somebody else, nothing to undo; foreign:<index>:<name>: but a filter
    } kind = Kind::foreign;
    int index = 0;
    std::string name;
    std::string beside;  ///< the bridge, the lower device or the card
    unsigned number = 0, vlan = 0;
    MacAddress mac{};
    bool operator==(const LinkKey&) const = default;

    std::string text() const;
    /// Internal when it is none.
    static LinkKey parse(const std::string& text);
};

}  // namespace virtbus::network
