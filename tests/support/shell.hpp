// SPDX-License-Identifier: LGPL-2.1-or-later
// For tests: what the usual tools say, and what files hold.
#pragma once

#include <sys/wait.h>

#include <cstdio>
#include <fstream>
#include <sstream>
#include <stdexcept>
#include <string>

namespace virtbus::tests {

struct Said {
    int status = -1;   ///< of the shell; 128 when a signal ended it
    std::string text;  ///< both outputs
    bool ok() const { return status == 0; }
};

inline Said say(const std::string& command) {
    Said said;
    FILE* pipe = ::popen(("{ " + command + "; } 2>&1").c_str(), "re");
    if (!pipe) throw std::runtime_error{"no shell"};
    for (int c; (c = std::fgetc(pipe)) != EOF;) said.text += static_cast<char>(c);
    const int status = ::pclose(pipe);
    said.status = WIFEXITED(status) ? WEXITSTATUS(status) : 128;
    return said;
}

inline std::string output_of(const std::string& command) {
    return say(command).text;
}

inline bool succeeds(const std::string& command) {
    return say(command).ok();
}

inline std::string content(const std::string& path) {
    std::ostringstream text;
    text << std::ifstream{path}.rdbuf();
    return text.str();
}

}  // namespace virtbus::tests
