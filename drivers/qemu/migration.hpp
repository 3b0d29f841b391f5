// SPDX-License-Identifier: LGPL-2.1-or-later
// Migration streams over a descriptor: out of a running guest, into a fresh one, and giving one up. Whether the CPUs
// stand still meanwhile, and what becomes of the stream, is decided by whoever asks.
#pragma once

#include <memory>
#include <stop_token>

#include "qemu/guest.hpp"

namespace virtbus::qemu {

/// Writes the guest's whole state to the descriptor as fast as it takes it. Returns when QEMU has written all; its
/// block devices are then inactive until `cont`. Throws what QEMU says, Cancelled after a stop; end_migration is then
/// still to be called.
Task<> send_state(std::shared_ptr<GuestCore> core, Fd target, ProgressSink progress, std::stop_token stop);
/// Cancels a migration if there is one and waits until there is none.
Task<> end_migration(std::shared_ptr<GuestCore> core);
/// Lets a QEMU started with `-incoming defer` take the stream; returns when it has. The CPUs stay halted.
Task<> receive_state(std::shared_ptr<GuestCore> core, Fd source, std::stop_token stop);

/// Guest::save and Guest::undo_save.
Task<> save(std::shared_ptr<GuestCore> core, Fd target, ProgressSink progress, std::stop_token stop, bool live);
Task<> undo_save(std::shared_ptr<GuestCore> core, bool running);

}  // namespace virtbus::qemu
