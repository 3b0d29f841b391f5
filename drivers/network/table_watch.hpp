// SPDX-License-Identifier: LGPL-2.1-or-later
// TableWatch: tells when somebody has taken something away from the host's nftables for bridges. What, and whether it
// matters, is for others to see.
#pragma once

#include <functional>

#include "virtbus/fd.hpp"
#include "virtbus/loop.hpp"

namespace virtbus::network {

class TableWatch {
public:
    /// Does nothing where that is not permitted.
    TableWatch(Loop& loop, std::function<void()> taken_away);

private:
    void read_all();

    Fd socket_;
    std::function<void()> taken_away_;
    Registration watch_;
};

}  // namespace virtbus::network
