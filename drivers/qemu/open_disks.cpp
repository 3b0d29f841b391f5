// SPDX-License-Identifier: LGPL-2.1-or-later
// Opens disks: every level of a chain, what lies beside an image, secrets, and sockets of servers on this host.
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <map>
#include <set>

#include "common/image_header.hpp"
#include "qemu/image_levels.hpp"
#include "qemu/images/image_lock.hpp"
#include "qemu/opening.hpp"
#include "qemu/overlay.hpp"
#include "virtbus/error.hpp"

namespace virtbus::qemu {

namespace {

using common::ImageFormat;
using common::ImageHeader;

constexpr std::size_t deepest_chain = 200;

[[noreturn]] void refuse(const std::string& why) {
    throw Error{Code::unsupported_configuration, why};
}

ImageFormat format_of(const std::string& word, const std::string& path) {
    const auto format = common::find_image_format(word == "iso" ? "raw" : word == "vhd" ? "vpc" : word);
    if (!format) refuse(fmt::format("image '{}' is said to be of the format '{}', which is not known", path, word));
    return *format;
}

using Identity = std::pair<dev_t, ino_t>;

/// One image of one disk.
struct User {
    std::string disk, path;
    ImageUse use;
};
using Users = std::multimap<Identity, User>;

struct Seen {
    ImageHeader header;
    Identity identity;
    bool block_device = false;
};

Seen examine(const Fd& fd, const User& user, ImageFormat format) {
    const auto& path = user.path;
    Seen seen;
    try {
        require_free(fd.get(), path, user.use);
    } catch (const Error& error) {
        throw Error{error.code(),
                    fmt::format("disk '{}': {}; end that first, or let all who use it share it with <shareable/>",
                                user.disk, error.what())};
    }
    seen.header = common::read_image_header(fd.get(), path, format);
    struct stat status{};
    if (::fstat(fd.get(), &status) == 0) seen.identity = {status.st_dev, status.st_ino};
    seen.block_device = S_ISBLK(status.st_mode);
    return seen;
}

/// An image beside the definition's words for it, if it has any.
void check_image(const ImageHeader& header, const OpenedFile& file, const ImageLevel* said) {
    const bool key = said && said->encryption && said->encryption->engine != "librbd";
    if (header.encrypted && !key)
        refuse(fmt::format("image '{}' is encrypted; its <source> needs an <encryption> with the <secret>", file.path));
    if (key && !header.encrypted)
        refuse(fmt::format("image '{}' is not encrypted, but its <source> has an <encryption>", file.path));
    if (header.encrypted && header.format == ImageFormat::qcow)
        refuse(fmt::format("image '{}' is encrypted in a way that QEMU no longer reads", file.path));
    if (!header.extents.empty())
        refuse(fmt::format("image '{}' is made of several files; only images of one file are served", file.path));
    if (common::is_read_only(header.format) && !file.read_only)
        refuse(fmt::format("image '{}' of the format {} can only be read; add <readonly/>", file.path,
                           common::word(header.format)));
}

std::string folder_of(const std::string& path) {
    return path.substr(0, path.rfind('/') + 1);
}

Task<> open_socket(Opening& opening, std::string key, std::string path) {
    OpenedFile socket;
    socket.path = path;
    socket.fd = co_await opening.work(fmt::format("connecting to '{}'", path), [path] { return connect_to(path); });
    opening.opened.files[key] = std::move(socket);
}

/// One disk while its chain is opened.
class ChainOpener {
public:
    ChainOpener(Opening& opening, const Disk& disk, Users& users)
        : opening_{opening}, disk_{disk}, users_{users}, chain_{written_levels(disk)} {}

    Task<> run() {
        for (std::size_t level = 0;; ++level) {
            if (level > deepest_chain)
                refuse(fmt::format("disk '{}': its chain of backing files is deeper than {}", disk_.target.dev,
                                   deepest_chain));
            const ImageLevel* said = level < chain_.levels.size() ? &chain_.levels[level] : nullptr;
            if (!said && next_path_.empty()) break;
            if (said && !said->source) continue;  // an overlay is made when the size is known
            if (said && !is_local(*said)) {
                next_path_.clear();
            } else if (!co_await open_level(level, said)) {
                co_return;
            }
            if (said) co_await open_beside(level, *said);
        }
        if (disk_.transient) co_await make_overlay();
    }

private:
    bool writable(std::size_t level) const { return level == 0 && !disk_.readonly; }

