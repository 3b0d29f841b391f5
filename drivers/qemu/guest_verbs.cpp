// SPDX-License-Identifier: LGPL-2.1-or-later
#include "qemu/guest_verbs.hpp"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "qemu/agent/agent.hpp"
#include "qemu/backup/bitmap_work.hpp"
#include "qemu/block/disk_work.hpp"
#include "qemu/hotplug/plug.hpp"
#include "qemu/json.hpp"
#include "qemu/migration.hpp"
#include "qemu/stats.hpp"

namespace virtbus::qemu {

using nlohmann::json;

namespace {

/// Which way a shutdown or reboot goes: true for the guest agent.
bool is_by_agent(const ShutdownMode& mode) {
    if (mode == "agent") return true;
    if (mode.empty() || mode == "default" || mode == "acpi") return false;
    throw Error{Code::invalid_args, fmt::format("mode \"{}\" is unknown; there are default, acpi and agent", mode)};
}

json base_actions(const GuestCore& core, bool rebooting) {
    return core.life.policy().actions(core.watchdog_action(), rebooting);
}

}  // namespace

Task<> resume(CorePtr core, std::stop_token stop) {
    const char* command = core->life.state() == State::pmsuspended ? "system_wakeup" : "cont";
    co_await core->open_monitor().execute(command, core->verb_deadline(), stop);
}

Task<> suspend(CorePtr core, std::stop_token stop) {
    core->life.expect_stop("user");
    std::exception_ptr failure;
    try {
        co_await core->open_monitor().execute("stop", core->verb_deadline(), stop);
    } catch (const Error& error) {
        if (error.code() == Code::hypervisor_failed) core->life.expect_stop({});
        failure = std::current_exception();
    }
    if (failure) std::rethrow_exception(failure);
}

namespace {

/// An end is one from here on, also where a reboot was asked for before.
Task<> expect_end(CorePtr core, std::stop_token stop) {
    auto& monitor = core->open_monitor();
    if (!core->life.expects_reboot()) co_return;
    core->life.expect_reboot(false);
    co_await monitor.execute("set-action", base_actions(*core, false), core->verb_deadline(), stop);
}

}  // namespace

Task<> shutdown(CorePtr core, ShutdownMode mode, Task<> ask_agent, std::stop_token stop) {
    const bool by_agent = is_by_agent(mode);
    co_await expect_end(core, stop);
    if (by_agent) co_return co_await ask_agent;
    co_await core->open_monitor().execute("system_powerdown", core->verb_deadline(), stop);
}

Task<> reboot(CorePtr core, ShutdownMode mode, Task<> ask_agent, std::stop_token stop) {
    if (is_by_agent(mode)) co_return co_await ask_agent;
    auto& monitor = core->open_monitor();
    // The guest powers off as it would for a shutdown; instead of ending, the machine is reset.
    core->life.expect_reboot(true);
    const auto held = monitor.send("set-action", base_actions(*core, true));
    const auto pressed = monitor.send("system_powerdown");
    co_await held.get(core->verb_deadline(), stop);
    co_await pressed.get(core->verb_deadline(), stop);
}

Task<> reset(CorePtr core, std::stop_token stop) {
    auto& monitor = core->open_monitor();
    const auto allowed = monitor.send("set-action", json{{"reboot", "reset"}});
    const auto done = monitor.send("system_reset");
    monitor.send("set-action", base_actions(*core, core->life.expects_reboot()));
    co_await allowed.get(core->verb_deadline(), stop);
    co_await done.get(core->verb_deadline(), stop);
}

Task<> inject_nmi(CorePtr core, std::stop_token stop) {
    co_await core->open_monitor().execute("inject-nmi", core->verb_deadline(), stop);
}

namespace {

class QemuGuest final : public Guest {
public:
    QemuGuest(CorePtr core, CapabilitiesOf capabilities)
        : core_{std::move(core)},
          capabilities_{std::move(capabilities)},
          bitmap_work_{make_bitmap_work(core_)},
          agent_{core_} {}
    ~QemuGuest() override { core_->detach(); }

