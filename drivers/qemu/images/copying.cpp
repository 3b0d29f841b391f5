// SPDX-License-Identifier: LGPL-2.1-or-later
#include "qemu/images/copying.hpp"

#include <fmt/format.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <nlohmann/json.hpp>

#include "qemu/block/carried_bitmaps.hpp"
#include "qemu/json.hpp"
#include "qemu/monitor.hpp"

namespace virtbus::qemu {

using nlohmann::json;

namespace {

constexpr Command::Limits copying_limits{.memory = std::uint64_t{2} << 30, .cpu_seconds = 0, .files = 2048};
constexpr auto job = "copying";

std::string node_name(std::size_t level) {
    return fmt::format("level{}", level);
}

/// One storage daemon, from its start to its end.
class StorageDaemon {
public:
    StorageDaemon(Ports& ports, const ImagePrograms& programs, HandedFds handed)
        : ports_{ports}, programs_{programs}, ended_{ports.loop} {
        std::array<int, 2> ends{};
        if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends.data()) != 0)
            throw Error{Code::internal, fmt::format("socketpair: {}", std::strerror(errno))};
        Fd ours{ends[0]}, theirs{ends[1]};
        Command command;
        command.argv = {programs.storage_daemon, "--chardev",
                        fmt::format("socket,id=monitor,fd={}", handed.give(theirs)), "--monitor", "chardev=monitor"};
        command.output_limit = 64U << 10;
        command.fds = std::move(handed.fds);
        command.limits = copying_limits;
        scope_.spawn(keep(*this, std::move(command)));
        Monitor::Handlers handlers;
        handlers.event = [this](std::string_view name, const json&) {
            if (name == "JOB_STATUS_CHANGE") tell();
        };
        handlers.ended = [this](const Error&) { tell(); };
        Monitor::Options options;
        options.greeting = programs.answer;
        monitor_ = std::make_unique<Monitor>(ports.loop, std::move(ours), "the copying", std::move(handlers), options);
    }

    Task<json> ask(std::string command, json arguments, std::stop_token stop) {
        return monitor_->execute(command, arguments, in(programs_.answer), std::move(stop));
    }
    /// Until something happens, or for a while.
    Task<> pause(std::stop_token stop) {
        Reply<> reply{ports_.loop};
        if (std::exchange(told_, false)) reply.promise().set();
        news_ = reply.promise();
        const auto timer = ports_.loop.after(programs_.pace, [promise = reply.promise()] { promise.set(); });
        co_await reply.wait("copying between images", std::nullopt, std::move(stop));
        news_.reset();
        told_ = false;
    }
    /// Lets it write and close what it has open. False: it had to be killed.
    Task<bool> quit(Duration patience) {
        try {
            if (!over_) co_await monitor_->execute("quit", in(std::min(patience, programs_.answer)));
        } catch (const Error&) {
            // It may have closed the monitor before it answered.
        }
        bool late = false;
        try {
            if (!over_) co_await ended_.wait("the end of the storage daemon", in(patience));
        } catch (const Error&) {
            late = true;
        }
        if (late) co_await kill();
        co_return !late && !failure_ && result_.status == 0;
    }
    Task<> kill() {
        if (over_) co_return;
        killed_.request_stop();
        Reply<> gone{ports_.loop};
        when_gone_ = gone.promise();
        if (!over_) co_await gone.wait("the end of the storage daemon", std::nullopt);
    }
    /// Why it is gone, in its own words where it had some.
    std::string last_words() const {
        try {
            if (failure_) std::rethrow_exception(failure_);
        } catch (const std::exception& error) {
            return error.what();
        }
        if (!over_ || result_.status == 0) return {};
        return result_.errors.empty() ? fmt::format("the storage daemon ended with status {}", result_.status)
                                      : result_.errors;
    }

private:
    void tell() {
        told_ = true;
        if (news_) news_->set();
    }
    static Task<> keep(StorageDaemon& self, Command command) {
        try {
            self.result_ = co_await self.ports_.spawner.run(std::move(command), in(std::chrono::hours{24 * 365}),
                                                            self.killed_.get_token());
        } catch (...) {
            self.failure_ = std::current_exception();
        }
        self.over_ = true;
        self.ended_.promise().set();
        if (self.when_gone_) self.when_gone_->set();
    }

    Ports& ports_;
    const ImagePrograms& programs_;
    std::stop_source killed_;
    CommandResult result_;
    std::exception_ptr failure_;
    bool over_ = false, told_ = false;
    Reply<> ended_;
    std::optional<Reply<>::Promise> news_, when_gone_;
    std::unique_ptr<Monitor> monitor_;
    Scope scope_;
};

Task<> open_nodes(StorageDaemon& daemon, const Copying& copying, std::vector<json> nodes, std::string& path,
                  std::stop_token stop) {
    for (std::size_t level = nodes.size(); level-- > 0;) {
        auto& node = nodes[level];
        path = copying.chain[level].file.path;
        node["node-name"] = node_name(level);
        // A commit gets the right to write from the job itself.
        node["read-only"] = !(level == 0 && copying.how == Copying::How::stream);
        if (has_backing(copying.chain[level].header.format))
            node["backing"] = level + 1 < nodes.size() ? json(node_name(level + 1)) : json(nullptr);
        co_await daemon.ask("blockdev-add", std::move(node), stop);
    }
    path = copying.chain[copying.how == Copying::How::stream ? 0 : copying.base].file.path;
}

