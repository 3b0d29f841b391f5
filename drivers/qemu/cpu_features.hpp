// SPDX-License-Identifier: LGPL-2.1-or-later
// libvirt's names of CPU features in QEMU's spelling.
#pragma once

#include <string>

namespace virtbus::qemu {

/// "" for what libvirt names and QEMU has no switch for (the guest's own doing, or monitoring of the host's).
/// InvalidXML when it could not be a name.
std::string feature_name(const std::string& name);

}  // namespace virtbus::qemu
