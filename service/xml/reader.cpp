// SPDX-License-Identifier: LGPL-2.1-or-later
// Reading: from libxml2's tree into the model, by the table.
#include <fmt/format.h>
#include <libxml/tree.h>

#include <bitset>

#include "service/xml/binding.hpp"
#include "service/xml/document.hpp"
#include "service/xml/element_text.hpp"
#include "service/xml/values.hpp"
#include "virtbus/error.hpp"

namespace virtbus::xml {

namespace {

constexpr std::size_t most_rows = 256;        ///< of one element, with those of inlined structs
constexpr std::size_t most_of_a_kind = 4096;  ///< children of one name

std::string_view view(const xmlChar* text) {
    return text ? reinterpret_cast<const char*>(text) : "";
}

/// Attributes have no children other than text and predefined entities, which libxml2 has resolved.
std::string value_of(const xmlAttr* attribute) {
    std::string value;
    for (auto* n = attribute->children; n; n = n->next) value += view(n->content);
    return value;
}

std::string own_text(const xmlNode* node) {
    std::string text;
    bool elements = false;
    for (auto* n = node->children; n; n = n->next) {
        if (n->type == XML_TEXT_NODE || n->type == XML_CDATA_SECTION_NODE) text += view(n->content);
        elements |= n->type == XML_ELEMENT_NODE;
    }
    return elements ? std::string{trim(text)} : text;
}

const xmlAttr* find_attribute(const xmlNode* node, std::string_view name) {
    for (auto* a = node->properties; a; a = a->next)
        if (!a->ns && view(a->name) == name) return a;
    return nullptr;
}

bool has_scale(const Row& row) {
    return row.style == Style::scaled;
}

class Reader {
public:
    explicit Reader(std::vector<std::string>& unknown) : report_{unknown} {}

    void object(const Table& table, xmlNode* node, void* object, std::string_view understood = {}) {
        Place place{node, object, table.unknown(object), "", understood, {}};
        contents(place, table.rows);
        if (!table.check) return;
        if (const auto broken = table.check(object); !broken.empty()) fail(node, broken);
    }

private:
    /// An element being read: whose members its rows are, and where to put what no row knows.
    struct Place {
        xmlNode* node;
        void* owner;
        Unknown* unknown;
        std::string parent;                ///< path of a group below the owner's element
        std::string_view understood = {};  ///< an attribute that the caller has dealt with
        std::bitset<most_rows> seen;
    };
    /// A row that matches, the struct its member lives in and its place in the flattened list.
    struct Match {
        const Row* row = nullptr;
        void* owner = nullptr;
        std::size_t index = 0;
    };

    [[noreturn]] static void fail(const xmlNode* node, const std::string& why) {
        throw Error{Code::invalid_xml, fmt::format("XML, line {}, <{}>: {}", line_of(node), qualified_name(node), why)};
    }

    /// Calls `visit(row, owner, index)` for each row of the element until it returns true; inlined structs are entered.
    template <class Visit>
    static bool walk(std::span<const Row> rows, void* owner, std::size_t& index, Visit&& visit) {
        for (const auto& row : rows) {
            if (row.kind == Kind::inlined) {
                if (walk(row.table->rows, row.member(owner), index, visit)) return true;
            } else if (visit(row, owner, index++)) {
                return true;
            }
        }
        return false;
    }

    template <class Wanted>
    static Match find(std::span<const Row> rows, void* owner, Wanted&& wanted) {
        Match match;
        std::size_t index = 0;
        walk(rows, owner, index, [&](const Row& row, void* at, std::size_t i) {
            if (!wanted(row)) return false;
            match = {&row, at, i};
            return true;
        });
        return match;
    }

    void contents(Place& place, std::span<const Row> rows) {
        attributes(place, rows);
        own_value(place, rows);
        for (auto* n = place.node->children; n; n = n->next)
            if (n->type == XML_ELEMENT_NODE) child(place, rows, n);
        std::size_t index = 0;
        walk(rows, place.owner, index, [&](const Row& row, void*, std::size_t i) {
            if (row.required_ && !place.seen[i]) missing(place.node, row);
            return false;
        });
    }

    [[noreturn]] static void missing(const xmlNode* node, const Row& row) {
        if (row.kind == Kind::text) fail(node, "the text is missing");
        const bool is_attribute = row.kind == Kind::attribute;
        fail(node, fmt::format("{} {} is missing", is_attribute ? "attribute" : "element",
                               is_attribute ? fmt::format("'{}'", row.name) : fmt::format("<{}>", row.name)));
    }

    void attributes(Place& place, std::span<const Row> rows) {
        for (auto* a = place.node->properties; a; a = a->next) {
            const auto name = view(a->name);
            const auto match = a->ns ? Match{} : find(rows, place.owner, [&](const Row& row) {
                return row.kind == Kind::attribute && row.name == name;
            });
            if (match.row) {
                place.seen.set(match.index);
                scalar(*match.row, match.owner, place.node, value_of(a), name);
            } else if (a->ns || (name != place.understood && !is_unit(rows, name))) {
                unknown_attribute(place.node, a, *place.unknown, place.parent);
            }
        }
    }

