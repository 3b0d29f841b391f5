// SPDX-License-Identifier: LGPL-2.1-or-later
// ImageShelf: what test domains believe of their images, by path. No image is ever touched; what is not known yet is an
// empty image without anything below it. Kept in one file in the state folder, so that a later daemon knows it too.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "virtbus/disk_work.hpp"
#include "virtbus/ports.hpp"

namespace virtbus::test_driver {

struct KeptImage {
    struct Bitmap {
        bool recording = true, persistent = true;
        std::uint32_t granularity = 65536;
        bool operator==(const Bitmap&) const = default;
    };
    std::uint64_t size = std::uint64_t{1} << 30;
    std::optional<ImageFile> backing;
    std::map<std::string, std::string> tags;  ///< what the guest remembered, if it ran
    std::map<std::string, Bitmap> bitmaps;
    bool operator==(const KeptImage&) const = default;
};

struct Shelf {
    std::map<std::string, KeptImage> images;  ///< by path
    /// What a running domain's disk writes to after its chain has changed, by "uuid target".
    std::map<std::string, ImageFile> tops;
    bool operator==(const Shelf&) const = default;

    /// The image and all below it.
    std::vector<ImageFile> chain(ImageFile top) const;
    void forget_tops(const std::string& uuid);
};
std::string encode(const Shelf& shelf);
/// Internal when it is not of this driver and version.
Shelf decode_shelf(const std::string& text);

class ImageShelf {
public:
    explicit ImageShelf(const Ports& ports) : files_{ports.files}, folder_{ports.folders.state + "/test"} {}

    const Shelf& now();
    void set(Shelf shelf);

private:
    Files& files_;
    std::string folder_;
    std::optional<Shelf> shelf_;
};

/// The images of domains that do not run.
class TestImages final : public Images {
public:
    explicit TestImages(ImageShelf& shelf) : shelf_{shelf} {}

    Task<ImageFacts> examine(ImageFile image, std::stop_token stop) override;
    Task<> take(ImageFile image, std::string tag, std::stop_token stop) override;
    Task<> apply(ImageFile image, std::string tag, std::stop_token stop) override;
    Task<> remove(ImageFile image, std::string tag, std::stop_token stop) override;
    Task<> mend(ImageFile image, std::stop_token stop) override;
    Task<> make_overlay(ImageFile overlay, ImageFile below, std::stop_token stop) override;
    Task<> make_image(ImageFile image, std::uint64_t size, std::stop_token stop) override;
    Task<> commit(ImageFile upper, ImageFile lower, ProgressSink progress, std::stop_token stop) override;
    Task<> pull(ImageFile overlay, std::optional<ImageFile> lower, ProgressSink progress,
                std::stop_token stop) override;
    Task<> rename_backing(ImageFile overlay, ImageFile below, std::stop_token stop) override;
    Task<> add_bitmap(ImageFile image, std::string name, std::optional<std::uint32_t> granularity,
                      std::stop_token stop) override;
    Task<> merge_bitmap(ImageFile image, std::string into, std::string from, std::stop_token stop) override;
    Task<> remove_bitmap(ImageFile image, std::string name, std::stop_token stop) override;
    Task<> set_recording(ImageFile image, std::string name, bool recording, std::stop_token stop) override;

private:
    ImageShelf& shelf_;
};

}  // namespace virtbus::test_driver
