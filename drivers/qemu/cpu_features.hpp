// SPDX-License-Identifier: LGPL-2.1-or-later
// libvirt's names of CPU features in QEMU's spelling.
#pragma once

#include <string>
#include <string_view>

namespace virtbus::qemu {

/// "" for what libvirt names and QEMU has no switch for (the guest's own doing, or monitoring of the host's).
/// InvalidXML when it could not be a name.
std::string feature_name(const std::string& name);

/// False for features (in QEMU's spelling) that its expansion of the host leaves out although the host may have them:
/// those that cannot be migrated, and those that are on only when asked for.
bool tells_of_host(std::string_view feature);

}  // namespace virtbus::qemu
