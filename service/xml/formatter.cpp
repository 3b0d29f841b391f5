// SPDX-License-Identifier: LGPL-2.1-or-later
// Writing: from the model to libvirt's text, by the table.
#include <fmt/format.h>

#include "service/xml/binding.hpp"
#include "service/xml/document.hpp"
#include "service/xml/indentation.hpp"
#include "service/xml/values.hpp"

namespace virtbus::xml {

namespace {

void* mutable_pointer(const void* pointer) {
    return const_cast<void*>(pointer);
}  // member accessors take both

class Formatter {
public:
    Formatter(WriteOptions options, Writer& writer) : options_{options}, writer_{writer} {}

    void root(const Table& table, std::string_view name, const void* object) {
        const auto& unknown = *table.unknown(mutable_pointer(object));
        writer_.open(name);
        contents({table.rows, object, unknown, ""}, options_.declared);
        writer_.close(true);
    }

    void object(const Table& table, std::string_view name, const void* object, bool keep, std::string_view type = {}) {
        writer_.open(name);
        if (!type.empty()) writer_.attribute("type", type);
        contents({table.rows, object, *table.unknown(mutable_pointer(object)), ""});
        writer_.close(keep);
    }

    bool secret_left_out() const { return secret_left_out_; }

private:
    struct Place {
        std::span<const Row> rows;
        const void* owner;
        const Unknown& unknown;
        std::string_view parent;
    };

    void contents(const Place& place, const Namespace* declared = nullptr) {
        attributes(place.rows, place.owner);
        const auto declaration = declared ? fmt::format("xmlns:{}", declared->prefix) : "";
        if (declared) writer_.attribute(declaration, declared->uri);
        unknown_attributes(place.unknown, place.parent, declaration);
        text(place.rows, place.owner);
        children(place, place.rows, place.owner);
        unknown_elements(place.unknown, place.parent);
    }

    bool hidden(const Row& row, const void* member) {
        if (!row.secret_ || options_.secure) return false;
        if (row.count ? row.count->size(member) > 0 : scalar(row, member)) secret_left_out_ = true;
        return true;
    }

    /// The value in text_ (and unit_); false when absent.
    bool scalar(const Row& row, const void* member) {
        text_.clear();
        unit_ = {};
        if (row.style != Style::scaled) return row.value->format(row, member, text_);
        const bool optional = row.value == &detail::optional_uint64_value;
        std::uint64_t bytes = 0;
        if (optional) {
            const auto& value = *static_cast<const std::optional<std::uint64_t>*>(member);
            if (!value) return false;
            bytes = *value;
        } else {
            bytes = *static_cast<const std::uint64_t*>(member);
        }
        const auto scaled = format_scaled(bytes, row.unit);
        text_ = fmt::format("{}", scaled.number);
        unit_ = scaled.unit;
        return true;
    }

    void attributes(std::span<const Row> rows, const void* owner) {
        for (const auto& row : rows) {
            if (row.when && !row.when(owner)) continue;
            if (row.kind == Kind::inlined) {
                attributes(row.table->rows, row.member(mutable_pointer(owner)));
            } else if (row.kind == Kind::attribute) {
                const void* member = row.member(mutable_pointer(owner));
                if (hidden(row, member) || !scalar(row, member)) continue;
                writer_.attribute(row.name, text_);
                if (!unit_.empty()) writer_.attribute("unit", unit_);
            } else if (row.kind == Kind::text && row.style == Style::scaled) {
                if (scalar(row, row.member(mutable_pointer(owner)))) writer_.attribute("unit", unit_);
            }
        }
    }

    void text(std::span<const Row> rows, const void* owner) {
        for (const auto& row : rows) {
            if (row.kind == Kind::inlined) {
                text(row.table->rows, row.member(mutable_pointer(owner)));
            } else if (row.kind == Kind::text) {
                const void* member = row.member(mutable_pointer(owner));
                if (!hidden(row, member) && scalar(row, member) && !text_.empty()) writer_.text(text_);
            }
        }
    }

    void children(const Place& place, std::span<const Row> rows, const void* owner) {
        for (const auto& row : rows) {
            if (row.kind == Kind::attribute || row.kind == Kind::text || (row.when && !row.when(owner))) continue;
            const void* member = row.member ? row.member(mutable_pointer(owner)) : nullptr;
            switch (row.kind) {
                case Kind::inlined:
                    children(place, row.table->rows, member);
                    break;
                case Kind::leaf:
                    leaves(place, row, member);
                    break;
                case Kind::flag:
                    flag(place, row, member);
                    break;
                case Kind::element:
                    elements(row, member);
                    break;
                case Kind::group:
                    group(place, row, owner);
                    break;
                case Kind::choice:
                    choice(row, member);
                    break;
                case Kind::verbatim:
                    verbatim(row, member);
                    break;
                case Kind::whole:
                    whole(row, *static_cast<const std::string*>(member));
                    break;
                default:
                    break;
            }
        }
    }

