// SPDX-License-Identifier: LGPL-2.1-or-later
// Writes NAME.out.xml beside each NAME.xml it is given: what the corpus test expects (ninja regenerate-networks).
#include <fstream>
#include <iostream>
#include <iterator>

#include "service/xml/network_xml.hpp"

int main(int count, char** arguments) {
    for (int i = 1; i < count; ++i) {
        const std::string path{arguments[i]};
        if (path.ends_with(".out.xml") || !path.ends_with(".xml")) continue;
        std::ifstream in{path};
        const std::string text{std::istreambuf_iterator<char>{in}, {}};
        try {
            const auto parsed = virtbus::xml::parse_network(text);
            std::ofstream{path.substr(0, path.size() - 4) + ".out.xml"} << virtbus::xml::format_network(parsed.config);
        } catch (const std::exception& error) {
            std::cerr << path << ": " << error.what() << '\n';
            return 1;
        }
    }
}
