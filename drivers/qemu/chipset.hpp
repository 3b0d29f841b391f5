// SPDX-License-Identifier: LGPL-2.1-or-later
// What is common to all versions of a machine type: its root buses and what it has without being asked. Which versions
// exist is capabilities.hpp's knowledge.
#pragma once

#include <string_view>

#include "virtbus/model/domain.hpp"

namespace virtbus::qemu {

struct Chipset {
    enum class Kind { pc, q35, isapc, microvm, virt, pseries, s390, other };

    Kind kind = Kind::other;
    std::string_view root;                  ///< model of PCI controller 0: "pci-root", "pcie-root"; "" = no PCI
    std::string_view usb;                   ///< model of the USB controller every guest gets; "" = none
    std::string_view usb_default;           ///< model of a USB controller that says none
    bool sata = false;                      ///< built in at index 0
    bool ide = false;                       ///< built in at index 0
    bool memballoon = false;                ///< added when there is none
    bool ps2 = false;                       ///< has a PS/2 controller; mouse and keyboard are listed
    bool isa = false;                       ///< takes ISA devices
    std::string_view serial, serial_model;  ///< target of a serial port that says none
    std::string_view network;               ///< model of an interface that says none, if the emulator has it
    std::string_view scsi;                  ///< model of a SCSI controller that says none, if the emulator has it
    std::string_view video;                 ///< model of a video card that says none, if the emulator has it
    std::string_view panic;                 ///< model of a panic device that says none
    bool panic_always = false;              ///< has one without being asked
    std::string_view ram_id;                ///< name of the main memory's back end; "" = not known

    bool pcie() const { return root == "pcie-root"; }
    bool pci() const { return !root.empty(); }
    bool x86() const { return kind == Kind::pc || kind == Kind::q35 || kind == Kind::isapc || kind == Kind::microvm; }
    std::string_view root_bus() const { return pcie() ? "pcie.0" : "pci.0"; }
};

const Chipset& chipset_of(const DomainConfig& config);

}  // namespace virtbus::qemu
