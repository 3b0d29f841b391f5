// SPDX-License-Identifier: LGPL-2.1-or-later
#include "service/moments/transfer.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <set>
#include <utility>

#include "service/xml/moment_set.hpp"
#include "service/xml/moment_xml.hpp"
#include "virtbus/error.hpp"

namespace virtbus {

namespace {

SnapshotConfig parsed(std::string_view text, std::size_t number) try {
    auto config = xml::parse_snapshot(text);
    if (config.name.empty()) throw Error{Code::invalid_xml, "<name> is missing"};
    return config;
} catch (const Error& e) {
    throw Error{e.code(), fmt::format("snapshot {} of the document: {}", number, e.what())};
}

/// Children after their parents; those of one parent in order of creation.
std::vector<std::size_t> parents_first(const std::vector<SnapshotConfig>& snapshots) {
    std::map<std::string_view, std::size_t> by_name;
    for (std::size_t i = 0; i < snapshots.size(); ++i)
        if (!by_name.emplace(snapshots[i].name, i).second)
            throw Error{Code::invalid_xml,
                        fmt::format("snapshot '{}' occurs twice in the document", snapshots[i].name)};
    using Key = std::pair<std::uint64_t, std::size_t>;
    std::map<std::string_view, std::set<Key>> children;
    std::set<Key> roots;
    for (std::size_t i = 0; i < snapshots.size(); ++i) {
        const Key key{snapshots[i].creation_time.value_or(0), i};
        const auto& parent = snapshots[i].parent;
        (by_name.contains(parent) ? children[parent] : roots).insert(key);
    }
    std::vector<std::size_t> order, open;
    const auto add = [&](const std::set<Key>& keys) {
        for (auto key = keys.rbegin(); key != keys.rend(); ++key) open.push_back(key->second);
    };
    for (add(roots); !open.empty();) {
        order.push_back(open.back());
        open.pop_back();
        if (const auto found = children.find(snapshots[order.back()].name); found != children.end()) add(found->second);
    }
    if (order.size() == snapshots.size()) return order;
    std::vector<bool> reached(snapshots.size());
    for (const auto i : order) reached[i] = true;
    const auto first = static_cast<std::size_t>(std::find(reached.begin(), reached.end(), false) - reached.begin());
    throw Error{Code::invalid_xml,
                fmt::format("snapshot '{}' is, or descends from, its own ancestor", snapshots[first].name)};
}

}  // namespace

SnapshotSet read_set(std::string_view document) {
    auto cut = xml::split_set(document);
    std::vector<SnapshotConfig> snapshots;
    for (const auto text : cut.snapshots) snapshots.push_back(parsed(text, snapshots.size() + 1));
    SnapshotSet set{std::move(cut.current), {}};
    for (const auto i : parents_first(snapshots)) set.snapshots.push_back(std::move(snapshots[i]));
    return set;
}

SnapshotImport plan_import(const MomentIndex& index, SnapshotSet set, std::string_view uuid,
                           const std::map<std::string, Replaced>& replaced,
                           const std::function<std::string()>& new_id) {
    SnapshotImport plan{index, {}};
    for (auto& config : set.snapshots) {
        const auto known = replaced.find(config.name);
        auto made = planned(index, config, uuid, new_id(), known == replaced.end() ? Replaced{} : known->second, {});
        // First none has a parent, so that no old one stands in the way of a new one.
        auto orphan = made.entry;
        orphan.parent.clear();
        plan.index.find(orphan.name) ? plan.index.replace(std::move(orphan)) : plan.index.add(std::move(orphan));
        plan.parts.push_back({std::move(config), std::move(made)});
    }
    for (const auto& part : plan.parts) plan.index.replace(part.made.entry);
    if (plan.index.current().empty() && plan.index.find(set.current)) plan.index.set_current(set.current);
    return plan;
}

}  // namespace virtbus
