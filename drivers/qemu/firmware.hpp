// SPDX-License-Identifier: LGPL-2.1-or-later
// Chooses firmware by the descriptors that distributions install. Reading the firmware itself is left to whoever
// opens it.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "qemu/chipset.hpp"
#include "virtbus/model/features.hpp"
#include "virtbus/model/os.hpp"
#include "virtbus/ports.hpp"

namespace virtbus::qemu {

struct FirmwareTarget {
    std::string arch;                   ///< QEMU's name
    std::vector<std::string> machines;  ///< patterns: "pc-q35-*"
};

struct Firmware {
    std::string descriptor;  ///< file name, which orders them
    bool uefi = false, bios = false;
    std::string device;  ///< flash, memory, kernel
    std::string mode;    ///< flash: split, combined, stateless
    std::string executable, executable_format;
    std::string nvram_template, template_format;
    std::vector<FirmwareTarget> targets;
    std::vector<std::string> features;

    bool has(std::string_view feature) const;
};

/// All descriptors in force, best first: the same name in a later, stronger folder wins, an empty file masks.
/// Descriptors that cannot be read or understood mask too, and are told in `problems`, a sentence each.
std::vector<Firmware> load_firmwares(Files& files, const std::vector<std::string>& folders,
                                     std::vector<std::string>& problems);
/// nullopt-like (empty executable) when the text is no descriptor of a firmware.
Firmware parse_firmware(std::string name, std::string_view text);

/// InvalidXML when what is said of the firmware contradicts itself or the machine, whatever firmware there is.
void require_sound_firmware(const Os& os, const Features* features, const Chipset& chipset);

/// The best one for os.firmware with the features asked for; nullptr when there is none.
const Firmware* choose_firmware(const std::vector<Firmware>& firmwares, const Os& os, const Features* features);
/// Why there is none: what was asked for, and the descriptors that came closest.
std::string explain_no_firmware(const std::vector<Firmware>& firmwares, const Os& os, const Features* features);
/// The one whose executable that is; nullptr when nobody describes it.
const Firmware* find_firmware(const std::vector<Firmware>& firmwares, std::string_view executable);
/// The template that belongs to a loader nobody describes, by the names that distributions give them; "" when unknown.
std::string known_template(std::string_view loader);

}  // namespace virtbus::qemu
