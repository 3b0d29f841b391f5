// SPDX-License-Identifier: LGPL-2.1-or-later
// A guest whose QEMU is played by the test: what its events, its silence and its nonsense do to the domain.
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <csignal>
#include <nlohmann/json.hpp>

#include "qemu/driver.hpp"
#include "qemu/guest_record.hpp"
#include "qemu/json.hpp"
#include "qemu/line_reader.hpp"
#include "qemu/starter.hpp"
#include "tests/drivers/host_bed.hpp"
#include "tests/qemu/notes.hpp"

namespace virtbus::qemu {
namespace {

using nlohmann::json;
using tests::HostBed;
using tests::Notes;

/// A process that does nothing, in QEMU's place.
struct Sleeper final : Units {
    pid_t pid = ::fork();
    bool reaped = false;

    Sleeper() {
        if (pid == 0) {
            for (;;) ::pause();
        }
    }
    ~Sleeper() override {
        if (reaped) return;
        ::kill(pid, SIGKILL);
        ::waitpid(pid, nullptr, 0);
    }
    Task<Unit> start(UnitRequest, Deadline, std::stop_token) override { co_return Unit{}; }
    std::optional<Unit> adopt(std::uint32_t wanted, std::uint64_t, const std::string&) override {
        return Unit{wanted, Fd{static_cast<int>(::syscall(SYS_pidfd_open, pid, 0))}, {}};
    }
    void kill(const Unit&, bool graceful) override { ::kill(pid, graceful ? SIGTERM : SIGKILL); }
    Task<> allow(std::string, std::uint32_t, UnitGrant, Deadline) override { co_return; }
    Task<> deny(std::string, UnitGrant, Deadline) override { co_return; }
    Task<ExitStatus> exit_status(std::string, std::uint32_t, Deadline) override {
        int status = 0;
        if (!reaped) ::waitpid(pid, &status, 0);
        reaped = true;
        co_return ExitStatus{true, WIFEXITED(status) ? WEXITSTATUS(status) : 0,
                             WIFSIGNALED(status) ? WTERMSIG(status) : 0};
    }
};

struct Stage {
    Sleeper* sleeper = nullptr;
    HostBed host{[this](Loop&) -> std::unique_ptr<Units> {
        auto made = std::make_unique<Sleeper>();
        sleeper = made.get();
        return made;
    }};
    Notes notes;
    Fd listening, peer;
    Registration accepting, reading;
    LineReader lines{1U << 20};
    std::vector<std::string> commands;
    std::map<std::string, json> answers;  ///< by command; {} when not listed
    bool mute = false;
    std::unique_ptr<QemuDriver> driver;
    std::unique_ptr<Guest> guest;

    explicit Stage(DomainConfig config = {}) {
        GuestTimes times;
        times.patience = times.adoption = Duration{2000};
        times.verb = Duration{5000};
        times.reconnect = Duration{1};
        GuestRecord record;
        record.pid = static_cast<std::uint32_t>(sleeper->pid);
        record.start_time = process_start_time(record.pid);
        record.folder = host.folder.path() + "/guest";
        host.files.make_folder(record.folder, 0700);
        record.monitor = record.folder + "/monitor.sock";
        record.state = State::running;
        record.reason = "booted";
        listening = listen_at(record.monitor);
        accepting = host.loop.watch(listening.get(), readable, [this](unsigned) { accept_one(); });
        answers["query-status"] = json{{"status", "running"}};
        driver = std::make_unique<QemuDriver>(host.ports, times);
        config.name = "web";
        GuestEnd end;
        guest = host.run(driver->adopt(std::move(config), record.text(), notes, end));
    }

