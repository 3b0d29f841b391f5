// SPDX-License-Identifier: LGPL-2.1-or-later
// Definition: a domain's stored text with what was not understood of it, parsed when somebody needs the model.
// How XML is read and written is service/xml's work.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "virtbus/model/domain.hpp"

namespace virtbus {

struct Understood {
    DomainConfig config;
    std::vector<std::string> unknown;  ///< sentences
};

/// InvalidXML. With `strict` what is not understood is an error.
Understood understand(std::string_view xml, bool strict);

/// How much of a definition is written.
enum class Text {
    stored,  ///< everything that lasts
    live,    ///< with aliases, ports and paths of the run
};
struct Rendering {
    Text text = Text::stored;
    bool secure = true;  ///< with passwords
};
std::string render(const DomainConfig& config, Rendering rendering);

class Definition {
public:
    /// `path`: the file it lies in. `text` is what it holds, or will hold.
    Definition(std::string path, std::string text, std::vector<std::string> unknown)
        : path_{std::move(path)}, text_{std::move(text)}, unknown_{std::move(unknown)} {}
    /// One that cannot be used; it keeps its text until it is replaced.
    static Definition broken(std::string path, std::string text, std::string problem);

    const std::string& path() const { return path_; }
    const std::string& text() const { return text_; }
    const std::vector<std::string>& unknown() const { return unknown_; }
    /// Why it cannot be used; "" when it can.
    const std::string& problem() const { return problem_; }

    /// UnsupportedConfiguration with the problem when it is broken.
    DomainConfig config() const;
    /// The text without passwords.
    const std::string& public_text() const;

private:
    void require_usable() const;

    std::string path_, text_;
    std::vector<std::string> unknown_;
    std::string problem_;
    mutable bool public_known_ = false;
    mutable std::optional<std::string> public_text_;  ///< when it differs from text_
};

}  // namespace virtbus
