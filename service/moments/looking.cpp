// SPDX-License-Identifier: LGPL-2.1-or-later
#include "service/moments/looking.hpp"

#include <sys/stat.h>

namespace virtbus {

namespace {
constexpr Duration patience{30'000};

Found look(const std::string& path) {
    struct stat facts{};
    if (::stat(path.c_str(), &facts) != 0) return {};
    return {true, !S_ISREG(facts.st_mode) || facts.st_size != 0};
}

}  // namespace

Task<Found> look_at(Workers& workers, std::string path, std::stop_token stop) {
    co_return co_await workers.run("looking for " + path, [path] { return look(path); }, in(patience), std::move(stop));
}

}  // namespace virtbus
