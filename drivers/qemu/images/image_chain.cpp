// SPDX-License-Identifier: LGPL-2.1-or-later
#include "qemu/images/image_chain.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <nlohmann/json.hpp>

namespace virtbus::qemu {

using common::ImageFormat;
using nlohmann::json;

namespace {

constexpr std::size_t deepest_chain = 200;
constexpr int first_handed = 3;

[[noreturn]] void refuse(const std::string& why) {
    throw Error{Code::unsupported_configuration, why};
}

[[noreturn]] void fail(const std::string& doing, const std::string& path, int error) {
    throw Error{error == ENOSPC || error == EDQUOT ? Code::no_space : Code::unsupported_configuration,
                fmt::format("cannot {} '{}': {}", doing, path, std::strerror(error))};
}

ImageFormat format_of(const ImageFile& file) {
    const auto format = common::find_image_format(file.format == "vhd" ? "vpc" : file.format);
    if (!format)
        refuse(fmt::format("image '{}' is said to be of the format '{}', which is not known", file.path, file.format));
    return *format;
}

struct stat status_of(const Fd& fd, const std::string& path) {
    struct stat status{};
    if (::fstat(fd.get(), &status) != 0) fail("examine", path, errno);
    return status;
}

/// O_NONBLOCK: a fifo under that name must not hold the worker.
Fd open_path(const std::string& path, bool writable) {
    Fd fd{::open(path.c_str(), (writable ? O_RDWR : O_RDONLY) | O_CLOEXEC | O_NOCTTY | O_NONBLOCK)};
    if (!fd) fail("open", path, errno);
    return fd;
}

std::string folder_of(const std::string& path) {
    return path.substr(0, path.rfind('/') + 1);
}

/// The same rule as for a guest's disks: an image cannot choose just any file to be written.
Fd open_data_file(const OpenImage& image, bool writable) {
    const auto& name = image.header.data_file;
    const auto path = name.starts_with('/') ? name : folder_of(image.file.path) + name;
    const bool beside = !image.file.block_device && folder_of(path) == folder_of(image.file.path);
    if (!beside || path.ends_with('/'))
        refuse(fmt::format("image '{}' keeps its data in '{}'; only a file in the same folder is opened for it",
                           image.file.path, name));
    Fd fd = open_path(path, writable);
    if (!S_ISREG(status_of(fd, path).st_mode))
        refuse(fmt::format("image '{}' keeps its data in '{}', which is no plain file", image.file.path, path));
    return fd;
}

json protocol_node(const Fd& fd, bool block_device, HandedFds& handed) {
    return {{"driver", block_device ? "host_device" : "file"},
            {"filename", fmt::format("/proc/self/fd/{}", handed.give(fd))}};
}

}  // namespace

OpenImage open_image(ImageFile file, bool writable) {
    OpenImage image;
    image.file = std::move(file);
    const auto& path = image.file.path;
    if (!path.starts_with('/')) refuse(fmt::format("image '{}' has no absolute path", path));
    const auto format = format_of(image.file);
    image.fd = open_path(path, writable);
    const auto status = status_of(image.fd, path);
    if (!S_ISREG(status.st_mode) && !S_ISBLK(status.st_mode))
        refuse(fmt::format("image '{}' is neither a file nor a block device", path));
    image.file.block_device = S_ISBLK(status.st_mode);
    image.identity =
        image.file.block_device ? std::pair<dev_t, ino_t>{0, status.st_rdev} : std::pair{status.st_dev, status.st_ino};
    image.header = common::read_image_header(image.fd.get(), path, format);
    if (image.header.encrypted)
        refuse(
            fmt::format("image '{}' is encrypted, and there is no key for it here: it can be worked on only while "
                        "its machine runs",
                        path));
    if (!image.header.extents.empty())
        refuse(fmt::format("image '{}' is made of several files; only images of one file are served", path));
    if (!image.header.data_file.empty()) image.data = open_data_file(image, writable);
    return image;
}

std::optional<ImageFile> image_below(const OpenImage& image) {
    if (image.header.backing_file.empty()) return std::nullopt;
    const auto reference = common::resolve_backing(image.file.path, image.header.backing_file);
    ImageFile below{reference.path,
                    image.header.backing_format.empty() ? reference.format : image.header.backing_format, false};
    const Fd fd = open_path(below.path, false);
    below.block_device = S_ISBLK(status_of(fd, below.path).st_mode);
    if (!below.format.empty()) return below;
    const auto probed = common::probe_image_format(fd.get(), below.path);
    if (probed != ImageFormat::raw)
        refuse(
            fmt::format("image '{0}' does not tell the format of its backing file '{1}', which looks like {2}; if "
                        "that is so, say 'qemu-img rebase -u -F {2} -b {1} {0}'",
                        image.file.path, below.path, common::word(probed)));
    below.format = "raw";
    return below;
}

std::vector<OpenImage> open_chain(ImageFile top, bool writable) {
    std::vector<OpenImage> chain;
    std::optional<ImageFile> next = std::move(top);
    while (next) {
        if (chain.size() > deepest_chain)
            refuse(
                fmt::format("the chain of backing files of '{}' is deeper than {}", chain[0].file.path, deepest_chain));
        auto image = open_image(*std::move(next), writable && chain.empty());
        if (std::ranges::any_of(chain, [&](const auto& above) { return above.identity == image.identity; }))
            refuse(fmt::format("the chain of backing files of '{}' comes back to '{}'", chain[0].file.path,
                               image.file.path));
        next = image_below(image);
        chain.push_back(std::move(image));
    }
    return chain;
}

std::size_t find_in_chain(const std::vector<OpenImage>& chain, const ImageFile& file) {
    const auto wanted = open_image(file, false);
    for (std::size_t level = 1; level < chain.size(); ++level) {
        if (chain[level].identity != wanted.identity) continue;
        if (chain[level].header.format != wanted.header.format)
            refuse(fmt::format("image '{}' is of the format {}, but '{}' says that it is {}", file.path, file.format,
                               chain[level - 1].file.path, chain[level].file.format));
        return level;
    }
    refuse(fmt::format("image '{}' does not lie below '{}'", file.path, chain.at(0).file.path));
}

bool has_backing(ImageFormat format) {
    return format == ImageFormat::qcow2 || format == ImageFormat::qed || format == ImageFormat::qcow ||
           format == ImageFormat::vmdk;
}

int HandedFds::give(const Fd& fd) {
    fds.emplace_back(fd.get(), first_handed + static_cast<int>(fds.size()));
    return fds.back().second;
}

json block_node(const OpenImage& image, HandedFds& handed) {
    json node{{"driver", common::word(image.header.format)},
              {"file", protocol_node(image.fd, image.file.block_device, handed)}};
    if (image.data) node["data-file"] = protocol_node(image.data, false, handed);
    return node;
}

std::string alone(const OpenImage& image, HandedFds& handed, bool ring) {
    auto node = block_node(image, handed);
    if (ring) node["file"]["aio"] = "io_uring";
    if (has_backing(image.header.format)) node["backing"] = nullptr;
    return "json:" + node.dump();
}

// ---- new images

NewImage::NewImage(ImageFile file, std::optional<std::pair<uid_t, gid_t>> owner) : file_{std::move(file)} {
    constexpr int flags = O_RDWR | O_CLOEXEC | O_NOCTTY | O_NONBLOCK;
    const auto& path = file_.path;
    if (!path.starts_with('/')) refuse(fmt::format("image '{}' has no absolute path", path));
    if (file_.block_device) {
        fd_ = open_path(path, true);
        if (!S_ISBLK(status_of(fd_, path).st_mode)) refuse(fmt::format("'{}' is no block device", path));
        return;
    }
    fd_ = Fd{::open(path.c_str(), flags | O_CREAT | O_EXCL | O_NOFOLLOW, 0600)};
    made_ = static_cast<bool>(fd_);
    if (made_) {
        // Who is not root keeps what it makes.
        if (owner && ::fchown(fd_.get(), owner->first, owner->second) != 0 && ::geteuid() == 0) {
            const int error = errno;
            drop();
            fail("give its owner to", path, error);
        }
        return;
    }
    if (errno != EEXIST) fail("create", path, errno);
    fd_ = Fd{::open(path.c_str(), flags | O_NOFOLLOW)};
    if (!fd_ && errno != ELOOP) fail("open", path, errno);
    struct stat status{};
    if (fd_) status = status_of(fd_, path);
    if (!fd_ || !S_ISREG(status.st_mode) || status.st_size != 0)
        throw Error{Code::already_exists,
                    fmt::format("'{}' is there already and is not an empty file; no image is made over it", path)};
}

NewImage::NewImage(NewImage&& other) noexcept
    : file_{std::move(other.file_)},
      fd_{std::move(other.fd_)},
      made_{other.made_},
      held_{std::exchange(other.held_, false)} {}

void NewImage::drop() noexcept {
    if (!std::exchange(held_, false) || !fd_ || file_.block_device) return;
    if (!made_) {
        [[maybe_unused]] const int emptied = ::ftruncate(fd_.get(), 0);
        return;
    }
    struct stat mine{}, named{};
    if (::fstat(fd_.get(), &mine) == 0 && ::lstat(file_.path.c_str(), &named) == 0 && named.st_dev == mine.st_dev &&
        named.st_ino == mine.st_ino)
        ::unlink(file_.path.c_str());
}

void NewImage::keep() {
    sync_image(fd_, file_.path);
    if (!file_.block_device) {
        const auto folder = folder_of(file_.path);
        const Fd opened{::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
        if (!opened || ::fsync(opened.get()) != 0) fail("sync the folder", folder, errno);
    }
    held_ = false;
}

void sync_image(const Fd& fd, const std::string& path) {
    if (::fsync(fd.get()) != 0) fail("sync", path, errno);
}

}  // namespace virtbus::qemu
