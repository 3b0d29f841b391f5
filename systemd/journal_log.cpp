// SPDX-License-Identifier: LGPL-2.1-or-later
#define SD_JOURNAL_SUPPRESS_LOCATION
#include "journal_log.hpp"

#include <fmt/format.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <systemd/sd-journal.h>
#include <unistd.h>

#include <cstdlib>

namespace virtbus::systemd {

namespace {

/// The manager writes device and inode of the journal's stream into the environment; a redirected stderr differs.
bool stderr_is_the_journal() {
    const char* stream = std::getenv("JOURNAL_STREAM");
    struct stat here{};
    return stream && ::fstat(STDERR_FILENO, &here) == 0 && fmt::format("{}:{}", here.st_dev, here.st_ino) == stream;
}

}  // namespace

JournalLog::JournalLog(Log& otherwise, Priority most)
    : otherwise_{otherwise}, most_{most}, connected_{stderr_is_the_journal()} {}

void JournalLog::write(Priority priority, std::string_view message, const Fields& fields) {
    if (priority > most_) return;
    if (!connected_) {
        otherwise_.write(priority, message, fields);
        return;
    }
    std::vector<std::string> lines{fmt::format("MESSAGE={}", message),
                                   fmt::format("PRIORITY={}", static_cast<int>(priority)),
                                   "SYSLOG_IDENTIFIER=virtbusd"};
    for (const auto& [name, value] : fields) lines.push_back(name + "=" + value);
    std::vector<iovec> parts;
    for (auto& line : lines) parts.push_back({line.data(), line.size()});
    if (sd_journal_sendv(parts.data(), static_cast<int>(parts.size())) < 0) otherwise_.write(priority, message, fields);
}

}  // namespace virtbus::systemd
