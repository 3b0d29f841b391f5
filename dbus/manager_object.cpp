// SPDX-License-Identifier: LGPL-2.1-or-later
#include "dbus/manager_object.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>

#include "dbus/domain_object.hpp"
#include "dbus/job_replies.hpp"
#include "dbus/paths.hpp"
#include "dbus/subjects.hpp"
#include "virtbus/error.hpp"

namespace virtbus::dbus {

namespace {

Fields describe_host() {
    utsname names{};
    ::uname(&names);
    const auto page = static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
    return {{"hostname", std::string{names.nodename}},
            {"arch", std::string{names.machine}},
            {"cpus", static_cast<std::uint32_t>(::sysconf(_SC_NPROCESSORS_ONLN))},
            {"memory", page * static_cast<std::uint64_t>(::sysconf(_SC_PHYS_PAGES))},
            {"kernel", std::string{names.release}},
            {"page-size", page}};
}

void require_states(const std::vector<std::string>& words) {
    for (const auto& one : words)
        if (std::find(state_words.begin(), state_words.end(), one) == state_words.end())
            throw Error{Code::invalid_option, fmt::format("option 'states' of GetStats has '{}'; a state is one of {}",
                                                          one, fmt::join(state_words, ", "))};
}

}  // namespace

ManagerObject::ManagerObject(Domains& domains, Networks& networks, Jobs& jobs, std::string version, bool system_mode)
    : domains_{domains},
      networks_{networks},
      jobs_{jobs},
      view_{std::move(version), system_mode ? "system" : "user", domains.drivers(), {}, describe_host()} {}

const void* ManagerObject::find(const Keys&) const {
    return &view_;
}
void ManagerObject::list(const Keys&, const std::function<void(std::string_view, const void*)>&) const {}

Subject ManagerObject::subject(const Call& call) {
    return {{{"verb", std::string{call.method()}}}};
}

Subject ManagerObject::subject_of_name(const Call& call, const std::string& name) {
    try {
        return subject_of(call, *domains_.get(name));
    } catch (const Error& error) {
        if (error.code() != Code::no_such_domain) throw;
        return {{{"verb", std::string{call.method()}}, {"domain-name", name}}, false};
    }
}

Subject ManagerObject::subject_of_xml(const Call& call, const std::string& xml) {
    const auto said = domains_.identify(xml);
    return {{{"verb", std::string{call.method()}},
             {"driver", said.driver},
             {"domain-name", said.name},
             {"domain-uuid", said.uuid}}};
}

Subject ManagerObject::subject_of_network_name(const Call& call, const std::string& name) {
    try {
        return subject_of(call, *networks_.get(name));
    } catch (const Error& error) {
        if (error.code() != Code::no_such_network) throw;
        return {{{"verb", std::string{call.method()}}, {"network-name", name}}, false};
    }
}

Subject ManagerObject::subject_of_network_xml(const Call& call, const std::string& xml) {
    const auto said = networks_.identify(xml);
    return {{{"verb", std::string{call.method()}}, {"network-name", said.name}, {"network-uuid", said.uuid}}};
}

Task<std::vector<ManagerObject::Row>> ManagerObject::list_domains(Call&, ManagerListDomainsOptions options) {
    std::vector<Row> rows;
    for (const auto& domain : domains_.list(options.after, options.limit)) {
        const DomainView& view = domain->view();
        rows.emplace_back(ObjectPath{domain_path(view.uuid)}, view.name, view.uuid, std::string{word(view.state)},
                          view.persistent);
    }
    co_return rows;
}

Task<ObjectPath> ManagerObject::get_domain(Call&, std::string name_or_uuid) {
    co_return ObjectPath{domain_path(domains_.get(name_or_uuid)->view().uuid)};
}

Task<ObjectPath> ManagerObject::define_domain(Call& call, std::string xml, ManagerDefineDomainOptions options) {
    const DomainPtr domain = co_await domains_.define(std::move(xml), {options.validate}, call.caller());
    co_return ObjectPath{domain_path(domain->view().uuid)};
}

Task<ObjectPath> ManagerObject::create_domain(Call& call, std::string xml, ManagerCreateDomainOptions options) {
    CreateOptions how;
    how.start.paused = options.paused;
    how.start.autodestroy = options.autodestroy;
    how.start.reset_nvram = options.reset_nvram;
    how.validate = options.validate;
    const DomainPtr domain = co_await domains_.create(std::move(xml), how, call.caller());
    co_return ObjectPath{domain_path(domain->view().uuid)};
}

/// Who is asked about is known when the file is open; that very file is then restored.
Task<ManagerRestoreDomainResult> ManagerObject::restore_domain(Call& call, std::vector<std::string> actions,
                                                               std::string file, ManagerRestoreDomainOptions options) {
    const SavedDomainPtr saved = co_await domains_.open_saved(std::move(file), call.caller());
    if (!saved->sealed && options.xml.empty()) actions.emplace_back("domain.configure");
    co_await call.permit(std::move(actions), [&] {
        return Subject{{{"verb", std::string{call.method()}},
                        {"driver", saved->driver},
                        {"domain-name", saved->name},
                        {"domain-uuid", saved->uuid}}};
    });
    const RestoreOptions how{std::move(options.xml), options.running, options.paused, options.bypass_cache,
                             options.reset_nvram};
    const JobPtr job = domains_.restore(saved, how, call.caller());
    co_return ManagerRestoreDomainResult{ObjectPath{domain_path(saved->uuid)},
                                         co_await answer_with_job(jobs_, job, options.no_wait)};
}

Task<Dictionary> ManagerObject::check_domain(Call&, std::string xml, ManagerCheckDomainOptions options) {
    CheckResult found = co_await domains_.check(std::move(xml), options.runnable);
    Dictionary answer;
    answer.emplace_back("xml", std::move(found.xml));
    answer.emplace_back("unknown", std::move(found.unknown));
    answer.emplace_back("unsupported", std::move(found.unsupported));
    answer.emplace_back("ignored", std::move(found.ignored));
    answer.emplace_back("command", std::move(found.command));
    co_return answer;
}

Task<std::vector<std::pair<ObjectPath, Dictionary>>> ManagerObject::get_stats(Call&, ManagerGetStatsOptions options) {
    require_states(options.states);
    const auto all = co_await domains_.stats(std::move(options.groups), std::move(options.states));
    std::vector<std::pair<ObjectPath, Dictionary>> answer;
    for (const auto& [uuid, stats] : all) answer.emplace_back(ObjectPath{domain_path(uuid)}, stats_dictionary(stats));
    co_return answer;
}

Task<std::vector<ManagerObject::Orphan>> ManagerObject::list_orphaned_nvram(Call&) {
    std::vector<Orphan> rows;
    for (auto& store : co_await domains_.orphaned_nvram())
        rows.emplace_back(std::move(store.path), std::move(store.domain), store.size);
    co_return rows;
}

Task<> ManagerObject::delete_orphaned_nvram(Call&, std::string path) {
    co_await domains_.delete_orphaned_nvram(std::move(path));
}

Task<std::string> ManagerObject::get_capabilities(Call&, std::string driver) {
    co_return co_await domains_.capabilities(std::move(driver));
}

Task<std::string> ManagerObject::get_domain_capabilities(Call&, ManagerGetDomainCapabilitiesOptions options) {
    co_return co_await domains_.domain_capabilities(std::move(options.driver), std::move(options.emulator),
                                                    std::move(options.arch), std::move(options.machine));
}

Task<std::vector<ManagerObject::NetworkRow>> ManagerObject::list_networks(Call&) {
    std::vector<NetworkRow> rows;
    for (const auto& network : networks_.list()) {
        const NetworkView& view = network->view();
        rows.emplace_back(ObjectPath{network_path(view.uuid)}, view.name, view.uuid, view.active, view.persistent);
    }
    co_return rows;
}

Task<ObjectPath> ManagerObject::get_network(Call&, std::string name_or_uuid) {
    co_return ObjectPath{network_path(networks_.get(name_or_uuid)->view().uuid)};
}

Task<ObjectPath> ManagerObject::define_network(Call& call, std::string xml, ManagerDefineNetworkOptions options) {
    const NetworkPtr network = co_await networks_.define(std::move(xml), options.validate, call.caller());
    co_return ObjectPath{network_path(network->view().uuid)};
}

Task<ObjectPath> ManagerObject::create_network(Call& call, std::string xml, ManagerCreateNetworkOptions options) {
    const NetworkPtr network = co_await networks_.create(std::move(xml), options.validate, call.caller());
    co_return ObjectPath{network_path(network->view().uuid)};
}

}  // namespace virtbus::dbus
