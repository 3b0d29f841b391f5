// SPDX-License-Identifier: LGPL-2.1-or-later
// Opens an image, or an image with all that lies below it, for a tool of QEMU: the daemon follows the references itself
// and hands over descriptors, so that a hostile image leads the tool nowhere. Everything here blocks: for workers.
#pragma once

#include <sys/types.h>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "common/image_header.hpp"
#include "virtbus/error.hpp"
#include "virtbus/fd.hpp"
#include "virtbus/model/chain.hpp"

namespace virtbus::qemu {

struct OpenImage {
    ImageFile file;
    common::ImageHeader header;
    std::pair<dev_t, ino_t> identity;
    Fd fd, data;  ///< the image, and its external data file if it has one
};

/// UnsupportedConfiguration when it cannot be opened, is of another format, is encrypted, or consists of files that are
/// not served. Follows no backing file.
OpenImage open_image(ImageFile file, bool writable);
/// What lies directly below as the image tells it: nothing, or a local file. UnsupportedConfiguration for what is none,
/// and when nobody says its format.
std::optional<ImageFile> image_below(const OpenImage& image);
/// From the top to the end. Only the top is opened for writing, if at all.
std::vector<OpenImage> open_chain(ImageFile top, bool writable);
/// Where `file` is in the chain: by what it is, not by its name. UnsupportedConfiguration when it is not below the top,
/// or of another format than what lies on it says.
std::size_t find_in_chain(const std::vector<OpenImage>& chain, const ImageFile& file);

/// Images of that format can lie on others: `backing` must then be said, else QEMU looks itself.
bool has_backing(common::ImageFormat format);

/// Descriptors for a child, and the numbers they get there.
struct HandedFds {
    std::vector<std::pair<int, int>> fds;
    int give(const Fd& fd);
};
/// The image for QEMU's block layer, without `backing` and `node-name`.
nlohmann::json block_node(const OpenImage& image, HandedFds& handed);
/// The image alone, as the name that qemu-img takes. With `ring` its many small reads and writes go through io_uring.
std::string alone(const OpenImage& image, HandedFds& handed, bool ring);

/// An empty file or block device that is to become an image. It goes again unless it is kept.
class NewImage {
public:
    /// AlreadyExists when there is something. A file made is 0600, and belongs to `owner` where that can be.
    NewImage(ImageFile file, std::optional<std::pair<uid_t, gid_t>> owner);
    NewImage(NewImage&& other) noexcept;
    NewImage& operator=(NewImage&&) = delete;
    ~NewImage() { drop(); }

    const ImageFile& file() const { return file_; }
    const Fd& fd() const { return fd_; }
    /// It and its name outlast a power cut.
    void keep();
    /// Nothing is left of what was begun.
    void drop() noexcept;

private:
    ImageFile file_;
    Fd fd_;
    bool made_ = false;  ///< there was no file before
    bool held_ = true;
};
/// What was written to the image outlasts a power cut.
void sync_image(const Fd& fd, const std::string& path);

}  // namespace virtbus::qemu