    std::uint32_t pid() const override { return core_->record.pid; }
    std::string unit() const override { return core_->record.unit; }
    std::string driver_state() const override { return core_->record.text(); }
    const DomainConfig& config() const override { return core_->config; }

    Task<> resume(std::stop_token stop) override { return qemu::resume(core_, stop); }
    Task<> suspend(std::stop_token stop) override { return qemu::suspend(core_, stop); }
    Task<> shutdown(ShutdownMode mode, std::stop_token stop) override {
        return qemu::shutdown(core_, mode, agent_.shut_down("powerdown", stop), stop);
    }
    Task<> reboot(ShutdownMode mode, std::stop_token stop) override {
        return qemu::reboot(core_, mode, agent_.shut_down("reboot", stop), stop);
    }
    Agent* agent() override { return &agent_; }
    Task<> reset(std::stop_token stop) override { return qemu::reset(core_, stop); }
    Task<> inject_nmi(std::stop_token stop) override { return qemu::inject_nmi(core_, stop); }
    void kill(bool graceful) override { core_->kill(graceful); }
    Task<> save(Fd target, ProgressSink progress, std::stop_token stop, bool live) override {
        return qemu::save(core_, std::move(target), std::move(progress), stop, live);
    }
    Task<> undo_save(bool running) override { return qemu::undo_save(core_, running); }
    Task<> attach(DeviceRequest request, std::stop_token stop) override {
        return with_capabilities(core_, capabilities_, &qemu::attach, std::move(request), std::move(stop));
    }
    Task<> detach(std::string alias, bool, std::stop_token stop) override {
        return qemu::detach(core_, std::move(alias), std::move(stop));
    }
    Task<> update(DeviceRequest request, std::stop_token stop) override {
        return with_capabilities(core_, capabilities_, &qemu::update, std::move(request), std::move(stop));
    }
    Task<> set_memory(std::uint64_t bytes, std::stop_token stop) override {
        return qemu::set_memory(core_, bytes, std::move(stop));
    }
    Task<> set_vcpus(std::uint32_t count, std::stop_token stop) override {
        return qemu::set_vcpus(core_, count, std::move(stop));
    }
    BitmapWork* bitmap_work() override { return bitmap_work_.get(); }
    DiskWork* disk_work() override { return &disk_work_; }
    Task<Stats> stats(std::stop_token stop) override { return sample_stats(core_, std::move(stop)); }
    Task<> send_key(std::vector<std::string> keys, std::stop_token stop) override {
        return qemu::send_key(core_, std::move(keys), stop);
    }
    Task<Screenshot> screenshot(std::uint32_t screen, std::stop_token stop) override {
        return qemu::screenshot(core_, screen, stop);
    }
    Task<Fd> open_console(std::string name, bool force, std::stop_token) override {
        return qemu::open_console(core_, std::move(name), force);
    }
    Task<Fd> open_display(std::string type, std::stop_token stop) override {
        return qemu::open_display(core_, std::move(type), stop);
    }

private:
    using DeviceVerb = Task<> (*)(CorePtr, Known, DeviceRequest, std::stop_token);
    static Task<> with_capabilities(CorePtr core, CapabilitiesOf capabilities, DeviceVerb verb, DeviceRequest request,
                                    std::stop_token stop) {
        auto known = co_await capabilities(core->config);
        co_await verb(core, std::move(known), std::move(request), std::move(stop));
    }

    CorePtr core_;
    CapabilitiesOf capabilities_;
    std::unique_ptr<BitmapWork> bitmap_work_;
    QemuAgent agent_;
    QemuDiskWork disk_work_{core_};
};

}  // namespace

std::unique_ptr<Guest> make_guest(std::shared_ptr<GuestCore> core, CapabilitiesOf capabilities) {
    return std::make_unique<QemuGuest>(std::move(core), std::move(capabilities));
}

}  // namespace virtbus::qemu
