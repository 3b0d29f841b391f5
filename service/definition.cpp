// SPDX-License-Identifier: LGPL-2.1-or-later
#include "service/definition.hpp"

#include <fmt/format.h>

#include "service/xml/domain_xml.hpp"
#include "virtbus/error.hpp"

namespace virtbus {

Understood understand(std::string_view text, bool strict) {
    auto parsed = xml::parse_domain(text);
    if (strict) xml::require_known(parsed.unknown);
    return {std::move(parsed.config), std::move(parsed.unknown)};
}

std::string render(const DomainConfig& config, Rendering rendering) {
    return xml::format_domain(config, {.secure = rendering.secure, .inactive = rendering.text == Text::stored});
}

Definition Definition::broken(std::string path, std::string text, std::string problem) {
    Definition definition{std::move(path), std::move(text), {}};
    definition.problem_ = std::move(problem);
    return definition;
}

void Definition::require_usable() const {
    if (!problem_.empty())
        throw Error{Code::unsupported_configuration, fmt::format("the definition {} is unusable: {}", path_, problem_)};
}

DomainConfig Definition::config() const {
    require_usable();
    return understand(text_, false).config;
}

const std::string& Definition::public_text() const {
    if (!public_known_) {
        require_usable();
        const auto model = config();
        if (xml::has_secrets(model)) public_text_ = render(model, {.text = Text::stored, .secure = false});
        public_known_ = true;
    }
    return public_text_ ? *public_text_ : text_;
}

}  // namespace virtbus