    void leaves(const Place& place, const Row& row, const void* member) {
        if (hidden(row, member)) return;
        if (!row.count) return leaf(place, row, member, {});
        for (std::size_t i = 0; i < row.count->size(member); ++i) leaf(place, row, row.count->at(member, i), i);
    }

    void leaf(const Place& place, const Row& row, const void* value, std::optional<std::size_t> index) {
        const bool present = scalar(row, value) || index;
        if (!present && place.unknown.empty()) return;
        writer_.open(row.name);
        if (present && row.attribute) writer_.attribute(row.attribute, text_);
        if (present && !unit_.empty()) writer_.attribute("unit", unit_);
        const auto content = text_;
        if (place.unknown.empty()) {
            if (present && !row.attribute && !content.empty()) writer_.text(content);
        } else {
            const auto path = below(place.parent, row.name, index);
            unknown_attributes(place.unknown, path);
            if (present && !row.attribute && !content.empty()) writer_.text(content);
            unknown_elements(place.unknown, path);
        }
        writer_.close(present);
    }

    void flag(const Place& place, const Row& row, const void* member) {
        if (!*static_cast<const bool*>(member)) return;
        writer_.open(row.name);
        if (!place.unknown.empty()) {
            const auto path = below(place.parent, row.name, {});
            unknown_attributes(place.unknown, path);
            unknown_elements(place.unknown, path);
        }
        writer_.close(true);
    }

    void elements(const Row& row, const void* member) {
        if (hidden(row, member)) return;
        const bool keep = row.always_ || row.count->many;
        for (std::size_t i = 0; i < row.count->size(member); ++i)
            object(*row.table, row.name, row.count->at(member, i), keep);
    }

    void group(const Place& place, const Row& row, const void* owner) {
        const auto path = place.unknown.empty() ? std::string{} : below(place.parent, row.name, {});
        writer_.open(row.name);
        contents({{row.rows, row.row_count}, owner, place.unknown, path});
        writer_.close(row.always_);
    }

    void choice(const Row& row, const void* member) {
        for (const auto& alternative : row.choice->alternatives) {
            const void* chosen = alternative.get(member);
            if (!chosen) continue;
            return object(*alternative.table, row.name, chosen, true, row.choice->by_presence ? "" : alternative.word);
        }
    }

    void verbatim(const Row& row, const void* member) {
        writer_.open(row.name);
        for (const auto& xml : *static_cast<const std::vector<std::string>*>(member)) writer_.verbatim(xml);
        writer_.close(false);
    }

    void whole(const Row& row, const std::string& element) {
        if (element.empty()) return;
        auto text = std::string{trim(element)};
        const std::string root = row.attribute;
        if (root != row.name) {
            const auto close = "</" + root + ">";
            if (text.ends_with(close)) text.replace(text.size() - close.size() + 2, root.size(), row.name);
            text.replace(1, root.size(), row.name);
        }
        writer_.verbatim(indented(text, writer_.inner_indentation()));
    }

    // ---- what no row knows

    static std::string below(std::string_view parent, std::string_view name, std::optional<std::size_t> index) {
        auto path = parent.empty() ? std::string{name} : fmt::format("{}/{}", parent, name);
        if (index) path += fmt::format("[{}]", *index + 1);
        return path;
    }
    /// `written`: an attribute that is there already.
    void unknown_attributes(const Unknown& unknown, std::string_view parent, std::string_view written = {}) {
        if (unknown.empty()) return;
        for (const auto& item : unknown.items())
            if (item.kind == UnknownItem::Kind::attribute && item.parent == parent && item.name != written)
                writer_.attribute(item.name, item.text);
    }
    void unknown_elements(const Unknown& unknown, std::string_view parent) {
        if (unknown.empty()) return;
        for (const auto& item : unknown.items())
            if (item.kind == UnknownItem::Kind::element && item.parent == parent) writer_.verbatim(item.text);
    }

    WriteOptions options_;
    Writer& writer_;
    std::string text_;
    std::string_view unit_;
    bool secret_left_out_ = false;
};

}  // namespace

bool write(const Table& table, std::string_view name, const void* object, WriteOptions options, Writer& writer) {
    Formatter formatter{options, writer};
    formatter.root(table, name, object);
    return formatter.secret_left_out();
}

}  // namespace virtbus::xml
