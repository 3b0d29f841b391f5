// SPDX-License-Identifier: LGPL-2.1-or-later
#include "test/image_shelf.hpp"

#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <charconv>

#include "virtbus/error.hpp"

namespace virtbus::test_driver {

namespace {

constexpr std::string_view magic = "test-images 1\n";
constexpr std::size_t longest = std::size_t{64} << 20;

/// A field of a line: without tabs and line ends.
std::string quoted(std::string_view text) {
    std::string out;
    for (const char c : text)
        if (static_cast<unsigned char>(c) < ' ' || c == '%')
            out += fmt::format("%{:02x}", static_cast<unsigned char>(c));
        else
            out += c;
    return out;
}

std::string unquoted(std::string_view text) {
    std::string out;
    for (std::size_t i = 0; i < text.size(); ++i) {
        unsigned value = 0;
        if (text[i] != '%' ||
            std::from_chars(text.data() + i + 1, text.data() + std::min(i + 3, text.size()), value, 16).ec !=
                std::errc{}) {
            out += text[i];
            continue;
        }
        out += static_cast<char>(value);
        i += 2;
    }
    return out;
}

std::vector<std::string> fields_of(std::string_view line) {
    std::vector<std::string> fields;
    for (;;) {
        const auto tab = line.find('\t');
        fields.push_back(unquoted(line.substr(0, tab)));
        if (tab == line.npos) return fields;
        line.remove_prefix(tab + 1);
    }
}

std::uint64_t number(const std::string& text) {
    std::uint64_t value = 0;
    std::from_chars(text.data(), text.data() + text.size(), value);
    return value;
}

/// One line of what belongs to the image read last.
void read_line(Shelf& shelf, std::string& last, const std::vector<std::string>& line) {
    const auto& kind = line[0];
    if (kind == "image" && line.size() == 3) {
        last = line[1];
        shelf.images[last].size = number(line[2]);
    } else if (kind == "backing" && line.size() == 4) {
        shelf.images[last].backing = ImageFile{line[1], line[2], line[3] == "1"};
    } else if (kind == "tag" && line.size() == 3) {
        shelf.images[last].tags[line[1]] = line[2];
    } else if (kind == "bitmap" && line.size() == 5) {
        shelf.images[last].bitmaps[line[1]] = {line[2] == "1", line[3] == "1",
                                               static_cast<std::uint32_t>(number(line[4]))};
    } else if (kind == "top" && line.size() == 5) {
        shelf.tops[line[1]] = {line[2], line[3], line[4] == "1"};
    } else {
        throw Error{Code::internal, "what is recorded of images is not of this version of the test driver"};
    }
}

KeptImage::Bitmap& bitmap(KeptImage& kept, const std::string& path, const std::string& name) {
    const auto found = kept.bitmaps.find(name);
    if (found != kept.bitmaps.end()) return found->second;
    throw Error{Code::hypervisor_failed, fmt::format("{} has no bitmap '{}'", path, name)};
}

/// What is in the way is looked at as for real images; nothing is made there.
void require_free(const std::string& path) {
    struct stat facts{};
    if (::stat(path.c_str(), &facts) == 0 && facts.st_size > 0)
        throw Error{Code::already_exists, fmt::format("{} is there already and is not empty", path)};
}

void tell(const ProgressSink& progress, const Shelf& shelf, const std::string& path) {
    const auto found = shelf.images.find(path);
    const auto size = found == shelf.images.end() ? KeptImage{}.size : found->second.size;
    if (progress) progress(size, size);
}

}  // namespace

std::vector<ImageFile> Shelf::chain(ImageFile top) const {
    std::vector<ImageFile> all{std::move(top)};
    while (all.size() <= images.size()) {
        const auto found = images.find(all.back().path);
        if (found == images.end() || !found->second.backing) break;
        all.push_back(*found->second.backing);
    }
    return all;
}

void Shelf::forget_tops(const std::string& uuid) {
    std::erase_if(tops, [&](const auto& entry) { return entry.first.starts_with(uuid + ' '); });
}

std::string encode(const Shelf& shelf) {
    std::string text{magic};
    for (const auto& [path, image] : shelf.images) {
        text += fmt::format("image\t{}\t{}\n", quoted(path), image.size);
        if (image.backing)
            text += fmt::format("backing\t{}\t{}\t{:d}\n", quoted(image.backing->path), quoted(image.backing->format),
                                image.backing->block_device);
        for (const auto& [tag, memory] : image.tags) text += fmt::format("tag\t{}\t{}\n", quoted(tag), quoted(memory));
        for (const auto& [name, one] : image.bitmaps)
            text += fmt::format("bitmap\t{}\t{:d}\t{:d}\t{}\n", quoted(name), one.recording, one.persistent,
                                one.granularity);
    }
    for (const auto& [disk, top] : shelf.tops)
        text += fmt::format("top\t{}\t{}\t{}\t{:d}\n", quoted(disk), quoted(top.path), quoted(top.format),
                            top.block_device);
    return text;
}

Shelf decode_shelf(const std::string& text) {
    Shelf shelf;
    std::string last;
    std::string_view left{text};
    if (!left.starts_with(magic))
        throw Error{Code::internal, "what is recorded of images is not of this version of the test driver"};
    left.remove_prefix(magic.size());
    while (!left.empty()) {
        const auto end = std::min(left.find('\n'), left.size());
        read_line(shelf, last, fields_of(left.substr(0, end)));
        left.remove_prefix(std::min(end + 1, left.size()));
    }
    return shelf;
}

const Shelf& ImageShelf::now() {
    if (!shelf_) {
        const auto text = files_.read(folder_ + "/images", longest);
        shelf_ = text ? decode_shelf(*text) : Shelf{};
    }
    return *shelf_;
}

void ImageShelf::set(Shelf shelf) {
    if (shelf == now()) return;
    files_.make_folder(folder_);
    files_.write_volatile(folder_ + "/images", encode(shelf));
    shelf_ = std::move(shelf);
}

Task<ImageFacts> TestImages::examine(ImageFile image, std::stop_token) {
    const auto& images = shelf_.now().images;
    const auto found = images.find(image.path);
    const auto kept = found == images.end() ? KeptImage{} : found->second;
    ImageFacts facts;
    facts.size = kept.size;
    facts.backing = kept.backing;
    for (const auto& [tag, memory] : kept.tags) facts.tags.push_back(tag);
    for (const auto& [name, one] : kept.bitmaps)
        if (one.persistent) facts.bitmaps.push_back({name, one.recording, false, one.granularity});
    co_return facts;
}

Task<> TestImages::take(ImageFile image, std::string tag, std::stop_token) {
    auto shelf = shelf_.now();
    shelf.images[image.path].tags[tag] = "";
    shelf_.set(std::move(shelf));
    co_return;
}

Task<> TestImages::apply(ImageFile image, std::string tag, std::stop_token) {
    const auto& images = shelf_.now().images;
    const auto found = images.find(image.path);
    if (found == images.end() || !found->second.tags.contains(tag))
        throw Error{Code::hypervisor_failed, fmt::format("{} has no internal snapshot '{}'", image.path, tag)};
    co_return;
}

Task<> TestImages::remove(ImageFile image, std::string tag, std::stop_token) {
    auto shelf = shelf_.now();
    shelf.images[image.path].tags.erase(tag);
    shelf_.set(std::move(shelf));
    co_return;
}

Task<> TestImages::mend(ImageFile, std::stop_token) {
    co_return;
}

Task<> TestImages::make_overlay(ImageFile overlay, ImageFile below, std::stop_token) {
    require_free(overlay.path);
    auto shelf = shelf_.now();
    KeptImage made;
    made.size = shelf.images[below.path].size;
    made.backing = below;
    shelf.images[overlay.path] = std::move(made);
    shelf_.set(std::move(shelf));
    co_return;
}

Task<> TestImages::make_image(ImageFile image, std::uint64_t size, std::stop_token) {
    require_free(image.path);
    auto shelf = shelf_.now();
    shelf.images[image.path] = {.size = size, .backing = {}, .tags = {}, .bitmaps = {}};
    shelf_.set(std::move(shelf));
    co_return;
}

Task<> TestImages::commit(ImageFile upper, ImageFile lower, ProgressSink progress, std::stop_token) {
    const auto chain = shelf_.now().chain(upper);
    if (std::ranges::find(chain, lower.path, &ImageFile::path) == chain.end() || upper.path == lower.path)
        throw Error{Code::unsupported_configuration,
                    fmt::format("{} does not lie below {}, so nothing can go down into it", lower.path, upper.path)};
    tell(progress, shelf_.now(), upper.path);
    co_return;
}

Task<> TestImages::pull(ImageFile overlay, std::optional<ImageFile> lower, ProgressSink progress, std::stop_token) {
    auto shelf = shelf_.now();
    const auto chain = shelf.chain(overlay);
    if (lower && std::ranges::find(chain, lower->path, &ImageFile::path) == chain.end())
        throw Error{Code::unsupported_configuration,
                    fmt::format("{} does not lie below {}", lower->path, overlay.path)};
    shelf.images[overlay.path].backing = std::move(lower);
    tell(progress, shelf, overlay.path);
    shelf_.set(std::move(shelf));
    co_return;
}

Task<> TestImages::rename_backing(ImageFile overlay, ImageFile below, std::stop_token) {
    auto shelf = shelf_.now();
    shelf.images[overlay.path].backing = std::move(below);
    shelf_.set(std::move(shelf));
    co_return;
}

Task<> TestImages::add_bitmap(ImageFile image, std::string name, std::optional<std::uint32_t> granularity,
                              std::stop_token) {
    auto shelf = shelf_.now();
    auto& bitmaps = shelf.images[image.path].bitmaps;
    if (bitmaps.contains(name))
        throw Error{Code::already_exists, fmt::format("{} has a bitmap '{}' already", image.path, name)};
    bitmaps[name] = {};
    if (granularity) bitmaps[name].granularity = *granularity;
    shelf_.set(std::move(shelf));
    co_return;
}

Task<> TestImages::merge_bitmap(ImageFile image, std::string into, std::string from, std::stop_token) {
    auto shelf = shelf_.now();
    auto& kept = shelf.images[image.path];
    (void)bitmap(kept, image.path, into);
    (void)bitmap(kept, image.path, from);
    co_return;
}

Task<> TestImages::remove_bitmap(ImageFile image, std::string name, std::stop_token) {
    auto shelf = shelf_.now();
    shelf.images[image.path].bitmaps.erase(name);
    shelf_.set(std::move(shelf));
    co_return;
}

Task<> TestImages::set_recording(ImageFile image, std::string name, bool recording, std::stop_token) {
    auto shelf = shelf_.now();
    bitmap(shelf.images[image.path], image.path, name).recording = recording;
    shelf_.set(std::move(shelf));
    co_return;
}

}  // namespace virtbus::test_driver
