// SPDX-License-Identifier: LGPL-2.1-or-later
// What the XML tests share: the corpus, small documents, and the error a piece of XML leads to.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "service/xml/domain_xml.hpp"
#include "virtbus/error.hpp"

namespace virtbus::xml {

inline std::string load(const std::filesystem::path& path) {
    std::ifstream in{path};
    return {std::istreambuf_iterator<char>{in}, {}};
}

/// The names of the definitions in tests/data/domains.
inline std::vector<std::string> corpus() {
    std::vector<std::string> names;
    for (const auto& entry : std::filesystem::directory_iterator{DOMAINS}) {
        const auto name = entry.path().filename().string();
        if (name.ends_with(".xml") && !name.ends_with(".out.xml")) names.push_back(name.substr(0, name.size() - 4));
    }
    std::sort(names.begin(), names.end());
    return names;
}
inline std::string definition(const std::string& name) {
    return load(std::filesystem::path{DOMAINS} / (name + ".xml"));
}
inline std::string expected(const std::string& name) {
    return load(std::filesystem::path{DOMAINS} / (name + ".out.xml"));
}

/// A definition with those elements in <domain> and those in <devices>.
inline std::string domain(const std::string& elements, const std::string& devices = "") {
    return "<domain type='qemu'>\n<name>d</name>\n<memory>1024</memory>\n<os><type>hvm</type></os>\n" + elements +
           "\n<devices>\n" + devices + "\n</devices>\n</domain>";
}
inline DomainConfig parse(const std::string& elements, const std::string& devices = "") {
    return parse_domain(domain(elements, devices)).config;
}
/// Parsed and completed.
inline DomainConfig complete(const std::string& elements, const std::string& devices = "") {
    auto config = parse(elements, devices);
    complete_generic(config);
    return config;
}

struct Refusal {
    Code code = Code::internal;
    std::string message;  ///< "" when nothing was refused
};
template <class Action>
Refusal refusal(Action&& action) try {
    action();
    return {};
} catch (const Error& error) {
    return {error.code(), error.what()};
}
inline Refusal parse_refusal(const std::string& text) {
    return refusal([&] { parse_domain(text); });
}

inline bool contains(const std::string& text, std::string_view part) {
    return text.find(part) != text.npos;
}

}  // namespace virtbus::xml

#define EXPECT_REFUSED(refused, expected_code, part)                       \
    do {                                                                   \
        const auto the_refusal = refused;                                  \
        EXPECT_EQ(the_refusal.code, expected_code) << the_refusal.message; \
        EXPECT_PRED2(contains, the_refusal.message, part);                 \
    } while (false)
