// SPDX-License-Identifier: LGPL-2.1-or-later
#include "qemu/images/qcow2_refcounts.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "virtbus/error.hpp"

namespace virtbus::qemu {

namespace {

constexpr std::uint64_t longest_table = 8U << 20;     // QEMU's own limit
constexpr std::uint64_t most_counts = 256U << 20;     // bytes kept in memory: images of 8 TiB
constexpr std::uint64_t place = ~std::uint64_t{511};  // the lower bits of an entry are reserved
constexpr std::uint64_t most = 0xffff;

}  // namespace

Qcow2Refcounts::Qcow2Refcounts(const ImageBytes& image, std::uint64_t table, std::uint64_t table_clusters,
                               unsigned cluster_bits, std::uint64_t end)
    : bits_{cluster_bits}, block_bits_{cluster_bits - 1}, end_{end} {
    if (table % cluster_size() || table_clusters > longest_table >> bits_)
        throw NotPlain{"its table of counts is out of place"};
    const auto entries = image.read(table, table_clusters << bits_);
    std::set<std::uint64_t> seen;
    for (std::uint64_t at = 0; at < entries.size(); at += 8) {
        auto& block = blocks_.emplace_back();
        block.at = big(entries, at, 8) & place;
        if (!block.at) continue;
        if (block.at % cluster_size() || !seen.insert(block.at).second)
            throw NotPlain{"a block of counts is out of place"};
        if (seen.size() << bits_ > most_counts) throw NotPlain{"it has more counts than are kept in memory"};
        block.now = image.read(block.at, cluster_size());
    }
    require_used(0, 1);
    require_used(table, table_clusters << bits_);
    for (const auto at : seen) require_used(at, 1);
}

const Qcow2Refcounts::Block* Qcow2Refcounts::find_block(std::uint64_t cluster) const {
    const auto index = cluster >> block_bits_;
    return index < blocks_.size() && blocks_[index].at ? &blocks_[index] : nullptr;
}

std::uint64_t Qcow2Refcounts::count(std::uint64_t cluster) const {
    const auto* block = find_block(cluster);
    return block ? big(block->now, inside(cluster), 2) : 0;
}

void Qcow2Refcounts::set(std::uint64_t cluster, std::uint64_t value) {
    auto& block = blocks_[cluster >> block_bits_];
    if (!block.changed) block.before = block.now;
    block.changed = true;
    put_big(block.now, inside(cluster), 2, value);
}

void Qcow2Refcounts::require_used(std::uint64_t at, std::uint64_t length) const {
    if (length == 0) return;
    for (auto cluster = at >> bits_; cluster <= (at + length - 1) >> bits_; ++cluster)
        if (count(cluster) == 0) throw NotPlain{fmt::format("cluster {} is used and counted as free", cluster)};
}

void Qcow2Refcounts::raise(std::uint64_t at, std::uint64_t length) {
    require_used(at, length);
    for (auto cluster = at >> bits_; cluster <= (at + length - 1) >> bits_; ++cluster) {
        const auto users = count(cluster);
        if (users == most) throw NotPlain{fmt::format("cluster {} has as many users as can be counted", cluster)};
        set(cluster, users + 1);
    }
}

void Qcow2Refcounts::lower(std::uint64_t at, std::uint64_t length) {
    if (length == 0) return;
    require_used(at, length);
    for (auto cluster = at >> bits_; cluster <= (at + length - 1) >> bits_; ++cluster) set(cluster, count(cluster) - 1);
}

std::uint64_t Qcow2Refcounts::allocate(std::uint64_t length) {
    const auto wanted = (length + cluster_size() - 1) >> bits_;
    const auto limit = std::min(end_ >> bits_, std::uint64_t{blocks_.size()} << block_bits_);
    std::uint64_t run = 0;
    for (std::uint64_t cluster = 0; cluster < limit; ++cluster) {
        if (!find_block(cluster)) {
            cluster |= (std::uint64_t{1} << block_bits_) - 1;
            run = 0;
            continue;
        }
        run = count(cluster) == 0 ? run + 1 : 0;
        if (run < wanted) continue;
        const auto first = cluster + 1 - wanted;
        for (auto taken = first; taken <= cluster; ++taken) set(taken, 1);
        return first << bits_;
    }
    throw NotPlain{"its counts have no room"};
}

void Qcow2Refcounts::write(ImageBytes& image) {
    for (auto& block : blocks_)
        if (block.changed) image.write(block.at, block.now);
    for (auto& block : blocks_) block.changed = false;
}

void Qcow2Refcounts::take_back(ImageBytes& image) noexcept {
    try {
        for (auto& block : blocks_)
            if (!block.before.empty()) image.write(block.at, block.before);
        image.sync();
    } catch (const std::exception&) {
        // Clusters that count as used and are not: qemu-img check finds and frees them.
    }
}

}  // namespace virtbus::qemu
