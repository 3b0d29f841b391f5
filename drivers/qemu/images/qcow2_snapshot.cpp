// SPDX-License-Identifier: LGPL-2.1-or-later
#include "qemu/images/qcow2_snapshot.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <unordered_set>
#include <vector>

#include "qemu/images/qcow2_refcounts.hpp"
#include "qemu/images/qcow2_tables.hpp"
#include "virtbus/error.hpp"
#include "virtbus/reply.hpp"

namespace virtbus::qemu {

namespace {

constexpr std::uint64_t copied = std::uint64_t{1} << 63, compressed = std::uint64_t{1} << 62;
constexpr std::uint64_t place = 0x00ff'ffff'ffff'fe00;
constexpr std::uint64_t longest_l1 = 32U << 20, longest_list = 64U << 20, most_snapshots = 65536;  // QEMU's limits
constexpr std::uint64_t most_tables = std::uint64_t{1} << 30;  // bytes that are read here

struct Head {
    unsigned cluster_bits = 0;
    std::uint64_t size = 0;
    std::uint64_t l1_at = 0, l1_length = 0;
    std::uint64_t counts_at = 0, counts_clusters = 0;
    std::uint64_t list_at = 0, list_count = 0;
};

Head read_head(const ImageBytes& image) {
    const auto head = image.read(0, 104);
    const bool third = big(head, 4, 4) >= 3;
    const auto known_incompatible = std::uint64_t{1} << 3;  // how clusters are compressed
    const auto known_autoclear = std::uint64_t{1};          // bitmaps, which a snapshot does not touch
    if (big(head, 4, 4) > 3 || big(head, 32, 4) != 0) throw NotPlain{"it is encrypted or of a newer version"};
    if (third && (big(head, 72, 8) & ~known_incompatible || big(head, 88, 8) & ~known_autoclear))
        throw NotPlain{"it has features or marks that need care"};
    if (third && big(head, 96, 4) != 4) throw NotPlain{"its counts do not have 16 bits"};
    Head out;
    out.cluster_bits = static_cast<unsigned>(big(head, 20, 4));
    if (out.cluster_bits < 9 || out.cluster_bits > 21) throw NotPlain{"its clusters have an impossible size"};
    const std::uint64_t cluster = std::uint64_t{1} << out.cluster_bits;
    out.size = big(head, 24, 8);
    out.l1_length = big(head, 36, 4) * 8;
    out.l1_at = big(head, 40, 8);
    out.counts_at = big(head, 48, 8);
    out.counts_clusters = big(head, 56, 4);
    out.list_count = big(head, 60, 4);
    out.list_at = out.list_count ? big(head, 64, 8) : 0;
    if (out.l1_length == 0 || out.l1_length > longest_l1 || out.l1_at % cluster || out.list_at % cluster)
        throw NotPlain{"its tables are out of place"};
    return out;
}

class Taking {
public:
    Taking(ImageBytes& image, std::uint64_t end)
        : image_{image},
          head_{read_head(image)},
          counts_{image, head_.counts_at, head_.counts_clusters, head_.cluster_bits, end} {}

    void plan(const std::string& tag, std::uint64_t now, const std::stop_token& stop) {
        share_tables(stop);
        const auto list = read_list();
        const auto copy_at = counts_.allocate(head_.l1_length);
        auto longer = list.bytes + new_entry(list, tag, now, copy_at);
        if (longer.size() > longest_list || head_.list_count + 1 > most_snapshots)
            throw NotPlain{"its list of snapshots is full"};
        pieces_.push_back({copy_at, whole_clusters(l1_)});
        new_list_ = counts_.allocate(longer.size());
        pieces_.push_back({new_list_, whole_clusters(std::move(longer))});
        old_length_ = list.length;
    }

    void write() {
        if (clear_marks()) image_.sync();
        std::string head(12, '\0');
        put_big(head, 0, 4, head_.list_count + 1);
        put_big(head, 4, 8, new_list_);
        try {
            for (const auto& [at, bytes] : pieces_) image_.write(at, bytes);
            counts_.write(image_);
            image_.sync();
            image_.write(60, head);
        } catch (...) {
            counts_.take_back(image_);
            throw;
        }
        image_.sync();
        try {
            counts_.lower(head_.list_at, old_length_);
            counts_.write(image_);
        } catch (const std::exception&) {
            // The snapshot is there; a cluster or two are lost until somebody checks the image.
        }
    }

private:
    struct List {
        std::string bytes;         ///< padded for one more
        std::uint64_t length = 0;  ///< without the padding behind the last
        std::uint64_t last_id = 0;
    };

