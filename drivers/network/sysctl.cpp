// SPDX-License-Identifier: LGPL-2.1-or-later
#include "network/sysctl.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>

#include "virtbus/error.hpp"
#include "virtbus/fd.hpp"

namespace virtbus::network {

namespace {

constexpr std::string_view settings_folder = "/proc/sys/";

bool is_absent(int error) {
    return error == ENOENT || error == ENOTDIR;
}

[[noreturn]] void fail(const std::string& doing, const std::string& setting, int error) {
    const bool forbidden = error == EPERM || error == EACCES || error == EROFS;
    throw Error{forbidden ? Code::access_denied : Code::hypervisor_failed,
                fmt::format("{} {}{}: {}", doing, settings_folder, setting, std::strerror(error))};
}

}  // namespace

std::optional<std::string> read_setting(const std::string& setting) {
    const Fd file{::open((std::string{settings_folder} + setting).c_str(), O_RDONLY | O_CLOEXEC)};
    if (!file && is_absent(errno)) return std::nullopt;
    std::array<char, 4096> text;
    const auto size = file ? ::read(file.get(), text.data(), text.size()) : -1;
    if (size < 0) fail("reading", setting, errno);
    std::string value{text.data(), static_cast<std::size_t>(size)};
    if (value.ends_with('\n')) value.pop_back();
    return value;
}

bool write_setting(const std::string& setting, const std::string& value) {
    const Fd file{::open((std::string{settings_folder} + setting).c_str(), O_WRONLY | O_CLOEXEC)};
    if (!file && is_absent(errno)) return false;
    const auto line = value + "\n";
    if (!file || ::write(file.get(), line.data(), line.size()) < 0)
        fail(fmt::format("writing {} to", value), setting, errno);
    return true;
}

}  // namespace virtbus::network