    /// False when the disk stays away because its medium is missing and may be.
    Task<bool> open_level(std::size_t level, const ImageLevel* said) {
        OpenedFile file;
        file.path = said ? path_of(*said) : next_path_;
        file.read_only = !writable(level);
        if (file.path.empty()) refuse(fmt::format("disk '{}': its <source> names no file", disk_.target.dev));
        if (!co_await open_file(file, said && said->source == &*disk_.source)) co_return false;
        if (said)
            file.format = is_luks(*said) ? "luks" : said->format;
        else
            file.format = next_format_.empty() ? co_await guess_format(file) : next_format_;
        const bool sliced = said && !said->source->slices.empty() && file.format != "raw";
        if (sliced)
            file.size = said->source->slices.front().size;
        else
            co_await read_header(level, file, said);
        last_path_ = file.path;
        opening_.opened.files[level_key(disk_, level)] = std::move(file);
        co_return true;
    }

    Task<bool> open_file(OpenedFile& file, bool top) {
        const bool optional = top && disk_.source->startup_policy == "optional";
        std::exception_ptr missing;
        try {
            const auto access = file.read_only ? Access::read : Access::read_write;
            file.fd = co_await opening_.resources.open_file(file.path, access);
            if (!file.read_only) file.reader = co_await opening_.resources.open_file(file.path, Access::read);
        } catch (const Error& error) {
            const bool gone = error.code() != Code::cancelled && error.code() != Code::timeout;
            if (!gone) missing = std::current_exception();
            if (gone && !optional)
                missing = std::make_exception_ptr(
                    Error{error.code(), fmt::format("disk '{}': {}", disk_.target.dev, error.what())});
            file.fd = Fd{};
        }
        if (missing) std::rethrow_exception(missing);
        co_return static_cast<bool>(file.fd);
    }

    Task<> read_header(std::size_t level, OpenedFile& file, const ImageLevel* said) {
        const ImageFormat format = format_of(file.format, file.path);
        const User user{
            disk_.target.dev, file.path, {.writes = !file.read_only, .shared = level == 0 && disk_.shareable}};
        const Seen seen =
            co_await opening_.work(fmt::format("reading the header of image '{}'", file.path),
                                   [fd = duplicate(file.fd), user, format] { return examine(fd, user, format); });
        check_image(seen.header, file, said);
        if (!identities_.insert(seen.identity).second)
            refuse(
                fmt::format("disk '{}': its chain of backing files comes back to '{}'", disk_.target.dev, file.path));
        require_no_rival(seen.identity, user);
        file.size = seen.header.virtual_size;
        file.block_device = seen.block_device;
        next_path_.clear();
        next_format_.clear();
        const bool asked = level + 1 >= chain_.levels.size() && !chain_.complete;
        if (asked && !seen.header.backing_file.empty()) {
            const auto reference = common::resolve_backing(file.path, seen.header.backing_file);
            next_path_ = reference.path;
            next_format_ = seen.header.backing_format.empty() ? reference.format : seen.header.backing_format;
        }
        file.backing_file = level + 1 < chain_.levels.size() ? path_of(chain_.levels[level + 1]) : next_path_;
        if (!seen.header.data_file.empty()) co_await open_data_file(level, file, seen.header.data_file);
    }

    /// Two disks of one machine are to each other as two machines.
    void require_no_rival(const Identity& identity, const User& user) {
        for (auto [other, end] = users_.equal_range(identity); other != end; ++other)
            if (!user.use.suits(other->second.use))
                throw Error{
                    Code::device_in_use,
                    fmt::format("disks '{}' and '{}' are both on '{}', which one of them writes; give each its own "
                                "image, or <shareable/> to both",
                                other->second.disk, user.disk, user.path)};
        users_.emplace(identity, user);
    }

    /// The format of a backing file that its overlay does not tell: only raw may be guessed.
    Task<std::string> guess_format(OpenedFile& file) {
        const auto probed = co_await opening_.work(
            fmt::format("examining image '{}'", file.path),
            [fd = duplicate(file.fd), path = file.path] { return common::probe_image_format(fd.get(), path); });
        if (probed != ImageFormat::raw)
            refuse(
                fmt::format("image '{0}' does not tell the format of its backing file '{1}', which looks like {2}; "
                            "if that is so, say 'qemu-img rebase -u -F {2} -b {1} {0}'",
                            last_path_, file.path, common::word(probed)));
        co_return "raw";
    }

