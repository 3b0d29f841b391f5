// SPDX-License-Identifier: LGPL-2.1-or-later
#include "network/folder_watch.hpp"

#include <fmt/format.h>
#include <sys/inotify.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <map>
#include <utility>
#include <vector>

#include "virtbus/error.hpp"
#include "virtbus/fd.hpp"

namespace virtbus::network {

namespace {

// One for all: asking for another set in the same folder would replace the first.
constexpr std::uint32_t asked =
    IN_CREATE | IN_MODIFY | IN_CLOSE_WRITE | IN_CLOSE_NOWRITE | IN_MOVED_TO | IN_MOVED_FROM | IN_DELETE;
constexpr unsigned all_events = file_written | file_closed | file_read | file_gone;

/// The one that is between owners: the kernel takes tens of milliseconds to close one, so it is kept. What its queue
/// still holds is of watches that nobody knows any more.
int spare = -1;

unsigned events_of(std::uint32_t mask) {
    unsigned events = 0;
    if (mask & (IN_CREATE | IN_MODIFY | IN_MOVED_TO)) events |= file_written;
    if (mask & (IN_CLOSE_WRITE | IN_MOVED_TO)) events |= file_closed;
    if (mask & IN_CLOSE_NOWRITE) events |= file_read;
    if (mask & (IN_DELETE | IN_MOVED_FROM)) events |= file_gone;
    return events;
}

}  // namespace

class FolderWatch::Shared : public std::enable_shared_from_this<Shared> {
public:
    static std::shared_ptr<Shared> of(Loop& loop) {
        static std::map<Loop*, std::weak_ptr<Shared>> all;
        std::erase_if(all, [](const auto& each) { return each.second.expired(); });
        auto& known = all[&loop];
        auto shared = known.lock();
        if (!shared) known = shared = std::make_shared<Shared>(loop);
        return shared;
    }

    explicit Shared(Loop& loop) : inotify_{std::exchange(spare, -1)} {
        if (!inotify_) inotify_ = Fd{::inotify_init1(IN_NONBLOCK | IN_CLOEXEC)};
        if (!inotify_) throw Error{Code::internal, fmt::format("watching files: {}", std::strerror(errno))};
        watch_ = loop.watch(inotify_.get(), readable, [this](unsigned) { read_all(); });
    }

    ~Shared() {
        watch_.reset();
        if (spare < 0) spare = inotify_.release();
    }

    void add(const std::string& folder, const std::shared_ptr<Happened>& happened) {
        const int number = ::inotify_add_watch(inotify_.get(), folder.c_str(), asked);
        if (number < 0) throw Error{Code::internal, fmt::format("watching {}: {}", folder, std::strerror(errno))};
        listeners_.emplace(number, happened);
    }

    void remove(const std::shared_ptr<Happened>& happened) {
        for (auto at = listeners_.begin(); at != listeners_.end(); ++at) {
            if (at->second != happened) continue;
            const int number = at->first;
            listeners_.erase(at);
            if (!listeners_.contains(number)) ::inotify_rm_watch(inotify_.get(), number);
            return;
        }
    }

private:
    void read_all() {
        const auto self = shared_from_this();  // a listener may be the last to let go
        alignas(inotify_event) std::array<char, 16384> buffer{};
        for (;;) {
            const auto got = ::read(inotify_.get(), buffer.data(), buffer.size());
            if (got <= 0) return;
            std::size_t at = 0;
            while (at + sizeof(inotify_event) <= static_cast<std::size_t>(got)) {
                inotify_event event{};
                std::memcpy(&event, &buffer[at], sizeof event);
                const char* name = buffer.data() + at + sizeof event;
                tell(event, event.len ? std::string{name, ::strnlen(name, event.len)} : std::string{});
                at += sizeof event + event.len;
            }
        }
    }

    void tell(const inotify_event& event, const std::string& name) {
        const bool lost = event.mask & IN_Q_OVERFLOW;
        if (event.mask & IN_IGNORED) listeners_.erase(event.wd);
        if (!lost && name.empty()) return;  // the folder itself
        std::vector<std::weak_ptr<Happened>> whom;
        for (const auto& [number, happened] : listeners_)
            if (lost || number == event.wd) whom.emplace_back(happened);
        for (const auto& each : whom)
            if (const auto happened = each.lock())
                (*happened)(lost ? "" : name, lost ? all_events : events_of(event.mask));
    }

    Fd inotify_;
    std::multimap<int, std::shared_ptr<Happened>> listeners_;
    Registration watch_;
};

FolderWatch::FolderWatch(Loop& loop, const std::string& folder, Happened happened)
    : shared_{Shared::of(loop)}, happened_{std::make_shared<Happened>(std::move(happened))} {
    shared_->add(folder, happened_);
}

FolderWatch::~FolderWatch() {
    shared_->remove(happened_);
}

}  // namespace virtbus::network
