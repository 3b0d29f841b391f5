// SPDX-License-Identifier: LGPL-2.1-or-later
// Writes indented XML text. Reading XML is service/xml's work; the driver only ever writes what it made up itself.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace virtbus::qemu {

class XmlText {
public:
    using Attributes = std::vector<std::pair<std::string_view, std::string>>;

    void element(std::string_view name, const Attributes& attributes = {});
    void element(std::string_view name, const Attributes& attributes, std::string_view text);
    void element(std::string_view name, const Attributes& attributes, const std::function<void()>& content);
    std::string take() { return std::move(text_); }

private:
    void open(std::string_view name, const Attributes& attributes);
    std::string text_;
    int depth_ = 0;
};

}  // namespace virtbus::qemu
