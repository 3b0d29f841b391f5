// SPDX-License-Identifier: LGPL-2.1-or-later
#include "service/secrets.hpp"

#include <fcntl.h>
#include <fmt/format.h>

#include "service/owned_file.hpp"
#include "virtbus/error.hpp"
#include "virtbus/secret_name.hpp"

namespace virtbus {

namespace {

constexpr std::size_t longest = 1u << 20;

[[noreturn]] void refuse(const std::string& why) {
    throw Error{Code::unsupported_configuration, why};
}

}  // namespace

std::string Secrets::path_of(const SecretRef& reference) const {
    const std::string name = secret_name(reference);
    if (name.empty()) refuse("a <secret> needs attribute 'uuid', or 'type' and 'usage'");
    if (name.size() - (name.rfind('/') + 1) > 255)
        refuse(fmt::format("the usage '{}' of a secret is too long for a file name", reference.usage));
    return folder_ + '/' + name;
}

Task<std::string> Secrets::get(SecretRef reference, Deadline deadline, std::stop_token stop) {
    const std::string path = path_of(reference);
    if (!files_.exists(path))
        refuse(fmt::format("secret {} is not there; put the value into it, as it is, with mode 600", path));
    // Opened without waiting, so that a FIFO in its place holds nobody.
    const Fd fd = co_await files_.open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK, 0, std::nullopt, deadline, stop);
    co_return read_owned(fd, {.words = "secret " + path,
                              .path = path,
                              .longest = longest,
                              .forbidden = 077,
                              .rights = "read",
                              .right_mode = "600"});
}

}  // namespace virtbus
