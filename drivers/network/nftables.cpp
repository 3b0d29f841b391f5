// SPDX-License-Identifier: LGPL-2.1-or-later
#include "network/nftables.hpp"

#include <fmt/format.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <malloc.h>
#include <netinet/in.h>
#include <netlink/attr.h>
#include <nftables/libnftables.h>

#include <cerrno>
#include <cstring>

#include "network/netlink.hpp"

namespace virtbus::network {

struct Nftables::Parts {
    std::unique_ptr<nft_ctx, Free<nft_ctx_free>> context;
    Socket socket;
};

Nftables::Nftables() : parts_{std::make_unique<Parts>()} {}
Nftables::~Nftables() = default;

std::optional<std::string> Nftables::run(const std::string& text) {
    prepare();
    auto* const context = parts_->context.get();
    const int status = nft_run_cmd_from_buffer(context, text.c_str());
    const char* said = nft_ctx_get_error_buffer(context);
    const char* printed = nft_ctx_get_output_buffer(context);
    printed_ = printed ? printed : "";
    // The library takes some hundred KiB for each network while it works, which malloc would keep for good.
    constexpr std::size_t large = 1 << 16;
    if (text.size() > large) ::malloc_trim(0);
    if (status == 0) return std::nullopt;
    return said ? said : "";
}

std::optional<std::uint32_t> Nftables::generation() {
    if (!connect()) return std::nullopt;
    auto& socket = parts_->socket;
    struct nfgenmsg header{};
    header.nfgen_family = AF_UNSPEC;
    header.version = NFNETLINK_V0;
    Message message{nlmsg_alloc_simple((NFNL_SUBSYS_NFTABLES << 8) | NFT_MSG_GETGEN, NLM_F_REQUEST)};
    if (!message || nlmsg_append(message.get(), &header, sizeof header, NLMSG_ALIGNTO) < 0) return std::nullopt;
    std::optional<std::uint32_t> answer;
    nl_socket_modify_cb(
        socket.get(), NL_CB_VALID, NL_CB_CUSTOM,
        [](nl_msg* reply, void* to) -> int {
            if (const auto* id = nlmsg_find_attr(nlmsg_hdr(reply), sizeof(nfgenmsg), NFTA_GEN_ID))
                static_cast<std::optional<std::uint32_t>*>(to)->emplace(ntohl(nla_get_u32(id)));
            return NL_OK;
        },
        &answer);
    if (nl_send_auto(socket.get(), message.get()) < 0 || nl_recvmsgs_default(socket.get()) < 0) socket.reset();
    return answer;
}

void Nftables::prepare() {
    auto& context = parts_->context;
    if (context) return;
    context.reset(nft_ctx_new(NFT_CTX_DEFAULT));
    if (!context) throw Error{Code::limits_exceeded, "no memory for nftables"};
    nft_ctx_buffer_error(context.get());
    nft_ctx_buffer_output(context.get());
}

bool Nftables::connect() {
    auto& socket = parts_->socket;
    if (socket) return true;
    socket.reset(nl_socket_alloc());
    if (!socket) return false;
    nl_socket_disable_auto_ack(socket.get());
    if (nl_connect(socket.get(), NETLINK_NETFILTER) < 0) socket.reset();
    return socket != nullptr;
}

bool is_transient(const std::string& said) {
    for (const int error : {EAGAIN, EBUSY, EINTR})
        if (said.find(std::strerror(error)) != said.npos) return true;
    return false;
}

Error nft_failure(std::string_view table, std::string_view parts, const std::string& said) {
    const auto has = [&said](int error) { return said.find(std::strerror(error)) != said.npos; };
    // Of several lines the first says what it is.
    const auto line = said.substr(0, said.find('\n'));
    const auto doing = fmt::format("loading packet rules into the nftables table '{}'", table);
    if (has(EPERM) || has(EACCES))
        return {Code::access_denied, fmt::format("{}: not permitted; it takes the right CAP_NET_ADMIN", doing)};
    if (has(EOPNOTSUPP) || has(EAFNOSUPPORT) || has(EPROTONOSUPPORT) || has(ENOENT) || has(EPROTO))
        return {Code::unsupported,
                fmt::format("{}: {}; this kernel lacks nf_tables or its parts for {}", doing, line, parts)};
    return {Code::hypervisor_failed, fmt::format("{}: {}", doing, line.empty() ? "no reason was given" : line)};
}

}  // namespace virtbus::network
