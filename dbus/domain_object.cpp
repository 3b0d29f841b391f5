// SPDX-License-Identifier: LGPL-2.1-or-later
#include "dbus/domain_object.hpp"

#include <fmt/format.h>

#include "dbus/job_replies.hpp"
#include "dbus/memory_file.hpp"
#include "dbus/paths.hpp"
#include "dbus/scope.hpp"
#include "dbus/subjects.hpp"
#include "virtbus/error.hpp"

namespace virtbus::dbus {

namespace {

ShutdownMode mode_of(std::string word) {
    return word.empty() ? "default" : std::move(word);
}

constexpr std::uint64_t most_imported = std::uint64_t{256} << 20;
constexpr std::string_view import_argument = "argument snapshots of ImportSnapshots";

}  // namespace

ObjectPath domain_current_snapshot(const DomainView& view) {
    return view.current_snapshot.empty() ? no_object : ObjectPath{snapshot_path(view.uuid, view.current_snapshot)};
}

std::vector<ObjectPath> domain_jobs(const DomainView& view) {
    std::vector<ObjectPath> paths;
    for (const auto id : view.jobs) paths.push_back({job_path(id)});
    return paths;
}

Dictionary stats_dictionary(const TimedStats& stats) {
    Dictionary values;
    for (const auto& [name, value] : stats.values)
        std::visit([&values, &name](const auto& held) { values.emplace_back(name, held); }, value);
    values.emplace_back("timestamp", stats.timestamp);
    values.emplace_back("stale", stats.stale);
    return values;
}

DomainPtr DomainObject::get(const Call& call) const {
    return get_domain(domains_, call);
}

const void* DomainObject::find(const Keys& keys) const {
    const DomainPtr domain = find_domain(domains_, keys);
    return domain ? &domain->view() : nullptr;
}

void DomainObject::list(const Keys&, const std::function<void(std::string_view, const void*)>& each) const {
    for (const auto& domain : domains_.list()) each(uuid_to_element(domain->view().uuid), &domain->view());
}

Subject DomainObject::subject(const Call& call) {
    return subject_of_path(domains_, call);
}

Task<> DomainObject::done(JobPtr job) {
    return answer_when_done(jobs_, std::move(job));
}

Task<ObjectPath> DomainObject::start(Call& call, DomainStartOptions options) {
    const StartOptions how{options.paused, options.autodestroy, options.bypass_cache, options.force_boot,
                           options.reset_nvram};
    co_return co_await answer_with_job(jobs_, get(call)->start(how, call.caller()), options.no_wait);
}

Task<> DomainObject::set_autostart(Call& call, bool autostart) {
    co_await done(get(call)->set_autostart(autostart, call.caller()));
}

Task<> DomainObject::shutdown(Call& call, DomainShutdownOptions options) {
    co_await done(get(call)->shutdown(mode_of(std::move(options.mode)), call.caller()));
}

Task<> DomainObject::reboot(Call& call, DomainRebootOptions options) {
    co_await done(get(call)->reboot(mode_of(std::move(options.mode)), call.caller()));
}

Task<> DomainObject::reset(Call& call) {
    co_await done(get(call)->reset(call.caller()));
}
Task<> DomainObject::suspend(Call& call) {
    co_await done(get(call)->suspend(call.caller()));
}
Task<> DomainObject::inject_nmi(Call& call) {
    co_await done(get(call)->inject_nmi(call.caller()));
}
Task<> DomainObject::resume(Call& call) {
    co_await done(get(call)->resume(call.caller()));
}

Task<ObjectPath> DomainObject::stop(Call& call, DomainStopOptions options) {
    const StopOptions how{options.graceful};
    co_return co_await answer_with_job(jobs_, get(call)->stop(how, call.caller()), options.no_wait);
}

Task<> DomainObject::undefine(Call& call, DomainUndefineOptions options) {
    const UndefineOptions how{options.managed_save, options.snapshots_metadata, options.checkpoints_metadata,
                              options.nvram,        options.keep_nvram,         options.tpm,
                              options.keep_tpm};
    co_await done(get(call)->undefine(how, call.caller()));
}

Task<> DomainObject::rename(Call& call, std::string name) {
    co_await done(get(call)->rename(std::move(name), call.caller()));
}

Task<std::string> DomainObject::get_xml(Call& call, DomainGetXMLOptions options) {
    co_return get(call)->xml({options.inactive, options.secure, options.migratable});
}

Task<ObjectPath> DomainObject::save(Call& call, std::string file, DomainSaveOptions options) {
    const SaveOptions how{std::move(options.xml), options.running, options.paused, options.bypass_cache,
                          std::move(options.compression)};
    co_return co_await answer_with_job(jobs_, get(call)->save(std::move(file), how, call.caller()), options.no_wait);
}

Task<ObjectPath> DomainObject::managed_save(Call& call, DomainManagedSaveOptions options) {
    const SaveOptions how{{}, options.running, options.paused, options.bypass_cache, std::move(options.compression)};
    co_return co_await answer_with_job(jobs_, get(call)->managed_save(how, call.caller()), options.no_wait);
}

Task<> DomainObject::remove_managed_save(Call& call) {
    co_await done(get(call)->remove_managed_save(call.caller()));
}

Task<> DomainObject::attach_device(Call& call, std::string xml, DomainAttachDeviceOptions options) {
    co_await done(get(call)->attach_device(std::move(xml), scope_of(options.scope), options.force, call.caller()));
}

Task<> DomainObject::detach_device(Call& call, std::string xml, DomainDetachDeviceOptions options) {
    co_await done(get(call)->detach_device(std::move(xml), scope_of(options.scope), options.force, call.caller()));
}

Task<> DomainObject::update_device(Call& call, std::string xml, DomainUpdateDeviceOptions options) {
    co_await done(get(call)->update_device(std::move(xml), scope_of(options.scope), options.force, call.caller()));
}

Task<> DomainObject::set_memory(Call& call, std::uint64_t bytes, DomainSetMemoryOptions options) {
    co_await done(get(call)->set_memory(bytes, scope_of(options.scope), options.maximum, call.caller()));
}

Task<> DomainObject::set_vcpus(Call& call, std::uint32_t count, DomainSetVCpusOptions options) {
    co_await done(get(call)->set_vcpus(count, scope_of(options.scope), options.maximum, call.caller()));
}

Task<> DomainObject::set_metadata(Call& call, std::string kind, std::string uri, std::string key, std::string xml,
                                  DomainSetMetadataOptions options) {
    co_await done(get(call)->set_metadata(std::move(kind), std::move(uri), std::move(key), std::move(xml),
                                          scope_of(options.scope), call.caller()));
}

Task<std::string> DomainObject::get_metadata(Call& call, std::string kind, std::string uri,
                                             DomainGetMetadataOptions options) {
    co_return get(call)->metadata(std::move(kind), std::move(uri), scope_of(options.scope));
}

Task<Dictionary> DomainObject::get_stats(Call& call, DomainGetStatsOptions options) {
    const DomainPtr domain = get(call);
    co_return stats_dictionary(co_await domain->stats(std::move(options.groups)));
}

Task<> DomainObject::send_key(Call& call, std::vector<std::string> keys) {
    const DomainPtr domain = get(call);
    co_await domain->send_key(std::move(keys));
}

Task<DomainScreenshotResult> DomainObject::screenshot(Call& call, std::uint32_t screen) {
    const DomainPtr domain = get(call);
    const Screenshot taken = co_await domain->screenshot(screen);
    co_return DomainScreenshotResult{sealed_file("virtbus-screenshot", taken.png), "image/png"};
}

Task<Fd> DomainObject::open_console(Call& call, std::string name, DomainOpenConsoleOptions options) {
    const DomainPtr domain = get(call);
    co_return co_await domain->open_console(std::move(name), options.force);
}

Task<Fd> DomainObject::open_display(Call& call, DomainOpenDisplayOptions options) {
    const DomainPtr domain = get(call);
    co_return co_await domain->open_display(std::move(options.type));
}

Task<DomainCreateSnapshotResult> DomainObject::create_snapshot(Call& call, std::string xml,
                                                               DomainCreateSnapshotOptions options) {
    const DomainPtr domain = get(call);
    const SnapshotCreateOptions how{options.redefine,  options.current,        options.no_metadata, options.halt,
                                    options.disk_only, options.reuse_external, options.quiesce,     options.atomic,
                                    options.live,      options.validate};
    const MomentJob made = domain->snapshots().create(std::move(xml), how, call.caller());
    const ObjectPath snapshot =
        options.no_metadata ? no_object : ObjectPath{snapshot_path(domain->view().uuid, made.name)};
    co_return DomainCreateSnapshotResult{snapshot, co_await answer_with_job(jobs_, made.job, options.no_wait)};
}

Task<ObjectPath> DomainObject::get_snapshot(Call& call, std::string name) {
    const DomainPtr domain = get(call);
    co_return ObjectPath{snapshot_path(domain->view().uuid, domain->snapshots().get(name).name)};
}

Task<Fd> DomainObject::export_snapshots(Call& call) {
    const DomainPtr domain = get(call);
    std::string document = co_await domain->snapshots().export_all();
    auto seal = [document = std::move(document)] { return sealed_file("virtbus-snapshots", document); };
    co_return co_await workers_.run("the export of snapshots", std::move(seal), std::nullopt);
}

/// What callers have handed over and is being imported is bounded for all of them together.
Task<std::vector<ObjectPath>> DomainObject::import_snapshots(Call& call, Fd file) {
    const DomainPtr domain = get(call);
    const auto size = require_sealed(file, most_imported, import_argument);
    if (importing_ + size > most_imported)
        throw Error{Code::limits_exceeded, fmt::format("imports under way hold {} of {} bytes; wait for one of them",
                                                       importing_, most_imported)};
    importing_ += size;
    const std::shared_ptr<void> held{nullptr, [this, size](void*) { importing_ -= size; }};
    auto read = [file = std::make_shared<Fd>(std::move(file)), size] {
        return read_sealed(*file, size, import_argument);
    };
    std::string document = co_await workers_.run("the reading of snapshots", std::move(read), std::nullopt);
    std::vector<ObjectPath> paths;
    for (const auto& name : co_await domain->snapshots().import_all(std::move(document), call.caller()))
        paths.push_back({snapshot_path(domain->view().uuid, name)});
    co_return paths;
}

Task<ObjectPath> DomainObject::create_checkpoint(Call& call, std::string xml, DomainCreateCheckpointOptions options) {
    const DomainPtr domain = get(call);
    const CheckpointCreateOptions how{options.redefine, options.validate_bitmaps, options.quiesce};
    const MomentJob made = domain->checkpoints().create(std::move(xml), how, call.caller());
    co_await done(made.job);
    co_return ObjectPath{checkpoint_path(domain->view().uuid, made.name)};
}

Task<ObjectPath> DomainObject::get_checkpoint(Call& call, std::string name) {
    const DomainPtr domain = get(call);
    co_return ObjectPath{checkpoint_path(domain->view().uuid, domain->checkpoints().get(name).name)};
}

}  // namespace virtbus::dbus
