// SPDX-License-Identifier: LGPL-2.1-or-later
#include "service/saved_file.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "service/names.hpp"
#include "virtbus/error.hpp"

namespace virtbus {

namespace {

constexpr Duration opening{30'000}, head_reading{60'000};

void write_at(int fd, std::string_view bytes, std::uint64_t at, const std::string& path) {
    while (!bytes.empty()) {
        const auto n = ::pwrite(fd, bytes.data(), bytes.size(), static_cast<off_t>(at));
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0)
            throw Error{n == 0 || errno == ENOSPC || errno == EDQUOT ? Code::no_space : Code::internal,
                        fmt::format("cannot write {}: {}", path, std::strerror(n == 0 ? ENOSPC : errno))};
        at += static_cast<std::uint64_t>(n);
        bytes.remove_prefix(static_cast<std::size_t>(n));
    }
}

void sync(int fd, const std::string& path) {
    if (::fsync(fd) == 0) return;
    throw Error{errno == ENOSPC || errno == EDQUOT ? Code::no_space : Code::internal,
                fmt::format("cannot sync {}: {}", path, std::strerror(errno))};
}

std::string read_head(int fd, std::size_t size, const std::string& path) {
    std::string head(size, '\0');
    std::size_t have = 0;
    while (have < size) {
        const auto n = ::pread(fd, head.data() + have, size - have, static_cast<off_t>(have));
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) throw Error{Code::internal, fmt::format("cannot read {}: {}", path, std::strerror(errno))};
        if (n == 0) break;
        have += static_cast<std::size_t>(n);
    }
    head.resize(have);
    return head;
}

std::uint64_t regular_size(int fd, const std::string& path) {
    struct stat facts{};
    if (::fstat(fd, &facts) != 0)
        throw Error{Code::internal, fmt::format("cannot look at {}: {}", path, std::strerror(errno))};
    if (!S_ISREG(facts.st_mode))
        throw Error{Code::unsupported, fmt::format("save image {} cannot be used: it is no regular file", path)};
    return static_cast<std::uint64_t>(facts.st_size);
}

SaveImage read_image(int fd, const std::string& path, bool managed) {
    const auto what = fmt::format("save image {}", path);
    const auto size = regular_size(fd, path);
    const auto prelude = read_head(fd, save_prelude_size, path);
    if (managed && prelude.size() < save_prelude_size) return {};
    const auto wanted = save_image_head_size(prelude, what);
    if (!is_finished_save_image(prelude)) return {};
    return decode_save_image(read_head(fd, wanted, path), size, what);
}

}  // namespace

Task<SaveTarget> begin_saved_file(Ports& ports, std::string path, SaveHeader header, Compression compression,
                                  bool bypass_cache, std::optional<Identity> as) {
    SaveTarget target;
    const auto seal = ports.seal ? ports.seal->of(save_image_text(header)) : std::string{};
    target.begun = begin_save_image(header, compression, seal);
    target.place = {
        .path = path, .offset = target.begun.size(), .compression = compression, .bypass_cache = bypass_cache};
    target.file = co_await ports.files.create_beside(std::move(path), 0600, std::move(as), in(opening));
    std::exception_ptr error;
    try {
        auto work = [file = target.file, begun = target.begun, place = target.place] {
            if (place.bypass_cache) require_direct_io(file->file, place.path);
            write_at(file->file.get(), begun, 0, place.path);
            ::lseek(file->file.get(), static_cast<off_t>(place.offset), SEEK_SET);
        };
        co_await ports.workers.run("writing " + target.place.path, std::move(work), in(head_reading));
    } catch (...) {
        error = std::current_exception();
    }
    if (error) {
        co_await ports.files.discard(target.file);
        std::rethrow_exception(error);
    }
    co_return target;
}

StateSink open_sink(Ports& ports, const SaveTarget& target) {
    Fd own{::fcntl(target.file->file.get(), F_DUPFD_CLOEXEC, 3)};
    if (!own) throw Error{Code::internal, fmt::format("no more descriptors: {}", std::strerror(errno))};
    auto pipe = make_pipe();
    return {std::move(pipe.writing),
            StatePump::into_file(ports.loop, std::move(pipe.reading), std::move(own), target.place)};
}

Task<> commit_saved_file(Ports& ports, SaveTarget& target, StatePump::Moved moved, std::stop_token stop) {
    // A disk that hangs is left alone after a while: what comes late goes into a file that has been discarded. The
    // state is on the disk before the mark that says so.
    auto work = [file = target.file, begun = target.begun, path = target.place.path, moved] {
        sync(file->file.get(), path);
        write_at(file->file.get(), finish_save_image(begun, moved.stored, moved.state, moved.checksum), 0, path);
        sync(file->file.get(), path);
    };
    co_await ports.workers.run("finishing " + target.place.path, std::move(work), in(saving_end), std::move(stop));
    // No deadline here: whoever gives up waiting for a rename does not know which of the two files has the name, and so
    // not whether the guest may go on. It is short, the file being on the disk.
    co_await ports.files.commit(target.file);
}

StatePump::Place SavedFile::place(bool bypass_cache) const {
    return {.path = path,
            .offset = image.state_offset,
            .compression = image.compression,
            .bypass_cache = bypass_cache,
            .stored_size = image.stored_size,
            .state_size = image.state_size,
            .checksum = image.checksum};
}

Task<SavedFilePtr> open_saved_file(Ports& ports, std::string path, std::optional<Identity> as, bool managed) {
    auto saved = std::make_shared<SavedFile>();
    saved->path = path;
    // A FIFO must not hold a worker for good.
    saved->file = co_await ports.files.open(path, O_RDONLY | O_NONBLOCK, 0, std::move(as), in(opening));
    auto work = [saved, managed] { saved->image = read_image(saved->file.get(), saved->path, managed); };
    co_await ports.workers.run("reading " + path, std::move(work), in(head_reading));
    const auto& header = saved->image.header;
    saved->name = header.name;
    saved->uuid = header.uuid;
    saved->driver = header.driver;
    saved->sealed = saved->image.complete && ports.seal && ports.seal->of(save_image_text(header)) == saved->image.seal;
    co_return saved;
}

void require_complete(const SavedFile& saved) {
    if (!saved.image.complete)
        throw Error{Code::unsupported, fmt::format("save image {} cannot be used: its writing was never finished, so a "
                                                   "part of the guest's state is missing",
                                                   saved.path)};
}

Task<std::optional<Identity>> rights_of_caller(Ports& ports, std::uint32_t uid) {
    if (!ports.system_mode || uid == 0) co_return std::nullopt;
    co_return co_await ports.files.identify(uid, in(opening));
}

void require_file_name(const std::string& path) {
    if (path.size() < 2 || path.front() != '/' || path.back() == '/')
        throw Error{Code::invalid_args, fmt::format("'{}' is no absolute path of a file", printable(path))};
}

}  // namespace virtbus
