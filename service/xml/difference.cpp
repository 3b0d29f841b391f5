// SPDX-License-Identifier: LGPL-2.1-or-later
// Comparing: the first thing the guest could see that two structs of one table do not share.
#include <fmt/format.h>

#include "service/xml/binding.hpp"

namespace virtbus::xml {

namespace {

using Found = std::optional<std::string>;

void* mutable_pointer(const void* pointer) {
    return const_cast<void*>(pointer);
}

std::string below(const std::string& path, std::string_view step) {
    return path.empty() ? std::string{step} : fmt::format("{}/{}", path, step);
}

std::string shown(const Row& row, const void* member) {
    std::string text;
    if (row.kind == Kind::flag) return *static_cast<const bool*>(member) ? "present" : "";
    if (!row.value->format(row, member, text)) return "";
    return text;
}

Found changed(const std::string& path, const std::string& before, const std::string& after) {
    if (before == after) return {};
    if (before.empty()) return fmt::format("{}: '{}' was added", path, after);
    if (after.empty()) return fmt::format("{}: '{}' was removed", path, before);
    return fmt::format("{}: '{}' became '{}'", path, before, after);
}

Found compare_rows(std::span<const Row> rows, const void* before, const void* after, const std::string& path);

Found compare_list(const Row& row, const void* before, const void* after, const std::string& path) {
    const auto sizes = std::pair{row.count->size(before), row.count->size(after)};
    if (sizes.first != sizes.second) return fmt::format("{}: {} became {}", path, sizes.first, sizes.second);
    for (std::size_t i = 0; i < sizes.first; ++i) {
        const auto step = row.count->many ? fmt::format("{}[{}]", path, i + 1) : path;
        const void *a = row.count->at(before, i), *b = row.count->at(after, i);
        if (auto found =
                row.table ? compare_rows(row.table->rows, a, b, step) : changed(step, shown(row, a), shown(row, b)))
            return found;
    }
    return {};
}

/// A place that only one side has is no difference: the other has not been assigned one yet.
Found compare_choice(const Row& row, const void* before, const void* after, const std::string& path) {
    const Alternative *a = nullptr, *b = nullptr;
    for (const auto& alternative : row.choice->alternatives) {
        if (alternative.get(before)) a = &alternative;
        if (alternative.get(after)) b = &alternative;
    }
    if (!a || !b) return {};
    if (a != b) return changed(path + "/@type", std::string{a->word}, std::string{b->word});
    return compare_rows(a->table->rows, a->get(before), b->get(after), path);
}

Found compare_row(const Row& row, const void* before, const void* after, const std::string& path) {
    if (row.kind == Kind::group) return compare_rows({row.rows, row.row_count}, before, after, below(path, row.name));
    const void *a = row.member(mutable_pointer(before)), *b = row.member(mutable_pointer(after));
    switch (row.kind) {
        case Kind::inlined:
            return compare_rows(row.table->rows, a, b, path);
        case Kind::attribute:
            return changed(below(path, fmt::format("@{}", row.name)), shown(row, a), shown(row, b));
        case Kind::text:
            return changed(path, shown(row, a), shown(row, b));
        case Kind::choice:
            return compare_choice(row, a, b, below(path, row.name));
        case Kind::verbatim:
        case Kind::whole:
            return {};
        default:
            break;
    }
    if (row.count) return compare_list(row, a, b, below(path, row.name));
    return changed(below(path, row.name), shown(row, a), shown(row, b));
}

Found compare_rows(std::span<const Row> rows, const void* before, const void* after, const std::string& path) {
    for (const auto& row : rows)
        if (!row.host_)
            if (auto found = compare_row(row, before, after, path)) return found;
    return {};
}

}  // namespace

std::optional<std::string> difference(const Table& table, const void* before, const void* after) {
    return compare_rows(table.rows, before, after, "");
}

}  // namespace virtbus::xml
