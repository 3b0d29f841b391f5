// SPDX-License-Identifier: LGPL-2.1-or-later
// A file that a caller has named, in a folder that is held open: what the caller may do there was asked once, and
// whoever exchanges folders afterwards changes nothing.
#pragma once

#include <optional>
#include <string>

#include "virtbus/fd.hpp"
#include "virtbus/ports.hpp"

namespace virtbus {

class CallerPlace {
public:
    /// Opens its folder, with the rights of `as`.
    static Task<CallerPlace> open(Ports& ports, std::string path, std::optional<Identity> as);

    /// For whoever opens it; its plain name where the caller has the daemon's own rights.
    std::string path() const;
    /// Makes an empty file with the rights of the caller; nothing where these are the daemon's own.
    Task<> make(Ports& ports) const;
    bool exists() const;
    /// Listens on a new unix socket that only the caller can connect to. AlreadyExists.
    Task<Fd> listen(Ports& ports) const;
    void remove() const noexcept;
    /// The daemon's own place: what listens there is given to that user.
    void give_to(std::optional<Identity> owner) { owner_ = std::move(owner); }
    bool is_foreign() const { return as_.has_value(); }

private:
    Fd folder_;
    std::string name_, plain_;
    std::optional<Identity> as_, owner_;
};

/// Listens on the address. AlreadyExists when somebody else does.
Task<Fd> listen_on_tcp(Ports& ports, std::string host, std::string port);

}  // namespace virtbus
