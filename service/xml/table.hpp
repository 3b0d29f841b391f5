// SPDX-License-Identifier: LGPL-2.1-or-later
// The vocabulary of the XML tables: a Table lists, in the order of writing, the Rows of one element, and each Row ties
// an attribute, a text or a child element to a member of a model struct. Reading, checking, writing and comparing all
// walk these lists (binding.hpp); rows are type-erased so that a table costs little to compile.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <variant>
#include <vector>

#include "virtbus/model/basics.hpp"

namespace virtbus::xml {

struct Row;
struct Table;

/// How one value of a member's type is read from text and written as text.
struct Value {
    /// False when the text is not allowed; the member is then unspecified.
    bool (*parse)(const Row& row, std::string_view text, void* member);
    /// Appends to `out`. False when the member is absent.
    bool (*format)(const Row& row, const void* member, std::string& out);
    /// What `parse` accepts, for the error message.
    std::string (*allowed)(const Row& row);
};

/// How often a member holds an element or a value: T, std::optional<T> or std::vector<T>.
struct Count {
    void* (*add)(void* member);
    std::size_t (*size)(const void* member);
    const void* (*at)(const void* member, std::size_t index);
    bool many;
};

/// One of the alternatives of an element whose content depends on its attribute "type", or on which attributes it has.
struct Alternative {
    std::string_view word;
    const Table* table;
    void* (*emplace)(void* member);          ///< in the std::optional<std::variant<...>>
    const void* (*get)(const void* member);  ///< nullptr when it holds another
};

struct Choice {
    std::span<const Alternative> alternatives;
    bool by_presence = false;  ///< the word is an attribute that must be there, not the value of "type"
};

enum class Kind : std::uint8_t {
    attribute,  ///< name='value'
    text,       ///< the element's own text
    leaf,       ///< <name>value</name>, or <name attribute='value'/>
    flag,       ///< <name/>: a bool member
    element,    ///< <name> with a table of its own
    inlined,    ///< a struct whose rows belong to the owner's element
    group,      ///< <name> without a struct of its own: its rows are members of the owner
    choice,     ///< <name type=''>: one of several tables
    verbatim,   ///< <name> whose children are kept as XML text
    whole,      ///< <name> kept as XML text, its root named `attribute`
};

enum class Style : std::uint8_t { plain, yes_no, on_off, hex, octal, mac, uuid, scaled };

/// How a scaled number is written.
enum class Unit : std::uint8_t { bytes, b /* bytes as 'B' */, kib, mib_short /* MiB as 'M' */, best };

struct Row {
    const char* name = "";
    Kind kind = Kind::attribute;
    Style style = Style::plain;
    Unit unit = Unit::kib;
    bool required_ = false;
    bool always_ = false;  ///< written even when empty
    bool secret_ = false;
    bool host_ = false;                  ///< the guest cannot see it: left out of comparison
    std::uint8_t width = 0;              ///< digits of a hexadecimal or octal number
    std::uint64_t default_scale = 1024;  ///< what a number without unit counts in
    const char* attribute = nullptr;     ///< leaf: the value is in this attribute
    const char* words = nullptr;         ///< "a|b|c": the only values allowed
    std::int64_t minimum = std::numeric_limits<std::int64_t>::min();
    std::uint64_t maximum = std::numeric_limits<std::uint64_t>::max();
    void* (*member)(void* owner) = nullptr;
    const Value* value = nullptr;
    const Count* count = nullptr;
    const Table* table = nullptr;
    const Row* rows = nullptr;  ///< group
    std::size_t row_count = 0;
    const Choice* choice = nullptr;
    bool (*when)(const void* owner) = nullptr;  ///< written here only if it holds

