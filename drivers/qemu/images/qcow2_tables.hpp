// SPDX-License-Identifier: LGPL-2.1-or-later
// The internal snapshots and the bitmaps that a qcow2 image lists. The image is hostile input: everything is bounded,
// and nothing but the two lists is read.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace virtbus::qemu {

struct Qcow2Snapshot {
    std::string id;  ///< QEMU's own, unique in an image; looked at before the tag by most of its commands
    std::string tag;
    std::uint64_t l1_at = 0, l1_length = 0;  ///< its own copy of the first table, in bytes
};
struct Qcow2Bitmap {
    std::string name;
    bool recording = false;
    bool inconsistent = false;  ///< whoever wrote it did not finish
    std::uint32_t granularity = 0;
};
struct Qcow2Tables {
    std::vector<Qcow2Snapshot> snapshots;
    std::uint64_t snapshots_length = 0;  ///< bytes of their list, without the padding behind the last
    std::vector<Qcow2Bitmap> bitmaps;
};

/// Of an image whose header has been read. UnsupportedConfiguration, naming the path, when the lists are cut or
/// contradict themselves. Blocks on the file.
Qcow2Tables read_qcow2_tables(int fd, const std::string& path);

}  // namespace virtbus::qemu
