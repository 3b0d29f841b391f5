// SPDX-License-Identifier: LGPL-2.1-or-later
// Finding, defining, creating.
#include "service/machines.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "service/names.hpp"
#include "service/networking/filters.hpp"
#include "service/parallel.hpp"
#include "service/stat_groups.hpp"
#include "service/volumes.hpp"
#include "service/xml/domain_xml.hpp"

namespace virtbus {

// ---- finding
// -----------------------------------------------------------------------------------------------------------

MachinePtr Machines::any(std::string_view uuid) const {
    const auto found = by_uuid_.find(uuid);
    return found == by_uuid_.end() ? nullptr : found->second;
}

MachinePtr Machines::any_named(std::string_view name) const {
    const auto found = by_name_.find(std::string{name});
    return found == by_name_.end() ? nullptr : found->second->shared_from_this();
}

MachinePtr Machines::find_machine(std::string_view uuid) const {
    auto machine = any(uuid);
    return machine && machine->listed() ? machine : nullptr;
}

DomainPtr Machines::find(std::string_view uuid) const {
    return find_machine(uuid);
}

DomainPtr Machines::find_by_name(std::string_view name) const {
    auto machine = any_named(name);
    // A name that is being given in a rename is not its name yet.
    return machine && machine->listed() && machine->view().name == name ? machine : nullptr;
}

DomainPtr Machines::get(std::string_view name_or_uuid) const {
    if (auto domain = find_by_name(name_or_uuid)) return domain;
    if (const auto uuid = normal_uuid(name_or_uuid))
        if (auto domain = find(*uuid)) return domain;
    throw Error{Code::no_such_domain,
                fmt::format("there is no domain with the name or UUID '{}'", printable(name_or_uuid))};
}

std::vector<DomainPtr> Machines::list(std::string_view after, std::size_t limit) const {
    std::vector<DomainPtr> page;
    page.reserve(limit > 0 ? std::min(limit, by_uuid_.size()) : by_uuid_.size());
    for (auto next = by_uuid_.upper_bound(after); next != by_uuid_.end(); ++next) {
        if (!next->second->listed()) continue;
        page.push_back(next->second);
        if (page.size() == limit) break;
    }
    return page;
}

std::size_t Machines::size() const {
    return static_cast<std::size_t>(
        std::count_if(by_uuid_.begin(), by_uuid_.end(), [](const auto& entry) { return entry.second->listed(); }));
}

bool Machines::any_active() const {
    return std::any_of(by_uuid_.begin(), by_uuid_.end(), [](const auto& entry) { return entry.second->active(); });
}

Domains::Identity Machines::identify(std::string_view xml) const {
    auto said = xml::peek_identity(xml);
    if (!said)
        said = {
            .type = {}, .name = understand(xml, false).config.name, .uuid = {}, .title = {}};  // throws and says why
    const auto* driver = context_.drivers.find_by_type(said->type);
    return {said->name, normal_uuid(said->uuid).value_or(""), driver ? driver->name() : std::string{}};
}

// ---- Directory
// -----------------------------------------------------------------------------------------------------------

void Machines::reserve_name(const std::string& name, Machine& machine) {
    const auto [place, fresh] = by_name_.emplace(name, &machine);
    if (!fresh && place->second != &machine)
        throw Error{Code::already_exists,
                    fmt::format("the name '{}' is taken by the domain with UUID {}; choose another", name,
                                place->second->view().uuid)};
}

void Machines::release_name(const std::string& name, Machine& machine) {
    if (const auto found = by_name_.find(name); found != by_name_.end() && found->second == &machine)
        by_name_.erase(found);
}

std::string Machines::user_of_image(const std::string& path, const Machine& but) const {
    const auto names_it = [&](const Fields& disk) {
        return std::ranges::any_of(disk, [&](const auto& field) {
            const auto* text = std::get_if<std::string>(&field.second);
            return field.first == "source" && text && *text == path;
        });
    };
    for (const auto& [uuid, machine] : by_uuid_)
        if (machine.get() != &but &&
            (std::ranges::any_of(machine->view().disks, names_it) || machine->has_frozen(path)))
            return machine->view().name;
    return {};
}

std::vector<ImageUse> Machines::images_of_others(const Machine& but) const {
    const auto field = [](const Fields& disk, std::string_view name) {
        for (const auto& [key, value] : disk)
            if (const auto* text = std::get_if<std::string>(&value); key == name && text) return *text;
        return std::string{};
    };
    std::vector<ImageUse> uses;
    for (const auto& [uuid, machine] : by_uuid_) {
        if (machine.get() == &but) continue;
        for (const auto& disk : machine->view().disks)
            if (auto path = field(disk, "source"); path.starts_with('/'))
                uses.push_back({machine->view().name, {std::move(path), field(disk, "format")}});
    }
    return uses;
}

void Machines::remove(Machine& machine) {
    const auto keep = machine.shared_from_this();
    std::erase_if(by_name_, [&](const auto& entry) { return entry.second == &machine; });
    if (const auto found = by_uuid_.find(machine.view().uuid); found != by_uuid_.end() && found->second == keep)
        by_uuid_.erase(found);
}

MachinePtr Machines::make(const std::string& uuid, const std::string& name) {
    auto machine = std::make_shared<Machine>(context_, uuid, name);
    by_uuid_.emplace(uuid, machine);
    by_name_.emplace(name, machine.get());
    return machine;
}

void Machines::forget() {
    by_name_.clear();
    by_uuid_.clear();
}

// ---- defining
// ------------------------------------------------------------------------------------------------------------

Machines::Wanted Machines::read(std::string_view xml, bool strict) const {
    auto [config, unknown] = understand(xml, strict);
    xml::require_name(config.name);
    if (!config.uuid.empty()) {
        auto uuid = normal_uuid(config.uuid);
        if (!uuid) throw Error{Code::invalid_xml, fmt::format("'{}' is no UUID", printable(config.uuid))};
        config.uuid = std::move(*uuid);
    }
    // A dump of a running machine is taken as what it was made from.
    config = xml::without_live(std::move(config));
    (void)context_.drivers.get_by_type(config.type);
    for (const auto& sentence : unknown)
        context_.ports.log.info(fmt::format("domain '{}': not understood and kept: {}", config.name, sentence));
    return {std::move(config), std::move(unknown)};
}

Task<> Machines::complete(DomainConfig& config, const Machine* existing) const {
    xml::complete_generic(config);
    std::optional<DomainConfig> previous;
    if (existing && existing->definition() && existing->definition()->problem().empty())
        previous = existing->definition()->config();
    co_await context_.drivers.get_by_type(config.type).complete(config, previous ? &*previous : nullptr);
}

void Machines::require_no_other(const DomainConfig& config) const {
    const auto named = any_named(config.name), same = any(config.uuid);
    if (named && named != same)
        throw Error{Code::already_exists,
                    fmt::format("a domain '{}' exists with UUID {}{}; undefine it first, or give its UUID to change it",
                                config.name, named->view().uuid,
                                config.uuid.empty() ? ", and the XML names no UUID" : ", not " + config.uuid)};
    if (same && same->view().name != config.name)
        throw Error{Code::already_exists,
                    fmt::format("the UUID {} is that of domain '{}'; rename that one, or take another UUID",
                                config.uuid, same->view().name)};
}

/// Many may define the same at once: each waits for the one before, then looks again.
Task<Machines::Place> Machines::claim(JobPtr job, const DomainConfig& config) {
    for (;;) {
        auto there = any(config.uuid);
        if (!there) there = any_named(config.name);
        if (!there) break;
        if (there->listed()) require_no_other(config);
        auto hold = co_await there->lane().enter(job, Lane::Subject::definition);
        if (!there->listed()) continue;
        require_no_other(config);
        if (any(config.uuid) != there) continue;
        co_return Place{std::move(there), std::move(hold), false};
    }
    auto machine = make(config.uuid, config.name);
    auto hold = co_await machine->lane().enter(std::move(job), Lane::Subject::definition);
    co_return Place{std::move(machine), std::move(hold), true};
}

namespace {

JobSpec spec_for(std::string operation, const std::string& uuid, std::string action, Caller caller) {
    JobSpec spec;
    spec.operation = std::move(operation);
    spec.domains = {uuid};
    spec.action = std::move(action);
    spec.caller = std::move(caller);
    return spec;
}

}  // namespace

Task<DomainPtr> Machines::define(std::string xml, DefineOptions options, Caller caller) {
    auto wanted = read(xml, options.validate);
    if (wanted.config.uuid.empty()) {
        require_no_other(wanted.config);
        wanted.config.uuid = xml::random_uuid();
    }
    const auto uuid = wanted.config.uuid;
    auto result = std::make_shared<MachinePtr>();
    const auto job = context_.jobs.run(spec_for("define", uuid, "domain.configure", std::move(caller)),
                                       [this, wanted = std::move(wanted), result](JobPtr running) {
                                           return do_define(std::move(running), wanted, result);
                                       });
    co_await context_.jobs.wait(job, std::nullopt);
    co_return *result;
}

Task<> Machines::do_define(JobPtr job, Wanted wanted, std::shared_ptr<MachinePtr> result) {
    const auto place = co_await claim(std::move(job), wanted.config);
    std::exception_ptr error;
    try {
        co_await complete(wanted.config, place.machine.get());
        co_await place.machine->store(std::move(wanted.config), std::move(wanted.unknown));
    } catch (...) {
        error = std::current_exception();
    }
    if (error && place.made) remove(*place.machine);
    if (error) std::rethrow_exception(error);
    *result = place.machine;
}

// ---- creating
// ------------------------------------------------------------------------------------------------------------

Task<DomainPtr> Machines::create(std::string xml, CreateOptions options, Caller caller) {
    auto wanted = read(xml, options.validate);
    if (wanted.config.uuid.empty()) {
        require_no_other(wanted.config);
        wanted.config.uuid = xml::random_uuid();
    }
    const auto uuid = wanted.config.uuid;
    auto result = std::make_shared<MachinePtr>();
    const auto job =
        context_.jobs.run(spec_for("create", uuid, "domain.start", caller),
                          [this, wanted = std::move(wanted), start = options.start, caller, result](JobPtr running) {
                              return do_create(std::move(running), wanted, start, caller, result);
                          });
    co_await context_.jobs.wait(job, std::nullopt);
    co_return *result;
}

Task<> Machines::do_create(JobPtr job, Wanted wanted, StartOptions options, Caller caller,
                           std::shared_ptr<MachinePtr> result) {
    const auto place = co_await claim(job, wanted.config);
    auto& machine = *place.machine;
    std::exception_ptr error;
    try {
        if (!place.made) machine.require_startable();
        machine.require_no_managed_save("create");
        co_await complete(wanted.config, &machine);
        if (place.made) machine.appear(wanted.config);
    } catch (...) {
        error = std::current_exception();
    }
    if (error && place.made) remove(machine);
    if (error) std::rethrow_exception(error);
    co_await machine.launch(std::move(job), std::move(wanted.config), std::move(wanted.unknown), options,
                            std::move(caller));
    *result = place.machine;
}

// ---- asking
// --------------------------------------------------------------------------------------------------------------

Task<CheckResult> Machines::check(std::string xml, bool runnable) {
    auto wanted = read(xml, false);
    if (wanted.config.uuid.empty()) wanted.config.uuid = xml::random_uuid();
    const auto existing = any(wanted.config.uuid);
    co_await complete(wanted.config, existing.get());
    auto& driver = context_.drivers.get_by_type(wanted.config.type);
    CheckResult result;
    result.xml = render(wanted.config, {.text = Text::stored, .secure = false});
    result.unknown = std::move(wanted.unknown);
    Volumes volumes{context_};
    std::string lost;
    try {
        co_await volumes.resolve(wanted.config, in(context_.patience.verb));
    } catch (const Error& error) {
        if (error.code() != Code::unsupported_configuration) throw;
        lost = error.what();
    }
    if (lost.empty())
        result.unsupported = co_await driver.unsupported(wanted.config);
    else
        result.unsupported.push_back(std::move(lost));
    NetworkFilters filters{context_.ports.files, context_.ports.folders};
    for (auto& problem : co_await filters.problems(wanted.config.devices.interfaces, in(context_.patience.verb)))
        result.unsupported.push_back(std::move(problem));
    result.ignored = driver.ignored(wanted.config);
    if (result.unsupported.empty()) result.command = co_await driver.command(std::move(wanted.config), runnable);
    co_return result;
}

namespace {

using AllStats = std::map<std::string, TimedStats>;

Task<> add_stats(MachinePtr machine, std::vector<std::string> groups, std::shared_ptr<AllStats> all) {
    auto stats = co_await machine->stats(std::move(groups));
    all->insert_or_assign(machine->view().uuid, std::move(stats));
}

}  // namespace

Task<std::map<std::string, TimedStats>> Machines::stats(std::vector<std::string> groups,
                                                        std::vector<std::string> states) {
    require_stat_groups(groups);
    auto all = std::make_shared<AllStats>();
    std::vector<std::function<Task<>()>> questions;
    for (const auto& entry : by_uuid_) {
        const auto& machine = entry.second;
        const auto state = word(machine->view().state);
        const bool wanted = states.empty() || std::find(states.begin(), states.end(), state) != states.end();
        if (machine->listed() && wanted)
            questions.emplace_back([machine, groups, all] { return add_stats(machine, groups, all); });
    }
    constexpr std::size_t at_once = 256;
    co_await run_all(context_.ports.loop, context_.scope, std::move(questions), at_once);
    co_return std::move(*all);
}

Task<std::string> Machines::capabilities(std::string driver) {
    co_return co_await context_.drivers.get_by_name(driver).capabilities();
}

Task<std::string> Machines::domain_capabilities(std::string driver, std::string emulator, std::string arch,
                                                std::string machine) {
    auto& chosen = context_.drivers.get_by_name(driver);
    const auto types = chosen.types();
    co_return co_await chosen.domain_capabilities(std::move(emulator), std::move(arch), std::move(machine),
                                                  types.empty() ? std::string{} : types.front());
}

std::string Machines::holder_of(const std::string& device, const Machine& but) {
    for (const auto& [uuid, machine] : by_uuid_)
        if (machine.get() != &but && machine->holds(device)) return machine->view().name;
    return {};
}

}  // namespace virtbus
