// SPDX-License-Identifier: LGPL-2.1-or-later
// TpmEmulator: the swtpm of one guest, in a unit of its own, from its state folder to its end. What QEMU's line says of
// it is command/small_devices.cpp's, how long the state is kept is the service's decision.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "qemu/tpm_record.hpp"
#include "virtbus/driver.hpp"

namespace virtbus::qemu {

struct TpmTimes {
    Duration answer{10000};  ///< an emulator that says nothing for so long is given up
    Duration leave{2000};    ///< from QEMU's end to its own; then it is killed
    Duration kill{5000};
    Duration notice{200};  ///< from the end of its socket to that of the process
};

/// Where the program is; tests have others.
struct TpmProgram {
    std::string path = "/usr/bin/swtpm";
    TpmTimes times;
};

/// Why a definition's TPMs cannot be had here; empty when they can. Looks whether the program is installed.
std::string tpm_problem(const DomainConfig& config, const TpmProgram& program);

/// The definition's TPM that needs an emulator of ours; null when it has none.
const Tpm* emulated_tpm(const DomainConfig& config);

/// The guest that had it is gone, and no daemon saw it.
Task<> end_left_tpm(Ports& ports, TpmRecord record);

class TpmEmulator : public std::enable_shared_from_this<TpmEmulator> {
public:
    /// Called once, from the loop, when it has ended without end() having been asked for.
    using Died = std::function<void()>;

    TpmEmulator(Ports& ports, TpmProgram program);

    struct Wish {
        std::string domain, uuid;
        std::uint32_t id = 0;
        std::string slice;
        std::string log;  ///< path
        Tpm tpm;
        Resources& resources;
        Deadline deadline;
        std::stop_token stop;
    };
    /// Starts it on its state, which is made when it is missing, and waits until it answers. The result is QEMU's end
    /// of the control socket: when that is closed it ends by itself. A failure leaves nothing; its message has the
    /// program's last words.
    Task<Fd> start(Wish wish);
    /// Finds the one that an earlier daemon started.
    void adopt(TpmRecord record);
    void when_dead(Died died);

    const TpmRecord& record() const { return record_; }
    bool is_running() const { return unit_.pid != 0 && !gone_; }
    /// QEMU has ended, so it will: waits for that, kills it when it does not, and clears its unit away. Never throws.
    Task<> end();
    /// The guest's start has failed: end(), and state that this start has made is removed.
    Task<> undo();
    /// Forgets it and leaves it alone.
    void detach();
    /// The last line of its log. Blocks: for workers.
    static std::string last_words(const TpmRecord& record);

private:
    struct Place {
        std::string folder;  ///< of the state
        std::string made;    ///< the topmost folder that this start has made; "" = none
        bool fresh = false;
    };
    Task<Place> prepare(const Wish& wish);
    Task<Fd> run(const Wish& wish, const Place& place, std::string helper);
    Task<> manufacture(const Wish& wish, const Place& place);
    template <class Say>
    Task<> converse(const Wish& wish, const Fd& control, Say say);
    void take(Unit unit);
    Task<> wait_gone(Deadline deadline);
    Task<std::string> how_it_ended();
    Task<> clear();
    Task<> remove_made();

    Ports& ports_;
    TpmProgram program_;
    TpmRecord record_;
    Unit unit_;
    Registration watch_;
    Died died_;
    std::string made_;
    std::vector<Reply<>::Promise> waiting_;
    bool gone_ = false, ending_ = false;
};

}  // namespace virtbus::qemu
