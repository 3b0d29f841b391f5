// SPDX-License-Identifier: LGPL-2.1-or-later
// What a running guest can be told to do, each a task that keeps the guest alive until it ends.
#pragma once

#include <memory>
#include <stop_token>
#include <string>
#include <vector>

#include "qemu/guest.hpp"

namespace virtbus::qemu {

using CorePtr = std::shared_ptr<GuestCore>;

Task<> resume(CorePtr core, std::stop_token stop);
Task<> suspend(CorePtr core, std::stop_token stop);
/// `ask_agent` is run when the mode says so.
Task<> shutdown(CorePtr core, ShutdownMode mode, Task<> ask_agent, std::stop_token stop);
Task<> reboot(CorePtr core, ShutdownMode mode, Task<> ask_agent, std::stop_token stop);
Task<> reset(CorePtr core, std::stop_token stop);
Task<> inject_nmi(CorePtr core, std::stop_token stop);

Task<> send_key(CorePtr core, std::vector<std::string> keys, std::stop_token stop);
Task<Screenshot> screenshot(CorePtr core, std::uint32_t screen, std::stop_token stop);
Task<Fd> open_console(CorePtr core, std::string name, bool force);
Task<Fd> open_display(CorePtr core, std::string type, std::stop_token stop);

}  // namespace virtbus::qemu
