// SPDX-License-Identifier: LGPL-2.1-or-later
#include "dbus/checkpoint_interface.hpp"
#include "dbus/paths.hpp"

namespace virtbus::dbus {

ObjectPath checkpoint_domain(const CheckpointView& view) {
    return {domain_path(view.domain)};
}

ObjectPath checkpoint_parent(const CheckpointView& view) {
    return view.parent.empty() ? no_object : ObjectPath{checkpoint_path(view.domain, view.parent)};
}

std::vector<ObjectPath> checkpoint_children(const CheckpointView& view) {
    std::vector<ObjectPath> paths;
    for (const auto& name : view.children) paths.push_back({checkpoint_path(view.domain, name)});
    return paths;
}

}  // namespace virtbus::dbus
