// SPDX-License-Identifier: LGPL-2.1-or-later
// Any bytes as a snapshot, a checkpoint and a backup: either an Error of the two allowed codes, or a model whose written
// form is a fixed point.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <optional>

#include "service/xml/moment_set.hpp"
#include "service/xml/moment_xml.hpp"
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

template <class Parse, class Format>
void check(std::string_view text, Parse&& parse, Format&& format) {
    const auto config = allowed([&] { return parse(text, nullptr); });
    if (!config) return;
    const auto written = format(*config, true);
    const auto again = allowed([&] { return parse(written, nullptr); });
    if (!again) std::fprintf(stderr, "%s", written.c_str());
    require(again.has_value(), "what was written can be read");
    require(format(*again, true) == written, "what was written is a fixed point");
    allowed([&] { return format(*config, false); });
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const std::string_view text{reinterpret_cast<const char*>(data), size};
    check(text, xml::parse_snapshot, xml::format_snapshot);
    check(text, xml::parse_checkpoint, xml::format_checkpoint);
    check(text, xml::parse_backup, xml::format_backup);
    allowed([&] { return xml::split_set(text); });
    return 0;
}
