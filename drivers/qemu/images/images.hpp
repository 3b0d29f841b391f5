// SPDX-License-Identifier: LGPL-2.1-or-later
// What the driver does with images of machines that do not run: taking an internal snapshot (qcow2_snapshot.hpp),
// qemu-img for all else in one image's tables and header, the storage daemon for copying between images. The images are
// hostile: see image_chain.hpp.
#pragma once

#include "qemu/images/image_tool.hpp"
#include "virtbus/disk_work.hpp"

namespace virtbus::qemu {

struct OpenImage;
struct Qcow2Tables;

class QemuImages final : public Images {
public:
    QemuImages(Ports& ports, ImagePrograms programs) : ports_{ports}, programs_{std::move(programs)} {}

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
    struct Work;
    /// Opened for writing, unused, qcow2, with its tables.
    Task<Work> open_qcow2(ImageFile image, std::string doing, std::stop_token stop);
    /// One run of qemu-img on that image; the changes have reached the disk when it returns.
    Task<> change(Work& work, std::string command, std::vector<std::string> before,
                  std::vector<std::string> after = {});
    Task<> create(ImageFile image, std::uint64_t size, std::optional<ImageFile> below, std::stop_token stop);

    Ports& ports_;
    ImagePrograms programs_;
    bool ring_ = true;  ///< until it turns out that it cannot be had
};

}  // namespace virtbus::qemu
