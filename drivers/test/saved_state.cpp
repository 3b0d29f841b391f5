// SPDX-License-Identifier: LGPL-2.1-or-later
#include "test/saved_state.hpp"

#include <fcntl.h>
#include <fmt/format.h>

#include <cerrno>
#include <charconv>
#include <cstring>

#include "virtbus/error.hpp"
#include "virtbus/reply.hpp"

namespace virtbus::test_driver {

namespace {

constexpr std::string_view magic = "test-state 1 ";
constexpr std::size_t page = 64 << 10, pages = 64;  // 4 MiB of memory

/// Different in each page, so that a lost or doubled one is noticed, and easy to compress.
std::string page_content(std::size_t number) {
    return std::string(page, static_cast<char>('!' + number % 90));
}

Task<> ready(Loop& loop, int fd, unsigned wanted, std::stop_token stop) {
    Reply<> reply{loop};
    const auto watch = loop.watch(fd, wanted, [promise = reply.promise()](unsigned) { promise.set(); });
    co_await reply.wait("the stream of a test domain's state", std::nullopt, std::move(stop));
}

/// A regular file is always ready.
void unblock(const Fd& fd) {
    ::fcntl(fd.get(), F_SETFL, ::fcntl(fd.get(), F_GETFL) | O_NONBLOCK);
}

Task<> write_all(Loop& loop, const Fd& target, std::string bytes, std::stop_token stop) {
    std::string_view left{bytes};
    while (!left.empty()) {
        if (stop.stop_requested()) throw Cancelled{"writing a test domain's state"};
        const auto n = ::write(target.get(), left.data(), left.size());
        if (n < 0 && errno == EAGAIN)
            co_await ready(loop, target.get(), writable, stop);
        else if (n < 0 && errno != EINTR)
            throw Error{Code::hypervisor_failed,
                        fmt::format("the test domain's state could not be written: {}", std::strerror(errno))};
        else if (n > 0)
            left.remove_prefix(static_cast<std::size_t>(n));
    }
}

Task<std::string> read_some(Loop& loop, const Fd& source, std::stop_token stop) {
    std::string bytes(page, '\0');
    for (;;) {
        const auto n = ::read(source.get(), bytes.data(), bytes.size());
        if (n < 0 && errno == EAGAIN)
            co_await ready(loop, source.get(), readable | hung_up, stop);
        else if (n < 0 && errno != EINTR)
            throw Error{Code::hypervisor_failed,
                        fmt::format("the test domain's saved state could not be read: {}", std::strerror(errno))};
        else if (n >= 0) {
            bytes.resize(static_cast<std::size_t>(n));
            co_return bytes;
        }
    }
}

[[noreturn]] void refuse(std::string_view why) {
    throw Error{Code::hypervisor_failed, fmt::format("the saved state {}", why)};
}

}  // namespace

Task<> write_state(Loop& loop, Fd target, std::string memory, Behaviour behaviour, ProgressSink progress,
                   std::stop_token stop) {
    unblock(target);
    co_await write_all(loop, target, fmt::format("{}{}\n{}", magic, memory.size(), memory), stop);
    for (std::size_t i = 0; i < pages; ++i) {
        progress(i * page, pages * page);
        co_await sleep(loop, behaviour.save_time / pages, stop);
        co_await write_all(loop, target, page_content(i), stop);
        if (i != pages / 2) continue;
        if (!behaviour.fail_save.empty()) throw Error{Code::hypervisor_failed, behaviour.fail_save};
        if (!behaviour.hang_save) continue;
        Reply<> never{loop};
        co_await never.wait("the save of a test domain", std::nullopt, stop);
    }
    progress(pages * page, pages * page);
}

Task<std::string> read_state(Loop& loop, Fd source, std::stop_token stop) {
    unblock(source);
    std::string all;
    for (;;) {
        auto more = co_await read_some(loop, source, stop);
        if (more.empty()) break;
        all += more;
        if (all.size() > (page + 1) * pages * 2) refuse("is longer than any of a test domain");
    }
    const auto line = all.find('\n');
    std::size_t size = 0;
    if (!all.starts_with(magic) || line == all.npos) refuse("is none of a test domain");
    std::from_chars(all.data() + magic.size(), all.data() + line, size);
    const auto memory_at = line + 1 + size;
    if (size > all.size() || all.size() - memory_at != pages * page) refuse("is cut");
    for (std::size_t i = 0; i < pages; ++i)
        if (all.compare(memory_at + i * page, page, page_content(i)) != 0) refuse("is damaged");
    co_return all.substr(line + 1, size);
}

}  // namespace virtbus::test_driver
