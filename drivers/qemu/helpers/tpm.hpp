// SPDX-License-Identifier: LGPL-2.1-or-later
// TpmEmulator: the swtpm of one guest, in a unit of its own, from its state folder to its end. What QEMU's line says of
// it is command/small_devices.cpp's, how long the state is kept is the service's decision.
#pragma once

#include <string>

#include "qemu/helpers/helper_unit.hpp"

namespace virtbus::qemu {

/// Where the program is; tests have others.
struct TpmProgram {
    std::string path = "/usr/bin/swtpm";
    HelperTimes times;
};

/// Why a definition's TPMs cannot be had here; empty when they can. Looks whether the program is installed.
std::string tpm_problem(const DomainConfig& config, const TpmProgram& program);

/// The definition's TPM that needs an emulator of ours; null when it has none.
const Tpm* emulated_tpm(const DomainConfig& config);

class TpmEmulator final : public HelperUnit {
public:
    TpmEmulator(Ports& ports, TpmProgram program);

    /// Starts it on its state, which is made when it is missing, and waits until it answers. The result is QEMU's end
    /// of the control socket. It ends by itself when QEMU closes the data socket that it hands over there; before it
    /// has one, it stays whatever becomes of the control socket, until end() kills it. A failure leaves nothing; its
    /// message has the program's last words.
    Task<Fd> start(HelperOrder order, Tpm tpm);
    Task<> undo() override;

private:
    struct Place {
        std::string path;  ///< of the state: a folder, or a single file
        bool single = false;
        std::string made;  ///< the topmost folder that this start has made; "" = none
        bool fresh = false;
    };
    Task<Place> prepare(const HelperOrder& order, const Tpm& tpm);
    Task<Place> prepare_file(const HelperOrder& order, std::string path);
    Task<Fd> run_on(const HelperOrder& order, const Tpm& tpm, const Place& place, std::string unit);
    Task<Fd> run_answering(const HelperOrder& order, const Tpm& tpm);
    Task<> manufacture(const HelperOrder& order, const Tpm& tpm, const Place& place);
    Task<> remove_made();

    const std::string path_;
    std::string made_;
};

}  // namespace virtbus::qemu
