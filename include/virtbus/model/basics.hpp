// SPDX-License-Identifier: LGPL-2.1-or-later
// What every part of the model shares: the words of enums, sets of CPU or node numbers, and the box for what the tables
// do not know. Says nothing about XML syntax; that is service/xml's.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace virtbus {

/// Specialised beside each enum of the model: `list[value]` is its word in the XML.
template <class Enum>
struct Words;

template <class Enum>
constexpr auto word(Enum value) -> decltype(std::string_view{Words<Enum>::list[0]}) {
    return Words<Enum>::list[static_cast<std::size_t>(value)];
}

/// CPUs or NUMA nodes, sorted and unique: "0-3,8" in the XML.
struct CpuSet {
    std::vector<unsigned> numbers;

    bool empty() const { return numbers.empty(); }
    bool contains(unsigned number) const { return std::binary_search(numbers.begin(), numbers.end(), number); }
    bool operator==(const CpuSet&) const = default;
};

/// An attribute or element that was found in the XML and that no table knows. It is written back verbatim.
struct UnknownItem {
    enum class Kind { attribute, element };

    Kind kind = Kind::attribute;
    std::string parent;  ///< "" = the owner's own element, else the known element below it, e.g. "source" or "a/b[2]"
    std::string name;    ///< with its prefix, e.g. "foo" or "x:foo"
    std::string text;    ///< an attribute's value, or the whole element as XML

    bool operator==(const UnknownItem&) const = default;
};

/// The unknown parts of one element; costs a pointer when there are none. Copies are deep.
class Unknown {
public:
    Unknown() = default;
    Unknown(const Unknown& other) : items_{other.items_ ? std::make_unique<Items>(*other.items_) : nullptr} {}
    Unknown(Unknown&&) noexcept = default;
    Unknown& operator=(const Unknown& other) {
        if (this != &other) items_ = other.items_ ? std::make_unique<Items>(*other.items_) : nullptr;
        return *this;
    }
    Unknown& operator=(Unknown&&) noexcept = default;
    ~Unknown() = default;

    bool empty() const { return !items_ || items_->empty(); }
    void add(UnknownItem item) {
        if (!items_) items_ = std::make_unique<Items>();
        items_->push_back(std::move(item));
    }
    const std::vector<UnknownItem>& items() const {
        static const Items none;
        return items_ ? *items_ : none;
    }
    bool operator==(const Unknown& other) const { return items() == other.items(); }

private:
    using Items = std::vector<UnknownItem>;
    std::unique_ptr<Items> items_;
};

}  // namespace virtbus
