// SPDX-License-Identifier: LGPL-2.1-or-later
#include "qemu/migration.hpp"

#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <optional>

#include "qemu/json.hpp"
#include "virtbus/reply.hpp"

namespace virtbus::qemu {

using nlohmann::json;

namespace {

constexpr Duration sampling{500}, cancelling{30'000};
constexpr const char* stream_name = "virtbus-stream";
constexpr std::uint64_t unlimited = std::uint64_t{1} << 50;  // bytes a second

bool is_over(std::string_view status) {
    return status == "completed" || status == "failed" || status == "cancelled";
}

/// QEMU's account of the migration; nothing when it does not answer in time, which a slow disk may cause.
Task<std::optional<json>> ask(std::shared_ptr<GuestCore> core) {
    try {
        co_return co_await core->open_monitor().execute("query-migrate", core->verb_deadline());
    } catch (const Error& error) {
        if (error.code() != Code::timeout) throw;
    }
    co_return std::nullopt;
}

/// Waits for the next word of QEMU about it, or for a moment. A guest that ends is a word, too.
Task<> next_word(std::shared_ptr<GuestCore> core, std::stop_token stop) {
    Reply<> word{core->ports.loop};
    core->on_migration(word.promise());
    try {
        co_await word.wait("the migration of " + core->who(), in(sampling), stop);
    } catch (const Error& error) {
        if (error.code() != Code::timeout) throw;
    }
}

void require_there(const GuestCore& core) {
    if (core.is_gone()) throw Error{Code::hypervisor_failed, fmt::format("QEMU of {} has ended", core.who())};
}

[[noreturn]] void failed(const GuestCore& core, const json& answer, std::string_view doing) {
    const auto why = excerpt(text(answer, "error-desc", "QEMU gives no reason"), 2000);
    const bool full = why.find("No space left") != std::string::npos;
    throw Error{full ? Code::no_space : Code::hypervisor_failed,
                fmt::format("QEMU of {} could not {}: {}", core.who(), doing, why)};
}

/// Until it is over; what QEMU said of it then. The CPUs of a monitor that is lost may come back with a new one.
Task<json> follow(std::shared_ptr<GuestCore> core, ProgressSink progress, std::stop_token stop) {
    while (true) {
        require_there(*core);
        const auto answer = co_await ask(core);
        if (answer) {
            if (const auto& ram = member(*answer, "ram"); progress && ram.is_object())
                progress(number(ram, "total") - std::min(number(ram, "total"), number(ram, "remaining")),
                         number(ram, "total"));
            if (is_over(text(*answer, "status"))) co_return *answer;
        }
        co_await next_word(core, stop);
    }
}

/// QEMU says that all is written a moment before it can do anything else.
Task<> wait_finalized(std::shared_ptr<GuestCore> core) {
    const auto deadline = core->verb_deadline();
    while (true) {
        const auto now = co_await core->open_monitor().execute("query-status", deadline);
        if (text(now, "status") != "finish-migrate") co_return;
        co_await sleep(core->ports.loop, Duration{10});
    }
}

Task<> set_up(std::shared_ptr<GuestCore> core, std::stop_token stop) {
    auto& monitor = core->open_monitor();
    const Monitor::Answer asked[] = {
        monitor.send("migrate-set-capabilities",
                     json{{"capabilities", json::array({json{{"capability", "events"}, {"state", true}}})}}),
        monitor.send("migrate-set-parameters", json{{"max-bandwidth", unlimited}}),
    };
    for (const auto& answer : asked) co_await answer.get(core->verb_deadline(), stop);
}

Task<> begin_stream(std::shared_ptr<GuestCore> core, Fd fd, const char* command, std::stop_token stop) {
    co_await set_up(core, stop);
    auto& monitor = core->open_monitor();
    co_await monitor.send("getfd", json{{"fdname", stream_name}}, std::move(fd)).get(core->verb_deadline(), stop);
    std::exception_ptr refused;
    try {
        co_await core->open_monitor().execute(command, json{{"uri", fmt::format("fd:{}", stream_name)}},
                                              core->verb_deadline(), stop);
    } catch (...) {
        refused = std::current_exception();
    }
    if (!refused) co_return;
    if (core->monitor && core->monitor->is_open()) core->monitor->send("closefd", json{{"fdname", stream_name}});
    std::rethrow_exception(refused);
}

}  // namespace

Task<> send_state(std::shared_ptr<GuestCore> core, Fd target, ProgressSink progress, std::stop_token stop) {
    // QEMU's own rule: a state that has been written is not written again before it has changed.
    const auto now = co_await core->open_monitor().execute("query-status", core->verb_deadline(), stop);
    if (text(now, "status") == "postmigrate")
        throw Error{Code::invalid_state,
                    fmt::format("the memory of {} has been written to a file since it was paused, and QEMU does not "
                                "write it again before its CPUs have run: resume it first",
                                core->who())};
    co_await begin_stream(core, std::move(target), "migrate", stop);
    const auto answer = co_await follow(core, std::move(progress), stop);
    if (text(answer, "status") != "completed") failed(*core, answer, "write its state");
}

Task<> end_migration(std::shared_ptr<GuestCore> core) {
    const auto deadline = in(cancelling);
    const auto now = co_await core->open_monitor().execute("query-migrate", core->verb_deadline());
    const auto status = text(now, "status");
    if (status.empty() || status == "none" || is_over(status)) co_return;
    co_await core->open_monitor().execute("migrate_cancel", core->verb_deadline());
    while (std::chrono::steady_clock::now() < deadline) {
        require_there(*core);
        const auto answer = co_await ask(core);
        if (answer && is_over(text(*answer, "status"))) co_return;
        co_await next_word(core, {});
    }
    throw Error{Code::timeout, fmt::format("QEMU of {} does not let go of the stream of its state", core->who())};
}

Task<> receive_state(std::shared_ptr<GuestCore> core, Fd source, std::stop_token stop) {
    co_await begin_stream(core, std::move(source), "migrate-incoming", stop);
    const auto answer = co_await follow(core, {}, stop);
    if (text(answer, "status") != "completed") failed(*core, answer, "take up the saved state");
}

Task<> save(std::shared_ptr<GuestCore> core, Fd target, ProgressSink progress, std::stop_token stop, bool live) {
    if (core->life.state() == State::running) {
        core->life.expect_stop("save");
        if (!live) co_await core->open_monitor().execute("stop", core->verb_deadline(), stop);
    }
    co_await send_state(core, std::move(target), std::move(progress), stop);
}

Task<> undo_save(std::shared_ptr<GuestCore> core, bool running) {
    co_await end_migration(core);
    co_await wait_finalized(core);
    if (!running || core->life.state() == State::running) co_return;
    core->life.expect_resume("save-canceled");
    co_await core->open_monitor().execute("cont", core->verb_deadline());
}

}  // namespace virtbus::qemu
