// SPDX-License-Identifier: LGPL-2.1-or-later
#include "service/host/spawner.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <array>
#include <cerrno>
#include <cstring>

namespace virtbus::host {

namespace {

constexpr int first_parking_fd = 512;
constexpr Duration patience_with_the_dying{5000};

Error failure(const std::string& program, const char* step, int error) {
    return Error{Code::internal, fmt::format("cannot run {}: {}: {}", program, step, std::strerror(error))};
}

std::pair<Fd, Fd> stream_pair(const std::string& program) {
    std::array<int, 2> ends{};
    if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()) != 0)
        throw failure(program, "socketpair", errno);
    return {Fd{ends[0]}, Fd{ends[1]}};
}

/// A copy above the numbers that a child may ask for, so that placing one never overwrites another.
Fd park(int fd, const std::string& program) {
    Fd copy{::fcntl(fd, F_DUPFD_CLOEXEC, first_parking_fd)};
    if (!copy) throw failure(program, "dup", errno);
    return copy;
}

void limit(const Command::Limits& limits) {
    const auto set = [](__rlimit_resource which, std::uint64_t value) {
        const rlimit both{value, value};
        if (value != 0) ::setrlimit(which, &both);
    };
    set(RLIMIT_DATA, limits.memory);
    set(RLIMIT_CPU, limits.cpu_seconds);
    set(RLIMIT_NOFILE, limits.files);
}

struct Birth {
    std::vector<char*> argv, environment;
    std::vector<std::pair<int, int>> placed;
    Command::Limits limits;
};

/// In the child, in the memory of its parent, which stands still: system calls only. Gives what has failed.
int become(const Birth& birth) {
    struct sigaction standard{};
    standard.sa_handler = SIG_DFL;
    for (int number = 1; number < NSIG; ++number) ::sigaction(number, &standard, nullptr);
    ::setpgid(0, 0);
    // What it holds, and what it is about to write, must not meet the next daemon.
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    for (const auto& [here, there] : birth.placed)
        if (::dup2(here, there) < 0) return errno;
    limit(birth.limits);
    sigset_t none;
    sigemptyset(&none);
    ::sigprocmask(SIG_SETMASK, &none, nullptr);
    ::execve(birth.argv[0], birth.argv.data(), birth.environment.data());
    return errno;
}

/// posix_spawn by hand, for that knows no limits, and set from outside they come too late. The child
/// tells through a pipe what failed: the thread sanitizer makes a fork of this, with memory of its own.
pid_t spawn(const Birth& birth, Fd reading, Fd writing, int& error) {
    sigset_t all, before;
    sigfillset(&all);
    ::pthread_sigmask(SIG_SETMASK, &all, &before);
    const pid_t pid = ::vfork();
    if (pid == 0) {
        const int failed = become(birth);
        [[maybe_unused]] const auto told = ::write(writing.get(), &failed, sizeof failed);
        ::_exit(127);
    }
    error = pid < 0 ? errno : 0;
    writing = Fd{};
    int failed = 0;
    if (pid > 0 && ::read(reading.get(), &failed, sizeof failed) == sizeof failed) error = failed;
    ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
    if (pid > 0 && error != 0) ::waitpid(pid, nullptr, 0);
    return error != 0 ? -1 : pid;
}

/// The process; killed when it is let go before its end. One that hangs in the kernel must not hang us: it stays to be
/// reaped by whoever inherits it.
class Child {
public:
    Child(const Command& command, int input, int output, int errors) {
        const auto& program = command.argv.at(0);
        std::vector<std::pair<Fd, int>> placed;
        placed.emplace_back(park(input, program), 0);
        placed.emplace_back(park(output, program), 1);
        placed.emplace_back(park(errors, program), 2);
        for (const auto& [here, there] : command.fds) placed.emplace_back(park(here, program), there);

        Birth birth{.argv = {}, .environment = {}, .placed = {}, .limits = command.limits};
        for (const auto& [fd, number] : placed) birth.placed.emplace_back(fd.get(), number);
        for (const auto& argument : command.argv) birth.argv.push_back(const_cast<char*>(argument.c_str()));
        birth.argv.push_back(nullptr);
        birth.environment = {const_cast<char*>("LC_ALL=C"), const_cast<char*>("PATH=/usr/bin:/bin:/usr/sbin:/sbin"),
                             nullptr};
        int ends[2], error = 0;
        if (::pipe2(ends, O_CLOEXEC) != 0) throw failure(program, "pipe", errno);
        Fd reading{ends[0]}, low{ends[1]};
        auto writing = park(low.get(), program);
        low = Fd{};  // at the read there is only the child's
        pid_ = spawn(birth, std::move(reading), std::move(writing), error);
        if (error != 0) throw failure(program, "spawn", error);
        pidfd_ = Fd{static_cast<int>(::syscall(SYS_pidfd_open, pid_, 0))};
        if (!pidfd_) throw failure(program, "pidfd_open", errno);
    }
    Child(const Child&) = delete;
    Child& operator=(const Child&) = delete;
    ~Child() {
        if (pid_ <= 0) return;
        kill();
        pollfd end{pidfd_.get(), POLLIN, 0};
        ::poll(&end, 1, 1000);
        ::waitpid(pid_, nullptr, WNOHANG);
    }

