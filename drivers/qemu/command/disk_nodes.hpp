// SPDX-License-Identifier: LGPL-2.1-or-later
// The block nodes of disks: every level of a chain, and above it what copies on read and what limits. The device that
// the guest sees is disks.cpp's.
#pragma once

#include <set>
#include <string>

#include "qemu/command/argv.hpp"
#include "virtbus/model/disk.hpp"

namespace virtbus::qemu {

/// A cache mode, of which the nodes have one part and the device the other.
struct Cache {
    std::string_view mode;
    bool write_back, direct, no_flush;
};
/// Null for the default.
const Cache* find_cache(const Disk& disk);

class DiskNodes {
public:
    explicit DiskNodes(Argv& line) : line_{line}, counter_{line.opened.first_node} {}
    /// Writes the nodes; returns the name of the one the device uses, "" for an empty drive.
    std::string add(const Disk& disk);

private:
    Argv& line_;
    unsigned counter_;              // numbers go on from disk to disk
    std::set<std::string> groups_;  // throttle groups made already
};

}  // namespace virtbus::qemu
