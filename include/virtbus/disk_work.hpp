// SPDX-License-Identifier: LGPL-2.1-or-later
// What drivers can do with images: those of a machine that runs (overlays, merges, internal snapshots, bitmaps,
// backups), and those of one that does not. Which image, which name, in which order, and what to do after a crash is
// the service's knowledge; each call here is one step of it.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <stop_token>
#include <string>
#include <vector>

#include "virtbus/error.hpp"
#include "virtbus/fd.hpp"
#include "virtbus/loop.hpp"
#include "virtbus/model/chain.hpp"
#include "virtbus/task.hpp"

namespace virtbus {

class Resources;

/// Told how far a long piece of work is, in bytes; total is 0 while it is not known.
using ProgressSink = std::function<void(std::uint64_t done, std::uint64_t total)>;

// ---- of a machine that runs ----------------------------------------------------------------------------------------

/// An image that shall lie on top of what a disk writes to now.
struct NewOverlay {
    std::string disk;  ///< target
    ImageFile image;   ///< there already, made for what it will lie on
};

/// Everything of one moment inside the images themselves.
struct InternalSnapshot {
    std::string tag;
    std::vector<std::string> disks;  ///< targets; the first also holds memory and devices
    bool store = false;              ///< the variable store, a qcow2 image, takes part
};

/// Takes an image out of the middle or the top of a disk's chain. What the bitmaps of the images that go have recorded
/// goes with their bytes; one that is inconsistent takes those of its name with it, unless one recorded all that came.
struct ChainMerge {
    enum class How {
        commit,  ///< what `upper` has goes down into `lower`; `upper` and all between leave the chain
        stream   ///< `upper` takes up what lies between it and `lower`, which leaves the chain; `lower` may be ""
    };
    std::string disk;  ///< target
    How how = How::commit;
    std::string upper, lower;  ///< paths
    /// The chain has changed and the CPUs stand still, whether they did before or not: to put on record what a guest
    /// that ends from here on leaves. They run again, if they did, when it returns; when it throws, too.
    std::function<Task<>()> settle = []() -> Task<> { co_return; };
};

/// Snapshots of a guest that runs. What a step changes of the chain is in Guest::config() when it returns, and also
/// when the step was taken but an earlier daemon could not see its end: adopt() finds out. Merges that an earlier
/// daemon began are cancelled by adopt().
class DiskWork {
public:
    virtual ~DiskWork() = default;
    /// All or none, in one transaction. Each overlay takes over the persistent bitmaps that record on what it lies on:
    /// the same names, granularity, empty, persistent.
    virtual Task<> put_overlays(std::vector<NewOverlay> overlays, Resources& resources, std::stop_token stop) = 0;
    /// The CPUs stand still while it is written and then do what they did before. All or none.
    virtual Task<> take_internal(InternalSnapshot snapshot, ProgressSink progress, std::stop_token stop) = 0;
    /// The CPUs stand still from here on, also when it throws: what it is then must not be let run.
    virtual Task<> load_internal(InternalSnapshot snapshot, ProgressSink progress, std::stop_token stop) = 0;
    /// A disk that has none of that tag is no error.
    virtual Task<> remove_internal(InternalSnapshot snapshot, std::stop_token stop) = 0;
    /// The disks alone, without memory: a moment to return to with Images::apply when the guest is gone.
    virtual Task<> take_disks_only(InternalSnapshot snapshot, std::stop_token stop) = 0;
    /// Cancelled and failed merges leave the chain as it was. `resources` opens what is only read so far and must be
    /// written.
    virtual Task<> merge(ChainMerge merge, Resources& resources, ProgressSink progress, std::stop_token stop) = 0;
};

/// One change of a disk's bitmaps. They live in what the disk writes to; of the images below, a merge takes up the
/// bitmaps called `source` there, too. A bitmap in an image that is only read stays when it is removed.
struct BitmapChange {
    enum class Kind { add, remove, merge, enable, disable } kind;
    std::string disk;    ///< target
    std::string name;    ///< of the bitmap; for merge: the one that takes up the other
    std::string source;  ///< for merge
    bool persistent = true;
    std::optional<std::uint32_t> granularity{};  ///< bytes
};

struct BitmapFacts {
    std::string disk, name;
    bool recording = false, persistent = false, inconsistent = false;
    std::uint64_t dirty = 0;  ///< bytes
    std::uint32_t granularity = 0;
    std::string image;  ///< path of the image it is in
};

struct BackupPart {
    std::string disk;  ///< target
    ImageFile image;   ///< push: what the bytes go to; pull: the scratch image. It is there already, of that format
    std::vector<std::string> since;          ///< only what these bitmaps have between them; none: everything
    std::string export_name, export_bitmap;  ///< pull
};
struct BackupRequest {
    bool pull = false;
    std::vector<BackupPart> parts;
    std::vector<BitmapChange> bitmaps;  ///< done in the same transaction, in their order, before the jobs start
    Fd listener{};                      ///< pull: a listening socket for the NBD server
    Resources& resources;
};

/// Bitmaps and backups of a guest that runs. A backup does not outlive the daemon: adopt() ends one that it finds.
class BitmapWork {
public:
    virtual ~BitmapWork() = default;
    virtual Task<std::vector<BitmapFacts>> bitmaps(std::stop_token stop) = 0;
    /// All or none.
    virtual Task<> change_bitmaps(std::vector<BitmapChange> changes, std::stop_token stop) = 0;
    /// Returns when the moment is fixed: all jobs have begun, and with `pull` the exports are served.
    virtual Task<> begin_backup(BackupRequest request, std::stop_token stop) = 0;
    /// Push: returns when all is written. Throws the first job's error.
    virtual Task<> finish_backup(ProgressSink progress, std::stop_token stop) = 0;
    /// Cancels what still runs, closes exports, server and images. None is no error.
    virtual Task<> end_backup() = 0;
};

/// The program inside the guest that answers on its agent channel.
class Agent {
public:
    virtual ~Agent() = default;
    /// AgentUnavailable: no channel, nobody connected, or no answer to the first words. AgentFailed: it refuses.
    virtual Task<> freeze(std::stop_token stop) = 0;
    /// Also lets thaw what an earlier daemon left frozen. Never cancelled.
    virtual Task<> thaw() = 0;
};

// ---- of a machine that does not run --------------------------------------------------------------------------------

struct ImageFacts {
    std::uint64_t size = 0;            ///< bytes the guest sees
    std::optional<ImageFile> backing;  ///< as far as it is a local file
    std::vector<std::string> tags;     ///< internal snapshots
    struct Bitmap {
        std::string name;
        bool recording = false, inconsistent = false;
        std::uint32_t granularity = 0;
    };
    std::vector<Bitmap> bitmaps;  ///< none of an image that somebody writes: they are written when it is closed
};

/// Each call works on one image, needs it unused (DeviceInUse when somebody has it open), names its path in errors, and
/// leaves it as it was when it throws, a commit or pull that was cancelled excepted: that can be repeated.
class Images {
public:
    virtual ~Images() = default;
    /// Of an image that somebody writes to: its size and what it lies on.
    virtual Task<ImageFacts> examine(ImageFile image, std::stop_token stop) = 0;

