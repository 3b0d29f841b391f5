// SPDX-License-Identifier: LGPL-2.1-or-later
#include "network/link_key.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <charconv>
#include <string_view>

#include "virtbus/error.hpp"

namespace virtbus::network {

namespace {

constexpr std::size_t mac_length = 17;

std::string text_of(const MacAddress& mac) {
    return fmt::format("{:02x}", fmt::join(mac, ":"));
}

/// Takes a key apart from its front.
class Reader {
public:
    explicit Reader(const std::string& text) : text_{text}, rest_{text} {}

    std::string_view word() {
        const auto colon = rest_.find(':');
        const auto word = rest_.substr(0, colon);
        rest_ = colon == rest_.npos ? std::string_view{} : rest_.substr(colon + 1);
        return word;
    }
    std::string name() {
        const auto found = word();
        if (found.empty()) fail();
        return std::string{found};
    }
    template <class T>
    T number(T least) {
        const auto digits = word();
        T value{};
        const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
        if (digits.empty() || error != std::errc{} || end != digits.data() + digits.size() || value < least) fail();
        return value;
    }
    MacAddress mac() {
        if (rest_.size() < mac_length) fail();
        const auto mac = parse_mac(std::string{rest_.substr(0, mac_length)});
        rest_.remove_prefix(mac_length);
        if (rest_.starts_with(':')) rest_.remove_prefix(1);
        return mac;
    }
    [[noreturn]] void fail() const {
        throw Error{Code::internal, fmt::format("'{}' is no link of this driver", text_)};
    }

private:
    const std::string& text_;
    std::string_view rest_;
};

}  // namespace

std::string LinkKey::text() const {
    switch (kind) {
        case Kind::tap:
            return fmt::format("tap:{}:{}", index, name);
        case Kind::switch_port:
            return fmt::format("ovs:{}:{}:{}", index, name, beside);
        case Kind::macvtap:
            return fmt::format("macvtap:{}:{}", index, name);
        case Kind::passthrough:
            return fmt::format("macvtap-pt:{}:{}:{}:{}", index, name, beside, text_of(mac));
        case Kind::function:
            return fmt::format("vf:{}:{}:{}:{}", number, vlan, text_of(mac), beside);
        case Kind::foreign:
            break;
    }
    return index ? fmt::format("foreign:{}:{}", index, name) : "foreign";
}

LinkKey LinkKey::parse(const std::string& text) {
    Reader reader{text};
    LinkKey key;
    const auto kind = reader.word();
    if (kind == "foreign") {
        if (text == kind) return key;
        key.index = reader.number(1);
        key.name = reader.name();
        return key;
    }
    if (kind == "vf") {
        key.kind = Kind::function;
        key.number = reader.number(0U);
        key.vlan = reader.number(0U);
        key.mac = reader.mac();
        key.beside = reader.name();
        return key;
    }
    key.kind = kind == "tap"          ? Kind::tap
               : kind == "ovs"        ? Kind::switch_port
               : kind == "macvtap"    ? Kind::macvtap
               : kind == "macvtap-pt" ? Kind::passthrough
                                      : Kind::foreign;
    if (key.kind == Kind::foreign) reader.fail();
    key.index = reader.number(1);
    key.name = reader.name();
    if (key.kind == Kind::switch_port || key.kind == Kind::passthrough) key.beside = reader.name();
    if (key.kind == Kind::passthrough) key.mac = reader.mac();
    return key;
}

}  // namespace virtbus::network
