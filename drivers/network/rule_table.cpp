// SPDX-License-Identifier: LGPL-2.1-or-later
#include "network/rule_table.hpp"

#include <fmt/format.h>

#include <cerrno>
#include <condition_variable>
#include <cstring>
#include <exception>
#include <optional>
#include <set>
#include <utility>
#include <vector>

#include "network/nftables.hpp"
#include "virtbus/error.hpp"

namespace virtbus::network {

namespace {

constexpr std::string_view table = "inet virtbus";

/// Maps and chains that are there whatever networks there are. Adding them where they are is no error.
std::string base() {
    std::string text = fmt::format("table {} {{\n", table);
    for (const auto& kind : rule_kinds) text += fmt::format("map {} {{ type ifname : verdict; }}\n", kind.map);
    return text +
           "chain forward { type filter hook forward priority filter; policy accept; }\n"
           "chain postrouting { type nat hook postrouting priority srcnat; policy accept; }\n}\n" +
           fmt::format(
               "flush chain {0} forward\nflush chain {0} postrouting\n"
               "add rule {0} forward iifname vmap @{1}\nadd rule {0} forward oifname vmap @{2}\n"
               "add rule {0} postrouting iifname vmap @{3}\n",
               table, rule_kinds[0].map, rule_kinds[1].map, rule_kinds[2].map);
}

std::string addition(const std::string& bridge, const std::string& rules) {
    std::string text;
    for (const auto& kind : rule_kinds) {
        const auto chain = chain_of(kind, bridge);
        text += fmt::format("add chain {0} {1}\nflush chain {0} {1}\n", table, chain);
    }
    text += fmt::format("table {} {{\n{}}}\n", table, rules);
    for (const auto& kind : rule_kinds)
        text +=
            fmt::format("add element {} {} {{ \"{}\" : jump {} }}\n", table, kind.map, bridge, chain_of(kind, bridge));
    return text;
}

std::string removal(const std::string& bridge) {
    std::string text;
    for (const auto& kind : rule_kinds)
        text += fmt::format("delete element {} {} {{ \"{}\" }}\n", table, kind.map, bridge);
    for (const auto& kind : rule_kinds) {
        const auto chain = chain_of(kind, bridge);
        text += fmt::format("flush chain {0} {1}\ndelete chain {0} {1}\n", table, chain);
    }
    return text;
}

std::string end_of_table() {
    return fmt::format("add table {0}\ndelete table {0}\n", table);
}

using Rules = std::map<std::string, std::string>;  // bridge -> text

std::string all_of(const Rules& rules) {
    auto text = base();
    for (const auto& [bridge, each] : rules) text += addition(bridge, each);
    return text;
}

/// libnftables tells of an error in several lines, the first of which says what it is.
Error failure(const std::string& said) {
    return nft_failure(table, "inet tables, connection tracking, NAT or reject", said);
}

/// Chains of networks that the kernel has, in whatever state; nothing when there is no table.
std::optional<std::set<std::string>> chains_of(Nftables& nftables) {
    if (const auto said = nftables.run(fmt::format("list table {}\n", table))) {
        if (said->find(std::strerror(ENOENT)) != said->npos) return std::nullopt;
        throw failure(*said);
    }
    const auto& printed = nftables.printed();
    std::set<std::string> found;
    const auto begin = fmt::format("chain {}_", rule_kinds[0].chain);
    for (auto at = printed.find(begin); at != printed.npos; at = printed.find(begin, at + 1)) {
        const auto name = at + std::strlen("chain ");
        found.insert(printed.substr(name, printed.find(' ', name) - name));
    }
    return found;
}

}  // namespace

struct RuleTable::Parts {
    struct Change {
        std::optional<NetworkRules> rules;  ///< nothing: only look and repair
        bool done = false;
        std::exception_ptr error;
    };

    /// Waits for its turn, or for somebody who does it along.
    void submit(Change change) {
        std::unique_lock lock{mutex_};
        queue_.push_back(&change);
        while (!change.done) {
            if (busy_) {
                done_.wait(lock);
                continue;
            }
            busy_ = true;
            const auto batch = std::exchange(queue_, {});
            lock.unlock();
            run(batch);
            lock.lock();
            for (auto* each : batch) each->done = true;
            busy_ = false;
            done_.notify_all();
        }
        lock.unlock();
        if (change.error) std::rethrow_exception(change.error);
    }
    void adopt(const NetworkRules& rules) {
        std::unique_lock lock{mutex_};
        done_.wait(lock, [this] { return !busy_; });
        if (rules.text.empty()) return;
        loaded_[rules.bridge] = rules.text;
        unsure_.insert(rules.bridge);
    }

private:
    /// What one of several changes does wrong is not the others' loss.
    void run(const std::vector<Change*>& batch) {
        try {
            commit(batch);
        } catch (...) {
            if (batch.size() == 1) {
                batch.front()->error = std::current_exception();
                return;
            }
            for (auto* each : batch) run({each});
        }
    }