    virtual Task<> take(ImageFile image, std::string tag, std::stop_token stop) = 0;
    virtual Task<> apply(ImageFile image, std::string tag, std::stop_token stop) = 0;
    /// No such tag is no error.
    virtual Task<> remove(ImageFile image, std::string tag, std::stop_token stop) = 0;
    /// After a snapshot was killed while it was taken or removed: space that nothing uses, and clusters that are still marked as shared.
    virtual Task<> mend(ImageFile image, std::stop_token stop) = 0;

    /// A new, empty image over `below`, as large as that: 0600, the owner of `below`. AlreadyExists when there is a
    /// file that is not empty.
    virtual Task<> make_overlay(ImageFile overlay, ImageFile below, std::stop_token stop) = 0;
    /// A new image of its own. AlreadyExists when there is a file that is not empty.
    virtual Task<> make_image(ImageFile image, std::uint64_t size, std::stop_token stop) = 0;
    /// What `upper` has goes into `lower`, which must lie below it, bitmaps included. `upper` stays as it is.
    virtual Task<> commit(ImageFile upper, ImageFile lower, ProgressSink progress, std::stop_token stop) = 0;
    /// `overlay` takes up what lies between it and `lower` (absent: everything below), bitmaps included, and names that
    /// from then on.
    virtual Task<> pull(ImageFile overlay, std::optional<ImageFile> lower, ProgressSink progress,
                        std::stop_token stop) = 0;
    /// `overlay` names `below` from now on, which must hold the same bytes as what it named before.
    virtual Task<> rename_backing(ImageFile overlay, ImageFile below, std::stop_token stop) = 0;

    virtual Task<> add_bitmap(ImageFile image, std::string name, std::optional<std::uint32_t> granularity,
                              std::stop_token stop) = 0;
    virtual Task<> merge_bitmap(ImageFile image, std::string into, std::string from, std::stop_token stop) = 0;
    /// No such bitmap is no error.
    virtual Task<> remove_bitmap(ImageFile image, std::string name, std::stop_token stop) = 0;
    virtual Task<> set_recording(ImageFile image, std::string name, bool recording, std::stop_token stop) = 0;
};

}  // namespace virtbus
