// SPDX-License-Identifier: LGPL-2.1-or-later
// ReservationHelper: the qemu-pr-helper of a guest whose disks have managed persistent reservations. QEMU hands it the
// disk's descriptor with each command, so it opens no disk.
#pragma once

#include <string>

#include "qemu/helpers/helper_unit.hpp"

namespace virtbus::qemu {

/// The first disk that wants one; null when none does.
const Disk* disk_with_managed_reservations(const DomainConfig& config);

/// Its socket, in the folder of the guest's.
std::string reservations_at(const std::string& folder);

class ReservationHelper final : public HelperUnit {
public:
    using HelperUnit::HelperUnit;

    /// Starts it and waits until it answers on its socket, whose path is the result. It does not leave by itself. A
    /// failure leaves nothing; its message has the program's last words.
    Task<std::string> start(HelperOrder order, std::string alias, std::string program);

private:
    Task<std::string> run_at(const HelperOrder& order, std::string alias, std::string program, std::string path);
};

}  // namespace virtbus::qemu
