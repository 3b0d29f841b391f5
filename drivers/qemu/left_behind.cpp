// SPDX-License-Identifier: LGPL-2.1-or-later
#include "qemu/left_behind.hpp"

#include <fmt/format.h>

#include <memory>
#include <nlohmann/json.hpp>

#include "qemu/console.hpp"
#include "qemu/guest_folder.hpp"
#include "qemu/helpers/helper_unit.hpp"
#include "qemu/monitor.hpp"
#include "virtbus/reply.hpp"

namespace virtbus::qemu {

namespace {

constexpr Duration patience{5000};

Fd connect_if_answering(const std::string& path) {
    try {
        return connect_socket(path);
    } catch (const Error&) {
        return Fd{};  // nobody holds the socket any more
    }
}

Task<> kill_and_wait(Ports& ports, std::string who, Unit unit) {
    Reply<> ended{ports.loop};
    const auto watch =
        ports.loop.watch(unit.pidfd.get(), readable, [promise = ended.promise()](unsigned) { promise.set(); });
    ports.units.kill(unit, false);
    co_await ended.wait("the end of the unfinished start of " + who, in(patience));
}

/// For a process whose number was not known yet when its daemon died.
Task<> quit_over_monitor(Ports& ports, std::string who, std::string path) {
    auto socket = connect_if_answering(path);
    if (!socket) co_return;
    Reply<> closed{ports.loop};
    Monitor::Handlers handlers;
    handlers.ended = [promise = closed.promise()](const Error&) { promise.set(); };
    Monitor::Options options;
    options.greeting = patience;
    Monitor monitor{ports.loop, std::move(socket), who, std::move(handlers), options};
    monitor.send("quit");
    co_await closed.wait("the end of the unfinished start of " + who, in(patience * 2));
}

}  // namespace

Task<> end_unfinished(Ports& ports, std::string who, GuestRecord record) {
    if (record.pid == 0) {
        co_await quit_over_monitor(ports, who, record.monitor);
    } else if (auto unit = ports.units.adopt(record.pid, record.start_time, record.unit)) {
        co_await kill_and_wait(ports, who, std::move(*unit));
        co_await ports.units.exit_status(record.unit, record.pid, in(patience));
    }
    co_await end_left_helpers(ports, record.helpers);
    co_await remove_guest_folder(ports, record.folder);
}

void require_none_left(Ports& ports, const std::string& who, const std::string& uuid) {
    const auto suffix = "-" + uuid;
    for (const auto& name : ports.files.list(guests_folder(ports))) {
        if (!name.ends_with(suffix)) continue;
        const auto path = monitor_path(guests_folder(ports) + "/" + name);
        if (connect_if_answering(path))
            throw Error{Code::invalid_state,
                        fmt::format("{}: a QEMU of an earlier run, whose status was lost, still answers on {}; end it "
                                    "before the domain is started again, two would spoil its disks",
                                    who, path)};
    }
}

}  // namespace virtbus::qemu
