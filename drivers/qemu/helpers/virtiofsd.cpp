// SPDX-License-Identifier: LGPL-2.1-or-later
#include "qemu/helpers/virtiofsd.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <linux/capability.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <map>
#include <nlohmann/json.hpp>

#include "qemu/json.hpp"
#include "qemu/opening.hpp"
#include "qemu/starter.hpp"

namespace virtbus::qemu {

namespace {

constexpr std::size_t longest_descriptor = 64 << 10;

[[noreturn]] void refuse(const Filesystem& filesystem, const std::string& why) {
    throw Error{Code::unsupported_configuration, fmt::format("filesystem '{}': {}", filesystem.target_dir, why)};
}

/// The program of a descriptor of type "fs"; "" when it is of something else, or none.
std::string program_of(std::string_view descriptor) {
    try {
        const auto content = parse_json(descriptor);
        auto program = text(content, "binary");
        return text(content, "type") == "fs" && program.starts_with('/') ? program : std::string{};
    } catch (const Error&) {
        return {};
    }
}

std::vector<std::string> known_programs(Files& files, const std::vector<std::string>& folders) {
    std::map<std::string, std::string> by_name;
    for (const auto& folder : folders)
        for (const auto& name : files.list(folder))
            if (name.ends_with(".json"))
                by_name[name] = program_of(files.read(folder + "/" + name, longest_descriptor).value_or(""));
    std::vector<std::string> programs;
    for (auto& [name, program] : by_name)
        if (!program.empty()) programs.push_back(std::move(program));
    return programs;
}

// ---- what is said to it

constexpr std::uint32_t get_features = 1;
constexpr std::uint32_t protocol_version = 1, is_reply = 4;

/// The one question of the vhost-user protocol that changes nothing.
void require_back_end(const Fd& fd, Duration patience) {
    const auto fail = [](const std::string& why) { throw Error{Code::hypervisor_failed, why}; };
    const std::array<std::uint32_t, 3> question{get_features, protocol_version, 0};
    if (::send(fd.get(), question.data(), sizeof question, MSG_NOSIGNAL | MSG_DONTWAIT) != sizeof question)
        fail("it ended");
    std::array<std::uint32_t, 5> answer{};
    std::size_t have = 0;
    const auto deadline = in(patience);
    while (have < sizeof answer) {
        const auto left = std::chrono::ceil<Duration>(deadline - std::chrono::steady_clock::now());
        pollfd state{fd.get(), POLLIN, 0};
        if (left.count() <= 0 || ::poll(&state, 1, static_cast<int>(left.count())) == 0)
            fail(fmt::format("it did not answer within {} ms", patience.count()));
        const auto got =
            ::recv(fd.get(), reinterpret_cast<char*>(answer.data()) + have, sizeof answer - have, MSG_DONTWAIT);
        if (got < 0 && (errno == EAGAIN || errno == EINTR)) continue;
        if (got <= 0) fail("it ended");
        have += static_cast<std::size_t>(got);
    }
    char next = 0;
    const bool talkative = ::recv(fd.get(), &next, 1, MSG_DONTWAIT | MSG_PEEK) > 0;
    if (answer[0] != get_features || answer[1] != (protocol_version | is_reply) || answer[2] != 8 || talkative)
        fail("what it says is no answer of a vhost-user back end");
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
    const auto programs = known_programs(files, folders);
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
    co_return std::move(connection);
}

Task<Fd> FileServer::start(HelperOrder order, Filesystem filesystem, std::string program) {
    std::exception_ptr failure;
    Fd connection;
    try {
        co_await ports_.workers.run(
            fmt::format("looking at '{}'", filesystem.source->dir), [filesystem] { require_folder(filesystem); },
            order.deadline, order.stop);
        connection = co_await connect_and_run(order, filesystem, program);
        co_await converse(order, [fd = std::make_shared<Fd>(duplicate(connection)), patience = times_.answer] {
            require_back_end(*fd, patience);
        });
    } catch (...) {
        failure = std::current_exception();
    }
    if (failure) {
        connection = Fd{};
        co_await undo();
        std::rethrow_exception(failure);
    }
    co_return std::move(connection);
}

}  // namespace virtbus::qemu
