// SPDX-License-Identifier: LGPL-2.1-or-later
#include "dbus/checkpoint_object.hpp"

#include <fmt/format.h>

#include "dbus/job_replies.hpp"
#include "dbus/paths.hpp"
#include "dbus/subjects.hpp"
#include "virtbus/error.hpp"

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

const CheckpointView* CheckpointObject::view(const Keys& keys) const {
    const DomainPtr domain = find_domain(domains_, keys);
    const auto name = element_to_name(keys[1]);
    return domain && name ? domain->checkpoints().find(*name) : nullptr;
}

std::string CheckpointObject::get(const Call& call) const {
    if (const auto* found = view(call.keys())) return found->name;
    throw Error{Code::unknown_object, fmt::format("there is no checkpoint {}", call.path())};
}

const void* CheckpointObject::find(const Keys& keys) const {
    return view(keys);
}

void CheckpointObject::list(const Keys& parents, const std::function<void(std::string_view, const void*)>& each) const {
    const DomainPtr domain = find_domain(domains_, parents);
    if (!domain) return;
    for (const CheckpointView* one : domain->checkpoints().list()) each(name_to_element(one->name), one);
}

Subject CheckpointObject::subject(const Call& call) {
    Subject about = subject_of_path(domains_, call);
    about.exists = view(call.keys());
    return about;
}

Task<ObjectPath> CheckpointObject::delete_(Call& call, CheckpointDeleteOptions options) {
    const std::string name = get(call);
    const MomentDeleteOptions how{options.children, options.children_only, options.metadata_only};
    const JobPtr job = get_domain(domains_, call)->checkpoints().remove(name, how, call.caller());
    co_return co_await answer_with_job(jobs_, job, options.no_wait);
}

Task<std::string> CheckpointObject::get_xml(Call& call, CheckpointGetXMLOptions options) {
    const std::string name = get(call);
    const DomainPtr domain = get_domain(domains_, call);
    co_return co_await domain->checkpoints().xml(name, {options.secure, options.no_domain, options.size});
}

}  // namespace virtbus::dbus
