// SPDX-License-Identifier: LGPL-2.1-or-later
#include "service/moments/index.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "service/kept_text.hpp"

namespace virtbus {

namespace {

[[noreturn]] void damaged(const std::string& how) {
    throw Error{Code::internal, how};
}

std::string kept_kind(MomentKind kind) {
    return fmt::format("{}s", word(kind));
}

// ---- the text form -------------------------------------------------------------------------------------------------

constexpr SnapshotKind kinds[]{SnapshotKind::internal, SnapshotKind::external, SnapshotKind::disk_only};

void add_image(KeptWriter& out, const std::string& which, const ImageFile& image) {
    if (image == ImageFile{}) return;
    out.add(which, image.path);
    out.add(which + "-format", image.format);
    if (image.block_device) out.add(which + "-block", std::uint64_t{1});
}
ImageFile image_in(const KeptReader& in, const std::string& which) {
    return {std::string{in.text(which)}, std::string{in.text(which + "-format")}, in.count(which + "-block") != 0};
}

std::string text_of(const MomentDisk& disk) {
    KeptWriter out;
    out.add("target", disk.target);
    out.add("place", word(disk.place));
    add_image(out, "frozen", disk.frozen);
    add_image(out, "overlay", disk.overlay);
    if (!disk.bitmap.empty()) out.add("bitmap", disk.bitmap);
    return out.take();
}

MomentDisk disk_of(std::string_view text) {
    const KeptReader in{text};
    MomentDisk disk;
    disk.target = in.text("target");
    const auto& places = Words<SnapshotPlace>::list;
    const auto place = std::find(places.begin(), places.end(), in.text("place"));
    if (place == places.end()) damaged(fmt::format("the place '{}' of a disk is unknown", in.text("place")));
    disk.place = static_cast<SnapshotPlace>(place - places.begin());
    disk.frozen = image_in(in, "frozen");
    disk.overlay = image_in(in, "overlay");
    disk.bitmap = in.text("bitmap");
    return disk;
}

std::string text_of(const MomentEntry& entry) {
    KeptWriter out;
    out.add("id", entry.id);
    out.add("name", entry.name);
    out.add("description", entry.description);
    out.add("parent", entry.parent);
    out.add("state", entry.state);
    out.add("kind", word(entry.kind));
    out.add("creation-time", entry.creation_time);
    out.add("has-domain", entry.has_domain);
    for (const auto& disk : entry.disks) out.add("disk", text_of(disk));
    if (!entry.memory_file.empty()) out.add("memory-file", entry.memory_file);
    out.add("store-kept", entry.store_kept);
    out.add("tpm-kept", entry.tpm_kept);
    return out.take();
}

/// It becomes part of a path.
bool is_id(std::string_view id) {
    constexpr std::string_view allowed = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_";
    return !id.empty() && id.size() <= 64 && id.find_first_not_of(allowed) == id.npos;
}

MomentEntry entry_of(std::string_view text) {
    const KeptReader in{text};
    MomentEntry entry;
    entry.id = in.text("id");
    entry.name = in.text("name");
    entry.description = in.text("description");
    entry.parent = in.text("parent");
    entry.state = in.text("state");
    const auto* kind = std::find_if(std::begin(kinds), std::end(kinds),
                                    [&](SnapshotKind known) { return word(known) == in.text("kind"); });
    if (kind == std::end(kinds)) damaged(fmt::format("the kind '{}' is unknown", in.text("kind")));
    entry.kind = *kind;
    entry.creation_time = in.count("creation-time");
    entry.has_domain = in.count("has-domain") != 0;
    for (const auto disk : in.all("disk")) entry.disks.push_back(disk_of(disk));
    entry.memory_file = in.text("memory-file");
    entry.store_kept = in.count("store-kept") != 0;
    entry.tpm_kept = in.count("tpm-kept") != 0;
    if (entry.name.empty()) damaged("an entry has no name");
    if (!is_id(entry.id)) damaged(fmt::format("the entry '{}' has no files: its id is '{}'", entry.name, entry.id));
    return entry;
}

}  // namespace

// ---- the tree ------------------------------------------------------------------------------------------------------

const MomentEntry* MomentIndex::find(std::string_view name) const {
    const auto found = nodes_.find(name);
    return found == nodes_.end() ? nullptr : &found->second.entry;
}

const MomentEntry& MomentIndex::get(std::string_view name) const {
    if (const auto* entry = find(name)) return *entry;
    throw Error{missing(), fmt::format("there is no {} '{}'", word(kind_), name)};
}

const MomentIndex::Children& MomentIndex::children_of(std::string_view name) const {
    static const Children none;
    const auto found = children_.find(name);
    return found == children_.end() ? none : found->second;
}

void MomentIndex::attach(const Node& node) {
    children_[node.entry.parent].insert(key(node));
}

void MomentIndex::detach(const Node& node) {
    const auto found = children_.find(node.entry.parent);
    found->second.erase(key(node));
    if (found->second.empty()) children_.erase(found);
}

std::string MomentIndex::parent_problem(std::string_view name, std::string_view parent) const {
    if (parent.empty()) return "";
    const auto refused = [&](std::string_view why) {
        return fmt::format("the parent '{}' of {} '{}' {}", parent, word(kind_), name, why);
    };
    if (parent == name) return refused("is itself");
    // Nothing descends from what has no children.
    if (children_of(name).empty()) return find(parent) ? "" : refused("does not exist");
    for (std::string_view above = parent; !above.empty();) {
        const auto* entry = find(above);
        if (!entry) return refused("does not exist");
        if (entry->parent == name) return refused("descends from it");
        above = entry->parent;
    }
    return "";
}

void MomentIndex::require_parent(const MomentEntry& entry) const {
    if (auto problem = parent_problem(entry.name, entry.parent); !problem.empty())
        throw Error{Code::invalid_xml, std::move(problem)};
}

void MomentIndex::add(MomentEntry entry) {
    if (find(entry.name))
        throw Error{Code::already_exists, fmt::format("there is a {} '{}' already", word(kind_), entry.name)};
    require_parent(entry);
    insert_decoded(std::move(entry));
}

void MomentIndex::insert_decoded(MomentEntry entry) {
    auto name = entry.name;
    const auto [node, fresh] = nodes_.emplace(std::move(name), Node{std::move(entry), next_});
    if (!fresh) damaged(fmt::format("the name '{}' occurs twice", node->first));
    ++next_;
    attach(node->second);
}

void MomentIndex::adopt(std::vector<MomentEntry> found) {
    std::sort(found.begin(), found.end(), [](const MomentEntry& a, const MomentEntry& b) {
        return std::pair{b.creation_time, std::string_view{b.id}} < std::pair{a.creation_time, std::string_view{a.id}};
    });
    std::map<std::string, std::string> parents;
    for (auto& entry : found) {
        if (find(entry.name) || !parents.emplace(entry.name, entry.parent).second) continue;
        entry.parent.clear();
        insert_decoded(std::move(entry));
    }
    for (const auto& [name, parent] : parents) {
        if (!parent_problem(name, parent).empty()) continue;
        auto& node = nodes_.find(name)->second;
        detach(node);
        node.entry.parent = parent;
        attach(node);
    }
}

void MomentIndex::replace(MomentEntry entry) {
    get(entry.name);
    require_parent(entry);
    auto& node = nodes_.find(entry.name)->second;
    detach(node);
    node.entry = std::move(entry);
    attach(node);
}

void MomentIndex::remove(std::string_view name) {
    get(name);
    const auto found = nodes_.find(name);
    const auto parent = found->second.entry.parent;
    for (const auto& child : children(name)) {
        auto& node = nodes_.find(child)->second;
        detach(node);
        node.entry.parent = parent;
        attach(node);
    }
    detach(found->second);
    if (current_ == name) current_ = parent;
    nodes_.erase(found);
}

void MomentIndex::set_current(std::string_view name) {
    if (!name.empty()) get(name);
    current_ = name;
}

std::vector<std::string> MomentIndex::children(std::string_view name) const {
    std::vector<std::string> names;
    for (const auto& child : children_of(name)) names.push_back(child.name);
    return names;
}

std::vector<std::string> MomentIndex::descendants(std::string_view name) const {
    std::vector<std::string> names, open = children(name);
    std::reverse(open.begin(), open.end());
    while (!open.empty()) {
        names.push_back(std::move(open.back()));
        open.pop_back();
        const auto& below = children_of(names.back());
        for (auto child = below.rbegin(); child != below.rend(); ++child) open.push_back(child->name);
    }
    return names;
}

std::vector<std::string> MomentIndex::leaves_first(std::string_view name) const {
    auto names = descendants(name);
    std::reverse(names.begin(), names.end());
    if (!name.empty()) names.emplace_back(name);
    return names;
}

std::vector<const MomentEntry*> MomentIndex::list() const {
    std::vector<const MomentEntry*> entries;
    for (const auto& name : descendants("")) entries.push_back(find(name));
    return entries;
}

bool MomentIndex::operator==(const MomentIndex& other) const {
    const auto same = [](const MomentEntry* a, const MomentEntry* b) { return *a == *b; };
    const auto ours = list(), theirs = other.list();
    return kind_ == other.kind_ && current_ == other.current_ && made == other.made && pending == other.pending &&
           std::equal(ours.begin(), ours.end(), theirs.begin(), theirs.end(), same);
}

// ---- as text -------------------------------------------------------------------------------------------------------

std::string MomentIndex::encode() const {
    KeptWriter out;
    out.add("current", current_);
    out.add("pending", pending);
    for (const auto& path : made) out.add("made", path);
    for (const auto* entry : list()) out.add("entry", text_of(*entry));
    auto text = out.sealed(kept_kind(kind_));
    if (text.size() > longest_text)
        throw Error{Code::limits_exceeded, fmt::format("the index of {}s has {} bytes; at most {} are allowed",
                                                       word(kind_), text.size(), longest_text)};
    return text;
}

MomentIndex MomentIndex::decode(MomentKind kind, std::string_view text) {
    const auto in = KeptReader::of_sealed(kept_kind(kind), text);
    MomentIndex index{kind};
    std::set<std::string> ids;
    for (const auto part : in.all("entry")) {
        auto entry = entry_of(part);
        if (!ids.insert(entry.id).second) damaged(fmt::format("the files '{}' belong to two entries", entry.id));
        index.insert_decoded(std::move(entry));
    }
    index.require_tree();
    index.current_ = in.text("current");
    if (!index.current_.empty() && !index.find(index.current_))
        damaged(fmt::format("the current one, '{}', is not there", index.current_));
    index.pending = in.text("pending");
    for (const auto path : in.all("made")) index.made.emplace(path);
    return index;
}

/// Every parent is there, and from the roots everything is reached.
void MomentIndex::require_tree() const {
    for (const auto& [name, node] : nodes_)
        if (const auto& parent = node.entry.parent; !parent.empty() && !find(parent))
            damaged(fmt::format("the parent '{}' of '{}' is not there", parent, name));
    const auto reached = descendants("");
    if (reached.size() == nodes_.size()) return;
    const std::set<std::string> known{reached.begin(), reached.end()};
    for (const auto& [name, node] : nodes_)
        if (!known.contains(name)) damaged(fmt::format("'{}' is its own ancestor", name));
}

}  // namespace virtbus
