// SPDX-License-Identifier: LGPL-2.1-or-later
#include "qemu/images/images.hpp"

#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <limits>
#include <memory>

#include "qemu/images/copying.hpp"
#include "qemu/images/image_bytes.hpp"
#include "qemu/images/image_chain.hpp"
#include "qemu/images/image_lock.hpp"
#include "qemu/images/qcow2_snapshot.hpp"
#include "qemu/images/qcow2_tables.hpp"
#include "qemu/json.hpp"
#include "qemu/opening.hpp"

namespace virtbus::qemu {

using common::ImageFormat;

namespace {

constexpr std::size_t longest_tag = 255;    // QEMU cuts longer ones
constexpr std::size_t longest_name = 1023;  // of a bitmap, and of a backing file
constexpr std::uint64_t largest = std::uint64_t{1} << 62;

void check_name(const char* what, const std::string& name, std::size_t longest) {
    if (name.empty() || name.size() > longest || name.find('\0') != name.npos)
        throw Error{Code::invalid_args,
                    fmt::format("a {} of an image has 1 to {} bytes, none of them zero; '{}' has {}", what, longest,
                                excerpt(name), name.size())};
}

void require_going_on(const std::stop_token& stop, const std::string& doing) {
    if (stop.stop_requested()) throw Cancelled{doing};
}

/// Of the formats that can lie on others only this one tells what they are.
void check_overlay_format(const ImageFile& image) {
    if (image.format != "qcow2")
        throw Error{Code::unsupported_configuration,
                    fmt::format("image '{}' is of the format '{}'; only a qcow2 image is made or changed to lie on "
                                "another",
                                image.path, image.format)};
}

void check_backing_name(const std::string& path) {
    if (path.size() > longest_name)
        throw Error{Code::unsupported_configuration,
                    fmt::format("the name '{}' of a backing file has more than {} bytes", excerpt(path), longest_name)};
}

const Qcow2Bitmap* find_bitmap(const Qcow2Tables& tables, const std::string& name) {
    const auto found = std::ranges::find(tables.bitmaps, name, &Qcow2Bitmap::name);
    return found == tables.bitmaps.end() ? nullptr : &*found;
}

const Qcow2Snapshot* find_snapshot(const Qcow2Tables& tables, const std::string& tag) {
    const auto found = std::ranges::find(tables.snapshots, tag, &Qcow2Snapshot::tag);
    return found == tables.snapshots.end() ? nullptr : &*found;
}

bool is_used(const OpenImage& image) {
    try {
        require_unused(image.fd.get(), image.file.path);
    } catch (const Error& error) {
        if (error.code() != Code::device_in_use) throw;
        return true;
    }
    return false;
}

ImageFacts facts_of(const OpenImage& image) {
    ImageFacts facts;
    facts.size = image.header.virtual_size;
    // What lies on a server is not followed here; a local file that is wrong is worth an error.
    std::string name = image.header.backing_file;
    try {
        if (!name.empty()) common::resolve_backing(image.file.path, name);
    } catch (const Error&) {
        name.clear();
    }
    if (!name.empty()) facts.backing = image_below(image);
    if (image.header.format != ImageFormat::qcow2) return facts;
    const bool used = is_used(image);
    Qcow2Tables tables;
    try {
        tables = read_qcow2_tables(image.fd.get(), image.file.path);
    } catch (const Error&) {
        // Who writes it may be writing just that.
        if (!used) throw;
    }
    if (used) tables.bitmaps.clear();
    for (auto& snapshot : tables.snapshots) facts.tags.push_back(std::move(snapshot.tag));
    for (auto& bitmap : tables.bitmaps)
        facts.bitmaps.push_back({std::move(bitmap.name), bitmap.recording, bitmap.inconsistent, bitmap.granularity});
    return facts;
}

}  // namespace

struct QemuImages::Work {
    std::string doing;
    OpenImage image;
    Qcow2Tables tables;
};

Task<ImageFacts> QemuImages::examine(ImageFile image, std::stop_token stop) {
    const auto what = fmt::format("examining image '{}'", image.path);
    co_return co_await ports_.workers.run(
        what, [image] { return facts_of(open_image(image, false)); }, in(programs_.opening), std::move(stop));
}

Task<QemuImages::Work> QemuImages::open_qcow2(ImageFile image, std::string doing, std::stop_token stop) {
    if (image.format != "qcow2")
        throw Error{Code::unsupported_configuration,
                    fmt::format("{}: image '{}' is of the format '{}'; only qcow2 images hold snapshots and bitmaps",
                                doing, image.path, image.format)};
    auto work = co_await ports_.workers.run(
        fmt::format("{}: opening image '{}'", doing, image.path),
        [image, doing] {
            Work opened{doing, open_image(image, true), {}};
            require_unused(opened.image.fd.get(), image.path);
            opened.tables = read_qcow2_tables(opened.image.fd.get(), image.path);
            return opened;
        },
        in(programs_.opening), stop);
    require_going_on(stop, doing);
    co_return std::move(work);
}

/// qemu-img reads and writes the list of snapshots in many small pieces, each of which costs a thread's wake-up unless
/// it goes through io_uring: with 200 snapshots that is 17 ms instead of 60. Not every kernel or build lets it.
Task<> QemuImages::change(Work& work, std::string command, std::vector<std::string> before,
                          std::vector<std::string> after) {
    const auto run = [&](bool ring) {
        HandedFds handed;
        std::vector<std::string> words{command};
        words.insert(words.end(), before.begin(), before.end());
        words.insert(words.end(), {"--", alone(work.image, handed, ring)});
        words.insert(words.end(), after.begin(), after.end());
        return run_image_tool(ports_, programs_, work.doing, work.image.file.path, std::move(words),
                              std::move(handed.fds));
    };
    if (ring_) {
        try {
            co_await run(true);
            co_return;
        } catch (const Error& error) {
            if (std::string_view{error.what()}.find("io_uring") == std::string_view::npos) throw;
        }
        ring_ = false;
    }
    co_await run(false);
}

// ---- internal snapshots

namespace {

/// Why it is left to qemu-img, if it is. Holds the image for so long.
std::optional<std::string> take_in(const OpenImage& image, const std::string& tag, std::uint64_t now,
                                   const std::stop_token& stop) {
    const int fd = image.fd.get();
    const ImageHold hold{fd, image.file.path};
    const auto end = image.file.block_device ? ::lseek(fd, 0, SEEK_END) : std::numeric_limits<off_t>::max();
    ImageBytes bytes{fd, image.file.path};
    return take_qcow2_snapshot(bytes, tag, now, static_cast<std::uint64_t>(end), stop);
}

}  // namespace

Task<> QemuImages::take(ImageFile image, std::string tag, std::stop_token stop) {
    check_name("snapshot's name", tag, longest_tag);
    auto work = co_await open_qcow2(std::move(image), fmt::format("taking snapshot '{}'", tag), stop);
    if (find_snapshot(work.tables, tag))
        throw Error{Code::already_exists,
                    fmt::format("image '{}' has a snapshot '{}' already", work.image.file.path, tag)};
    const auto begun = std::make_shared<Work>(std::move(work));
    const auto left = co_await ports_.workers.run(
        begun->doing, [begun, tag, now = ports_.clock.now(), stop] { return take_in(begun->image, tag, now, stop); },
        in(programs_.once));
    if (left) co_await change(*begun, "snapshot", {"-c", tag});
}

Task<> QemuImages::apply(ImageFile image, std::string tag, std::stop_token stop) {
    auto work = co_await open_qcow2(std::move(image), fmt::format("applying snapshot '{}'", tag), std::move(stop));
    const auto* snapshot = find_snapshot(work.tables, tag);
    if (!snapshot)
        throw Error{Code::no_such_snapshot, fmt::format("image '{}' has no snapshot '{}'", work.image.file.path, tag)};
    // qemu-img takes the word for an id first: a snapshot named "2" would be mistaken for the second one.
    co_await change(work, "snapshot", {"-a", snapshot->id.empty() ? tag : snapshot->id});
}

Task<> QemuImages::remove(ImageFile image, std::string tag, std::stop_token stop) {
    auto work = co_await open_qcow2(std::move(image), fmt::format("removing snapshot '{}'", tag), std::move(stop));
    if (find_snapshot(work.tables, tag)) co_await change(work, "snapshot", {"-d", tag});
}

Task<> QemuImages::mend(ImageFile image, std::stop_token stop) {
    auto work = co_await open_qcow2(std::move(image), "mending", std::move(stop));
    co_await change(work, "check", {"-q", "-r", "all"});
}

// ---- new images

Task<> QemuImages::create(ImageFile image, std::uint64_t size, std::optional<ImageFile> below, std::stop_token stop) {
    const auto doing = fmt::format("making image '{}'", image.path);
    require_going_on(stop, doing);
    struct Begun {
        NewImage image;
        std::uint64_t size;
    };
    // Not to be stopped: a file made by a worker that nobody waits for any more would stay.
    auto begun = co_await ports_.workers.run(
        doing,
        [image, size, below] {
            std::optional<std::pair<uid_t, gid_t>> owner;
            std::uint64_t bytes = size;
            if (below) {
                const auto lower = open_image(*below, false);
                bytes = lower.header.virtual_size;
                struct stat status{};
                if (::fstat(lower.fd.get(), &status) == 0 && !lower.file.block_device)
                    owner.emplace(status.st_uid, status.st_gid);
            }
            return Begun{NewImage{image, owner}, bytes};
        },
        in(programs_.opening));
    auto file = std::make_shared<NewImage>(std::move(begun.image));
    std::exception_ptr failure;
    try {
        HandedFds handed;
        std::vector<std::string> words{"create", "-q", "-f", image.format};
        if (below) words.insert(words.end(), {"-u", "-b", below->path, "-F", below->format});
        words.insert(words.end(),
                     {"--", fmt::format("/proc/self/fd/{}", handed.give(file->fd())), fmt::format("{}", begun.size)});
        co_await run_image_tool(ports_, programs_, doing, image.path, std::move(words), std::move(handed.fds));
        co_await ports_.workers.run(doing, [file] { file->keep(); }, in(programs_.answer));
        require_going_on(stop, doing);
    } catch (...) {
        failure = std::current_exception();
    }
    if (!failure) co_return;
    try {
        co_await ports_.workers.run(doing, [file] { file->drop(); }, in(programs_.answer));
    } catch (const Error&) {
        // Dropped when the last who holds it lets go.
    }
    std::rethrow_exception(failure);
}

Task<> QemuImages::make_overlay(ImageFile overlay, ImageFile below, std::stop_token stop) {
    check_overlay_format(overlay);
    check_backing_name(below.path);
    co_await create(std::move(overlay), 0, std::move(below), std::move(stop));
}

Task<> QemuImages::make_image(ImageFile image, std::uint64_t size, std::stop_token stop) {
    constexpr std::string_view makeable[] = {"raw", "qcow2", "qed", "vdi", "vhdx"};
    if (std::ranges::find(makeable, image.format) == std::end(makeable))
        throw Error{Code::unsupported_configuration,
                    fmt::format("image '{}': no image of the format '{}' is made; raw, qcow2, qed, vdi and vhdx are",
                                image.path, image.format)};
    if (size == 0 || size > largest)
        throw Error{Code::invalid_args, fmt::format("image '{}' cannot have {} bytes", image.path, size)};
    co_await create(std::move(image), size, std::nullopt, std::move(stop));
}

// ---- chains

namespace {

struct OpenedCopy {
    std::vector<OpenImage> chain;
    std::size_t base;
};

OpenedCopy open_copy(const ImageFile& top, bool writable, const std::optional<ImageFile>& lower) {
    OpenedCopy out{open_chain(top, writable), 0};
    out.base = lower ? find_in_chain(out.chain, *lower) : out.chain.size();
    for (std::size_t level = 0; level < std::min(out.base + 1, out.chain.size()); ++level)
        require_unused(out.chain[level].fd.get(), out.chain[level].file.path);
    return out;
}

}  // namespace

Task<> QemuImages::commit(ImageFile upper, ImageFile lower, ProgressSink progress, std::stop_token stop) {
    const auto doing = fmt::format("committing '{}' to '{}'", upper.path, lower.path);
    auto opened = co_await ports_.workers.run(
        doing,
        [upper, lower] {
            auto copy = open_copy(upper, false, lower);
            // Whether it can be written is better known before anything is.
            copy.chain[copy.base] = open_image(copy.chain[copy.base].file, true);
            return copy;
        },
        in(programs_.opening), stop);
    const std::shared_ptr<Fd> written = std::make_shared<Fd>(duplicate(opened.chain[opened.base].fd));
    co_await copy(ports_, programs_, {Copying::How::commit, std::move(opened.chain), opened.base}, std::move(progress),
                  std::move(stop));
    co_await ports_.workers.run(
        doing, [written, path = lower.path] { sync_image(*written, path); }, in(programs_.standstill));
}

Task<> QemuImages::pull(ImageFile overlay, std::optional<ImageFile> lower, ProgressSink progress,
                        std::stop_token stop) {
    check_overlay_format(overlay);
    if (lower) check_backing_name(lower->path);
    const auto doing = fmt::format("pulling into '{}'", overlay.path);
    auto opened = co_await ports_.workers.run(
        doing, [overlay, lower] { return open_copy(overlay, true, lower); }, in(programs_.opening), stop);
    if (opened.chain.size() == 1) co_return;
    if (opened.base == 1) {
        opened.chain.clear();
        co_return co_await rename_backing(std::move(overlay), *std::move(lower), std::move(stop));
    }
    // The name that is written is the caller's, not the one found.
    if (lower) opened.chain[opened.base].file.path = lower->path;
    co_await copy(ports_, programs_, {Copying::How::stream, std::move(opened.chain), opened.base}, std::move(progress),
                  std::move(stop));
}

Task<> QemuImages::rename_backing(ImageFile overlay, ImageFile below, std::stop_token stop) {
    check_overlay_format(overlay);
    check_backing_name(below.path);
    const auto doing = fmt::format("naming '{}' as the backing file", below.path);
    auto image = co_await ports_.workers.run(
        doing,
        [overlay, below, doing] {
            auto opened = open_image(overlay, true);
            require_unused(opened.fd.get(), overlay.path);
            if (open_image(below, false).identity == opened.identity)
                throw Error{Code::unsupported_configuration,
                            fmt::format("image '{}' cannot be its own backing file", overlay.path)};
            return opened;
        },
        in(programs_.opening), stop);
    require_going_on(stop, doing);
    Work work{doing, std::move(image), {}};
    co_await change(work, "rebase", {"-q", "-u", "-b", below.path, "-F", below.format});
}

// ---- bitmaps

namespace {

void require_bitmap(const Qcow2Tables& tables, const std::string& path, const std::string& name) {
    const auto* bitmap = find_bitmap(tables, name);
    if (!bitmap) throw Error{Code::checkpoint_inconsistent, fmt::format("image '{}' has no bitmap '{}'", path, name)};
    if (bitmap->inconsistent)
        throw Error{Code::checkpoint_inconsistent,
                    fmt::format("bitmap '{}' of image '{}' is inconsistent: whoever wrote it did not finish; it can "
                                "only be removed",
                                name, path)};
}

}  // namespace

Task<> QemuImages::add_bitmap(ImageFile image, std::string name, std::optional<std::uint32_t> granularity,
                              std::stop_token stop) {
    check_name("bitmap's name", name, longest_name);
    auto work = co_await open_qcow2(std::move(image), fmt::format("adding bitmap '{}'", name), std::move(stop));
    if (find_bitmap(work.tables, name))
        throw Error{Code::already_exists,
                    fmt::format("image '{}' has a bitmap '{}' already", work.image.file.path, name)};
    std::vector<std::string> words{"--add"};
    if (granularity) words.insert(words.end(), {"-g", fmt::format("{}", *granularity)});
    co_await change(work, "bitmap", std::move(words), {name});
}

Task<> QemuImages::merge_bitmap(ImageFile image, std::string into, std::string from, std::stop_token stop) {
    auto work = co_await open_qcow2(std::move(image), fmt::format("merging bitmap '{}' into '{}'", from, into),
                                    std::move(stop));
    for (const auto& name : {from, into}) require_bitmap(work.tables, work.image.file.path, name);
    co_await change(work, "bitmap", {"--merge", from}, {into});
}

Task<> QemuImages::remove_bitmap(ImageFile image, std::string name, std::stop_token stop) {
    auto work = co_await open_qcow2(std::move(image), fmt::format("removing bitmap '{}'", name), std::move(stop));
    if (find_bitmap(work.tables, name)) co_await change(work, "bitmap", {"--remove"}, {name});
}

Task<> QemuImages::set_recording(ImageFile image, std::string name, bool recording, std::stop_token stop) {
    auto work = co_await open_qcow2(
        std::move(image), fmt::format("{} bitmap '{}'", recording ? "starting" : "stopping", name), std::move(stop));
    require_bitmap(work.tables, work.image.file.path, name);
    co_await change(work, "bitmap", {recording ? "--enable" : "--disable"}, {name});
}

}  // namespace virtbus::qemu