    void kill() const { ::kill(-pid_, SIGKILL); }
    int pidfd() const { return pidfd_.get(); }
    int reap() {
        int status = 0;
        while (::waitpid(pid_, &status, 0) < 0 && errno == EINTR) {
        }
        pid_ = -1;
        return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
    }

private:
    pid_t pid_ = -1;
    Fd pidfd_;
};

/// One run: feeds the input, gathers both outputs, and settles when the process has ended and the streams are dry.
class Run {
public:
    Run(Loop& loop, Command& command) : command_{command}, done_{loop}, ended_{loop} {
        const auto& program = command.argv.at(0);
        auto [input, child_input] = stream_pair(program);
        auto [output, child_output] = stream_pair(program);
        auto [errors, child_errors] = stream_pair(program);
        child_.emplace(command, child_input.get(), child_output.get(), child_errors.get());
        input_ = std::move(input);
        streams_[0].fd = std::move(output);
        streams_[1].fd = std::move(errors);
        for (auto& stream : streams_)
            stream.watch = loop.watch(stream.fd.get(), readable, [this, &stream](unsigned) { take(stream); });
        exit_watch_ = loop.watch(child_->pidfd(), readable, [this](unsigned) { exited(); });
        feed_watch_ = loop.watch(input_.get(), writable, [this](unsigned) { feed(); });
    }
    Run(const Run&) = delete;
    Run& operator=(const Run&) = delete;

    auto wait(Deadline deadline, std::stop_token stop) {
        return done_.wait(command_.argv[0], deadline, std::move(stop));
    }
    Task<> end() {
        if (!exit_watch_) co_return;
        child_->kill();
        try {
            co_await ended_.wait("the end of " + command_.argv[0], in(patience_with_the_dying));
        } catch (const Error&) {
            // What cannot be ended now ends when its disk answers.
        }
    }
    CommandResult result() { return {status_, std::move(streams_[0].text), std::move(streams_[1].text)}; }

private:
    struct Stream {
        Fd fd;
        std::string text;
        Registration watch;
    };

    void feed() {
        const auto left = std::string_view{command_.input}.substr(fed_);
        const auto n = ::send(input_.get(), left.data(), left.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
        if (n > 0) fed_ += static_cast<std::size_t>(n);
        if (n >= 0 && fed_ < command_.input.size()) return;
        feed_watch_.reset();
        input_ = Fd{};
    }

    /// False when there is nothing more to read now.
    bool take_some(Stream& stream) {
        std::array<char, 65536> buffer;
        const auto n = ::recv(stream.fd.get(), buffer.data(), buffer.size(), MSG_DONTWAIT);
        if (n < 0 && errno == EINTR) return true;
        if (n < 0 && errno == EAGAIN) return false;
        if (n <= 0) {
            stream.watch.reset();
            return false;
        }
        if (stream.text.size() + static_cast<std::size_t>(n) > command_.output_limit) {
            done_.promise().fail(Error{Code::limits_exceeded, fmt::format("{} printed more than {} bytes",
                                                                          command_.argv[0], command_.output_limit)});
            stream.watch.reset();
            return false;
        }
        stream.text.append(buffer.data(), static_cast<std::size_t>(n));
        return true;
    }
    void take(Stream& stream) { take_some(stream); }

    void exited() {
        exit_watch_.reset();
        status_ = child_->reap();
        for (auto& stream : streams_)
            while (stream.watch && take_some(stream)) {
            }
        done_.promise().set();
        ended_.promise().set();
    }

    Command& command_;
    Reply<> done_, ended_;
    std::optional<Child> child_;
    Fd input_;
    std::size_t fed_ = 0;
    std::array<Stream, 2> streams_;
    Registration exit_watch_, feed_watch_;
    int status_ = 0;
};

}  // namespace

Task<CommandResult> ChildSpawner::run(Command command, Deadline deadline, std::stop_token stop) {
    Run run{loop_, command};
    std::exception_ptr failure;
    try {
        co_await run.wait(deadline, std::move(stop));
    } catch (...) {
        failure = std::current_exception();
    }
    if (failure) {
        co_await run.end();
        std::rethrow_exception(failure);
    }
    co_return run.result();
}

}  // namespace virtbus::host
