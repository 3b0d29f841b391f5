// SPDX-License-Identifier: LGPL-2.1-or-later
#include "dbus/snapshot_object.hpp"

#include <fmt/format.h>

#include "dbus/job_replies.hpp"
#include "dbus/paths.hpp"
#include "dbus/subjects.hpp"
#include "virtbus/error.hpp"

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

const SnapshotView* SnapshotObject::view(const Keys& keys) const {
    const DomainPtr domain = find_domain(domains_, keys);
    const auto name = element_to_name(keys[1]);
    return domain && name ? domain->snapshots().find(*name) : nullptr;
}

std::string SnapshotObject::get(const Call& call) const {
    if (const auto* found = view(call.keys())) return found->name;
    throw Error{Code::unknown_object, fmt::format("there is no snapshot {}", call.path())};
}

const void* SnapshotObject::find(const Keys& keys) const {
    return view(keys);
}

void SnapshotObject::list(const Keys& parents, const std::function<void(std::string_view, const void*)>& each) const {
    const DomainPtr domain = find_domain(domains_, parents);
    if (!domain) return;
    for (const SnapshotView* one : domain->snapshots().list()) each(name_to_element(one->name), one);
}

Subject SnapshotObject::subject(const Call& call) {
    Subject about = subject_of_path(domains_, call);
    about.exists = view(call.keys());
    return about;
}

Task<ObjectPath> SnapshotObject::revert(Call& call, SnapshotRevertOptions options) {
    const std::string name = get(call);
    const RevertOptions how{options.running, options.paused, options.force, options.reset_nvram, options.no_undo};
    const JobPtr job = get_domain(domains_, call)->snapshots().revert(name, how, call.caller());
    co_return co_await answer_with_job(jobs_, job, options.no_wait);
}

Task<ObjectPath> SnapshotObject::delete_(Call& call, SnapshotDeleteOptions options) {
    const std::string name = get(call);
    const MomentDeleteOptions how{options.children, options.children_only, options.metadata_only};
    const JobPtr job = get_domain(domains_, call)->snapshots().remove(name, how, call.caller());
    co_return co_await answer_with_job(jobs_, job, options.no_wait);
}

Task<std::string> SnapshotObject::get_xml(Call& call, SnapshotGetXMLOptions options) {
    const std::string name = get(call);
    const DomainPtr domain = get_domain(domains_, call);
    co_return co_await domain->snapshots().xml(name, options.secure);
}

}  // namespace virtbus::dbus