    constexpr Row with(auto change) const {
        Row copy = *this;
        change(copy);
        return copy;
    }
    constexpr Row required() const {
        return with([](Row& r) { r.required_ = true; });
    }
    constexpr Row always() const {
        return with([](Row& r) { r.always_ = true; });
    }
    constexpr Row secret() const {
        return with([](Row& r) { r.secret_ = r.host_ = true; });
    }
    constexpr Row host() const {
        return with([](Row& r) { r.host_ = true; });
    }
    constexpr Row one_of(const char* list) const {
        return with([=](Row& r) { r.words = list; });
    }
    constexpr Row range(std::int64_t low, std::uint64_t high) const {
        return with([=](Row& r) { r.minimum = low, r.maximum = high; });
    }
    constexpr Row yes_no() const {
        return with([](Row& r) { r.style = Style::yes_no; });
    }
    constexpr Row on_off() const {
        return with([](Row& r) { r.style = Style::on_off; });
    }
    constexpr Row hex(std::uint8_t digits = 0) const {
        return with([=](Row& r) { r.style = Style::hex, r.width = digits; });
    }
    template <class Owner, auto Condition>
    constexpr Row only_when() const {
        return with(
            [](Row& r) { r.when = [](const void* owner) { return Condition(*static_cast<const Owner*>(owner)); }; });
    }
    constexpr Row octal(std::uint8_t digits) const {
        return with([=](Row& r) { r.style = Style::octal, r.width = digits; });
    }
    constexpr Row mac() const {
        return with([](Row& r) { r.style = Style::mac; });
    }
    constexpr Row uuid() const {
        return with([](Row& r) { r.style = Style::uuid; });
    }
    /// A size with an attribute "unit" beside it; a bare number counts in `scale` bytes.
    constexpr Row scaled(Unit written = Unit::kib, std::uint64_t scale = 1024) const {
        return with([=](Row& r) { r.style = Style::scaled, r.unit = written, r.default_scale = scale; });
    }
};

struct Table {
    std::span<const Row> rows;
    Unknown* (*unknown)(void* object) = nullptr;  ///< nullptr: an inlined struct, its owner keeps what is unknown
    /// A rule that spans several rows: what is broken, or "". `Found` it is told with line and element by the reader.
    std::string (*check)(const void* object) = nullptr;
};

// ---- making rows ---------------------------------------------------------------------------------------------------

namespace detail {

template <auto Member>
struct MemberOf;
template <class Owner, class T, T Owner::* Member>
struct MemberOf<Member> {
    using owner = Owner;
    using type = T;
    static void* get(void* object) { return &(static_cast<Owner*>(object)->*Member); }
};

template <class T>
struct Item {
    using type = T;
};
template <class T>
struct Item<std::optional<T>> {
    using type = T;
};
template <class T>
struct Item<std::vector<T>> {
    using type = T;
};

template <class M>
struct Counter {
    static void* add(void* member) { return member; }
    static std::size_t size(const void*) { return 1; }
    static const void* at(const void* member, std::size_t) { return member; }
    static constexpr bool many = false;
};
template <class T>
struct Counter<std::optional<T>> {
    static void* add(void* member) { return &static_cast<std::optional<T>*>(member)->emplace(); }
    static std::size_t size(const void* member) { return static_cast<const std::optional<T>*>(member)->has_value(); }
    static const void* at(const void* member, std::size_t) { return &**static_cast<const std::optional<T>*>(member); }
    static constexpr bool many = false;
};
template <class T>
struct Counter<std::vector<T>> {
    static void* add(void* member) { return &static_cast<std::vector<T>*>(member)->emplace_back(); }
    static std::size_t size(const void* member) { return static_cast<const std::vector<T>*>(member)->size(); }
    static const void* at(const void* member, std::size_t index) {
        return &(*static_cast<const std::vector<T>*>(member))[index];
    }
    static constexpr bool many = true;
};
template <class M>
inline constexpr Count count_of{Counter<M>::add, Counter<M>::size, Counter<M>::at, Counter<M>::many};

// Scalars (values.cpp). An enum goes by its Words.
extern const Value string_value, optional_string_value, bool_value, optional_bool_value, uint32_value,
    optional_uint32_value, uint64_value, optional_uint64_value, int32_value, optional_int32_value, optional_int64_value,
    cpu_set_value, optional_cpu_set_value;

bool parse_word(std::span<const std::string_view> words, std::string_view text, std::size_t& index);
std::string list_words(std::span<const std::string_view> words);

template <class Enum>
struct EnumValue {
    static bool parse(const Row&, std::string_view text, void* member) {
        std::size_t index = 0;
        if (!parse_word(Words<Enum>::list, text, index)) return false;
        *static_cast<Enum*>(member) = static_cast<Enum>(index);
        return true;
    }
    static bool format(const Row&, const void* member, std::string& out) {
        out += word(*static_cast<const Enum*>(member));
        return true;
    }
    static std::string allowed(const Row&) { return list_words(Words<Enum>::list); }
};
template <class Enum>
struct OptionalEnumValue {
    static bool parse(const Row& row, std::string_view text, void* member) {
        return EnumValue<Enum>::parse(row, text, &static_cast<std::optional<Enum>*>(member)->emplace());
    }
    static bool format(const Row& row, const void* member, std::string& out) {
        const auto& value = *static_cast<const std::optional<Enum>*>(member);
        return value && EnumValue<Enum>::format(row, &*value, out);
    }
};
template <class Enum>
inline constexpr Value enum_value{EnumValue<Enum>::parse, EnumValue<Enum>::format, EnumValue<Enum>::allowed};
template <class Enum>
inline constexpr Value optional_enum_value{OptionalEnumValue<Enum>::parse, OptionalEnumValue<Enum>::format,
                                           EnumValue<Enum>::allowed};

template <class T>
constexpr const Value* value_of() {
    using I = typename Item<T>::type;
    constexpr bool optional = std::is_same_v<T, std::optional<I>>;
    if constexpr (std::is_enum_v<I>)
        return optional ? &optional_enum_value<I> : &enum_value<I>;
    else if constexpr (std::is_same_v<I, std::string>)
        return optional ? &optional_string_value : &string_value;
    else if constexpr (std::is_same_v<I, bool>)
        return optional ? &optional_bool_value : &bool_value;
    else if constexpr (std::is_same_v<I, std::uint32_t>)
        return optional ? &optional_uint32_value : &uint32_value;
    else if constexpr (std::is_same_v<I, std::uint64_t>)
        return optional ? &optional_uint64_value : &uint64_value;
    else if constexpr (std::is_same_v<I, std::int32_t>)
        return optional ? &optional_int32_value : &int32_value;
    else if constexpr (std::is_same_v<T, std::optional<std::int64_t>>)
        return &optional_int64_value;
    else if constexpr (std::is_same_v<I, CpuSet>)
        return optional ? &optional_cpu_set_value : &cpu_set_value;
    else
        static_assert(!sizeof(T), "no Value for this type");
}

template <auto Member>
constexpr Row scalar(Kind kind, const char* name) {
    using T = typename MemberOf<Member>::type;
    Row row;
    row.name = name;
    row.kind = kind;
    row.member = MemberOf<Member>::get;
    if constexpr (Counter<T>::many) {
        row.value = value_of<typename Item<T>::type>();
        row.count = &count_of<T>;
    } else {
        row.value = value_of<T>();
    }
    return row;
}

}  // namespace detail

template <auto Member>
constexpr Row attribute(const char* name) {
    return detail::scalar<Member>(Kind::attribute, name);
}
template <auto Member>
constexpr Row text() {
    return detail::scalar<Member>(Kind::text, "");
}
/// <name>value</name>; a vector for as many as there are.
template <auto Member>
constexpr Row leaf(const char* name) {
    return detail::scalar<Member>(Kind::leaf, name);
}
/// <name attribute='value'/>
template <auto Member>
constexpr Row leaf(const char* name, const char* attribute) {
    return detail::scalar<Member>(Kind::leaf, name).with([=](Row& r) { r.attribute = attribute; });
}
template <auto Member>
constexpr Row flag(const char* name) {
    return detail::scalar<Member>(Kind::flag, name);
}
/// An element with a table of its own. An optional one without content is left out unless it is `always()`; those of a
/// vector are always written.
template <auto Member>
constexpr Row element(const char* name, const Table& table) {
    using T = typename detail::MemberOf<Member>::type;
    Row row;
    row.name = name;
    row.kind = Kind::element;
    row.member = detail::MemberOf<Member>::get;
    row.count = &detail::count_of<T>;
    row.table = &table;
    return row;
}
template <auto Member>
constexpr Row inlined(const Table& table) {
    Row row;
    row.kind = Kind::inlined;
    row.member = detail::MemberOf<Member>::get;
    row.table = &table;
    return row;
}
constexpr Row group(const char* name, std::span<const Row> rows) {
    Row row;
    row.name = name;
    row.kind = Kind::group;
    row.rows = rows.data();
    row.row_count = rows.size();
    return row;
}
template <auto Member>
constexpr Row choice(const char* name, const Choice& alternatives) {
    Row row;
    row.name = name;
    row.kind = Kind::choice;
    row.member = detail::MemberOf<Member>::get;
    row.choice = &alternatives;
    return row;
}
template <auto Member>
constexpr Row verbatim(const char* name) {
    Row row;
    row.name = name;
    row.kind = Kind::verbatim;
    row.member = detail::MemberOf<Member>::get;
    return row;
}

/// A std::string of the whole element at the left margin, "" when absent; in the text the element is named `root`.
template <auto Member>
constexpr Row whole(const char* name, const char* root) {
    Row row;
    row.name = name;
    row.kind = Kind::whole;
    row.attribute = root;
    row.member = detail::MemberOf<Member>::get;
    return row;
}

template <class Variant, class T>
constexpr Alternative alternative(std::string_view word, const Table& table) {
    return {word, &table,
            [](void* member) -> void* {
                return &static_cast<std::optional<Variant>*>(member)->emplace().template emplace<T>();
            },
            [](const void* member) -> const void* {
                const auto& value = *static_cast<const std::optional<Variant>*>(member);
                return value ? std::get_if<T>(&*value) : nullptr;
            }};
}

/// The table of T's own element.
template <class T>
constexpr Table table(std::span<const Row> rows, std::string (*check)(const void*) = nullptr) {
    return {rows, [](void* object) { return &static_cast<T*>(object)->unknown; }, check};
}
/// The table of a struct that lives inside its owner's element.
constexpr Table inner_table(std::span<const Row> rows) {
    return {rows};
}

}  // namespace virtbus::xml
