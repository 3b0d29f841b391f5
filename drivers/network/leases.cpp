// SPDX-License-Identifier: LGPL-2.1-or-later
#include "network/leases.hpp"

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <limits>
#include <memory>
#include <optional>
#include <utility>

#include "network/folder_watch.hpp"
#include "virtbus/error.hpp"
#include "virtbus/fd.hpp"

namespace virtbus::network {

namespace {

constexpr std::size_t most_leases = 65536;
constexpr std::size_t file_limit = 4 << 20;
constexpr std::size_t name_limit = 253, word_limit = 1024;
constexpr std::size_t mac_size = 17;
constexpr std::uint64_t second = 1'000'000;
/// dnsmasq empties its file before it writes it again, for which this is plenty of time.
constexpr Duration settling{10};

bool is_hex(char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}
bool is_of_name(char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '-' || c == '_' ||
           c == '.';
}
bool is_hex_word(std::string_view word, char between) {
    return !word.empty() && word.size() <= word_limit &&
           std::ranges::all_of(word, [between](char c) { return is_hex(c) || c == between; });
}
bool is_mac(std::string_view word) {
    bool fits = word.size() == mac_size;
    for (std::size_t i = 0; fits && i < word.size(); ++i) fits = i % 3 == 2 ? word[i] == ':' : is_hex(word[i]);
    return fits;
}

/// The MAC address that two kinds of DUIDs are made of.
std::string mac_in(std::string_view duid) {
    for (const auto& [begin, at] : {std::pair{"00:01:00:01:", 24U}, std::pair{"00:03:00:01:", 12U}})
        if (duid.starts_with(begin) && duid.size() == at + mac_size && is_mac(duid.substr(at)))
            return std::string{duid.substr(at)};
    return {};
}

/// Five words with single spaces between them; the last may be missing its end only.
std::optional<std::array<std::string_view, 5>> words_of(std::string_view line) {
    std::array<std::string_view, 5> words;
    for (auto& word : words) {
        const auto end = std::min(line.find(' '), line.size());
        word = line.substr(0, end);
        if (word.empty()) return std::nullopt;
        line.remove_prefix(std::min(end + 1, line.size()));
    }
    return line.empty() ? std::optional{words} : std::nullopt;
}

std::optional<std::uint64_t> number_in(std::string_view word) {
    std::uint64_t number = 0;
    const auto [end, failure] = std::from_chars(word.data(), word.data() + word.size(), number);
    if (failure != std::errc{} || end != word.data() + word.size()) return std::nullopt;
    return number;
}

std::optional<DhcpLease> parse_lease(std::string_view line, const std::vector<IpNet>& nets) {
    const auto words = words_of(line);
    if (!words) return std::nullopt;
    const auto& [expiry, who, where, name, client] = *words;
    const auto seconds = number_in(expiry);
    const auto address = Ip::parse(where);
    if (!seconds || *seconds > std::numeric_limits<std::uint64_t>::max() / second || !address) return std::nullopt;
    DhcpLease lease;
    lease.address = address->text();
    lease.expires = *seconds * second;
    if (name.size() <= name_limit && std::ranges::all_of(name, is_of_name)) lease.hostname = name;
    if (is_hex_word(client, ':')) lease.client_id = client;
    if (address->v6) {
        const auto association = who.starts_with('T') ? who.substr(1) : who;  // T: of a temporary address
        if (!number_in(association)) return std::nullopt;
        lease.mac = mac_in(client);
        lease.client_id += "/" + std::string{association};
    } else {
        if (!is_mac(who) && !is_hex_word(who, ':') && who.find('-') == std::string_view::npos) return std::nullopt;
        if (is_mac(who)) lease.mac = who;
    }
    const auto net = std::ranges::find_if(nets, [&](const auto& each) { return each.contains(*address); });
    if (net != nets.end()) lease.prefix = net->prefix;
    return lease;
}

std::vector<IpNet> nets_of(const NetworkConfig& config) {
    std::vector<IpNet> nets;
    for (const auto& ip : config.ips) {
        try {
            nets.push_back(net_of(ip));
        } catch (const Error&) {
            // Its guests have leases without a prefix; who starts the network has said more.
        }
    }
    return nets;
}

}  // namespace

std::vector<DhcpLease> parse_leases(std::string_view text, const NetworkConfig& config) {
    const auto nets = nets_of(config);
    std::vector<DhcpLease> leases;
    for (auto end = text.find('\n'); end != std::string_view::npos && leases.size() < most_leases;
         end = text.find('\n')) {
        if (auto lease = parse_lease(text.substr(0, end), nets)) leases.push_back(std::move(*lease));
        text.remove_prefix(end + 1);
    }
    return leases;
}

std::string read_leases(const std::string& path) {
    // The folder is dnsmasq's, which is not trusted: no link, nothing that could block.
    const Fd file{::open(path.c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC)};
    struct stat facts{};
    if (!file || ::fstat(file.get(), &facts) != 0 || !S_ISREG(facts.st_mode)) return {};
    std::string text(std::min(static_cast<std::size_t>(facts.st_size), file_limit), '\0');
    std::size_t size = 0;
    while (size < text.size()) {
        const auto got = ::read(file.get(), text.data() + size, text.size() - size);
        if (got <= 0) break;
        size += static_cast<std::size_t>(got);
    }
    text.resize(size);
    return text;
}

struct LeaseWatch::Parts {
    Parts(Loop& of, std::string name, std::function<void()> tell)
        : loop{of}, file{std::move(name)}, changed{std::move(tell)} {}
    Loop& loop;
    std::string file;
    std::function<void()> changed;
    Registration settled;
    std::optional<FolderWatch> watch;
};

LeaseWatch::LeaseWatch(Loop& loop, const std::string& folder, std::string file, std::function<void()> changed)
    : parts_{std::make_shared<Parts>(loop, std::move(file), std::move(changed))} {
    parts_->watch.emplace(loop, folder, [weak = std::weak_ptr{parts_}](const std::string& name, unsigned events) {
        const auto parts = weak.lock();
        if (!parts || parts->settled || (!name.empty() && name != parts->file)) return;
        if (!(events & (file_written | file_gone))) return;
        parts->settled = parts->loop.after(settling, [weak] {
            const auto still = weak.lock();
            if (!still) return;
            still->settled.reset();
            still->changed();
        });
    });
}

LeaseWatch::~LeaseWatch() = default;

}  // namespace virtbus::network
