// SPDX-License-Identifier: LGPL-2.1-or-later
#include "qemu/guest.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "qemu/backup/bitmap_work.hpp"
#include "qemu/block/follow.hpp"
#include "qemu/guest_folder.hpp"
#include "qemu/helpers/helpers.hpp"
#include "qemu/hotplug/plug.hpp"
#include "qemu/json.hpp"
#include "qemu/live_config.hpp"

namespace virtbus::qemu {

using nlohmann::json;

GuestCore::GuestCore(Ports& ports_, Scope& scope_, const GuestTimes& times_, GuestEvents& events, DomainConfig config_,
                     GuestRecord record_)
    : ports{ports_},
      scope{scope_},
      times{times_},
      config{std::move(config_)},
      record{std::move(record_)},
      life{EndPolicy::from(config.on_poweroff, config.on_reboot, config.on_crash)},
      consoles{ports.loop},
      events_{&events} {}

std::string GuestCore::who() const {
    return fmt::format("domain '{}'", config.name);
}

std::string GuestCore::watchdog_action() const {
    if (config.devices.watchdogs.empty()) return {};
    const auto& action = config.devices.watchdogs.front().action;
    return action.empty() ? "reset" : action;
}

// ---- the owner

void GuestCore::emit(Event event) {
    if (!published_) {
        if (early_.size() < 1000) early_.push_back(std::move(event));
        return;
    }
    if (events_) event(*events_);
}

void GuestCore::publish() {
    ports.loop.post([self = shared_from_this()] {
        if (self->detached_) return;
        self->published_ = true;
        // A call may forget the guest.
        for (const auto& event : std::exchange(self->early_, {}))
            if (self->events_) event(*self->events_);
        if (self->detached_) return;
        if (self->gone_)
            self->scope.spawn(finish(self));
        else if (!self->monitor || !self->monitor->is_open())
            self->monitor_ended(
                Error{Code::hypervisor_failed, fmt::format("the monitor of {} is not connected", self->who())});
    });
}

void GuestCore::detach() {
    detached_ = true;
    events_ = nullptr;
    pidfd_watch_.reset();
    kill_timer_.reset();
    consoles.close_all();
    for (const auto& helper : helpers) helper->detach();
    if (monitor) monitor->close(Error{Code::hypervisor_failed, fmt::format("{} is no longer looked after", who())});
}

void GuestCore::config_changed() {
    emit([copy = config](GuestEvents& owner) { owner.config_changed(copy); });
}

void GuestCore::set_responsive(bool responsive) {
    if (std::exchange(responsive_, responsive) != responsive)
        emit([responsive](GuestEvents& owner) { owner.responsive_changed(responsive); });
}

// ---- the monitor

Monitor& GuestCore::open_monitor() const {
    if (!monitor) throw Error{Code::timeout, fmt::format("the monitor of {} does not answer", who())};
    return *monitor;
}

void GuestCore::connect() {
    const std::weak_ptr<GuestCore> weak = weak_from_this();
    Monitor::Handlers handlers;
    handlers.event = [weak](std::string_view name, const json& data) {
        if (const auto self = weak.lock()) self->on_event(name, data);
    };
    handlers.ended = [weak](const Error& why) {
        if (const auto self = weak.lock()) self->monitor_ended(why);
    };
    handlers.stalled = [weak](bool stalled) {
        if (const auto self = weak.lock()) self->set_responsive(!stalled);
    };
    Monitor::Options options;
    options.first_id = ports.clock.now();
    options.patience = times.patience;
    monitor =
        std::make_unique<Monitor>(ports.loop, connect_socket(record.monitor), who(), std::move(handlers), options);
}

void GuestCore::monitor_ended(const Error& why) {
    if (gone_ || detached_ || !published_ || reconnecting_) return;
    reconnecting_ = true;
    scope.spawn(reconnect(shared_from_this(), why.what()));
}

// The process may be about to go, which closes its monitor first: only one that stays is worth a new connection.
Task<> GuestCore::reconnect(std::shared_ptr<GuestCore> core, std::string why) {
    auto pause = core->times.reconnect;
    while (true) {
        co_await sleep(core->ports.loop, pause);
        if (core->gone_ || core->detached_) break;
        if (!why.empty())
            core->ports.log.warning(why, {{"DOMAIN", core->config.name}, {"DOMAIN_UUID", core->config.uuid}});
        why.clear();
        core->set_responsive(false);
        try {
            core->connect();
            const auto asked = core->monitor->send("qom-list", json{{"path", "/machine/peripheral"}});
            const auto status = co_await core->monitor->execute("query-status", core->verb_deadline());
            core->set_responsive(true);
            core->apply(core->life.on_status(text(status, "status")));
            co_await reconcile(core, co_await asked.get(core->verb_deadline()));
            co_await recover(core);
            co_await run_again(core);
            break;
        } catch (const std::exception&) {
            pause = std::min(pause * 2, Duration{30000});
        }
    }
    core->reconnecting_ = false;
}

void GuestCore::lost() {
    set_responsive(false);
    if (monitor && monitor->is_open()) scope.spawn(ask_status(shared_from_this()));
}

Task<> GuestCore::ask_status(std::shared_ptr<GuestCore> core) {
    try {
        const auto status = co_await core->monitor->execute("query-status", in(std::chrono::hours{24}));
        core->set_responsive(true);
        core->apply(core->life.on_status(text(status, "status")));
        co_await recover(core);
        co_await run_again(core);
    } catch (const Error&) {
        // The monitor has ended; a new connection asks again.
    }
}

// ---- events

namespace {

void resize_memory(GuestCore& core, const json& data) {
    for (auto& memory : core.config.devices.memories) {
        if (memory.info.alias.empty() || memory.info.alias != text(data, "id")) continue;
        memory.target.current = number(data, "size");
        core.tell_config();
    }
}

}  // namespace

void GuestCore::on_event(std::string_view name, const json& data) {
    static constexpr std::pair<std::string_view, Handler> handlers[] = {
        {"BALLOON_CHANGE", &GuestCore::on_balloon},        {"RTC_CHANGE", &GuestCore::on_clock},
        {"BLOCK_IO_ERROR", &GuestCore::on_io_error},       {"WATCHDOG", &GuestCore::on_watchdog},
        {"DEVICE_DELETED", &GuestCore::on_device_deleted}, {"DEVICE_UNPLUG_GUEST_ERROR", &GuestCore::on_unplug_error},
        {"MEM_UNPLUG_ERROR", &GuestCore::on_unplug_error}, {"VSERPORT_CHANGE", &GuestCore::on_port},
        {"DEVICE_TRAY_MOVED", &GuestCore::on_tray},        {"MIGRATION", &GuestCore::on_migration_news},
        {"JOB_STATUS_CHANGE", &GuestCore::on_job_news},    {"RESUME", &GuestCore::on_resume},
    };
    if (kill_timer_ && name == "SHUTDOWN") return;  // what our own signal has done is no news
    const auto self = shared_from_this();
    const auto step = life.on_event(name, data);
    for (const auto& [event, handler] : handlers)
        if (event == name) (this->*handler)(data);
    if (name == "MEMORY_DEVICE_SIZE_CHANGE") resize_memory(*this, data);
    apply(step);
}

void GuestCore::apply(const Lifecycle::Step& step) {
    record.state = life.state();
    record.reason = life.reason();
    record.rebooting = life.expects_reboot();
    if (step.changed)
        emit(
            [state = life.state(), reason = life.reason()](GuestEvents& owner) { owner.state_changed(state, reason); });
    if (step.rebooted) emit([](GuestEvents& owner) { owner.rebooted(); });
    if (step.task == Lifecycle::Task::kill) end_process(false);
    if (step.task == Lifecycle::Task::restart) scope.spawn(restart(shared_from_this()));
}

Task<> GuestCore::restart(std::shared_ptr<GuestCore> core) {
    // A reset must be one even where the guest's own reboots are to end the domain.
    const Monitor::Answer asked[] = {
        core->monitor->send("set-action", json{{"reboot", "reset"}}),
        core->monitor->send("system_reset"),
        core->monitor->send("cont"),
        core->monitor->send("set-action", core->life.policy().actions(core->watchdog_action())),
    };
    try {
        for (const auto& answer : asked) co_await answer.get(core->verb_deadline());
    } catch (const Error& error) {
        core->ports.log.warning(fmt::format("{} could not be restarted: {}", core->who(), error.what()),
                                {{"DOMAIN", core->config.name}, {"DOMAIN_UUID", core->config.uuid}});
    }
}

void GuestCore::on_balloon(const json& data) {
    const auto actual = number(data, "actual");
    if (actual == 0 || config.current_memory == actual) return;
    config.current_memory = actual;
    config_changed();
}

void GuestCore::on_clock(const json& data) {
    // Only a clock that keeps its distance to the host's remembers it.
    const auto& offset = member(data, "offset");
    if (!offset.is_number_integer() || !config.clock || config.clock->offset != "variable") return;
    config.clock->adjustment = fmt::format("{}", offset.get<std::int64_t>());
    config_changed();
}

void GuestCore::on_io_error(const json& data) {
    auto node = text(data, "node-name");
    if (node.empty()) node = text(data, "device");
    scope.spawn(name_io_error(shared_from_this(), std::move(node), text(data, "action"),
                              flag(data, "nospace") ? "enospc" : text(data, "reason")));
}

Task<> GuestCore::name_io_error(std::shared_ptr<GuestCore> core, std::string node, std::string action,
                                std::string reason) {
    std::string alias = node;
    try {
        const auto blocks = co_await core->monitor->execute("query-block", core->verb_deadline());
        for (const auto& block : blocks)
            if (text(block, "device") == node || text(member(block, "inserted"), "node-name") == node)
                alias = alias_of_path(text(block, "qdev"), node);
    } catch (const Error&) {
        // The node's own name has to do.
    }
    core->emit([alias, action, reason](GuestEvents& owner) { owner.io_error(alias, action, reason); });
}

void GuestCore::on_watchdog(const json& data) {
    emit([action = text(data, "action")](GuestEvents& owner) { owner.watchdog_fired(action); });
}

void GuestCore::on_device_deleted(const json& data) {
    const auto alias = text(data, "device");
    auto path = text(data, "path");
    if (alias.empty() && !departures.contains(path)) return;  // a part of a device, without a name of its own
    scope.spawn(release(shared_from_this(), alias, std::move(path)));
}

void GuestCore::tell_added(const std::string& alias) {
    keeps_bitmaps.reset();
    scope.spawn(look_for_bitmaps(shared_from_this()));
    emit([alias](GuestEvents& owner) { owner.device_added(alias); });
}

void GuestCore::tell_removed(const std::string& alias) {
    emit([alias](GuestEvents& owner) { owner.device_removed(alias); });
}

void GuestCore::tell_trouble(const std::string& alias, const std::string& reason) {
    emit([alias, reason](GuestEvents& owner) { owner.io_error(alias, "report", reason); });
}

void GuestCore::departed(const std::string& name) {
    const auto [first, last] = departures.equal_range(name);
    for (auto i = first; i != last; ++i) i->second.set();
}

void GuestCore::on_unplug_error(const json& data) {
    const auto alias = text(data, "device");
    const auto [first, last] = departures.equal_range(alias);
    for (auto i = first; i != last; ++i)
        i->second.fail(Error{Code::device_in_use, fmt::format("{}: the guest refuses to give '{}' up", who(), alias)});
    record.leaving.erase(alias);
    emit([alias](GuestEvents& owner) { owner.device_removal_failed(alias); });
}

void GuestCore::on_port(const json& data) {
    const bool open = flag(data, "open");
    for (auto& channel : config.devices.channels) {
        if (channel.info.alias != text(data, "id") || !channel.target) continue;
        channel.target->state = open ? "connected" : "disconnected";
        if (channel.target->name == "org.qemu.guest_agent.0")
            emit([open](GuestEvents& owner) { owner.agent_changed(open); });
        config_changed();
    }
}

void GuestCore::on_tray(const json& data) {
    const auto alias = text(data, "id");
    if (flag(data, "tray-open")) departed("tray " + alias);
    for (auto& disk : config.devices.disks) {
        if (alias.empty() || disk.info.alias != alias) continue;
        disk.target.tray = flag(data, "tray-open") ? "open" : "closed";
        config_changed();
    }
}

void GuestCore::on_migration_news(const json&) {
    for (const auto& waiting : std::exchange(waiting_for_migration_, {})) waiting.set();
}

void GuestCore::on_job_news(const json&) {
    for (const auto& waiting : std::exchange(waiting_for_job_, {})) waiting.set();
}

void GuestCore::on_resume(const json&) {
    if (!record.closing.empty()) scope.spawn(quietly(shared_from_this(), close_sets(shared_from_this())));
}

// ---- the process

void GuestCore::take_unit(Unit started) {
    unit = std::move(started);
    record.pid = unit.pid;
    record.unit = unit.name;
    if (record.start_time == 0) record.start_time = process_start_time(unit.pid);
    pidfd_watch_ = ports.loop.watch(unit.pidfd.get(), readable, [weak = weak_from_this()](unsigned) {
        if (const auto self = weak.lock()) self->process_gone();
    });
}

void GuestCore::take_helper(std::shared_ptr<HelperUnit> helper) {
    std::erase_if(record.helpers, [&](auto& each) { return each.alias == helper->record().alias; });
    record.helpers.push_back(helper->record());
    helpers.push_back(helper);
    helper->when_dead([weak = weak_from_this(), mine = std::weak_ptr{helper}] {
        const auto self = weak.lock();
        const auto dead = mine.lock();
        if (self && dead) self->scope.spawn(helper_ended(self, dead));
    });
}

void GuestCore::kill(bool graceful) {
    if (gone_) return;
    life.expect_kill();
    if (monitor) monitor->close(Error{Code::cancelled, fmt::format("{} is being stopped", who())});
    end_process(graceful);
}

/// What QEMU has to write that nobody else asks it to write. A qcow2 store: it holds back changes of its tables, and
/// firmware never asks for them, though for the guest its variables are safe. Bitmaps: an image that was not closed
/// has none that could be trusted.
Duration GuestCore::time_to_write() const {
    const bool store = config.os.nvram && config.os.nvram->format == "qcow2";
    const bool images = keeps_bitmaps.value_or(
        std::ranges::any_of(record.images, [](const auto& image) { return image.second.file.format == "qcow2"; }));
    // One that does not answer is likely not to write either.
    if (images && responsive_) return times.bitmaps;
    return images || store ? times.write_back : Duration{0};
}

void GuestCore::end_process(bool graceful) {
    const auto wait = graceful ? times.grace : kill_timer_ ? Duration{0} : time_to_write();
    const bool waits = wait > Duration{0};
    ports.units.kill(unit, waits);
    if (waits)
        kill_timer_ = ports.loop.after(wait, [weak = weak_from_this()] {
            if (const auto self = weak.lock()) self->ports.units.kill(self->unit, false);
        });
}

void GuestCore::process_gone() {
    pidfd_watch_.reset();
    kill_timer_.reset();
    const auto self = shared_from_this();
    // What it said last explains its end.
    if (monitor) {
        monitor->drain();
        monitor->close(Error{Code::hypervisor_failed, fmt::format("QEMU of {} has ended", who())});
    }
    gone_ = true;
    for (const auto& waiting : std::exchange(waiting_for_end_, {})) waiting.set();
    on_migration_news({});
    on_job_news({});
    for (const auto& [name, waiting] : departures)
        waiting.fail(Error{Code::hypervisor_failed, fmt::format("QEMU of {} has ended", who())});
    if (published_) scope.spawn(finish(self));
}

Task<bool> GuestCore::wait_gone(Deadline deadline) {
    if (gone_) co_return true;
    Reply<> reply{ports.loop};
    waiting_for_end_.push_back(reply.promise());
    try {
        co_await reply.wait("the end of " + who(), deadline);
    } catch (const Error&) {
        co_return gone_;
    }
    co_return true;
}

namespace {
Task<bool> exited_cleanly(Ports& ports, std::string unit, std::uint32_t pid) {
    try {
        const auto status = co_await ports.units.exit_status(std::move(unit), pid, in(Duration{5000}));
        co_return status.known&& status.code == 0 && status.signal == 0;
    } catch (const Error&) {
        co_return false;
    }
}
}  // namespace

Task<> GuestCore::finish(std::shared_ptr<GuestCore> core) {
    GuestEnd end;
    end.reason = core->life.end_reason(false);
    bool asked = false;
    if (end.reason == "crashed") {  // the one case where the exit code tells more
        asked = true;
        end.reason = core->life.end_reason(co_await exited_cleanly(core->ports, core->record.unit, core->record.pid));
    }
    try {
        if (end.reason == "crashed")
            end.last_words = co_await core->ports.workers.run(
                "reading the log",
                [log = core->record.log, start = core->record.log_start] { return last_words(log, start); },
                in(Duration{2000}));
    } catch (const Error&) {
        end.last_words.clear();
    }
    // Whoever hears of the end may remove the state of its TPM.
    for (const auto& helper : std::exchange(core->helpers, {})) co_await helper->end();
    core->emit([core = core.get(), end](GuestEvents& owner) {
        core->events_ = nullptr;
        owner.ended(end);
    });
    if (!asked) co_await exited_cleanly(core->ports, core->record.unit, core->record.pid);
    try {
        co_await remove_guest_folder(core->ports, core->record.folder);
    } catch (const Error& error) {
        core->ports.log.warning(
            fmt::format("folder {} of {} stays: {}", core->record.folder, core->who(), error.what()));
    }
}

std::string GuestCore::last_words(const std::string& log, std::uint64_t start) {
    constexpr std::size_t tail = 8192;
    const Fd file{::open(log.c_str(), O_RDONLY | O_CLOEXEC)};
    struct stat info{};
    if (!file || ::fstat(file.get(), &info) != 0) return {};
    const auto size = static_cast<std::uint64_t>(info.st_size);
    if (size < start) start = 0;  // the log was rotated meanwhile
    if (size == start) return {};
    std::string content(std::min<std::uint64_t>(tail, size - start), '\0');
    const auto got = ::pread(file.get(), content.data(), content.size(), static_cast<off_t>(size - content.size()));
    content.resize(got > 0 ? static_cast<std::size_t>(got) : 0);
    while (!content.empty() && (content.back() == '\n' || content.back() == '\r' || content.back() == ' '))
        content.pop_back();
    return excerpt(std::string_view{content}.substr(content.rfind('\n') + 1), 1000);
}

}  // namespace virtbus::qemu
