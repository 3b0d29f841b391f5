// SPDX-License-Identifier: LGPL-2.1-or-later
// Any bytes as a <domain>: either an Error of the two allowed codes, or a definition whose written form is a fixed
// point.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <optional>

#include "service/xml/domain_xml.hpp"
#include "virtbus/error.hpp"

namespace {

using namespace virtbus;

void require(bool holds, const char* what) {
    if (holds) return;
    std::fprintf(stderr, "broken: %s\n", what);
    std::abort();
}

template <class Action>
auto allowed(Action&& action) -> std::optional<decltype(action())> try {
    return action();
} catch (const Error& error) {
    require(error.code() == Code::invalid_xml || error.code() == Code::limits_exceeded, "an error of another code");
    return std::nullopt;
}

void round_trip(const DomainConfig& config, xml::FormatOptions options) {
    const auto text = xml::format_domain(config, options);
    const auto again = allowed([&] { return xml::parse_domain(text); });
    if (!again) std::fprintf(stderr, "%s", text.c_str());
    require(again.has_value(), "what was written can be read");
    require(xml::format_domain(again->config, options) == text, "what was written is a fixed point");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const std::string_view text{reinterpret_cast<const char*>(data), size};
    xml::peek_identity(text);
    allowed([&] { return xml::parse_device(text); });
    auto parsed = allowed([&] { return xml::parse_domain(text); });
    if (!parsed) return 0;
    round_trip(parsed->config, {.secure = true});
    round_trip(parsed->config, {.secure = false, .inactive = true});
    require(!xml::abi_difference(parsed->config, parsed->config), "a definition is compatible with itself");
    const auto completed = allowed([&] {
        xml::complete_generic(parsed->config);
        return true;
    });
    if (completed) round_trip(parsed->config, {.secure = true});
    return 0;
}
