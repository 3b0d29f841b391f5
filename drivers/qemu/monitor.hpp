// SPDX-License-Identifier: LGPL-2.1-or-later
// The QMP client: commands in flight, answers matched by id, events, descriptors passed along. The peer is a process
// that a guest may have taken over: whatever breaks the protocol ends the monitor with one Error and fails all waits.
// What commands mean is left to guest.hpp.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <stop_token>
#include <string>
#include <string_view>

#include "virtbus/error.hpp"
#include "virtbus/fd.hpp"
#include "virtbus/loop.hpp"
#include "virtbus/task.hpp"

namespace virtbus {
template <class T>
class Reply;
}

namespace virtbus::qemu {

class Monitor {
public:
    /// All are called from the loop, never from inside a call to the monitor.
    struct Handlers {
        std::function<void(std::string_view name, const nlohmann::json& data)> event;
        std::function<void(const Error& why)> ended;  ///< the last call; not made by the destructor
        std::function<void(bool stalled)> stalled;  ///< something is unanswered for longer than `patience`, or no more
    };
    struct Options {
        Duration patience{5000};
        std::optional<Duration> greeting;    ///< without a greeting in this time the monitor ends
        std::size_t line_limit = 16U << 20;  ///< bytes of one answer or event
        std::size_t in_flight = 256;         ///< commands without an answer
        std::size_t backlog = 1U << 20;      ///< bytes that the peer has not taken
        /// The id of the first command. QEMU gives the answers that a connection before this one did not wait for:
        /// those with smaller ids are passed over.
        std::uint64_t first_id = 1;
    };

    /// What `send` leaves: the answer, to be waited for or dropped.
    class Answer {
    public:
        /// Timeout at the deadline, the error of QEMU as HypervisorFailed with the command's name.
        Task<nlohmann::json> get(Deadline deadline, std::stop_token stop = {}) const;

    private:
        friend Monitor;
        std::shared_ptr<Reply<nlohmann::json>> reply_;
        std::string what_;
    };

    /// Negotiates at once, without waiting for the greeting; commands may be sent right away. `who` names the guest in
    /// messages ("domain 'web'"), the socket is connected or connecting.
    Monitor(Loop& loop, Fd socket, std::string who, Handlers handlers, Options options);
    Monitor(Loop& loop, Fd socket, std::string who, Handlers handlers);
    ~Monitor();
    Monitor(const Monitor&) = delete;
    Monitor& operator=(const Monitor&) = delete;

    /// Sends now; several may be in flight. A descriptor travels with the bytes (getfd, add-fd).
    Answer send(std::string_view command, const nlohmann::json& arguments, Fd descriptor = {});
    Answer send(std::string_view command);
    /// Sends and waits.
    Task<nlohmann::json> execute(std::string_view command, const nlohmann::json& arguments, Deadline deadline,
                                 std::stop_token stop = {});
    Task<nlohmann::json> execute(std::string_view command, Deadline deadline, std::stop_token stop = {});

    /// Takes what has already arrived, for a peer that is gone: its last events explain its end.
    void drain();
    /// Ends it from this side; all waits fail with `why`. `ended` is not called.
    void close(const Error& why);
    bool is_open() const noexcept;
    bool is_stalled() const noexcept;

private:
    struct Core;
    std::shared_ptr<Core> core_;
};

}  // namespace virtbus::qemu
