// SPDX-License-Identifier: LGPL-2.1-or-later
// Writes NAME.out.xml beside each NAME.xml it is given: what the corpus test expects (ninja regenerate-domains).
#include <fstream>
#include <iostream>
#include <iterator>

#include "service/xml/domain_xml.hpp"

int main(int count, char** arguments) {
    for (int i = 1; i < count; ++i) {
        const std::string path{arguments[i]};
        if (path.ends_with(".out.xml") || !path.ends_with(".xml")) continue;
        std::ifstream in{path};
        const std::string text{std::istreambuf_iterator<char>{in}, {}};
        try {
            const auto parsed = virtbus::xml::parse_domain(text);
            std::ofstream{path.substr(0, path.size() - 4) + ".out.xml"}
                << virtbus::xml::format_domain(parsed.config, {.secure = true});
        } catch (const std::exception& error) {
            std::cerr << path << ": " << error.what() << '\n';
            return 1;
        }
    }
}
