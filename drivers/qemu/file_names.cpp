// SPDX-License-Identifier: LGPL-2.1-or-later
#include "qemu/file_names.hpp"

#include <algorithm>
#include <string_view>

#include "virtbus/error.hpp"

namespace virtbus::qemu {

std::string with_paths(std::string words, const FileNames& files) {
    constexpr std::string_view folder = "/dev/fdset/", digits = "0123456789";
    for (std::size_t at = 0; (at = words.find(folder, at)) != words.npos;) {
        const auto end = std::min(words.find_first_not_of(digits, at + folder.size()), words.size());
        const auto found = files.find(words.substr(at, end - at));
        if (found == files.end()) {
            at = end;
            continue;
        }
        words.replace(at, end - at, found->second);
        at += found->second.size();
    }
    return words;
}

void rethrow_with_paths(const std::exception_ptr& failure, const FileNames& files) {
    try {
        std::rethrow_exception(failure);
    } catch (const Error& error) {
        const std::string words = error.what();
        const auto named = with_paths(words, files);
        if (named == words) throw;
        throw Error{error.code(), named};
    }
}

}  // namespace virtbus::qemu