    /// A qcow2 image whose data is in another file. The guest may write there, so an image cannot choose just any.
    Task<> open_data_file(std::size_t level, const OpenedFile& image, const std::string& name) {
        const std::string path = name.starts_with('/') ? name : folder_of(image.path) + name;
        const bool beside = !image.block_device && folder_of(path) == folder_of(image.path);
        if (!beside || path.ends_with('/'))
            refuse(fmt::format("image '{}' keeps its data in '{}'; only a file in the same folder is opened for it",
                               image.path, name));
        OpenedFile data;
        data.path = path;
        data.format = "raw";
        data.read_only = image.read_only;
        const auto access = image.read_only ? Access::read : Access::read_write;
        data.fd = co_await opening_.resources.open_file(path, access);
        if (!image.read_only) data.reader = co_await opening_.resources.open_file(path, Access::read);
        struct stat status{};
        if (::fstat(data.fd.get(), &status) != 0 || !S_ISREG(status.st_mode))
            refuse(fmt::format("image '{}' keeps its data in '{}', which is no plain file", image.path, path));
        opening_.opened.files[level_key(disk_, level) + ":data"] = std::move(data);
    }

    /// Secrets, and the connection to a server on this host.
    Task<> open_beside(std::size_t level, const ImageLevel& said) {
        const std::string key = level_key(disk_, level);
        if (said.encryption && !said.encryption->secrets.empty())
            co_await open_secret(opening_, key + ":encryption", said.encryption->secrets.front());
        if (said.auth && said.auth->secret) co_await open_secret(opening_, key + ":auth", *said.auth->secret);
        const auto& source = *said.source;
        if (!source.cookies.empty()) {
            std::string text;
            for (const auto& cookie : source.cookies)
                text += fmt::format("{}{}={}", text.empty() ? "" : "; ", cookie.name, cookie.value);
            opening_.opened.files[key + ":cookies"].fd = sealed_memory(text);
        }
        const bool nbd = said.type == StorageType::network && source.protocol == "nbd";
        if (nbd && source.hosts.size() == 1 && source.hosts[0].transport == "unix" && !source.reconnect)
            co_await open_socket(opening_, key + ":socket", source.hosts[0].socket);
    }

    /// The overlay has no name: it goes when QEMU does, whatever happens to the daemon.
    Task<> make_overlay() {
        const OpenedFile& below = opening_.opened.files.at(level_key(disk_, 1));
        OpenedFile overlay;
        overlay.path = fmt::format("{}.transient-{}-{}", below.path, opening_.config.uuid, disk_.target.dev);
        overlay.format = "qcow2";
        overlay.backing_file = below.path;
        overlay.size = below.size;
        overlay.fd = co_await opening_.resources.create_file(overlay.path);
        overlay.reader = co_await opening_.resources.open_file(overlay.path, Access::read);
        co_await opening_.work(fmt::format("making the overlay '{}'", overlay.path),
                               [fd = duplicate(overlay.fd), path = overlay.path, size = below.size] {
                                   ::unlink(path.c_str());
                                   write_overlay(fd, path, size);
                               });
        opening_.opened.files[level_key(disk_, 0)] = std::move(overlay);
    }

    Opening& opening_;
    const Disk& disk_;
    Users& users_;
    const ImageLevels chain_;
    std::set<Identity> identities_;
    std::string next_path_, next_format_, last_path_;  // what the image just read names; its own path
};

}  // namespace

Task<> open_disks(Opening& opening) {
    Users users;
    for (const auto& disk : opening.config.devices.disks) {
        check_sources(disk);
        if (!disk.source || disk.target.tray == "open" || written_levels(disk).levels.empty()) continue;
        if (disk.type != StorageType::vhostuser) {
            ChainOpener chain{opening, disk, users};
            co_await chain.run();
            continue;
        }
        const auto& reconnect = disk.source->reconnect;
        if (!reconnect || !reconnect->enabled.value_or(false))
            co_await open_socket(opening, level_key(disk, 0) + ":socket", disk.source->path);
    }
    for (const auto& filesystem : opening.config.devices.filesystems)
        if (filesystem.source && !filesystem.source->socket.empty())
            co_await open_socket(opening, "fs:" + filesystem.info.alias, filesystem.source->socket);
}

}  // namespace virtbus::qemu
