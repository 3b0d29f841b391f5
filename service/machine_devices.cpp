// SPDX-License-Identifier: LGPL-2.1-or-later
// Plugging, unplugging and changing devices: of the running machine, of the stored definition, or of both. Everything
// is worked out for both before the first change.
#include <fmt/format.h>

#include "service/device_edit.hpp"
#include "service/machine.hpp"
#include "service/parallel.hpp"
#include "service/volumes.hpp"
#include "service/xml/domain_xml.hpp"
#include "virtbus/model/console_pair.hpp"

namespace virtbus {

struct Machine::DevicePlan {
    DeviceChange change;
    DeviceChange::Verb live_verb{};  ///< what is done to the running machine: a new medium is an update of its drive
    Device wanted;
    RunPtr run;  ///< null: the running machine is not meant
    bool stored = false;

    std::shared_ptr<DomainConfig> before, after;  ///< the stored definition
    std::optional<Device> live;                   ///< for the guest: complete, or as it runs
    std::string alias;                            ///< of the running device
    std::optional<Device> old;                    ///< what an update replaces
    std::size_t mark = 0;                         ///< of the run's resources
    bool in_step = false;                         ///< the run was as the definition before
    std::exception_ptr pending;                   ///< the guest has been asked and has not answered
};

namespace {

Task<> complete(HypervisorDriver& driver, DomainConfig& config, const DomainConfig& previous) {
    co_await driver.complete(config, &previous);
}

/// Those that a definition has at most a second name of.
Device completed_at(DomainConfig& config, std::size_t number, DeviceKind kind) {
    const Device added = device_at(config.devices, kind, number);
    xml::complete_generic(config);
    // Which puts disks in the order of their targets.
    if (const auto* disk = std::get_if<Disk>(&added))
        for (std::size_t i = 0; i < config.devices.disks.size(); ++i)
            if (config.devices.disks[i].target.dev == disk->target.dev) number = i;
    return device_at(config.devices, kind, number);
}

std::string alias_of(const Device& device) {
    const auto* info = find_info(device);
    return info ? info->alias : std::string{};
}

/// What its virtual network has given it.
void keep_place(Interface& interface, const Interface& old) {
    if (interface.type != InterfaceType::network || old.type != InterfaceType::network) return;
    if (!interface.source || !old.source || interface.source->network != old.source->network) return;
    auto& source = *interface.source;
    source.port_id = old.source->port_id;
    source.bridge = old.source->bridge;
    source.dev = old.source->dev;
    source.mode = old.source->mode;
    source.host_address = old.source->host_address;
    if (source.host_address) interface.managed = old.managed;
    if (!interface.mtu) interface.mtu = old.mtu;
}

/// The name and the place that a device keeps when it is replaced by one that says none.
void keep_identity(Device& device, const Device& old) {
    auto* info = find_info(device);
    const auto* before = find_info(old);
    if (!info || !before) return;
    if (info->alias.empty()) info->alias = before->alias;
    if (!info->address) info->address = before->address;
    if (auto* interface = std::get_if<Interface>(&device)) {
        const auto& was = std::get<Interface>(old);
        if (interface->mac.empty()) interface->mac = was.mac;
        if (interface->model.empty()) interface->model = was.model;
        if (!interface->target) interface->target = was.target;
        keep_place(*interface, was);
    }
    if (auto* disk = std::get_if<Disk>(&device); disk && disk->target.bus.empty())
        disk->target.bus = std::get<Disk>(old).target.bus;
}

bool is_drive(const Disk& disk) {
    return disk.device == DiskDevice::cdrom || disk.device == DiskDevice::floppy;
}

/// The drive that a plugged medium is for; none when it comes with a drive of its own.
std::optional<DevicePlace> drive_for(const DomainConfig& config, const Device& wanted) {
    const auto* medium = std::get_if<Disk>(&wanted);
    if (!medium || !is_drive(*medium) || medium->target.dev.empty()) return std::nullopt;
    const auto& disks = config.devices.disks;
    for (std::size_t i = 0; i < disks.size(); ++i)
        if (disks[i].target.dev == medium->target.dev && is_drive(disks[i])) return DevicePlace{kind_of<Disk>, i};
    return std::nullopt;
}

/// Of the new one only what is in the drive counts.
Disk with_medium(Disk drive, const Disk& wanted) {
    drive.type = wanted.type;
    drive.source = wanted.source;
    drive.backing_store = wanted.backing_store;
    if (drive.driver) drive.driver->type = wanted.driver ? wanted.driver->type : "";
    if (!drive.driver && wanted.driver) drive.driver.emplace().type = wanted.driver->type;
    return drive;
}

/// What the guest would see change, by the name the XML has for it.
std::optional<std::string> visible_difference(const DomainConfig& config, const Device& old, const Device& now) {
    DomainConfig before, after;
    before.type = after.type = config.type;
    (void)add_device(before, old);
    (void)add_device(after, now);
    before.memory = after.memory = before.current_memory = after.current_memory = 0;
    return xml::abi_difference(before, after);
}

}  // namespace

JobPtr Machine::attach_device(std::string xml, ChangeScope scope, bool force, Caller caller) {
    return begin_device("attach-device", {DeviceChange::Verb::attach, std::move(xml), scope, force}, std::move(caller));
}

JobPtr Machine::detach_device(std::string xml, ChangeScope scope, bool force, Caller caller) {
    return begin_device("detach-device", {DeviceChange::Verb::detach, std::move(xml), scope, force}, std::move(caller));
}

JobPtr Machine::update_device(std::string xml, ChangeScope scope, bool force, Caller caller) {
    return begin_device("update-device", {DeviceChange::Verb::update, std::move(xml), scope, force}, std::move(caller));
}

JobPtr Machine::begin_device(std::string operation, DeviceChange change, Caller caller) {
    return begin(
        std::move(operation), "domain.configure", std::move(caller), false,
        [change = std::move(change)](Machine& self, JobPtr job) { return self.do_device(std::move(job), change); });
}

Task<> Machine::do_device(JobPtr job, DeviceChange change) {
    const bool guest = change.scope != ChangeScope::persistent;
    const auto hold = co_await lane_.enter(job, guest ? Lane::Subject::guest : Lane::Subject::definition);
    require_listed();
    const auto scopes = scopes_of(change.scope, "devices");
    const auto plan = std::make_shared<DevicePlan>();
    std::vector<std::string> unknown;
    plan->wanted = xml::parse_device(change.xml, &unknown);
    for (const auto& sentence : unknown) log(Priority::info, "not understood of a device and kept: " + sentence);
    plan->change = std::move(change);
    plan->live_verb = plan->change.verb;
    plan->stored = scopes.stored;
    if (scopes.live) plan->run = require_guest("a change of its devices");
    // Made once, so that the running and the stored one are the same card.
    if (auto* interface = std::get_if<Interface>(&plan->wanted);
        interface && interface->mac.empty() && plan->change.verb == DeviceChange::Verb::attach)
        interface->mac = xml::random_mac();
    if (plan->stored) co_await plan_stored(plan);
    if (plan->run) co_await plan_live(plan);
    plan->in_step = run_ && definition_ && !live_differs();
    if (plan->run) co_await change_guest(job, plan);
    if (plan->stored) co_await store_devices(plan);
    if (plan->pending) std::rethrow_exception(plan->pending);
}

// ---- working it out
// -----------------------------------------------------------------------------------------------------

Task<> Machine::plan_stored(DevicePlanPtr plan) {
    plan->before = std::make_shared<DomainConfig>(definition_->config());
    plan->after = std::make_shared<DomainConfig>(*plan->before);
    auto& after = *plan->after;
    switch (plan->change.verb) {
        case DeviceChange::Verb::attach:
            if (drive_for(after, plan->wanted))
                throw Error{Code::already_exists,
                            fmt::format("{} has {} already; attaching a medium to a drive is for a running machine "
                                        "(scope 'live'), UpdateDevice changes it in the definition, too",
                                        words(), words_of(plan->wanted))};
            (void)insert_device(after, plan->wanted);
            break;
        case DeviceChange::Verb::detach: {
            const auto place = find_device(after, plan->wanted);
            remove_device(after, place.kind, place.number);
            if (place.kind == kind_of<Serial>) drop_console_of_serial(after.devices);
            break;
        }
        case DeviceChange::Verb::update: {
            const auto place = find_device(after, plan->wanted);
            auto device = plan->wanted;
            keep_identity(device, device_at(after.devices, place.kind, place.number));
            replace_device(after.devices, place.number, std::move(device));
            break;
        }
    }
    xml::complete_generic(after);
    co_await complete(context_.drivers.get_by_type(after.type), after, *plan->before);
}

Task<> Machine::plan_live(DevicePlanPtr plan) {
    auto wanted = plan->wanted;
    if (auto* disk = std::get_if<Disk>(&wanted); disk && plan->change.verb != DeviceChange::Verb::detach) {
        Volumes volumes{context_};
        co_await volumes.resolve(*disk, in(context_.patience.verb));
    }
    const auto& live = plan->run->live;
    const auto kind = plan->wanted.index();
    auto trial = live;
    const bool attach = plan->change.verb == DeviceChange::Verb::attach;
    const auto drive = attach ? drive_for(live, wanted) : std::nullopt;
    if (attach && !drive) {
        const auto number = insert_device(trial, wanted);
        plan->live = completed_at(trial, number, kind);
        co_return;
    }
    const auto place = drive ? *drive : find_device(live, plan->wanted);
    if (drive) {
        plan->live_verb = DeviceChange::Verb::update;
        wanted = with_medium(live.devices.disks[place.number], std::get<Disk>(wanted));
    }
    plan->old = device_at(live.devices, place.kind, place.number);
    plan->alias = alias_of(*plan->old);
    plan->live = plan->old;
    if (plan->change.verb == DeviceChange::Verb::detach) {
        if (plan->alias.empty())
            throw Error{Code::unsupported, fmt::format("{}: {} cannot be unplugged while the machine runs; use scope "
                                                       "'persistent'",
                                                       words(), words_of(*plan->old))};
        co_return;
    }
    auto device = wanted;
    keep_identity(device, *plan->old);
    if (auto* info = find_info(device)) info->alias = plan->alias;
    replace_device(trial.devices, place.number, std::move(device));
    xml::complete_generic(trial);
    if (plan->run->driver) co_await complete(*plan->run->driver, trial, live);
    plan->live = device_at(trial.devices, place.kind, place.number);
    if (const auto difference = visible_difference(live, *plan->old, *plan->live))
        throw Error{Code::unsupported,
                    fmt::format("{}: {} cannot be changed so while the machine runs ({}); use scope 'persistent'",
                                words(), words_of(*plan->old), *difference)};
}

// ---- doing it
// -----------------------------------------------------------------------------------------------------------

Task<> Machine::reach_guest(JobPtr job, RunPtr run, std::string what, GuestAct act) {
    std::stop_source stop;
    const std::stop_callback passed_on{job->stop(), [&stop] { stop.request_stop(); }};
    co_await limited<void>(context_.ports.loop, context_.scope, act(*run->guest, stop.get_token()), what,
                           in(context_.patience.verb), stop, job->stop(), run);
    if (run_ != run || run->over()) throw Error{Code::invalid_state, fmt::format("{} ended during {}", words(), what)};
}

Task<> Machine::change_guest(JobPtr job, DevicePlanPtr plan) {
    const auto run = plan->run;
    if (run_ != run || run->over()) throw Error{Code::invalid_state, fmt::format("{} has ended", words())};
    auto& resources = *run->resources;
    plan->mark = resources.renew(in(context_.patience.verb), job->stop());
    std::shared_ptr<const DomainConfig> stored = plan->after;
    if (!stored && definition_ && definition_->problem().empty())
        stored = std::make_shared<DomainConfig>(definition_->config());
    const auto act = [plan, &resources, stored](Guest& guest, std::stop_token stop) {
        DeviceRequest request{*plan->live, stored, resources, plan->change.force};
        switch (plan->live_verb) {
            case DeviceChange::Verb::attach:
                return guest.attach(std::move(request), std::move(stop));
            case DeviceChange::Verb::update:
                return guest.update(std::move(request), std::move(stop));
            default:
                return guest.detach(plan->alias, plan->change.force, std::move(stop));
        }
    };
    std::exception_ptr error;
    bool asked = false;
    try {
        co_await reach_guest(job, run, fmt::format("a change of the devices of {}", words()), act);
    } catch (const Error& e) {
        error = std::current_exception();
        asked = e.code() == Code::timeout && plan->change.verb == DeviceChange::Verb::detach;
    } catch (...) {
        error = std::current_exception();
    }
    if (!error) {
        resources.keep();
        co_return;
    }
    // The guest has the request and may follow it any time, so the definition follows now.
    if (asked && plan->stored) {
        plan->pending = error;
        co_return;
    }
    if (plan->change.verb != DeviceChange::Verb::detach) co_await resources.undo_since(plan->mark);
    if (run_ == run && !run->over()) save_status();
    std::rethrow_exception(error);
}

Task<> Machine::store_devices(DevicePlanPtr plan) {
    std::exception_ptr error;
    std::string why;
    const auto started = run_ ? run_->started_text : std::string{};
    try {
        require_stored("a persistent change of the devices");
        const auto unknown = definition_->unknown();
        if (plan->run && plan->in_step && !plan->pending && run_ == plan->run) {
            run_->started_text = render(*plan->after, {});
            run_->live_changed = false;
        }
        co_await store(*plan->after, unknown);
    } catch (const std::exception& e) {
        error = std::current_exception();
        why = e.what();
    }
    if (!error) co_return;
    if (run_ && run_ == plan->run) run_->started_text = started;
    if (!plan->run) std::rethrow_exception(error);
    std::string left;
    try {
        co_await undo_guest(plan);
    } catch (const std::exception& e) {
        left = e.what();
    }
    if (left.empty()) std::rethrow_exception(error);
    throw Error{
        Code::internal,
        fmt::format("{}: the running machine has been changed, but the definition could not be stored ({}), and "
                    "the change could not be taken back ({})",
                    words(), why, left)};
}

/// The stored half has failed: the running machine goes back to what it was.
Task<> Machine::undo_guest(DevicePlanPtr plan) {
    const auto run = run_;
    if (!run || run != plan->run || !run->guest || run->over()) co_return;
    auto& resources = *run->resources;
    std::string alias = plan->alias;
    if (plan->live_verb == DeviceChange::Verb::attach) {
        const auto place = find_device(run->live, *plan->live);
        alias = alias_of(device_at(run->live.devices, place.kind, place.number));
        co_await run->guest->detach(alias, true, {});
        co_return;
    }
    (void)resources.renew(in(context_.patience.verb), {});
    if (plan->live_verb == DeviceChange::Verb::update)
        co_await run->guest->update({*plan->old, nullptr, resources, true}, {});
    else
        co_await run->guest->attach({*plan->old, nullptr, resources, true}, {});
}

// ---- what the guest tells of its devices
// ---------------------------------------------------------------------------------

/// The definition the run was started from takes part in what happened to the run, so that only what differs counts as
/// a difference to the stored one.
void Machine::follow_live(const DomainConfig& before, const DomainConfig& now) {
    if (run_->live_changed || before.devices == now.devices) return;
    auto started = understand(run_->started_text, false).config;
    const auto was = started;
    if (!follow_devices(started, before.devices, now.devices)) {
        run_->live_changed = true;
        return;
    }
    if (!(started == was)) run_->started_text = render(started, {});
}

Task<> Machine::close_links(std::shared_ptr<Machine> self, RunPtr run, std::string alias) {
    const auto count = run->resources->links().size();
    co_await run->resources->close_links_of(std::move(alias));
    if (run->resources->links().size() == count || self->run_ != run || run->over()) co_return;
    try {
        self->save_status();
    } catch (const std::exception& e) {
        self->log(Priority::warning, e.what());
    }
}

}  // namespace virtbus
