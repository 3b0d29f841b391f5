// SPDX-License-Identifier: LGPL-2.1-or-later
// HelperUnit: a program that serves one guest beside its QEMU, in a unit of its own that is bound to the guest's, from
// its start to its end. What is said to it and what it is told on its line is each program's own file's.
#pragma once

#include <exception>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "qemu/helpers/helper_record.hpp"
#include "virtbus/driver.hpp"

namespace virtbus::qemu {

struct HelperTimes {
    Duration answer{10000};  ///< one that says nothing for so long is given up
    Duration leave{2000};    ///< from QEMU's end to its own; then it is killed
    Duration kill{5000};
    Duration notice{200};  ///< from the end of its socket to that of the process
};

/// Whom it is started for.
struct HelperOrder {
    std::string domain, uuid;
    std::uint32_t id = 0;
    std::string slice;
    std::string log;       ///< path
    std::string folder;    ///< where the guest's sockets are
    Resources* resources;  ///< null: it is started again, and needs nothing opened but its log
    Deadline deadline;
    std::stop_token stop;
};

/// What it is, for sentences: "TPM emulator".
std::string_view helper_role(std::string_view program);

/// The guests that had them are gone, and no daemon saw it.
Task<> end_left_helpers(Ports& ports, std::vector<HelperRecord> records);

std::pair<Fd, Fd> helper_socket_pair();

class HelperUnit : public std::enable_shared_from_this<HelperUnit> {
public:
    /// Called once, from the loop, when it has ended without end() having been asked for.
    using Died = std::function<void()>;

    explicit HelperUnit(Ports& ports, HelperTimes times = {});
    virtual ~HelperUnit() = default;
    HelperUnit(const HelperUnit&) = delete;
    HelperUnit& operator=(const HelperUnit&) = delete;

    /// Finds the one that an earlier daemon started.
    void adopt(HelperRecord record);
    void when_dead(Died died);

    const HelperRecord& record() const { return record_; }
    bool is_running() const { return unit_.pid != 0 && !gone_; }
    /// QEMU has ended, so it will: waits for that, kills it when it does not, and clears its unit away. Never throws.
    Task<> end();
    /// The guest's start has failed: end(), and what this start has made is removed.
    virtual Task<> undo();
    /// Forgets it and leaves it alone.
    void detach();
    /// The last line of its log. Blocks: for workers.
    static std::string last_words(const HelperRecord& record);

protected:
    /// One run of the program; names, log and slice of the request are filled in from the order.
    Task<> run(const HelperOrder& order, HelperRecord record, UnitRequest request);
    /// Runs a conversation on a worker; what goes wrong in it is told with the program's last words.
    Task<> converse(const HelperOrder& order, std::function<void()> say);
    /// The same over a socket, which stays the caller's.
    Task<> converse(const HelperOrder& order, const Fd& end, std::function<void(const Fd&)> say);
    /// What a start has made; when it throws, it is undone before the error goes on.
    template <class T>
    Task<T> or_undo(Task<T> starting) {
        std::optional<T> made;
        std::exception_ptr failure;
        try {
            made = co_await std::move(starting);
        } catch (...) {
            failure = std::current_exception();
        }
        if (failure) {
            co_await undo();
            std::rethrow_exception(failure);
        }
        co_return std::move(*made);
    }

    /// Of the process that run() has started; readable at its end.
    Fd pidfd() const;

    Ports& ports_;
    const HelperTimes times_;

private:
    void take(Unit unit);
    Task<> wait_gone(Deadline deadline);
    Task<std::string> how_it_ended();
    Task<> clear();

    HelperRecord record_;
    Unit unit_;
    Registration watch_;
    Died died_;
    std::vector<Reply<>::Promise> waiting_;
    bool gone_ = false, ending_ = false;
};

}  // namespace virtbus::qemu
