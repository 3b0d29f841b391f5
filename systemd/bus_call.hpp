// SPDX-License-Identifier: LGPL-2.1-or-later
// One D-Bus call of ours as an awaitable. Which calls are made is left to manager_bus.
#pragma once

#include <sdbus-c++/sdbus-c++.h>

#include <string>
#include <utility>

#include "virtbus/error.hpp"
#include "virtbus/reply.hpp"

namespace virtbus::systemd {

/// What the other side answered instead of a result.
class BusError : public Error {
public:
    explicit BusError(const sdbus::Error& error) : Error{Code::internal, error.getMessage()}, name_{error.getName()} {}
    /// "org.freedesktop.systemd1.UnitExists"
    const std::string& name() const noexcept { return name_; }

private:
    std::string name_;
};

struct BusMethod {
    const char* interface;
    const char* name;
};

/// Long enough to never fire before the deadline of the wait, so that sd-bus drops the call in the end.
inline constexpr std::chrono::minutes bus_call_memory{5};

/// Sends; `handler` is what takes the answer. A connection that is gone is a BusError like any other.
template <class Handler, class... Args>
void send_call(sdbus::IProxy& proxy, BusMethod method, Handler handler, Args... args) {
    const std::string name{method.name};  // the invoker keeps references
    try {
        proxy.callMethodAsync(name)
            .onInterface(method.interface)
            .withTimeout(bus_call_memory)
            .withArguments(std::move(args)...)
            .uponReplyInvoke(std::move(handler));
    } catch (const sdbus::Error& error) {
        throw BusError{error};
    }
}

/// Awaits the one result (or none, for void). The reply's type must be copyable.
template <class T, class... Args>
Task<T> call(Loop& loop, sdbus::IProxy& proxy, BusMethod method, Deadline deadline, Args... args) {
    Reply<T> reply{loop};
    const auto promise = reply.promise();
    auto what = std::string{"The answer to "} + method.name;
    if constexpr (std::is_void_v<T>) {
        const auto handler = [promise](const sdbus::Error* error) {
            error ? promise.fail(BusError{*error}) : promise.set();
        };
        send_call(proxy, method, handler, std::move(args)...);
        co_await reply.wait(std::move(what), deadline);
    } else {
        const auto handler = [promise](const sdbus::Error* error, T value) {
            error ? promise.fail(BusError{*error}) : promise.set(std::move(value));
        };
        send_call(proxy, method, handler, std::move(args)...);
        co_return co_await reply.wait(std::move(what), deadline);
    }
}

}  // namespace virtbus::systemd
