// SPDX-License-Identifier: LGPL-2.1-or-later
// UserNetwork: the passt behind one interface of type user. What QEMU's line says of it is command/interfaces.cpp's.
#pragma once

#include <string>
#include <vector>

#include "qemu/helpers/helper_unit.hpp"

namespace virtbus::qemu {

bool needs_passt(const Interface& interface);

/// Its words, with its end of the guest's cable as descriptor 3.
std::vector<std::string> passt_words(const std::string& program, const Interface& interface);

class UserNetwork final : public HelperUnit {
public:
    using HelperUnit::HelperUnit;

    /// Starts it and waits until it answers the guest's card. The result is QEMU's end of the cable: when that is
    /// closed it ends by itself. A failure leaves nothing; its message has the program's last words.
    Task<Fd> start(HelperOrder order, Interface interface, std::string program);

private:
    Task<Fd> run_on_cable(const HelperOrder& order, const Interface& interface, const std::string& program);
};

}  // namespace virtbus::qemu
