// SPDX-License-Identifier: LGPL-2.1-or-later
// virtbusd: wires the rooms together, serves until it is told to leave or has nothing to do, and leaves the guests
// alone.
#include <fmt/format.h>
#include <unistd.h>

#include <csignal>

#include "dbus/face.hpp"
#include "network/driver.hpp"
#include "network/links.hpp"
#include "polkit/access.hpp"
#include "polkit/authority.hpp"
#include "qemu/driver.hpp"
#include "service/event_log.hpp"
#include "service/host/folders.hpp"
#include "service/host/host.hpp"
#include "service/host/idle_exit.hpp"
#include "service/host/log.hpp"
#include "service/host/pci_devices.hpp"
#include "service/host/seal.hpp"
#include "service/machine_room.hpp"
#include "service/options.hpp"
#include "systemd/activation.hpp"
#include "systemd/choose_units.hpp"
#include "systemd/journal_log.hpp"
#include "systemd/notify.hpp"
#include "test/driver.hpp"
#include "virtbus/message_ids.hpp"

namespace virtbus {
namespace {

constexpr Duration manager_patience{5'000};
constexpr Duration drain_patience{10'000};  // twice that is less than the unit's TimeoutStopSec

/// The whole life of the daemon; returns when it is to end.
Task<> live(host::Host& host, Log& log, DaemonOptions options) {
    const systemd::UnitsChoice choice{
        .system_mode = options.system_mode, .launcher = options.launcher, .manager = !options.plain_guests};
    const auto units =
        co_await systemd::choose_units(host.loop, host.outside_workers, log, choice, in(manager_patience));
    Ports ports{host.loop,
                host.clock,
                host.outside_workers,
                host.files,
                host.spawner,
                log,
                *units,
                host::find_folders(options.system_mode),
                host::boot_id(),
                options.system_mode};
    host::KeySeal seal{host.files, ports.folders.state + "/seal.key"};
    ports.seal = &seal;
    host::SysfsPci pci{host.outside_workers};
    ports.pci = &pci;

    network::TapLinks links{host.outside_workers, &host.spawner};
    links.watch_filters(host.loop);
    network::VirtualNetworks networks{ports};
    qemu::QemuDriver qemu{ports};
    test_driver::TestDriver test{ports};

    polkit::SystemAuthority polkit{host.loop, log};
    polkit::OwnerAuthority owner{::getuid()};
    polkit::Access access{options.system_mode ? static_cast<Authority&>(polkit) : owner};
    const auto check = [&access](Caller caller, std::string action, dbus::Details details, std::stop_token stop) {
        return access.check(std::move(caller), std::move(action), std::move(details), std::move(stop));
    };

    Reply<> leave{host.loop};
    systemd::Notify notify{host.loop};
    dbus::Face face{host.loop, log, check, VIRTBUS_VERSION, options.system_mode};
    EventLog events{log, face.audience()};
    MachineRoom room{ports, {&qemu, &test}, &links, &networks, face.callers(), events};
    face.present(room.domains(), room.networks(), room.jobs(), host.outside_workers);

    co_await room.load();
    events.start();
    face.serve_bus([&](const std::string& why) { leave.promise().fail(Error{Code::internal, why}); });
    auto sockets = systemd::take_listening_sockets("virtbusd.socket");
    for (auto& socket : sockets) face.serve_socket(std::move(socket));
    if (sockets.empty()) face.serve_socket(ports.folders.runtime + "/bus");
    notify.ready();
    log.write(Priority::info, fmt::format("serving {} domains", room.domains().size()),
              {{"MESSAGE_ID", std::string{message_id::daemon_started}}});

    const auto end = [promise = leave.promise()] { promise.set(); };
    const auto on_term = host.loop.on_signal(SIGTERM, end), on_int = host.loop.on_signal(SIGINT, end);
    const host::IdleExit idle_exit{host.loop, options.idle_exit, [&] { return room.idle() && face.idle(); }, end};
    Scope background;
    background.spawn(room.autostart());
    co_await leave.wait("the daemon", std::nullopt);

    notify.stopping();
    log.write(Priority::info, "leaving; guests go on", {{"MESSAGE_ID", std::string{message_id::daemon_stopping}}});
    face.retire();
    co_await room.drain(drain_patience);
    co_await sleep(host.loop, Duration{0});  // the answers of the last verbs are sent in the turn after their end
    face.close();
}

Task<> run(host::Host& host, Log& log, DaemonOptions options, int& exit_code) {
    try {
        co_await live(host, log, std::move(options));
        exit_code = 0;
    } catch (const std::exception& error) {
        log.error(fmt::format("virtbusd ends: {}", error.what()));
    }
    host.loop.quit();
}

}  // namespace
}  // namespace virtbus

int main(int argc, char** argv) {
    using namespace virtbus;
    const auto [options, code] = parse_command_line(argc, argv);
    if (!options) return code;
    std::signal(SIGPIPE, SIG_IGN);
    const auto most = options->debug ? Priority::debug : Priority::info;
    host::StderrLog plain_log{most};
    systemd::JournalLog log{plain_log, most};
    host::Host host;
    int exit_code = 1;
    Scope scope;
    scope.spawn(run(host, log, *options, exit_code));
    if (!scope.empty()) host.loop.run();
    return exit_code;
}
