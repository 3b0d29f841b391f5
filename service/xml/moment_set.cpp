// SPDX-License-Identifier: LGPL-2.1-or-later
#include "service/xml/moment_set.hpp"

#include <fmt/format.h>
#include <libxml/tree.h>

#include "service/xml/document.hpp"
#include "service/xml/indentation.hpp"
#include "service/xml/markup.hpp"
#include "service/xml/values.hpp"
#include "service/xml/writer.hpp"
#include "virtbus/error.hpp"

namespace virtbus::xml {

namespace {

constexpr std::string_view root_name = "domainsnapshots";

[[noreturn]] void malformed(const std::string& why) {
    throw Error{Code::invalid_xml, fmt::format("the document of snapshots: {}", why)};
}
void require_size(std::size_t bytes, std::size_t count) {
    if (bytes > largest_set)
        throw Error{Code::limits_exceeded,
                    fmt::format("the document of snapshots has more than {} bytes", largest_set)};
    if (count > most_of_set)
        throw Error{Code::limits_exceeded, fmt::format("the document has more than {} snapshots", most_of_set)};
}

/// Goes from tag to tag.
class Cutter {
public:
    explicit Cutter(std::string_view text) : text_{text} {}

    bool at_end() {
        skip();
        return at_ == text_.size();
    }
    /// The tag that comes next.
    std::string_view tag(Markup& markup) {
        if (at_end()) malformed("it is cut");
        const auto start = at_;
        const auto token = markup_at(text_, at_);
        if (text_.substr(start).starts_with("<!"))
            malformed("only elements and comments are allowed; no document type, no character data");
        markup = token.markup;
        at_ = token.end;
        return text_.substr(start, at_ - start);
    }
    /// The rest of the element whose start tag, at `start`, has been read.
    std::string_view element(std::size_t start) {
        for (std::size_t open = 1; open > 0;) {
            at_ = text_.find('<', at_);
            if (at_ == text_.npos) malformed("it is cut");
            const auto token = markup_at(text_, at_);
            open += token.markup == Markup::open;
            open -= token.markup == Markup::close;
            at_ = token.end;
        }
        return text_.substr(start, at_ - start);
    }
    std::size_t position() const { return at_; }

private:
    /// Blanks, comments and processing instructions.
    void skip() {
        for (;;) {
            const auto next = text_.find_first_not_of(" \t\r\n", at_);
            at_ = next == text_.npos ? text_.size() : next;
            if (at_ == text_.size()) return;
            if (text_[at_] != '<') malformed("text where only elements are allowed");
            const auto token = markup_at(text_, at_);
            if (token.markup != Markup::other) return;
            at_ = token.end;
        }
    }

    std::string_view text_;
    std::size_t at_ = 0;
};

std::string current_in(std::string_view start_tag, bool empty) {
    const Document root{fmt::format("{}{}", start_tag, empty ? "" : fmt::format("</{}>", root_name))};
    const auto* node = root.require_root(root_name);
    std::string current;
    for (const auto* a = node->properties; a; a = a->next) {
        const auto* name = reinterpret_cast<const char*>(a->name);
        if (a->ns || std::string_view{name} != "current")
            malformed(fmt::format("the attribute '{}' is not known", name));
        for (const auto* n = a->children; n; n = n->next) current += reinterpret_cast<const char*>(n->content);
    }
    if (node->nsDef) malformed("namespaces are to be declared where they are used, in each <domainsnapshot>");
    return current;
}

}  // namespace

MomentSetWriter::MomentSetWriter(std::string_view current) {
    text_ = fmt::format("<{}", root_name);
    if (!current.empty()) {
        text_ += " current='";
        escape(current, true, text_);
        text_ += '\'';
    }
    text_ += ">\n";
}

void MomentSetWriter::add(std::string_view snapshot) {
    require_size(text_.size() + snapshot.size(), ++count_);
    text_ += "  ";
    text_ += indented(trim(snapshot), "  ");
    text_ += '\n';
    require_size(text_.size(), count_);
}

std::string MomentSetWriter::take() {
    text_ += fmt::format("</{}>\n", root_name);
    return std::move(text_);
}

MomentSet split_set(std::string_view document) {
    require_size(document.size(), 0);
    Cutter cutter{document};
    MomentSet set;
    Markup markup{};
    const auto root = cutter.tag(markup);
    if (markup == Markup::close) malformed("it begins with the end of an element");
    set.current = current_in(root, markup == Markup::empty);
    while (markup != Markup::empty) {
        const auto tag = cutter.tag(markup);
        if (markup == Markup::close) {
            if (trim(tag.substr(2, tag.size() - 3)) != root_name) malformed(fmt::format("{} has no beginning", tag));
            break;
        }
        const auto start = cutter.position() - tag.size();
        set.snapshots.push_back(markup == Markup::empty ? tag : cutter.element(start));
        markup = Markup::open;
        require_size(0, set.snapshots.size());
    }
    if (!cutter.at_end()) malformed(fmt::format("something follows </{}>", root_name));
    return set;
}

}  // namespace virtbus::xml
