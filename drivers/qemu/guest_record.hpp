// SPDX-License-Identifier: LGPL-2.1-or-later
// What a later daemon must know to take up a running guest: the driver's part of the status file.
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "qemu/helpers/helper_record.hpp"
#include "virtbus/model/chain.hpp"
#include "virtbus/ports.hpp"
#include "virtbus/state.hpp"

namespace virtbus::qemu {

/// An image that QEMU has open, and what it was told to open: the node of the image and the one it reads from, as JSON.
struct RecordedImage {
    ImageFile file;
    std::string node, storage;
    bool operator==(const RecordedImage&) const = default;
};

struct GuestRecord {
    std::uint32_t pid = 0;
    std::uint64_t start_time = 0;  ///< clock ticks since boot: with the pid it names the process
    std::string unit;
    std::string folder;           ///< of its sockets; removed at its end
    std::string monitor;          ///< the socket QEMU listens on
    std::string log;              ///< its output
    std::uint64_t log_start = 0;  ///< where this run begins in it
    State state = State::starting;
    std::string reason;
    bool rebooting = false;  ///< the next power-off is half of a reboot
    std::vector<HelperRecord> helpers;
    bool network = false;  ///< its sandbox lets QEMU open sockets of its own
    /// What stands behind each device, as text of Part, those that others need first; the device itself is the last.
    std::map<std::string, std::vector<std::string>, std::less<>> parts;
    std::vector<std::string> coming;  ///< the same of a device that is being plugged
    std::set<std::string> leaving;    ///< devices that the guest was asked to give up
    /// Device nodes that its sandbox lets it open for a device that was plugged, by its alias; for those of its start
    /// by "".
    std::map<std::string, UnitGrant, std::less<>> allowed;
    unsigned nodes = 0, sets = 0;  ///< the highest numbers used for block nodes and descriptor sets

    /// Local images, by their nodes.
    std::map<std::string, RecordedImage, std::less<>> images;
    /// What `parts` says of devices when the change of their chains that is under way has been made.
    std::map<std::string, std::vector<std::string>, std::less<>> changing;
    std::string job;             ///< what QEMU works on for that change, or for a snapshot
    bool resume = false;         ///< the CPUs stand still for that change alone
    std::set<unsigned> closing;  ///< sets that QEMU has let go of and closes when its CPUs run

    std::string text() const;
    /// Internal for text of another format or version.
    static GuestRecord from_text(const std::string& text);
};

/// Field 22 of /proc/<pid>/stat; 0 when there is no such process.
std::uint64_t process_start_time(std::uint32_t pid);

}  // namespace virtbus::qemu