    /// Counts one more user of all that the active tables name, and remembers who is marked as used once.
    void share_tables(const std::stop_token& stop) {
        counts_.require_used(head_.l1_at, head_.l1_length);
        l1_ = image_.read(head_.l1_at, head_.l1_length);
        std::unordered_set<std::uint64_t> seen;
        for (std::uint64_t at = 0; at < l1_.size(); at += 8) {
            const auto entry = big(l1_, at, 8);
            const auto table = entry & place;
            if (!table) continue;
            if (stop.stop_requested()) throw Cancelled{fmt::format("taking a snapshot of '{}'", image_.path())};
            if (table % counts_.cluster_size() || !seen.insert(table).second)
                throw NotPlain{"a table of clusters is out of place"};
            if (seen.size() << head_.cluster_bits > most_tables)
                throw NotPlain{"it has more tables than are read here"};
            counts_.raise(table, 1);
            if (entry & copied) {
                put_big(l1_, at, 8, entry & ~copied);
                l1_marked_ = true;
            }
            if (share_clusters(image_.read(table, counts_.cluster_size()))) marked_tables_.push_back(table);
        }
    }

    bool share_clusters(const std::string& table) {
        const unsigned shift = 62 - (head_.cluster_bits - 8);
        bool marked = false;
        for (std::uint64_t at = 0; at < table.size(); at += 8) {
            const auto entry = big(table, at, 8);
            if (entry & compressed) {
                const auto first = entry & ((std::uint64_t{1} << shift) - 1) & ~std::uint64_t{511};
                const auto sectors = (entry >> shift & ((std::uint64_t{1} << (head_.cluster_bits - 8)) - 1)) + 1;
                counts_.raise(first, sectors * 512);
                continue;
            }
            if (const auto cluster = entry & place) {
                if (cluster % counts_.cluster_size()) throw NotPlain{"a cluster is out of place"};
                counts_.raise(cluster, 1);
            }
            marked = marked || entry & copied;
        }
        return marked;
    }

    List read_list() {
        const auto tables = read_qcow2_tables(image_.fd(), image_.path());
        List list;
        list.length = tables.snapshots_length;
        list.bytes = image_.read(head_.list_at, list.length);
        list.bytes.resize((list.length + 7) / 8 * 8);
        counts_.require_used(head_.list_at, list.length);
        std::uint64_t copies = 0;
        for (const auto& snapshot : tables.snapshots) {
            copies += snapshot.l1_length;
            if (copies > most_tables) throw NotPlain{"its snapshots have more tables than are looked at here"};
            list.last_id = std::max<std::uint64_t>(list.last_id, std::strtoul(snapshot.id.c_str(), nullptr, 10));
            counts_.require_used(snapshot.l1_at, snapshot.l1_length);
        }
        if (list.last_id >= INT32_MAX) throw NotPlain{"its snapshots have numbers that are too large"};
        return list;
    }

    std::string new_entry(const List& list, const std::string& tag, std::uint64_t now, std::uint64_t copy_at) const {
        constexpr std::uint64_t fixed = 40, extra = 24;
        const auto id = std::to_string(list.last_id + 1);
        std::string entry(fixed + extra, '\0');
        put_big(entry, 0, 8, copy_at);
        put_big(entry, 8, 4, head_.l1_length / 8);
        put_big(entry, 12, 2, id.size());
        put_big(entry, 14, 2, tag.size());
        put_big(entry, 16, 4, static_cast<std::uint32_t>(now / 1'000'000));
        put_big(entry, 20, 4, now % 1'000'000 * 1000);
        put_big(entry, 36, 4, extra);
        put_big(entry, fixed + 8, 8, head_.size);
        put_big(entry, fixed + 16, 8, ~std::uint64_t{0});  // no count of instructions
        return entry + id + tag;
    }

    std::string whole_clusters(std::string bytes) const {
        const auto cluster = counts_.cluster_size();
        bytes.resize((bytes.size() + cluster - 1) / cluster * cluster);
        return bytes;
    }

    /// What is shared is not written in place any more. True when something was marked.
    bool clear_marks() {
        for (const auto at : marked_tables_) {
            auto table = image_.read(at, counts_.cluster_size());
            for (std::uint64_t i = 0; i < table.size(); i += 8)
                if (const auto entry = big(table, i, 8); !(entry & compressed)) put_big(table, i, 8, entry & ~copied);
            image_.write(at, table);
        }
        if (l1_marked_) image_.write(head_.l1_at, l1_);
        return l1_marked_ || !marked_tables_.empty();
    }

    ImageBytes& image_;
    Head head_;
    Qcow2Refcounts counts_;
    std::string l1_;
    bool l1_marked_ = false;
    std::vector<std::uint64_t> marked_tables_;
    std::vector<std::pair<std::uint64_t, std::string>> pieces_;
    std::uint64_t new_list_ = 0, old_length_ = 0;
};

}  // namespace

std::optional<std::string> take_qcow2_snapshot(ImageBytes& image, const std::string& tag, std::uint64_t now,
                                               std::uint64_t end, const std::stop_token& stop) {
    std::optional<Taking> taking;
    try {
        taking.emplace(image, end);
        taking->plan(tag, now, stop);
    } catch (const NotPlain& reason) {
        return reason.what();
    } catch (const Error& error) {
        // A short read: QEMU takes what is behind the end for zeros.
        if (error.code() != Code::unsupported_configuration) throw;
        return error.what();
    }
    taking->write();
    return std::nullopt;
}

}  // namespace virtbus::qemu
