// SPDX-License-Identifier: LGPL-2.1-or-later
// What happens when the daemon starts: definitions are read, runs of this boot are taken up, machines are started that
// shall start with the host.
#include <fmt/format.h>

#include <algorithm>
#include <exception>
#include <set>

#include "service/machines.hpp"
#include "service/names.hpp"
#include "service/parallel.hpp"
#include "service/xml/domain_xml.hpp"

namespace virtbus {

namespace {

bool is_name(const std::string& name) {
    try {
        xml::require_name(name);
        return true;
    } catch (const Error&) {
        return false;
    }
}

}  // namespace

namespace {

Task<> settle_moments(MachinePtr machine) {
    try {
        co_await machine->settle_moments();
    } catch (const std::exception&) {  // the lane is given up only when the daemon ends
    }
}

}  // namespace

struct Machines::LoadMarks {
    std::set<std::string> autostart, managed_save;
};

Task<> Machines::load() {
    auto& store = context_.store;
    store.prepare();
    for (auto& journal : store.undefinings()) {
        const auto uuid = journal.uuid;
        context_.ports.log.info(fmt::format("The undefine of {} that was interrupted is finished", uuid));
        co_await store.carry_out(std::move(journal));
        co_await store.close_undefining(uuid);
    }
    const LoadMarks marks{store.autostarts(), store.managed_saves()};
    std::vector<std::pair<Store::DefinitionFile, std::string>> broken;
    for (auto& file : store.definitions()) {
        auto problem = file.problem;
        try {
            if (problem.empty()) load_definition(file, marks);
        } catch (const std::exception& e) {
            problem = e.what();
        }
        if (!problem.empty()) broken.emplace_back(std::move(file), std::move(problem));
    }
    // After the sound ones, so that a broken file takes no name or UUID away from one.
    for (const auto& [file, problem] : broken) load_broken(file, problem);
    co_await load_runs();
    // What is left to do may take long; each machine's verbs wait for it in its lane.
    for (const auto& entry : by_uuid_) context_.scope.spawn(settle_moments(entry.second));
}

bool Machines::refuse_double(const Store::DefinitionFile& file, const std::string& uuid, const std::string& name) {
    const auto same = any(uuid), named = any_named(name);
    const auto& other = same ? same : named;
    if (!other) return false;
    context_.ports.log.error(
        fmt::format("The definition {} is left alone: {} '{}' is already that of domain '{}' from {}", file.path,
                    same ? "its UUID" : "its name", same ? uuid : name, other->view().name,
                    other->definition() ? other->definition()->path() : std::string{"its run"}));
    return true;
}

void Machines::load_definition(const Store::DefinitionFile& file, const LoadMarks& marks) {
    auto [config, unknown] = understand(file.text, false);
    xml::require_name(config.name);
    if (config.uuid.empty()) config.uuid = file.stem;
    auto uuid = normal_uuid(config.uuid);
    if (!uuid) throw Error{Code::invalid_xml, fmt::format("'{}' is no UUID", printable(config.uuid))};
    config.uuid = *uuid;
    if (refuse_double(file, *uuid, config.name)) return;
    const auto machine = make(*uuid, config.name);
    machine->load(Definition{file.path, file.text, std::move(unknown)}, &config, marks.autostart.contains(*uuid),
                  marks.managed_save.contains(*uuid));
    machine->list_silently();
}

void Machines::load_broken(const Store::DefinitionFile& file, const std::string& problem) {
    const auto said = file.text.empty() ? std::nullopt : xml::peek_identity(file.text);
    auto uuid = said ? normal_uuid(said->uuid) : std::nullopt;
    if (!uuid) uuid = normal_uuid(file.stem);
    if (!uuid) uuid = made_up_uuid(file.path);
    const auto name = said && is_name(said->name) ? said->name : file.stem;
    context_.ports.log.error(
        fmt::format("The definition {} cannot be used: {}. Its domain is listed as '{}' and cannot be "
                    "started",
                    file.path, problem, name),
        {{"DOMAIN_UUID", *uuid}});
    if (refuse_double(file, *uuid, name)) return;
    const auto machine = make(*uuid, name);
    machine->load(Definition::broken(file.path, file.text, problem), nullptr, false,
                  context_.store.has_managed_save(*uuid));
    machine->list_silently();
}

// ---- runs
// --------------------------------------------------------------------------------------------------------------

Task<> Machines::load_runs() {
    std::vector<std::function<Task<>()>> work;
    for (auto& status : context_.store.statuses()) {
        last_id_ = std::max(last_id_, status.id);
        work.emplace_back([this, status = std::move(status)] { return take_up(status); });
    }
    if (work.empty()) co_return;
    const auto all = work.size();
    try {
        co_await limited<void>(
            context_.ports.loop, context_.scope, run_all(context_.ports.loop, context_.scope, std::move(work), all),
            "taking up the guests of the earlier daemon", in(context_.patience.adopt), {}, {}, nullptr);
    } catch (const Error& e) {
        context_.ports.log.warning(fmt::format("{}; the service starts without waiting for the rest", e.what()));
    }
}

Task<> Machines::take_up(LiveStatus status) {
    const auto uuid = status.uuid;
    try {
        auto [config, unknown] = understand(status.live_xml, false);
        auto machine = any(uuid);
        if (!machine) {
            if (any_named(config.name))
                throw Error{Code::already_exists,
                            fmt::format("its name '{}' is that of another domain now", config.name)};
            machine = make(uuid, config.name);
            machine->list_silently();
        }
        // What is stored decides about the name: a rename may have been the last deed of the earlier daemon.
        config.name = machine->view().name;
        co_await machine->adopt(std::move(status), std::move(config), std::move(unknown));
    } catch (const std::exception& e) {
        context_.ports.log.error(fmt::format("The run of domain {} could not be taken up: {}", uuid, e.what()),
                                 {{"DOMAIN_UUID", uuid}});
    }
}

Task<> Machines::reconnect() {
    std::vector<std::function<Task<>()>> work;
    for (const auto& entry : by_uuid_)
        if (entry.second->active()) work.emplace_back([machine = entry.second] { return machine->reconnect_links(); });
    constexpr std::size_t at_once = 4;
    co_await run_all(context_.ports.loop, context_.scope, std::move(work), at_once);
}

// ---- autostart
// -----------------------------------------------------------------------------------------------------------

namespace {

/// The job has logged its failure.
Task<> start_one(Context& context, MachinePtr machine) {
    try {
        const auto job = machine->start({}, {});
        (void)co_await context.jobs.wait(job, std::nullopt);
    } catch (const std::exception&) {
    }
}

}  // namespace

Task<> Machines::autostart() {
    if (context_.store.autostart_done()) co_return;
    context_.store.mark_autostart_done();
    std::vector<std::function<Task<>()>> work;
    for (const auto& entry : by_uuid_) {
        const auto& machine = entry.second;
        if (machine->listed() && machine->view().autostart && !machine->active())
            work.emplace_back([this, machine] { return start_one(context_, machine); });
    }
    constexpr std::size_t at_once = 4;
    co_await run_all(context_.ports.loop, context_.scope, std::move(work), at_once);
}

}  // namespace virtbus