Task<> begin_job(StorageDaemon& daemon, const Copying& copying, std::stop_token stop) {
    json arguments{{"job-id", job}, {"device", node_name(0)}, {"auto-finalize", false}, {"auto-dismiss", false}};
    const bool whole = copying.base >= copying.chain.size();
    if (!whole) arguments["base-node"] = node_name(copying.base);
    if (copying.how == Copying::How::stream && !whole)
        arguments["backing-file"] = copying.chain[copying.base].file.path;
    co_await daemon.ask(copying.how == Copying::How::commit ? "block-commit" : "block-stream", std::move(arguments),
                        std::move(stop));
}

/// The job as query-jobs tells it; null when it is gone.
Task<json> look_at_job(StorageDaemon& daemon, std::stop_token stop) {
    const auto jobs = co_await daemon.ask("query-jobs", json::object(), std::move(stop));
    if (jobs.is_array())
        for (const auto& each : jobs)
            if (text(each, "id") == job) co_return each;
    co_return nullptr;
}

/// What was recorded goes with what was copied, as long as the image that is written to is open for that.
Task<> carry_bitmaps(StorageDaemon& daemon, const Copying& copying, std::stop_token stop) {
    const bool commits = copying.how == Copying::How::commit;
    LeavingImages leaving{{}, node_name(commits ? copying.base : 0), commits};
    for (std::size_t level = commits ? 0 : 1; level < copying.base; ++level) leaving.from.push_back(node_name(level));
    const auto nodes = co_await daemon.ask("query-named-block-nodes", json{{"flat", true}}, stop);
    auto actions = carried_bitmaps(nodes, leaving);
    if (!actions.empty()) co_await daemon.ask("transaction", json{{"actions", std::move(actions)}}, stop);
}

/// Until it has ended. HypervisorFailed with its own words when it has failed.
Task<> finish_job(StorageDaemon& daemon, const ImagePrograms& programs, const Copying& copying, ProgressSink progress,
                  std::stop_token stop) {
    auto moved = std::chrono::steady_clock::now();
    std::pair<std::string, std::uint64_t> seen;
    bool completing = false, finalizing = false;
    while (true) {
        const auto state = co_await look_at_job(daemon, stop);
        const auto status = text(state, "status");
        const auto done = number(state, "current-progress");
        if (progress && number(state, "total-progress") != 0) progress(done, number(state, "total-progress"));
        if (status == "concluded" || state.is_null()) {
            if (const auto why = text(state, "error"); !why.empty()) throw Error{Code::hypervisor_failed, why};
            break;
        }
        if (status == "ready" && !std::exchange(completing, true))
            co_await daemon.ask("job-complete", json{{"id", job}}, stop);
        if (status == "pending" && !std::exchange(finalizing, true)) {
            co_await carry_bitmaps(daemon, copying, stop);
            co_await daemon.ask("job-finalize", json{{"id", job}}, stop);
        }
        if (std::pair now{status, done}; now != seen) {
            seen = std::move(now);
            moved = std::chrono::steady_clock::now();
        }
        if (std::chrono::steady_clock::now() - moved > programs.standstill)
            throw Error{Code::timeout, fmt::format("nothing was copied for {} s", programs.standstill.count() / 1000)};
        co_await daemon.pause(stop);
    }
}

/// Ends the job as it would end by itself, so that the images are closed as they should be.
Task<> give_up(StorageDaemon& daemon, Duration patience) {
    try {
        co_await daemon.ask("job-cancel", json{{"id", job}}, {});
    } catch (const Error&) {
        // There is no job, or nobody to answer.
    }
    co_await daemon.quit(patience);
}

[[noreturn]] void explain(std::exception_ptr failure, const std::string& doing, const std::string& path,
                          const std::string& last_words) {
    try {
        std::rethrow_exception(std::move(failure));
    } catch (const Cancelled&) {
        throw;
    } catch (const Error& error) {
        if (error.code() != Code::hypervisor_failed)
            throw Error{error.code(), fmt::format("{}: image '{}': {}", doing, path, error.what())};
        throw image_error(doing, path, last_words.empty() ? error.what() : last_words);
    }
}

}  // namespace

Task<> copy(Ports& ports, const ImagePrograms& programs, Copying copying, ProgressSink progress, std::stop_token stop) {
    const bool commits = copying.how == Copying::How::commit;
    const std::string doing = commits ? fmt::format("committing '{}' to what lies below it", copying.chain[0].file.path)
                                      : "pulling up what lies below";
    HandedFds handed;
    std::vector<json> nodes;
    for (const auto& image : copying.chain) nodes.push_back(block_node(image, handed));
    StorageDaemon daemon{ports, programs, std::move(handed)};
    std::string path;
    std::exception_ptr failure;
    try {
        co_await open_nodes(daemon, copying, std::move(nodes), path, stop);
        co_await begin_job(daemon, copying, stop);
        co_await finish_job(daemon, programs, copying, std::move(progress), stop);
    } catch (...) {
        failure = std::current_exception();
    }
    if (failure) {
        co_await give_up(daemon, std::min(programs.answer, Duration{5000}));
        explain(failure, doing, path, daemon.last_words());
    }
    if (!co_await daemon.quit(programs.standstill)) throw image_error(doing, path, daemon.last_words());
}

}  // namespace virtbus::qemu
