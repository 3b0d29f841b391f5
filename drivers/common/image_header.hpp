// SPDX-License-Identifier: LGPL-2.1-or-later
// Reads what a disk image says of itself: format, size, backing file. The image is hostile input: every read is
// bounded, nothing is followed. Opening files and walking a chain are left to the caller.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace virtbus::common {

enum class ImageFormat { raw, qcow, qcow2, qed, vmdk, vdi, vpc, vhdx, luks, parallels, bochs, cloop, dmg };

/// The word of QEMU's block driver and of <driver type=>.
std::string_view word(ImageFormat format);
std::optional<ImageFormat> find_image_format(std::string_view word);

/// QEMU reads images of that format and never writes them.
bool is_read_only(ImageFormat format);

struct ImageHeader {
    ImageFormat format = ImageFormat::raw;
    std::uint64_t virtual_size = 0;  ///< bytes the guest sees
    std::string backing_file;        ///< as written in the image; "" = none
    std::string backing_format;      ///< as written in the image; "" = not told
    std::string data_file;           ///< qcow2's external data file
    bool encrypted = false;
    std::vector<std::string> extents;  ///< further files a vmdk is made of
};

/// What the content looks like. Never to be used to decide how a guest's disk is opened: a guest can write any header
/// into a raw disk.
ImageFormat probe_image_format(int fd, const std::string& path);

/// Reads the header of an image known to be of that format. UnsupportedConfiguration, naming the path, when the
/// content is not of that format, is cut or contradicts itself. Blocks on the file.
ImageHeader read_image_header(int fd, const std::string& path, ImageFormat format);

/// Where a backing file named in an image lies.
struct BackingReference {
    std::string path;    ///< absolute
    std::string format;  ///< from a json: reference; "" = not told
};
/// Turns the words of an image ("base.img", "file:/a/b", "json:{...}") into a path, relative ones against the folder of
/// `overlay`. UnsupportedConfiguration for references that are no local file.
BackingReference resolve_backing(const std::string& overlay, const std::string& backing_file);

}  // namespace virtbus::common
