// SPDX-License-Identifier: LGPL-2.1-or-later
#include "qemu/helpers/helper_unit.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <array>
#include <cerrno>
#include <cstring>

#include "qemu/guest.hpp"
#include "qemu/guest_record.hpp"
#include "qemu/opening.hpp"

namespace virtbus::qemu {

namespace {

struct Kind {
    std::string_view program, role;
    bool leaves;  ///< by itself, when QEMU closes its end
};
constexpr std::array kinds{
    Kind{"swtpm", "TPM emulator", true},
    Kind{"virtiofsd", "file server", true},
    Kind{"qemu-pr-helper", "reservation helper", false},
    Kind{"passt", "user network", true},
    Kind{"vhost-user-gpu", "graphics server", true},
};

const Kind& kind_of(std::string_view program) {
    static constexpr Kind unknown{"", "helper", false};
    for (const auto& kind : kinds)
        if (kind.program == program) return kind;
    return unknown;
}

std::uint64_t size_of(const Fd& fd) {
    struct stat info{};
    return ::fstat(fd.get(), &info) == 0 ? static_cast<std::uint64_t>(info.st_size) : 0;
}

}  // namespace

std::string_view helper_role(std::string_view program) {
    return kind_of(program).role;
}

std::pair<Fd, Fd> helper_socket_pair() {
    std::array<int, 2> ends{};
    if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()) < 0)
        throw Error{Code::internal, fmt::format("no socket for a helper: {}", std::strerror(errno))};
    return {Fd{ends[0]}, Fd{ends[1]}};
}

Task<> end_left_helpers(Ports& ports, std::vector<HelperRecord> records) {
    for (auto& record : records) {
        if (record.pid == 0) continue;
        const auto helper = std::make_shared<HelperUnit>(ports);
        helper->adopt(std::move(record));
        co_await helper->end();
    }
}

HelperUnit::HelperUnit(Ports& ports, HelperTimes times) : ports_{ports}, times_{times} {}

std::string HelperUnit::last_words(const HelperRecord& record) {
    return GuestCore::last_words(record.log, record.log_start);
}

Task<> HelperUnit::run(const HelperOrder& order, HelperRecord record, UnitRequest request) {
    Fd log;
    if (order.resources)
        log = co_await order.resources->open_log(order.log);
    else
        log = co_await ports_.files.open(order.log, O_WRONLY | O_APPEND | O_CREAT | O_NOFOLLOW, 0640, std::nullopt,
                                         order.deadline, order.stop);
    record_ = std::move(record);
    record_.log = order.log;
    record_.log_start = size_of(log);
    request.driver = "qemu";
    request.id = order.id;
    request.name = order.domain;
    request.uuid = order.uuid;
    request.slice = order.slice;
    request.output = log.get();
    take(co_await ports_.units.start(std::move(request), order.deadline, order.stop));
}

Fd HelperUnit::pidfd() const {
    return duplicate(unit_.pidfd);
}

Task<> HelperUnit::converse(const HelperOrder& order, std::function<void()> say) {
    const auto who =
        fmt::format("the {} ({}) of domain '{}'", helper_role(record_.program), record_.program, order.domain);
    std::string why;
    try {
        co_await ports_.workers.run(fmt::format("The first answer of {}", who), std::move(say), order.deadline,
                                    order.stop);
        co_return;
    } catch (const Error& error) {
        if (error.code() != Code::hypervisor_failed) throw;
        why = error.what();
    }
    why += co_await how_it_ended();
    const auto words = co_await ports_.workers.run(
        "reading the log", [record = record_] { return last_words(record); }, in(times_.kill));
    throw Error{Code::hypervisor_failed,
                fmt::format("{} cannot be used: {}{}{}", who, why, words.empty() ? "" : "; its last words: ", words)};
}

Task<> HelperUnit::converse(const HelperOrder& order, const Fd& end, std::function<void(const Fd&)> say) {
    return converse(order, [fd = std::make_shared<Fd>(duplicate(end)), say = std::move(say)] { say(*fd); });
}

/// For programs that die without a word; "" while it runs.
Task<std::string> HelperUnit::how_it_ended() {
    try {
        co_await wait_gone(in(times_.notice));
        const auto status = co_await ports_.units.exit_status(record_.unit, record_.pid, in(times_.kill));
        if (status.known && status.signal != 0) co_return fmt::format(" (killed by signal {})", status.signal);
        if (status.known) co_return fmt::format(" (exit code {})", status.code);
    } catch (const Error&) {
        co_return std::string{};
    }
    co_return std::string{};
}

void HelperUnit::adopt(HelperRecord record) {
    record_ = std::move(record);
    if (auto unit = ports_.units.adopt(record_.pid, record_.start_time, record_.unit)) {
        take(std::move(*unit));
    } else {
        gone_ = true;
    }
}

void HelperUnit::take(Unit unit) {
    unit_ = std::move(unit);
    gone_ = ending_ = false;
    record_.pid = unit_.pid;
    record_.unit = unit_.name;
    record_.start_time = process_start_time(unit_.pid);
    watch_ = ports_.loop.watch(unit_.pidfd.get(), readable, [weak = weak_from_this()](unsigned) {
        const auto self = weak.lock();
        if (!self) return;
        self->watch_.reset();
        self->gone_ = true;
        for (const auto& waiting : std::exchange(self->waiting_, {})) waiting.set();
        if (!self->ending_ && self->died_) Died{self->died_}();
    });
}

void HelperUnit::when_dead(Died died) {
    died_ = std::move(died);
    if (gone_ && !ending_) ports_.loop.post([died = died_] { died(); });
}

Task<> HelperUnit::wait_gone(Deadline deadline) {
    if (gone_) co_return;
    Reply<> reply{ports_.loop};
    waiting_.push_back(reply.promise());
    co_await reply.wait(fmt::format("the end of a {}", helper_role(record_.program)), deadline);
}

/// Its unit is kept by the manager until somebody has asked how it ended.
Task<> HelperUnit::clear() {
    const auto pid = record_.pid;
    if (pid != 0) co_await ports_.units.exit_status(record_.unit, pid, in(times_.kill));
    record_.pid = 0;
    unit_ = Unit{};
}

Task<> HelperUnit::end() {
    const auto self = shared_from_this();
    ending_ = true;
    bool late = false;
    try {
        if (unit_.pid != 0 && !gone_ && !kind_of(record_.program).leaves) ports_.units.kill(unit_, false);
        if (unit_.pid != 0) co_await wait_gone(in(times_.leave));
    } catch (const Error&) {
        late = true;
    }
    try {
        if (late) ports_.units.kill(unit_, false);
        if (late) co_await wait_gone(in(times_.kill));
        co_await clear();
    } catch (const Error& error) {
        ports_.log.warning(
            fmt::format("process {} of a {}: {}", record_.pid, helper_role(record_.program), error.what()));
    }
}

Task<> HelperUnit::undo() {
    if (is_running()) ports_.units.kill(unit_, false);
    co_await end();
}

void HelperUnit::detach() {
    watch_.reset();
    died_ = nullptr;
}

}  // namespace virtbus::qemu
