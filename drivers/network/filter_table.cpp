// SPDX-License-Identifier: LGPL-2.1-or-later
#include "network/filter_table.hpp"

#include <fmt/format.h>
#include <net/if.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <map>
#include <mutex>
#include <set>
#include <utility>

#include "network/nftables.hpp"

namespace virtbus::network {

namespace {

constexpr std::string_view table = "bridge virtbus";
/// Before and behind the one where connection tracking sees a frame first.
constexpr int shallow_priority = -300, deep_priority = -150;

using Chains = std::set<std::string>;
using Present = std::map<int, Chains>;  // by the device's index

/// Maps and chains that are there whatever filters there are. Adding them where they are is no error.
std::string base() {
    std::string text = fmt::format("table {} {{\n", table);
    for (const auto& way : filter_ways) text += fmt::format("map {} {{ type iface_index : verdict; }}\n", way.map);
    for (const auto& way : filter_ways)
        text += fmt::format("chain {} {{ type filter hook {} priority {}; policy accept; }}\n", way.base,
                            way.out ? "prerouting" : "postrouting", way.deep ? deep_priority : shallow_priority);
    text += "}\n";
    for (const auto& way : filter_ways)
        text += fmt::format("flush chain {0} {1}\nadd rule {0} {1} {2} vmap @{3}\n", table, way.base,
                            way.out ? "iif" : "oif", way.map);
    return text;
}

/// The set of that device, which may be there.
std::string without_set(int index) {
    return fmt::format(
        "add set {0} known4-{1} {{ type ipv4_addr; size 1; flags dynamic; }}\ndelete set {0} known4-{1}\n", table,
        index);
}

/// `there`: chains of the device that the kernel has.
std::string addition(const FilterRules& rules, const Chains& there) {
    Chains all{rules.chains.begin(), rules.chains.end()};
    all.insert(there.begin(), there.end());
    std::string text;
    for (const auto& chain : all) text += fmt::format("add chain {0} {1}\nflush chain {0} {1}\n", table, chain);
    for (const auto& chain : rules.chains) all.erase(chain);
    for (const auto& chain : all) text += fmt::format("delete chain {} {}\n", table, chain);
    if (rules.sets.empty()) text += without_set(rules.index);
    text += fmt::format("table {} {{\n{}}}\n", table, rules.text);
    for (std::size_t i = 0; i < filter_ways.size(); ++i)
        text += fmt::format("add element {} {} {{ {} : jump {} }}\n", table, filter_ways[i].map, rules.index,
                            rules.chains[i]);
    return text;
}

/// Whatever of it there is.
std::string removal(int index, const Chains& there) {
    std::string text;
    // The four at the root are what the maps lead to.
    for (const auto& way : filter_ways)
        for (const auto& chain : there)
            if (chain.starts_with(fmt::format("{}-{}-", way.chain, index)) && chain.find('/') == chain.npos)
                text += fmt::format(
                    "add element {0} {1} {{ {2} : jump {3} }}\ndelete element {0} {1} {{ {2} : jump {3} }}\n", table,
                    way.map, index, chain);
    for (const auto& chain : there) text += fmt::format("flush chain {} {}\n", table, chain);
    for (const auto& chain : there) text += fmt::format("delete chain {} {}\n", table, chain);
    return text + without_set(index);
}

std::string end_of_table() {
    return fmt::format("add table {0}\ndelete table {0}\n", table);
}

/// 7 of "eth-out-7-vnet0"; nothing for other chains.
std::optional<int> index_of(std::string_view chain) {
    for (const auto& way : filter_ways) {
        const auto prefix = std::string{way.chain} + "-";
        if (!chain.starts_with(prefix)) continue;
        int index = 0;
        const auto* const end = chain.data() + chain.size();
        const auto [stop, fault] = std::from_chars(chain.data() + prefix.size(), end, index);
        if (fault == std::errc{} && stop != end && *stop == '-' && index > 0) return index;
    }
    return std::nullopt;
}

bool is_gone(int index) {
    char name[IF_NAMESIZE];
    return ::if_indextoname(static_cast<unsigned>(index), name) == nullptr;
}

Error failure(const std::string& said, const FilterRules* rules) {
    const auto has = [&said](int error) { return said.find(std::strerror(error)) != said.npos; };
    if (rules && !rules->tracked.empty() && (has(EPROTO) || has(ENOENT) || has(EOPNOTSUPP) || has(EPROTONOSUPPORT)))
        return {Code::unsupported,
                fmt::format("{} takes connection tracking of bridged frames, and this kernel has none "
                            "(nf_conntrack_bridge, Linux 5.3 and newer); give the rule statematch='false' where that "
                            "will do",
                            rules->tracked)};
    return nft_failure(table, "bridge tables", said);
}

}  // namespace

struct FilterTable::Parts {
    std::mutex mutex;
    Nftables nftables;
    std::map<int, FilterRules> loaded;
    Present there;                       ///< chains, when the kernel was looked at last
    bool based = false;                  ///< there was the table
    std::optional<std::uint32_t> known;  ///< the generation that our own last change made