    void accept_one() {
        peer = Fd{::accept4(listening.get(), nullptr, nullptr, SOCK_CLOEXEC)};
        lines = LineReader{1U << 20};
        say("{\"QMP\":{}}\n");
        reading = host.loop.watch(peer.get(), readable, [this](unsigned) { hear(); });
    }
    void hear() {
        char buffer[4096];
        const auto got = ::recv(peer.get(), buffer, sizeof buffer, MSG_DONTWAIT);
        if (got <= 0) return reading.reset();
        lines.feed({buffer, static_cast<std::size_t>(got)});
        while (const auto line = lines.next()) {
            const auto message = json::parse(*line);
            commands.push_back(text(message, "execute"));
            if (mute) continue;
            const auto known = answers.find(commands.back());
            say(json{{"return", known == answers.end() ? json::object() : known->second}, {"id", message["id"]}}
                    .dump() +
                "\n");
        }
    }
    void say(std::string_view words) const { ::send(peer.get(), words.data(), words.size(), MSG_NOSIGNAL); }
    void event(const char* name, const json& data = json::object()) const {
        say(json{{"event", name}, {"data", data}}.dump() + "\n");
    }
    bool asked(const char* command) const {
        return std::find(commands.begin(), commands.end(), command) != commands.end();
    }
    void wait_for(const std::string& note) {
        host.run_until([&] { return notes.has(note); }, Duration{10000});
    }
    template <class F>
    void wait(F condition) {
        host.run_until(condition, Duration{10000});
    }
};

DomainConfig with_devices() {
    DomainConfig config;
    config.memory = config.current_memory = 1ULL << 30;
    auto& disk = config.devices.disks.emplace_back();
    disk.info.alias = "virtio-disk0";
    disk.target.dev = "vda";
    auto& channel = config.devices.channels.emplace_back();
    channel.info.alias = "channel0";
    channel.target.emplace().name = "org.qemu.guest_agent.0";
    config.clock.emplace().offset = "variable";
    return config;
}

TEST(GuestEvents, StatesReachTheOwner) {
    Stage stage;
    stage.wait_for("state running booted");
    stage.event("STOP");
    stage.wait_for("state paused unknown");
    stage.event("RESUME");
    stage.wait_for("state running unpaused");
    stage.event("RESET", json{{"guest", true}});
    stage.wait_for("rebooted");
    stage.event("SUSPEND");
    stage.wait_for("state pmsuspended guest");
    stage.host.run(stage.guest->resume({}));
    EXPECT_TRUE(stage.asked("system_wakeup"));
}

TEST(GuestEvents, MissedEventsAreMadeUpFor) {
    Stage stage;
    stage.wait_for("state running booted");
    stage.answers["query-status"] = json{{"status", "io-error"}};
    stage.say("rubbish\n");
    stage.wait_for("silent");
    stage.wait_for("responsive");
    stage.wait_for("state paused io-error");
}

TEST(GuestEvents, ALostMonitorIsTriedAgain) {
    Stage stage;
    stage.wait_for("state running booted");
    stage.peer = Fd{};
    stage.wait_for("silent");
    stage.wait_for("responsive");
    stage.host.run(stage.guest->suspend({}));
    EXPECT_TRUE(stage.asked("stop"));
}

TEST(GuestEvents, IoErrorsNameTheDevice) {
    Stage stage{with_devices()};
    stage.answers["query-block"] = json::parse(
        R"([{"device":"","qdev":"/machine/peripheral/virtio-disk0/virtio-backend","inserted":{"node-name":"libvirt-1-format"}}])");
    stage.event("BLOCK_IO_ERROR",
                json{{"device", ""}, {"node-name", "libvirt-1-format"}, {"action", "stop"}, {"nospace", true}});
    stage.event("STOP");
    stage.wait_for("io-error virtio-disk0 stop enospc");
    EXPECT_TRUE(stage.notes.has("state paused io-error"));
}

TEST(GuestEvents, TheLiveDefinitionFollows) {
    Stage stage{with_devices()};
    stage.event("BALLOON_CHANGE", json{{"actual", 512U << 20}});
    stage.wait([&] { return stage.guest->config().current_memory == 512U << 20; });
    stage.event("RTC_CHANGE", json{{"offset", -3600}});
    stage.wait([&] { return stage.guest->config().clock->adjustment == "-3600"; });
    stage.event("VSERPORT_CHANGE", json{{"id", "channel0"}, {"open", true}});
    stage.wait_for("agent");
    EXPECT_EQ(stage.notes.config.devices.channels[0].target->state, "connected");
    stage.event("DEVICE_TRAY_MOVED", json{{"id", "virtio-disk0"}, {"tray-open", true}});
    stage.wait([&] { return stage.guest->config().devices.disks[0].target.tray == "open"; });
    stage.event("DEVICE_UNPLUG_GUEST_ERROR", json{{"device", "virtio-disk0"}});
    stage.wait_for("stays virtio-disk0");
    stage.event("DEVICE_DELETED", json{{"device", "virtio-disk0"}, {"path", "/machine/peripheral/virtio-disk0"}});
    stage.wait_for("removed virtio-disk0");
    EXPECT_TRUE(stage.guest->config().devices.disks.empty());
    stage.event("WATCHDOG", json{{"action", "reset"}});
    stage.wait_for("watchdog reset");
}

TEST(GuestEvents, OfAnotherShapeDoNoHarm) {
    Stage stage{with_devices()};
    for (const auto* name : {"BALLOON_CHANGE", "RTC_CHANGE", "BLOCK_IO_ERROR", "WATCHDOG", "DEVICE_DELETED",
                             "DEVICE_UNPLUG_GUEST_ERROR", "VSERPORT_CHANGE", "DEVICE_TRAY_MOVED", "STOP"})
        for (const auto& data :
             {json{}, json(7), json::array(), json{{"id", 7}, {"actual", "x"}, {"open", 3}, {"offset", 1.5}}})
            stage.event(name, data);
    stage.event("WATCHDOG", json{{"action", "last"}});
    stage.wait_for("watchdog last");
    EXPECT_EQ(stage.guest->config().devices.disks.size(), 1U);
}

TEST(GuestEvents, ARestartFollowsAPowerOff) {
    DomainConfig config;
    config.on_poweroff = "restart";
    Stage stage{std::move(config)};
    stage.wait_for("state running booted");
    stage.event("SHUTDOWN", json{{"guest", true}, {"reason", "guest-shutdown"}});
    stage.wait([&] { return stage.asked("cont"); });
    EXPECT_TRUE(stage.asked("system_reset"));
}

TEST(GuestEvents, ThePidfdHasTheLastWord) {
    Stage stage;
    stage.wait_for("state running booted");
    // Both are there before the loop looks: the event counts all the same.
    ::kill(stage.sleeper->pid, SIGKILL);
    siginfo_t info{};
    ASSERT_EQ(::waitid(P_PID, static_cast<id_t>(stage.sleeper->pid), &info, WEXITED | WNOWAIT), 0);
    stage.event("SHUTDOWN", json{{"guest", true}, {"reason", "guest-shutdown"}});
    stage.wait([&] { return stage.notes.ended(); });
    EXPECT_EQ(stage.notes.list.back(), "ended shutdown");
}

TEST(GuestEvents, ASilentGuestCanBeKilled) {
    Stage stage;
    stage.wait_for("state running booted");
    stage.mute = true;
    bool refused = false;
    const auto timer = stage.host.loop.after(Duration{1}, [&] { stage.guest->kill(false); });
    try {
        stage.host.run(stage.guest->suspend({}));
    } catch (const Error& error) {
        refused = error.code() == Code::cancelled;
    }
    EXPECT_TRUE(refused);
    stage.wait([&] { return stage.notes.ended(); });
    EXPECT_EQ(stage.notes.list.back(), "ended destroyed");
}

}  // namespace
}  // namespace virtbus::qemu