    static bool is_unit(std::span<const Row> rows, std::string_view name) {
        if (name != "unit") return false;
        for (const auto& row : rows)
            if (has_scale(row) && (row.kind == Kind::attribute || row.kind == Kind::text)) return true;
        return false;
    }

    void own_value(Place& place, std::span<const Row> rows) {
        const auto match = find(rows, place.owner, [](const Row& row) { return row.kind == Kind::text; });
        const auto text = own_text(place.node);
        if (match.row) {
            if (text.empty()) return;
            place.seen.set(match.index);
            scalar(*match.row, match.owner, place.node, text, "");
        } else {
            stray_text(place.node, text, *place.unknown, place.parent);
        }
    }

    void stray_text(const xmlNode* node, std::string_view text, Unknown& unknown, const std::string& parent) {
        text = trim(text);
        if (text.empty()) return;
        report_.push_back(fmt::format("{} (line {}): text", path_of(node), line_of(node)));
        Writer escaped;
        escaped.open("x");
        escaped.text(text);
        escaped.close(true);
        const auto xml = escaped.take();  // <x>text</x> and a line break
        unknown.add({UnknownItem::Kind::element, parent, "", xml.substr(3, xml.size() - 8)});
    }

    void child(Place& place, std::span<const Row> rows, xmlNode* node) {
        const auto name = qualified_name(node);
        const auto match = find(rows, place.owner, [&](const Row& row) {
            return row.kind != Kind::attribute && row.kind != Kind::text && row.name == name;
        });
        if (!match.row) return unknown_element(node, *place.unknown, place.parent);
        const auto& row = *match.row;
        const bool many = row.count && row.count->many;
        if (place.seen[match.index] && !many) fail(node, "this element may occur only once here");
        place.seen.set(match.index);
        void* member = row.member ? row.member(match.owner) : nullptr;
        if (many && row.count->size(member) >= most_of_a_kind)
            fail(node, fmt::format("more than {} of these", most_of_a_kind));
        switch (row.kind) {
            case Kind::leaf:
                return leaf(place, row, member, node);
            case Kind::flag:
                return flag(place, row, member, node);
            case Kind::element:
                return object(*row.table, node, row.count->add(member));
            case Kind::group:
                return group(place, row, match.owner, node);
            case Kind::choice:
                return choice(row, member, node);
            case Kind::verbatim:
                return verbatim(member, node);
            case Kind::whole:
                *static_cast<std::string*>(member) = element_text(node, row.attribute);
                return;
            default:
                break;
        }
    }

    void scalar(const Row& row, void* owner, const xmlNode* node, const std::string& text, std::string_view attribute) {
        value(row, row.member(owner), node, text, attribute);
    }

    /// One value; `attribute` is "" for an element's text.
    void value(const Row& row, void* member, const xmlNode* node, const std::string& text, std::string_view attribute) {
        if (has_scale(row)) return scaled(row, member, node, text, attribute);
        if (row.value->parse(row, text, member)) return;
        refuse(node, text, attribute, row.value->allowed(row));
    }

    [[noreturn]] static void refuse(const xmlNode* node, std::string_view found, std::string_view attribute,
                                    const std::string& allowed) {
        constexpr std::size_t longest = 80;
        const auto shown = found.size() > longest ? fmt::format("{}...", found.substr(0, longest)) : std::string{found};
        fail(node, attribute.empty() ? fmt::format("the value '{}' is not allowed; allowed: {}", trim(shown), allowed)
                                     : fmt::format("{}='{}' is not allowed; allowed: {}", attribute, shown, allowed));
    }

    void scaled(const Row& row, void* member, const xmlNode* node, const std::string& text,
                std::string_view attribute) {
        const auto* unit = find_attribute(node, "unit");
        const auto unit_text = unit ? value_of(unit) : "";
        std::uint64_t bytes = 0;
        const bool good = parse_scaled(text, unit_text, row.default_scale, bytes) && round_up(bytes, row.unit);
        // The member is a std::uint64_t or an optional one; its Value knows which.
        Row plain = row;
        plain.style = Style::plain;
        if (good && row.value->parse(plain, fmt::format("{}", bytes), member)) return;
        refuse(node, unit ? fmt::format("{} {}", text, unit_text) : text, attribute,
               fmt::format("a whole number of at least {} bytes with a unit such as KiB, MiB or GiB",
                           std::max<std::int64_t>(0, row.minimum)));
    }

    /// To what can be written, so that the text says what the model does. False when it does not fit.
    static bool round_up(std::uint64_t& bytes, Unit unit) {
        const std::uint64_t grain = unit == Unit::kib ? 1024 : unit == Unit::mib_short ? 1024 * 1024 : 1;
        if (bytes % grain == 0) return true;
        return !__builtin_add_overflow(bytes, grain - bytes % grain, &bytes);
    }