    /// What the kernel has now.
    void look() {
        there.clear();
        based = false;
        if (const auto said = nftables.run("list chains bridge\n")) {
            if (said->find(std::strerror(ENOENT)) != said->npos) return;
            throw failure(*said, nullptr);
        }
        bool ours = false;
        std::string_view rest = nftables.printed();
        while (!rest.empty()) {
            const auto end = rest.find('\n');
            auto line = rest.substr(0, end);
            rest.remove_prefix(end == rest.npos ? rest.size() : end + 1);
            while (!line.empty() && (line.front() == '\t' || line.front() == ' ')) line.remove_prefix(1);
            if (line.starts_with("table ")) ours = line.starts_with(fmt::format("table {} ", table));
            based |= ours;
            if (!ours || !line.starts_with("chain ")) continue;
            line.remove_prefix(std::strlen("chain "));
            const std::string chain{line.substr(0, line.find(' '))};
            if (const auto index = index_of(chain)) there[*index].insert(chain);
        }
    }

    /// `changed`: devices whose filter is another one, or gone when it is not in `next`.
    void commit(std::map<int, FilterRules> next, const std::set<int>& changed, const FilterRules* culprit) {
        const auto before = nftables.generation();
        const bool trusted = known && before == known;
        if (!trusted) look();
        auto after = there;
        for (const auto& [index, rules] : next) after[index] = {rules.chains.begin(), rules.chains.end()};
        for (const int index : changed)
            if (!next.contains(index)) after.erase(index);
        const auto text = !after.empty() ? change(next, changed, trusted) : based ? end_of_table() : std::string{};
        if (!text.empty()) {
            known.reset();
            load(text, next, culprit);
        } else if (!trusted) {
            known = before;
        }
        based = !after.empty();
        there = std::move(after);
        loaded = std::move(next);
    }

    std::string change(const std::map<int, FilterRules>& next, const std::set<int>& changed, bool trusted) {
        static const Chains none;
        const auto present = [this](int index) -> const Chains& {
            const auto found = there.find(index);
            return found == there.end() ? none : found->second;
        };
        std::string text;
        for (const auto& [index, rules] : next) {
            const auto old = loaded.find(index);
            const bool same = old != loaded.end() && old->second == rules;
            if (!trusted || !same) text += addition(rules, present(index));
        }
        for (const int index : changed)
            if (!next.contains(index) && there.contains(index)) text += removal(index, present(index));
        return text.empty() || (trusted && based) ? text : base() + text;
    }

    void load(const std::string& text, const std::map<int, FilterRules>& next, const FilterRules* culprit) {
        constexpr int patience = 5;
        auto before = nftables.generation();
        auto said = nftables.run(text);
        for (int i = 0; said && i < patience && is_transient(*said); ++i) {
            before = nftables.generation();
            said = nftables.run(text);
        }
        // Whatever is in the way: the table made anew has no past. Only when nobody's filter would be lost by that.
        if (said && (!culprit || culprit->tracked.empty()) && !is_strange(next)) {
            auto anew = end_of_table() + base();
            for (const auto& [index, rules] : next) anew += addition(rules, {});
            before = nftables.generation();
            said = nftables.run(anew);
        }
        if (said) throw failure(*said, culprit);
        const auto after = nftables.generation();
        // More than one step: somebody else was there in between.
        if (before && after && *after == *before + 1) known = after;
    }
    /// The kernel has filters of devices that nobody here has spoken of.
    bool is_strange(const std::map<int, FilterRules>& next) const {
        for (const auto& [index, chains] : there)
            if (!next.contains(index) && !loaded.contains(index) && !is_gone(index)) return true;
        return false;
    }
};

FilterTable::FilterTable() : parts_{std::make_unique<Parts>()} {}
FilterTable::~FilterTable() = default;

std::optional<FilterRules> FilterTable::set(const FilterRules& rules) {
    const std::lock_guard lock{parts_->mutex};
    auto next = parts_->loaded;
    std::optional<FilterRules> before;
    if (const auto found = next.find(rules.index); found != next.end()) before = found->second;
    next[rules.index] = rules;
    parts_->commit(std::move(next), {rules.index}, &rules);
    return before;
}

void FilterTable::remove(int index) {
    const std::lock_guard lock{parts_->mutex};
    // Most interfaces have no filter. What an earlier daemon has loaded was seen by sweep().
    if (!parts_->loaded.contains(index) && !parts_->there.contains(index)) return;
    auto next = parts_->loaded;
    next.erase(index);
    parts_->commit(std::move(next), {index}, nullptr);
}

void FilterTable::sweep() {
    const std::lock_guard lock{parts_->mutex};
    parts_->look();
    parts_->known.reset();
    std::set<int> gone;
    for (const auto& [index, chains] : parts_->there)
        if (!parts_->loaded.contains(index) && is_gone(index)) gone.insert(index);
    if (!gone.empty() || !parts_->loaded.empty()) parts_->commit(parts_->loaded, gone, nullptr);
}

void FilterTable::repair() {
    const std::lock_guard lock{parts_->mutex};
    if (parts_->loaded.empty() || (parts_->known && parts_->known == parts_->nftables.generation())) return;
    parts_->look();
    parts_->known.reset();
    for (const auto& [index, rules] : parts_->loaded) {
        const auto found = parts_->there.find(index);
        const auto there = [&](const std::string& chain) { return found->second.contains(chain); };
        if (found == parts_->there.end() || !std::ranges::all_of(rules.chains, there))
            return parts_->commit(parts_->loaded, {}, nullptr);
    }
}

}  // namespace virtbus::network
