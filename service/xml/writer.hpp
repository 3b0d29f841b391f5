// SPDX-License-Identifier: LGPL-2.1-or-later
// Writes XML text as libvirt does: two spaces a level, single quotes, an element without content closed at once.
// Elements appear when they get content or are closed with keep, so an empty optional one costs nothing.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace virtbus::xml {

/// Appends what stands for the value in an attribute in single quotes, or in a text.
void escape(std::string_view value, bool attribute, std::string& out);

class Writer {
public:
    void open(std::string_view name);
    /// All attributes of an element come before its text and children.
    void attribute(std::string_view name, std::string_view value);
    void text(std::string_view value);
    /// Well-formed XML as a child.
    void verbatim(std::string_view xml);
    /// Of the children of the element that is open.
    std::string inner_indentation() const { return std::string(2 * frames_.size(), ' '); }
    /// With `keep` the element is written even when it got nothing.
    void close(bool keep);
    /// Writes the elements opened so far, empty or not.
    void keep();

    std::string take() { return std::move(out_); }

private:
    struct Frame {
        std::string_view name;
        bool written = false, children = false, text = false;
    };
    void indent();

    std::string out_;
    std::vector<Frame> frames_;
};

}  // namespace virtbus::xml
