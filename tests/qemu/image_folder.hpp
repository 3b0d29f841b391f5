// SPDX-License-Identifier: LGPL-2.1-or-later
// A folder for the images of one test, and what is in a file.
#pragma once

#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <stdexcept>
#include <string>

namespace virtbus::tests {

inline std::string content(const std::string& path) {
    std::ifstream file{path, std::ios::binary};
    file.seekg(0, std::ios::end);
    std::string bytes(file ? static_cast<std::size_t>(file.tellg()) : 0, '\0');
    file.seekg(0);
    file.read(bytes.data(), static_cast<std::streamsize>(bytes.size()));
    return bytes;
}

/// In memory where that can be: what is compared are bytes, and disks are slow.
struct ImageFolder {
    std::string path = ::access("/dev/shm", W_OK) == 0 ? "/dev/shm/virtbus-test-XXXXXX" : "/tmp/virtbus-test-XXXXXX";
    ImageFolder() {
        if (!::mkdtemp(path.data())) throw std::runtime_error{"mkdtemp"};
    }
    ImageFolder(const ImageFolder&) = delete;
    ImageFolder& operator=(const ImageFolder&) = delete;
    ~ImageFolder() {
        std::error_code ignored;
        std::filesystem::remove_all(path, ignored);
    }
};

}  // namespace virtbus::tests
