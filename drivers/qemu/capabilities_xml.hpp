// SPDX-License-Identifier: LGPL-2.1-or-later
// <capabilities> and <domainCapabilities> in libvirt's format, from what the emulators can do.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "qemu/capabilities.hpp"
#include "qemu/firmware.hpp"

namespace virtbus::qemu {

std::string capabilities_xml(const std::vector<std::shared_ptr<const Capabilities>>& emulators);

/// `machine` "" is the default one, `type` "" is kvm where it is there, else qemu. UnsupportedConfiguration names what
/// there is.
std::string domain_capabilities_xml(const Capabilities& known, std::string_view machine, std::string_view type,
                                    const std::vector<Firmware>& firmwares);

}  // namespace virtbus::qemu
