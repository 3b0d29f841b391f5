// SPDX-License-Identifier: LGPL-2.1-or-later
// What the tests of networks share beside support.hpp: their corpus and small definitions.
#pragma once

#include "service/xml/network_xml.hpp"
#include "support.hpp"

namespace virtbus::xml {

inline std::vector<std::string> network_corpus() {
    std::vector<std::string> names;
    for (const auto& entry : std::filesystem::directory_iterator{NETWORKS}) {
        const auto name = entry.path().filename().string();
        if (name.ends_with(".xml") && !name.ends_with(".out.xml")) names.push_back(name.substr(0, name.size() - 4));
    }
    std::sort(names.begin(), names.end());
    return names;
}
inline std::string network_file(const std::string& name) {
    return load(std::filesystem::path{NETWORKS} / (name + ".xml"));
}

/// A network with those elements.
inline std::string network(const std::string& elements) {
    return "<network>\n<name>n</name>\n" + elements + "\n</network>";
}
inline NetworkConfig complete_net(const std::string& elements) {
    auto config = parse_network(network(elements)).config;
    complete_network(config);
    return config;
}
inline Refusal network_refusal(const std::string& elements) {
    return refusal([&] { complete_net(elements); });
}

}  // namespace virtbus::xml