    void leaf(Place& place, const Row& row, void* member, xmlNode* node) {
        const bool many = row.count != nullptr;
        const auto index = many ? row.count->size(member) : 0;
        const auto path = below(place.parent, row.name, many ? std::optional{index} : std::nullopt);
        void* slot = many ? row.count->add(member) : member;
        bool found = !row.attribute;
        for (auto* a = node->properties; a; a = a->next) {
            if (!a->ns && row.attribute && view(a->name) == row.attribute) {
                found = true;
                value(row, slot, node, value_of(a), row.attribute);
            } else if (a->ns || !has_scale(row) || view(a->name) != "unit") {
                unknown_attribute(node, a, *place.unknown, path);
            }
        }
        if (!row.attribute)
            value(row, slot, node, own_text(node), "");
        else
            stray_text(node, own_text(node), *place.unknown, path);
        if (!found && (row.required_ || many)) fail(node, fmt::format("attribute '{}' is missing", row.attribute));
        unknown_children(node, *place.unknown, path);
    }

    void flag(Place& place, const Row& row, void* member, xmlNode* node) {
        *static_cast<bool*>(member) = true;
        const auto path = below(place.parent, row.name, {});
        for (auto* a = node->properties; a; a = a->next) unknown_attribute(node, a, *place.unknown, path);
        stray_text(node, own_text(node), *place.unknown, path);
        unknown_children(node, *place.unknown, path);
    }

    void group(Place& place, const Row& row, void* owner, xmlNode* node) {
        Place inside{node, owner, place.unknown, below(place.parent, row.name, {}), {}, {}};
        contents(inside, {row.rows, row.row_count});
    }

    void choice(const Row& row, void* member, xmlNode* node) {
        const auto* type = find_attribute(node, "type");
        const auto wanted = type ? value_of(type) : "";
        std::vector<std::string_view> words;
        for (const auto& alternative : row.choice->alternatives) {
            words.push_back(alternative.word);
            if (row.choice->by_presence ? find_attribute(node, alternative.word) != nullptr
                                        : alternative.word == wanted)
                return object(*alternative.table, node, alternative.emplace(member),
                              row.choice->by_presence ? "" : "type");
        }
        if (row.choice->by_presence)
            fail(node, fmt::format("one of these attributes is needed: {}", detail::list_words(words)));
        if (!type) fail(node, "attribute 'type' is missing");
        refuse(node, wanted, "type", detail::list_words(words));
    }

    static void verbatim(void* member, xmlNode* node) {
        auto& list = *static_cast<std::vector<std::string>*>(member);
        for (auto* n = node->children; n; n = n->next)
            if (n->type == XML_ELEMENT_NODE) list.push_back(verbatim_xml(n));
    }

    // ---- what no row knows

    static std::string below(const std::string& parent, std::string_view name, std::optional<std::size_t> index) {
        auto path = parent.empty() ? std::string{name} : fmt::format("{}/{}", parent, name);
        if (index) path += fmt::format("[{}]", *index + 1);
        return path;
    }

    void unknown_attribute(const xmlNode* node, const xmlAttr* attribute, Unknown& unknown, const std::string& parent) {
        auto name = std::string{view(attribute->name)};
        if (attribute->ns && attribute->ns->prefix) {
            const auto prefix = view(attribute->ns->prefix);
            name = fmt::format("{}:{}", prefix, name);
            declare(prefix, view(attribute->ns->href), unknown, parent);
        }
        report_.push_back(fmt::format("{}/@{} (line {})", path_of(node), name, line_of(node)));
        unknown.add({UnknownItem::Kind::attribute, parent, std::move(name), value_of(attribute)});
    }

    /// The prefix of a kept attribute must still mean something when it is written.
    static void declare(std::string_view prefix, std::string_view uri, Unknown& unknown, const std::string& parent) {
        if (prefix == "xml") return;
        UnknownItem item{UnknownItem::Kind::attribute, parent, fmt::format("xmlns:{}", prefix), std::string{uri}};
        for (const auto& known : unknown.items())
            if (known == item) return;
        unknown.add(std::move(item));
    }

    void unknown_element(xmlNode* node, Unknown& unknown, const std::string& parent) {
        report_.push_back(fmt::format("{} (line {})", path_of(node), line_of(node)));
        unknown.add({UnknownItem::Kind::element, parent, qualified_name(node), verbatim_xml(node)});
    }

    void unknown_children(xmlNode* node, Unknown& unknown, const std::string& parent) {
        for (auto* n = node->children; n; n = n->next)
            if (n->type == XML_ELEMENT_NODE) unknown_element(n, unknown, parent);
    }

    std::vector<std::string>& report_;
};

}  // namespace

void read(const Table& table, _xmlNode* element, void* object, std::vector<std::string>& unknown) {
    Reader{unknown}.object(table, element, object);
}

}  // namespace virtbus::xml
