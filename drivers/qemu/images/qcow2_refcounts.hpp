// SPDX-License-Identifier: LGPL-2.1-or-later
// How often each cluster of a qcow2 image is used: its counts of 16 bits, read whole, changed here and written back.
// It makes no new block of counts and trusts no count that contradicts the image; such images are left to QEMU.
#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

#include "qemu/images/image_bytes.hpp"

namespace virtbus::qemu {

/// The image is not as plain as what is done here needs it. Nothing was changed.
struct NotPlain : std::runtime_error {
    using std::runtime_error::runtime_error;
};

class Qcow2Refcounts {
public:
    /// `end`: no cluster beyond may be used, for block devices.
    Qcow2Refcounts(const ImageBytes& image, std::uint64_t table, std::uint64_t table_clusters, unsigned cluster_bits,
                   std::uint64_t end);

    std::uint64_t cluster_size() const { return std::uint64_t{1} << bits_; }
    /// The clusters that these bytes touch are in use. NotPlain when one is not.
    void require_used(std::uint64_t at, std::uint64_t length) const;
    /// One more who uses each cluster that these bytes touch.
    void raise(std::uint64_t at, std::uint64_t length);
    void lower(std::uint64_t at, std::uint64_t length);
    /// Takes so many bytes of unused clusters that lie side by side; their place. NotPlain when the blocks of counts
    /// that there are have no room.
    std::uint64_t allocate(std::uint64_t length);

    /// Writes what was changed since the last time.
    void write(ImageBytes& image);
    /// Puts back what the last write() replaced, as far as that can be.
    void take_back(ImageBytes& image) noexcept;

private:
    struct Block {
        std::uint64_t at = 0;  ///< 0: there is none
        std::string now, before;
        bool changed = false;
    };
    const Block* find_block(std::uint64_t cluster) const;
    std::uint64_t count(std::uint64_t cluster) const;
    std::uint64_t inside(std::uint64_t cluster) const {
        return (cluster & ((std::uint64_t{1} << block_bits_) - 1)) * 2;
    }
    void set(std::uint64_t cluster, std::uint64_t value);

    unsigned bits_;
    unsigned block_bits_;  ///< of the number of counts in a block
    std::uint64_t end_;
    std::vector<Block> blocks_;
};

}  // namespace virtbus::qemu
