// SPDX-License-Identifier: LGPL-2.1-or-later
// Any bytes as a <filter> that an interface names, which may refer to itself and to a few others: either an Error of
// the allowed codes, or rules within their bounds whose text has no line, brace or quote that is not the writer's own.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>

#include "network/filter_rules.hpp"
#include "service/networking/filter_tree.hpp"
#include "service/xml/filter_xml.hpp"
#include "virtbus/error.hpp"

namespace {

using namespace virtbus;

void require(bool holds, const char* what) {
    if (holds) return;
    std::fprintf(stderr, "broken: %s\n", what);
    std::abort();
}

Interface card() {
    Interface interface;
    interface.type = InterfaceType::bridge;
    interface.mac = "52:54:00:00:00:01";
    interface.filterref.emplace();
    interface.filterref->filter = "fuzzed";
    for (const auto& [name, value] :
         {std::pair{"A", "10.0.0.1"}, {"A", "10.0.0.2"}, {"P", "80"}, {"P", "81"}, {"M", "52:54:00:00:00:09"}})
        interface.filterref->parameters.push_back({name, value, {}});
    return interface;
}

void check(std::string_view text) {
    const auto filter = xml::parse_filter(text);
    const auto plain = resolve_filter(card(), [&](const std::string&) -> const NetworkFilter& { return filter; });
    require(plain.rules.size() <= most_filter_rules, "not too many rules");
    const auto rules = network::filter_rules(plain, 7, "vnet0");
    std::size_t open = 0, closed = 0, quotes = 0;
    for (const char c : rules.text) {
        require(c == '\n' || c == '\t' || (c >= ' ' && c < 0x7f), "the text is printable");
        quotes += c == '"';
        if (quotes % 2 == 0) open += c == '{', closed += c == '}';
    }
    require(open == closed, "braces are paired");
    require(quotes % 2 == 0, "quotes are paired");
    for (const auto& chain : rules.chains)
        require(chain.find_first_of(" \t\n{};\"") == chain.npos && chain.size() < 128, "names of chains are plain");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) try {
    check({reinterpret_cast<const char*>(data), size});
    return 0;
} catch (const virtbus::Error& error) {
    using virtbus::Code;
    require(error.code() == Code::invalid_xml || error.code() == Code::limits_exceeded ||
                error.code() == Code::unsupported_configuration || error.code() == Code::unsupported,
            "an error of another code");
    return 0;
}
