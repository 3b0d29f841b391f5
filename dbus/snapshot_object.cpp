// SPDX-License-Identifier: LGPL-2.1-or-later
#include "dbus/paths.hpp"
#include "dbus/snapshot_interface.hpp"

namespace virtbus::dbus {

ObjectPath snapshot_domain(const SnapshotView& view) {
    return {domain_path(view.domain)};
}

ObjectPath snapshot_parent(const SnapshotView& view) {
    return view.parent.empty() ? no_object : ObjectPath{snapshot_path(view.domain, view.parent)};
}

std::vector<ObjectPath> snapshot_children(const SnapshotView& view) {
    std::vector<ObjectPath> paths;
    for (const auto& name : view.children) paths.push_back({snapshot_path(view.domain, name)});
    return paths;
}

}  // namespace virtbus::dbus
