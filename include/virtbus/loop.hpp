// SPDX-License-Identifier: LGPL-2.1-or-later
// The main loop and the clock as ports: what the rest of the project may ask of them. service/host implements them.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>

namespace virtbus {

using Duration = std::chrono::milliseconds;
using Deadline = std::chrono::steady_clock::time_point;

inline Deadline in(Duration wait) {
    return std::chrono::steady_clock::now() + wait;
}

/// Something that goes on until its owner lets go of it.
struct Registered {
    virtual ~Registered() = default;
};
using Registration = std::unique_ptr<Registered>;

enum Readiness : unsigned { readable = 1, writable = 2, hung_up = 4 };

class Loop {
public:
    using Work = std::function<void()>;
    virtual ~Loop() = default;

    /// Runs work in a later turn of the loop. The only member that other threads may call.
    virtual void post(Work work) = 0;
    /// Runs work once after the wait, unless the registration goes first.
    [[nodiscard]] virtual Registration after(Duration wait, Work work) = 0;
    /// Calls ready while the descriptor is in one of the wanted states (hung_up is always reported).
    [[nodiscard]] virtual Registration watch(int fd, unsigned wanted, std::function<void(unsigned)> ready) = 0;
};

class Clock {
public:
    virtual ~Clock() = default;
    /// Microseconds since the epoch.
    virtual std::uint64_t now() const = 0;
};

}  // namespace virtbus
