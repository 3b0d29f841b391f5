// SPDX-License-Identifier: LGPL-2.1-or-later
// <domainsnapshots>: all snapshots of a domain in one document, too large to be read as a whole. It is put together and
// taken apart here; each <domainsnapshot> in it is a document of its own (moment_xml.hpp).
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace virtbus::xml {

inline constexpr std::size_t largest_set = 256UL << 20;
inline constexpr std::size_t most_of_set = 10'000;

class MomentSetWriter {
public:
    /// `current`: the name of the current snapshot; "" = none.
    explicit MomentSetWriter(std::string_view current);
    /// What format_snapshot wrote. LimitsExceeded when the document becomes too large.
    void add(std::string_view snapshot);
    std::string take();

private:
    std::string text_;
    std::size_t count_ = 0;
};

struct MomentSet {
    std::string current;
    std::vector<std::string_view> snapshots;  ///< parts of the document, not looked into
};
/// InvalidXML, LimitsExceeded.
MomentSet split_set(std::string_view document);

}  // namespace virtbus::xml
