// SPDX-License-Identifier: LGPL-2.1-or-later
// One connection on which virtbus is served: to a message bus with many callers behind it, or to one peer. It knows its
// callers and what they have under way; what they may call is the dispatcher's work.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <unordered_map>

#include "virtbus/caller.hpp"
#include "virtbus/task.hpp"

struct sd_bus;
struct sd_bus_message;

namespace virtbus::dbus {

/// What one caller has under way.
struct Load {
    unsigned calls = 0;
    std::size_t bytes = 0;
};
inline constexpr unsigned most_calls = 256;
inline constexpr std::size_t most_bytes = std::size_t{64} << 20;

class Connection : public std::enable_shared_from_this<Connection> {
public:
    virtual ~Connection() = default;

    virtual sd_bus* bus() const = 0;
    /// The name of whoever sent the message, as Caller.name has it.
    virtual std::string sender(sd_bus_message* message) const = 0;
    /// Fills in uid and pid of the caller of that name. AccessDenied when they cannot be found out.
    virtual Task<> identify(Caller& caller) = 0;
    virtual bool wants_signals() const = 0;
    /// Counts what has been queued for sending.
    virtual void sent(std::size_t bytes) { (void)bytes; }
    /// So much is still to be sent that no further question is answered until the other side has read.
    virtual bool congested() const { return false; }

    unsigned calls_of(const std::string& caller) const {
        const auto found = loads_.find(caller);
        return found == loads_.end() ? 0 : found->second.calls;
    }
    Load& load(const std::string& caller) { return loads_[caller]; }
    void unload(const std::string& caller, std::size_t bytes) {
        const auto found = loads_.find(caller);
        if (found == loads_.end()) return;
        found->second.bytes -= bytes;
        if (--found->second.calls == 0) loads_.erase(found);
    }

private:
    std::unordered_map<std::string, Load> loads_;
};
using ConnectionPtr = std::shared_ptr<Connection>;

}  // namespace virtbus::dbus
