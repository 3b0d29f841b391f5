// SPDX-License-Identifier: LGPL-2.1-or-later
// MomentIndex: the tree of one domain's snapshots, or of its checkpoints, as a value, and its text form that shows when
// it was cut or altered. Where the text lies is the shelf's knowledge; what moments mean for disks is the verbs'.
#pragma once

#include <compare>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "service/snapshots.hpp"
#include "virtbus/error.hpp"
#include "virtbus/model/chain.hpp"
#include "virtbus/model/moments.hpp"

namespace virtbus {

enum class MomentKind { snapshot, checkpoint };
constexpr std::string_view word(MomentKind kind) {
    return kind == MomentKind::snapshot ? "snapshot" : "checkpoint";
}

/// What a moment holds of one disk. A path is "" when nobody knows it.
struct MomentDisk {
    std::string target;
    SnapshotPlace place = SnapshotPlace::unset;
    ImageFile frozen;    ///< what the disk wrote to at the moment
    ImageFile overlay;   ///< what was put on top; external only
    std::string bitmap;  ///< of a checkpoint

    bool operator==(const MomentDisk&) const = default;
};

struct MomentEntry {
    std::string id;  ///< of its files
    std::string name, description;
    std::string parent;  ///< a name; "" = none
    std::string state;   ///< a word of State, or disk-snapshot
    SnapshotKind kind = SnapshotKind::internal;
    std::uint64_t creation_time = 0;  ///< microseconds since the epoch
    bool has_domain = false;
    std::vector<MomentDisk> disks;
    std::string memory_file;  ///< of an external one
    bool store_kept = false, tpm_kept = false;

    bool operator==(const MomentEntry&) const = default;
};

class MomentIndex {
public:
    explicit MomentIndex(MomentKind kind = MomentKind::snapshot) : kind_{kind} {}

    MomentKind kind() const { return kind_; }
    std::size_t size() const { return nodes_.size(); }
    bool empty() const { return nodes_.empty(); }

    const MomentEntry* find(std::string_view name) const;
    /// NoSuchSnapshot or NoSuchCheckpoint.
    const MomentEntry& get(std::string_view name) const;

    /// AlreadyExists; InvalidXML when its parent is not there.
    void add(MomentEntry entry);
    /// Adds what was found without its index, of each name the latest; one whose parent is not there, or that would be
    /// its own ancestor, has none.
    void adopt(std::vector<MomentEntry> found);
    /// Takes the place of the one of the same name, whose children stay with it. As get(); InvalidXML for a parent that
    /// is not there, is itself or descends from it.
    void replace(MomentEntry entry);
    /// Its children move to its parent; if it was the current one, its parent becomes that.
    void remove(std::string_view name);

    /// Why `parent` cannot be the parent of a moment of that name, which need not be there yet; "" when it can.
    std::string parent_problem(std::string_view name, std::string_view parent) const;

    /// "" = none.
    const std::string& current() const { return current_; }
    /// As get(), unless "".
    void set_current(std::string_view name);

    /// Names, in order of creation; of "": the roots.
    std::vector<std::string> children(std::string_view name) const;
    /// Parents first, without itself.
    std::vector<std::string> descendants(std::string_view name) const;
    /// Itself and its descendants in an order in which each can go: leaves first.
    std::vector<std::string> leaves_first(std::string_view name) const;
    /// All, parents first.
    std::vector<const MomentEntry*> list() const;

    /// The ledger of image files that virtbus made as overlays of this domain's disks, and may remove; of checkpoints:
    /// of the bitmaps that it made and could not remove.
    std::set<std::string, std::less<>> made;
    /// What is being done to the tree, for a daemon that finds it so; "" = nothing. Its meaning is the verbs'.
    std::string pending;

    /// LimitsExceeded when it is longer than anybody would read.
    std::string encode() const;
    /// Error (Internal) saying what is wrong: cut, altered, of another kind, a name or file twice, a parent that is not
    /// there, a circle.
    static MomentIndex decode(MomentKind kind, std::string_view text);
    static constexpr std::size_t longest_text = 64UL << 20;

    /// They say the same.
    bool operator==(const MomentIndex& other) const;

private:
    /// Children are in order of creation; what has the same time, in order of coming.
    struct Key {
        std::uint64_t time = 0, sequence = 0;
        std::string name;
        auto operator<=>(const Key&) const = default;
    };
    struct Node {
        MomentEntry entry;
        std::uint64_t sequence = 0;
    };
    using Children = std::set<Key>;

    Code missing() const { return kind_ == MomentKind::snapshot ? Code::no_such_snapshot : Code::no_such_checkpoint; }
    static Key key(const Node& node) { return {node.entry.creation_time, node.sequence, node.entry.name}; }
    const Children& children_of(std::string_view name) const;
    void attach(const Node& node);
    void detach(const Node& node);
    void require_parent(const MomentEntry& entry) const;
    void insert_decoded(MomentEntry entry);
    void require_tree() const;

    MomentKind kind_;
    std::map<std::string, Node, std::less<>> nodes_;
    std::map<std::string, Children, std::less<>> children_;  ///< by parent; "" has the roots; never an empty set
    std::string current_;
    std::uint64_t next_ = 0;
};

}  // namespace virtbus
