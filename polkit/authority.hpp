// SPDX-License-Identifier: LGPL-2.1-or-later
// The Authority port on polkit, and the one for a user's own bus. Which call needs which action, and what a refusal
// looks like, is left to access and to dbus/.
#pragma once

#include <memory>

#include "virtbus/ports.hpp"

typedef struct _PolkitAuthority PolkitAuthority;

namespace virtbus::polkit {

struct PolkitOptions {
    /// polkit never denies root anything, so root is not kept waiting for it. A test that runs as root asks all the
    /// same.
    bool ask_about_root = false;
    Duration patience{25'000};  ///< for an answer without a dialogue
    Duration patience_with_dialogue{300'000};
};

/// Asks polkitd about the caller: the connection on the bus, or the process at the other end of the socket. A polkitd
/// that is absent, fails or does not answer in time is a no.
class SystemAuthority final : public Authority {
public:
    SystemAuthority(Loop& loop, Log& log, PolkitOptions options = {});
    ~SystemAuthority() override;

    Task<Verdict> check(Caller caller, std::string action, std::map<std::string, std::string> details,
                        std::stop_token stop) override;

private:
    Task<> connect(Deadline deadline, std::stop_token stop);
    Task<Verdict> ask(Caller caller, std::string action, std::map<std::string, std::string> details, Deadline deadline,
                      std::stop_token stop);

    Loop& loop_;
    Log& log_;
    PolkitOptions options_;
    /// libpolkit's one object of the process; null until the first question. Never let go of: a finalized one is still
    /// told of polkitd's coming and going.
    ::PolkitAuthority* authority_ = nullptr;
};

/// For a bus that belongs to one user: that user (and root) may do all, nobody else anything.
class OwnerAuthority final : public Authority {
public:
    explicit OwnerAuthority(std::uint32_t owner) : owner_{owner} {}
    Task<Verdict> check(Caller caller, std::string action, std::map<std::string, std::string> details,
                        std::stop_token stop) override;

private:
    std::uint32_t owner_;
};

}  // namespace virtbus::polkit
