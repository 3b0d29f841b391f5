// SPDX-License-Identifier: LGPL-2.1-or-later
#include "service/host/log.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <cstdlib>

namespace virtbus::host {

StderrLog::StderrLog(Priority most) : most_{most}, prefixed_{std::getenv("JOURNAL_STREAM") != nullptr} {}

void StderrLog::write(Priority priority, std::string_view message, const Fields& fields) {
    if (priority > most_) return;
    std::string line = prefixed_ ? fmt::format("<{}>", static_cast<int>(priority)) : std::string{"virtbusd: "};
    for (const char c : message) line += c == '\n' ? ' ' : c;
    for (const auto& [name, value] : fields)
        if (name == "DOMAIN") line += fmt::format(" [{}]", value);
    line += '\n';
    // A log that nobody can read must not stop the daemon.
    [[maybe_unused]] const auto written = ::write(STDERR_FILENO, line.data(), line.size());
}

}  // namespace virtbus::host
