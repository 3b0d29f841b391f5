// SPDX-License-Identifier: LGPL-2.1-or-later
// The text form of what the service keeps for itself: named values of any bytes under a first line with a checksum, so
// that a file which was cut or altered shows it. What the names mean is left to those who keep something.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace virtbus {

/// "name length\nbytes\n" for each value. Values may hold such texts again.
class KeptWriter {
public:
    void add(std::string_view name, std::string_view value);
    void add(std::string_view name, std::uint64_t value);
    /// Under the first line "virtbus-<kind> 1 <length> <checksum>".
    std::string sealed(std::string_view kind) const;
    std::string take() { return std::move(text_); }

private:
    std::string text_;
};

/// The text must outlive the reader. Error (Internal) saying what is wrong.
class KeptReader {
public:
    explicit KeptReader(std::string_view text);
    /// `kind` as for sealed(); "it is no <kind> file of version 1", or that it is cut or altered.
    static KeptReader of_sealed(std::string_view kind, std::string_view content);

    /// The first of that name; "" and 0 when there is none.
    std::string_view text(std::string_view name) const;
    std::uint64_t count(std::string_view name) const;
    /// In the order of writing.
    std::vector<std::string_view> all(std::string_view name) const;

private:
    std::multimap<std::string_view, std::string_view> values_;
};

}  // namespace virtbus
