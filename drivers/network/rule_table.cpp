// SPDX-License-Identifier: LGPL-2.1-or-later
#include "network/rule_table.hpp"

#include <fmt/format.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <malloc.h>
#include <netinet/in.h>
#include <netlink/attr.h>
#include <nftables/libnftables.h>

#include <cerrno>
#include <condition_variable>
#include <cstring>
#include <exception>
#include <optional>
#include <set>
#include <utility>
#include <vector>

#include "network/netlink.hpp"
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

/// The kernel's words for what goes by itself.
bool is_transient(const std::string& said) {
    for (const int error : {EAGAIN, EBUSY, EINTR})
        if (said.find(std::strerror(error)) != said.npos) return true;
    return false;
}

/// libnftables tells of an error in several lines, the first of which says what it is.
Error failure(const std::string& said) {
    const auto has = [&said](int error) { return said.find(std::strerror(error)) != said.npos; };
    const auto line = said.substr(0, said.find('\n'));
    const auto doing = fmt::format("loading packet rules into the nftables table '{}'", table);
    if (has(EPERM) || has(EACCES))
        return {Code::access_denied, fmt::format("{}: not permitted; it takes the right CAP_NET_ADMIN", doing)};
    if (has(EOPNOTSUPP) || has(EAFNOSUPPORT) || has(EPROTONOSUPPORT) || has(ENOENT))
        return {Code::unsupported, fmt::format("{}: {}; this kernel lacks nf_tables or its parts for inet tables, "
                                               "connection tracking, NAT or reject",
                                               doing, line)};
    return {Code::hypervisor_failed, fmt::format("{}: {}", doing, line.empty() ? "no reason was given" : line)};
}

/// libnftables in the network namespace of the thread that speaks to it first.
class Nftables {
public:
    /// What the kernel has against it; nothing when it is done.
    std::optional<std::string> run(const std::string& text) {
        prepare();
        const int status = nft_run_cmd_from_buffer(context_.get(), text.c_str());
        const char* said = nft_ctx_get_error_buffer(context_.get());
        const char* printed = nft_ctx_get_output_buffer(context_.get());
        printed_ = printed ? printed : "";
        // The library takes some hundred KiB for each network while it works, which malloc would keep for good.
        constexpr std::size_t large = 1 << 16;
        if (text.size() > large) ::malloc_trim(0);
        if (status == 0) return std::nullopt;
        return said ? said : "";
    }
    /// Chains of networks that the kernel has, in whatever state; nothing when there is no table.
    std::optional<std::set<std::string>> chains() {
        if (const auto said = run(fmt::format("list table {}\n", table))) {
            if (said->find(std::strerror(ENOENT)) != said->npos) return std::nullopt;
            throw failure(*said);
        }
        std::set<std::string> found;
        const auto begin = fmt::format("chain {}_", rule_kinds[0].chain);
        for (auto at = printed_.find(begin); at != printed_.npos; at = printed_.find(begin, at + 1)) {
            const auto name = at + std::strlen("chain ");
            found.insert(printed_.substr(name, printed_.find(' ', name) - name));
        }
        return found;
    }
    /// The kernel counts changes of all tables together; nothing when it does not tell.
    std::optional<std::uint32_t> generation() {
        if (!connect()) return std::nullopt;
        struct nfgenmsg header{};
        header.nfgen_family = AF_UNSPEC;
        header.version = NFNETLINK_V0;
        Message message{nlmsg_alloc_simple((NFNL_SUBSYS_NFTABLES << 8) | NFT_MSG_GETGEN, NLM_F_REQUEST)};
        if (!message || nlmsg_append(message.get(), &header, sizeof header, NLMSG_ALIGNTO) < 0) return std::nullopt;
        std::optional<std::uint32_t> answer;
        nl_socket_modify_cb(
            socket_.get(), NL_CB_VALID, NL_CB_CUSTOM,
            [](nl_msg* reply, void* to) -> int {
                if (const auto* id = nlmsg_find_attr(nlmsg_hdr(reply), sizeof(nfgenmsg), NFTA_GEN_ID))
                    static_cast<std::optional<std::uint32_t>*>(to)->emplace(ntohl(nla_get_u32(id)));
                return NL_OK;
            },
            &answer);
        if (nl_send_auto(socket_.get(), message.get()) < 0 || nl_recvmsgs_default(socket_.get()) < 0) socket_.reset();
        return answer;
    }

private:
    void prepare() {
        if (context_) return;
        context_.reset(nft_ctx_new(NFT_CTX_DEFAULT));
        if (!context_) throw Error{Code::limits_exceeded, "no memory for nftables"};
        nft_ctx_buffer_error(context_.get());
        nft_ctx_buffer_output(context_.get());
    }
    bool connect() {
        if (socket_) return true;
        socket_.reset(nl_socket_alloc());
        if (!socket_) return false;
        nl_socket_disable_auto_ack(socket_.get());
        if (nl_connect(socket_.get(), NETLINK_NETFILTER) < 0) socket_.reset();
        return socket_ != nullptr;
    }
    std::unique_ptr<nft_ctx, Free<nft_ctx_free>> context_;
    Socket socket_;
    std::string printed_;
};

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
        const auto there = nftables_.chains();
        for (const auto& bridge : touched)
            if (!next.contains(bridge) && there && there->contains(chain_of(rule_kinds[0], bridge)))
                text += addition(bridge, {}) + removal(bridge);
        return text;
    }
    std::string without_any(const std::set<std::string>& touched) {
        auto there = nftables_.chains();
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