    void commit(const std::vector<Change*>& batch) {
        Rules next = loaded_;
        std::set<std::string> touched;
        for (const auto* change : batch) {
            if (!change->rules) continue;
            touched.insert(change->rules->bridge);
            if (change->rules->text.empty())
                next.erase(change->rules->bridge);
            else
                next[change->rules->bridge] = change->rules->text;
        }
        const auto before = nftables_.generation();
        const bool trusted = known_ && before == known_;
        load(trusted ? difference(next, touched) : everything(next, touched), next, before);
        based_ = !next.empty();
        unsure_.clear();
        loaded_ = std::move(next);
    }

    /// Nobody has changed anything since the last time.
    std::string difference(const Rules& next, const std::set<std::string>& touched) {
        if (next == loaded_ && unsure_.empty()) return {};
        if (next.empty()) return without_any(touched);
        auto text = based_ ? std::string{} : base();
        for (const auto& bridge : unsure_)
            if (!touched.contains(bridge)) text += addition(bridge, next.at(bridge));
        for (const auto& bridge : touched) {
            const auto old = std::as_const(loaded_).find(bridge), now = next.find(bridge);
            const bool unsure = unsure_.contains(bridge);
            if (now != next.end() && (unsure || old == loaded_.end() || old->second != now->second))
                text += addition(bridge, now->second);
            if (now == next.end() && old != loaded_.end())
                text += (unsure ? addition(bridge, {}) : std::string{}) + removal(bridge);
        }
        return text;
    }
    /// Somebody has, or an earlier daemon made it: all is made again, and what is there of networks that nobody has
    /// spoken of yet stays.
    std::string everything(const Rules& next, const std::set<std::string>& touched) {
        if (next.empty()) return without_any(touched);
        auto text = all_of(next);
        const auto there = chains_of(nftables_);
        for (const auto& bridge : touched)
            if (!next.contains(bridge) && there && there->contains(chain_of(rule_kinds[0], bridge)))
                text += addition(bridge, {}) + removal(bridge);
        return text;
    }
    std::string without_any(const std::set<std::string>& touched) {
        auto there = chains_of(nftables_);
        if (!there) return {};
        std::string text;
        for (const auto& bridge : touched)
            if (there->erase(chain_of(rule_kinds[0], bridge)) > 0) text += addition(bridge, {}) + removal(bridge);
        for (const auto& [bridge, rules] : loaded_) there->erase(chain_of(rule_kinds[0], bridge));
        return there->empty() ? end_of_table() : base() + text;
    }

    void load(const std::string& text, const Rules& next, std::optional<std::uint32_t> before) {
        known_ = before;
        if (text.empty()) return;
        known_.reset();
        constexpr int patience = 5;
        auto said = nftables_.run(text);
        // Whatever is in the way, the table made anew has no past.
        const auto anew = end_of_table() + (next.empty() ? std::string{} : all_of(next));
        for (int i = 0; said && i < patience && (i == 0 || is_transient(*said)); ++i) {
            before = nftables_.generation();
            said = nftables_.run(anew);
        }
        if (said) throw failure(*said);
        const auto after = nftables_.generation();
        // More than one step: somebody else was there in between.
        if (before && after && *after == *before + 1) known_ = after;
    }

    std::mutex mutex_;
    std::condition_variable done_;
    std::vector<Change*> queue_;
    bool busy_ = false;
    // Of whoever is busy:
    Rules loaded_;
    std::set<std::string> unsure_;        ///< of these, which an earlier daemon may or may not have loaded
    bool based_ = false;                  ///< there is a table with its maps and base chains
    std::optional<std::uint32_t> known_;  ///< the generation that our own last change made
    Nftables nftables_;
};

RuleTable::RuleTable() : parts_{std::make_unique<Parts>()} {}
RuleTable::~RuleTable() = default;

void RuleTable::set(const NetworkRules& rules) {
    parts_->submit({.rules = rules});
}
void RuleTable::remove(const std::string& bridge) {
    parts_->submit({.rules = NetworkRules{bridge, {}}});
}
void RuleTable::adopt(const NetworkRules& rules) {
    parts_->adopt(rules);
}
void RuleTable::repair() {
    parts_->submit({});
}

}  // namespace virtbus::network
