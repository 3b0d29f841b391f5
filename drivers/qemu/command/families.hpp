// SPDX-License-Identifier: LGPL-2.1-or-later
// The parts of the line, in the order in which they are written. Each family has a file of its own.
#pragma once

#include "qemu/command/argv.hpp"
#include "virtbus/model/chardev.hpp"

namespace virtbus::qemu {

// firmware.cpp
void add_firmware_images(Argv& line);  ///< before the machine that refers to them
void add_direct_boot(Argv& line);
// machine.cpp
void add_machine(Argv& line);
void add_smp(Argv& line);
void add_clock(Argv& line);
void add_power_and_boot(Argv& line);
// cpu.cpp
void add_cpu(Argv& line);
// memory.cpp
std::string main_memory_backend(const Argv& line);  ///< "" when NUMA cells bring their own
void add_memory(Argv& line);
void add_memory_devices(Argv& line);
void add_epc_sections(const Argv& line, KeyValues& machine);
// sysinfo.cpp
void add_sysinfo(Argv& line);
// The devices.
void add_iothreads(Argv& line);
void add_controllers(Argv& line);
void add_disks(Argv& line);
void add_filesystems(Argv& line);
void add_interfaces(Argv& line);
void add_character_devices(Argv& line);
void add_inputs(Argv& line);
void add_audio(Argv& line);
void add_graphics(Argv& line);
void add_videos(Argv& line);
void add_sounds(Argv& line);
void add_hostdevs(Argv& line);
void add_redirdevs(Argv& line);
void add_iommus(Argv& line);  ///< before every device they serve
void add_small_devices(Argv& line);
void add_tpms(Argv& line);

/// A character device's back end with the id "char" + alias; returns the id.
std::string add_chardev(Argv& line, ChardevType type, const ChardevBackend& backend, const std::string& alias);

/// NUMA nodes of the host that feed a guest's cell, onto a memory back end.
void set_host_nodes(Json& object, const Argv& line, std::optional<unsigned> cell);

}  // namespace virtbus::qemu
