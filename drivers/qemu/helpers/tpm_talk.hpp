// SPDX-License-Identifier: LGPL-2.1-or-later
// What is said to a TPM emulator on its control socket before QEMU has it. All of it blocks: for workers. Whose process
// it is and what becomes of it is tpm.hpp's work.
#pragma once

#include <vector>

#include "virtbus/fd.hpp"
#include "virtbus/loop.hpp"
#include "virtbus/model/tpm.hpp"

namespace virtbus::qemu {

/// Returns when it has answered as a TPM emulator does. HypervisorFailed for silence, rubbish and an end.
void require_tpm_answers(const Fd& control, Duration patience);

/// Switches a TPM 2.0 on, makes these PCR banks the active ones (from its next start on) and switches it off.
void allocate_pcr_banks(const Fd& control, const TpmBackend& banks, Duration patience);

}  // namespace virtbus::qemu
