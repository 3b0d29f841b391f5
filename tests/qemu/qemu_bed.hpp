// SPDX-License-Identifier: LGPL-2.1-or-later
// Runs real guests through the driver and the real ports, with plain processes for units, and notes what they tell.
#pragma once

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "plain_units.hpp"
#include "qemu/driver.hpp"
#include "tests/drivers/host_bed.hpp"
#include "tests/qemu/notes.hpp"
#include "virtbus/link_mover.hpp"

namespace virtbus::tests {

/// Opens files with the test's own rights.
struct PlainResources : Resources, LinkMover {
    std::stop_source stopping;
    std::string password;  ///< what every secret is

    static Fd open_or_throw(const std::string& path, int flags) {
        Fd fd{::open(path.c_str(), flags | O_CLOEXEC, 0600)};
        if (!fd) throw Error{Code::invalid_state, path + ": " + std::strerror(errno)};
        return fd;
    }
    Task<Fd> open_file(std::string path, Access access) override {
        co_return open_or_throw(path, access == Access::read ? O_RDONLY : O_RDWR);
    }
    Task<Fd> create_file(std::string path) override { co_return open_or_throw(path, O_RDWR | O_CREAT | O_TRUNC); }
    Task<Fd> open_log(std::string path) override {
        std::filesystem::create_directories(std::filesystem::path{path}.parent_path());
        co_return open_or_throw(path, O_WRONLY | O_CREAT | O_APPEND);
    }
    Task<Link> open_link(LinkRequest request) override {
        if (!links) throw Error{Code::unsupported, "no links in this test"};
        const auto shown = resolve(request.interface);
        const auto alias = request.interface.info.alias;
        auto link = co_await links->open_link(std::move(request), in(Duration{60000}));
        keys[alias] = link.undo_key;
        link.interface = shown;
        co_return link;
    }
    Task<Link> move_link(LinkRequest request) override {
        const auto shown = resolve(request.interface);
        auto& key = keys.at(request.interface.info.alias);
        auto link =
            co_await dynamic_cast<MovableLinks&>(*links).move_link(key, std::move(request), in(Duration{60000}));
        key = link.undo_key;
        link.interface = shown;
        co_return link;
    }
    /// What stands for networks: the name of one is its bridge's. What the guest is shown is returned.
    static std::optional<Interface> resolve(Interface& interface) {
        if (interface.type != InterfaceType::network) return std::nullopt;
        interface.source->bridge = interface.source->network;
        auto shown = interface;
        interface.type = InterfaceType::bridge;
        return shown;
    }
    LinkProvider* links = nullptr;            ///< null: none are made
    std::map<std::string, std::string> keys;  ///< of links, by the devices' aliases
    Task<std::string> secret(SecretRef) override { co_return password; }
    std::stop_token stop() const override { return stopping.get_token(); }
};

struct QemuBed {
    QemuBed() = default;
    QemuBed(const QemuBed&) = delete;
    QemuBed& operator=(const QemuBed&) = delete;

    HostBed host{[](Loop& loop) -> std::unique_ptr<Units> {
        const char* launcher = std::getenv("VIRTBUS_LAUNCHER");
        if (!launcher) throw std::runtime_error{"VIRTBUS_LAUNCHER must name virtbus-launch"};
        return std::make_unique<systemd::PlainUnits>(loop, launcher, std::nullopt);
    }};
    PlainResources resources;
    qemu::GuestTimes times;
    std::unique_ptr<qemu::QemuDriver> driver = std::make_unique<qemu::QemuDriver>(host.ports, times);
    std::uint32_t last_id = 0;
    bool reset_nvram = false;             ///< for the next start
    std::vector<std::string> unfinished;  ///< what the starts left on record on their way

    void set_times(const qemu::GuestTimes& changed) {
        times = changed;
        driver = std::make_unique<qemu::QemuDriver>(host.ports, times);
    }
    /// A machine with little in it.
    static DomainConfig bare(std::string name = "bare") {
        DomainConfig config;
        config.type = "qemu";
        config.name = std::move(name);
        config.uuid = "11111111-2222-3333-4444-555555555555";
        config.memory = config.current_memory = 64ULL << 20;
        config.vcpu = 1;
        config.os.arch = "x86_64";
        config.os.machine = "q35";
        return config;
    }
    std::unique_ptr<Guest> start(DomainConfig config, Notes& notes, bool paused = false) {
        host.run(complete(*driver, config));
        StartRequest request{.config = std::move(config),
                             .id = ++last_id,
                             .paused = paused,
                             .reset_nvram = std::exchange(reset_nvram, false),
                             .resources = resources,
                             .events = notes,
                             .deadline = in(Duration{60000}),
                             .stop = resources.stop(),
                             .unfinished = [this](std::string state) { unfinished.push_back(std::move(state)); }};
        auto guest = host.run(driver->start(std::move(request)));
        started_.emplace_back(static_cast<int>(::syscall(SYS_pidfd_open, guest->pid(), 0)));
        return guest;
    }
    template <class T>
    T run(Task<T> task) {
        return host.run(std::move(task));
    }
    void run_until(const std::function<bool()>& condition) { host.run_until(condition); }
    /// The latest one, readable at its end.
    const Fd& pidfd() const { return started_.back(); }
    /// Ends what still runs and waits for it.
    void stop(Guest& guest, Notes& notes) {
        guest.kill(false);
        run_until([&] { return notes.ended(); });
    }
    /// "UnsupportedConfiguration: why" of a start.
    std::string refusal(DomainConfig config, Notes& notes) {
        try {
            const auto guest = start(std::move(config), notes);
            stop(*guest, notes);
        } catch (const Error& error) {
            return fmt::format("{}: {}", word(error.code()), error.what());
        }
        return "it started";
    }

    /// A test that fails leaves no guest behind.
    ~QemuBed() {
        for (const auto& process : started_) ::syscall(SYS_pidfd_send_signal, process.get(), SIGKILL, nullptr, 0);
    }

private:
    std::vector<Fd> started_;
    static Task<> complete(qemu::QemuDriver& driver, DomainConfig& config) {
        co_await driver.complete(config, nullptr);
    }
};

}  // namespace virtbus::tests
