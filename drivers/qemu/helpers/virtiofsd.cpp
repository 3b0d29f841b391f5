// SPDX-License-Identifier: LGPL-2.1-or-later
#include "qemu/helpers/virtiofsd.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <linux/capability.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "qemu/helpers/vhost_user.hpp"
#include "qemu/opening.hpp"
#include "qemu/starter.hpp"

namespace virtbus::qemu {

namespace {

[[noreturn]] void refuse(const Filesystem& filesystem, const std::string& why) {
    throw Error{Code::unsupported_configuration, fmt::format("filesystem '{}': {}", filesystem.target_dir, why)};
}

void require_folder(const Filesystem& filesystem) {
    struct stat info{};
    const auto& folder = filesystem.source->dir;
    if (::stat(folder.c_str(), &info) != 0)
        refuse(filesystem, fmt::format("the folder '{}' cannot be shared: {}", folder, std::strerror(errno)));
    if (!S_ISDIR(info.st_mode)) refuse(filesystem, fmt::format("'{}' is no folder", folder));
}

// ---- its line

/// Commas separate its options.
std::string doubled_commas(const std::string& value) {
    std::string out;
    for (const char c : value) out.append(c == ',' ? 2 : 1, c);
    return out;
}

/// It makes files that belong to any user, and a cage of namespaces for itself, after which it gives up what it does
/// not need.
std::uint64_t capabilities_of_virtiofsd() {
    std::uint64_t all = 0;
    for (const int each :
         {CAP_CHOWN, CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH, CAP_FOWNER, CAP_FSETID, CAP_MKNOD, CAP_SETFCAP, CAP_SETGID,
          CAP_SETPCAP, CAP_SETUID, CAP_SYS_ADMIN, CAP_SYS_CHROOT, CAP_SYS_RESOURCE})
        all |= 1ULL << each;
    return all;
}

}  // namespace

bool needs_file_server(const Filesystem& filesystem) {
    const bool served = filesystem.source && !filesystem.source->socket.empty();
    return filesystem.driver && filesystem.driver->type == "virtiofs" && !served;
}

std::string find_virtiofsd(Files& files, const std::vector<std::string>& folders, const Filesystem& filesystem) {
    const auto programs = vhost_user_programs(files, folders, "fs");
    const std::string wanted = filesystem.binary ? filesystem.binary->path : "";
    if (!wanted.empty() && std::ranges::find(programs, wanted) == programs.end())
        refuse(filesystem,
               fmt::format("its <binary> '{}' is in no descriptor of type 'fs' in {}; only what these name "
                           "is run{}{}",
                           wanted, fmt::join(folders, ", "), programs.empty() ? "" : ": ", fmt::join(programs, ", ")));
    if (programs.empty())
        refuse(filesystem, fmt::format("no virtiofsd is installed: no descriptor of type 'fs' is in {}; or name the "
                                       "<source socket=> of one that runs already",
                                       fmt::join(folders, ", ")));
    const auto& program = wanted.empty() ? programs.front() : wanted;
    if (::access(program.c_str(), X_OK) != 0)
        refuse(filesystem, fmt::format("the file server {} cannot be run: {}", program, std::strerror(errno)));
    return program;
}

// The form of options that both virtiofsds take, QEMU's and the one in Rust.
std::vector<std::string> virtiofsd_words(const std::string& program, const Filesystem& filesystem) {
    const FilesystemBinary none;
    const auto& binary = filesystem.binary ? *filesystem.binary : none;
    std::string options = "source=" + doubled_commas(filesystem.source->dir);
    if (!binary.cache_mode.empty()) options += ",cache=" + binary.cache_mode;
    if (!binary.sandbox_mode.empty()) options += ",sandbox=" + binary.sandbox_mode;
    const auto add = [&](const char* name, std::optional<bool> value) {
        if (value) options += fmt::format(",{}{}", *value ? "" : "no_", name);
    };
    add("xattr", binary.xattr);
    add("flock", binary.lock_flock);
    add("posix_lock", binary.lock_posix);
    std::vector<std::string> words{program, "--fd=3", "-o", std::move(options)};
    if (binary.thread_pool_size) words.push_back(fmt::format("--thread-pool-size={}", *binary.thread_pool_size));
    if (binary.openfiles_max) words.push_back(fmt::format("--rlimit-nofile={}", *binary.openfiles_max));
    return words;
}

/// The socket's name goes as soon as both ends exist: nobody else connects.
Task<Fd> FileServer::connect_and_run(const HelperOrder& order, const Filesystem& filesystem,
                                     const std::string& program) {
    const auto path = fmt::format("{}/{}-fs.sock", order.folder, filesystem.info.alias);
    auto listening = listen_at(path);
    auto connection = connect_to(path);
    ::unlink(path.c_str());
    UnitRequest request;
    request.helper = "virtiofsd_" + filesystem.info.alias;
    request.description = fmt::format("Folder '{}' of virtual machine {}", filesystem.target_dir, order.domain);
    request.argv = virtiofsd_words(program, filesystem);
    request.fds = {{listening.get(), 3}};
    request.capabilities = capabilities_of_virtiofsd();
    request.shared = {filesystem.source->dir};
    co_await run(order, {.program = "virtiofsd", .alias = filesystem.info.alias}, std::move(request));
    listening = Fd{};  // its end is seen at ours
    co_await converse(order, connection,
                      [patience = times_.answer](const Fd& fd) { require_vhost_user(fd, patience); });
    co_return std::move(connection);
}

Task<Fd> FileServer::start(HelperOrder order, Filesystem filesystem, std::string program) {
    co_await ports_.workers.run(
        fmt::format("looking at '{}'", filesystem.source->dir), [filesystem] { require_folder(filesystem); },
        order.deadline, order.stop);
    co_return co_await or_undo(connect_and_run(order, filesystem, program));
}

}  // namespace virtbus::qemu
