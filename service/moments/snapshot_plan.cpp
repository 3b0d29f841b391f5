// SPDX-License-Identifier: LGPL-2.1-or-later
#include "service/moments/snapshot_plan.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "service/domain_view.hpp"
#include "virtbus/error.hpp"
#include "virtbus/model/chain.hpp"

namespace virtbus {

namespace {

[[noreturn]] void refuse(Code code, std::string message) {
    throw Error{code, message};
}

[[noreturn]] void unsupported(const SnapshotSubject& subject, const std::string& why) {
    refuse(Code::unsupported_configuration, fmt::format("a snapshot of domain '{}': {}", subject.config.name, why));
}

SnapshotPlace place_of(const std::string& word) {
    const auto& words = Words<SnapshotPlace>::list;
    const auto found = std::find(words.begin(), words.end(), word);
    return found == words.end() ? SnapshotPlace::unset : static_cast<SnapshotPlace>(found - words.begin());
}

/// Nothing that the guest could change: a drive without medium, one that it only reads.
bool is_constant(const Disk& disk) {
    return !disk.source || disk.readonly || disk.device == DiskDevice::cdrom;
}

bool is_encrypted(const Disk& disk) {
    return disk.encryption || (disk.source && disk.source->encryption);
}

std::string default_overlay(const SnapshotSubject& subject, const Disk& disk, const std::string& name) {
    const auto top = top_image(disk);
    if (!top || top->block_device)
        unsupported(subject, fmt::format("disk '{}' is no plain file, so its overlay must be named: <disk name='{}'>"
                                         "<source file='...'/></disk>",
                                         disk.target.dev, disk.target.dev));
    const auto slash = top->path.rfind('/'), dot = top->path.rfind('.');
    const bool extension = dot != std::string::npos && (slash == std::string::npos || dot > slash + 1);
    return fmt::format("{}.{}", extension ? top->path.substr(0, dot) : top->path, name);
}

/// The wanted disks beside those of the domain.
class Planner {
public:
    Planner(const SnapshotConfig& wanted, const SnapshotCreateOptions& options, const SnapshotSubject& subject)
        : wanted_{wanted}, options_{options}, subject_{subject} {}

    MomentEntry plan(std::uint64_t now) {
        entry_.name = wanted_.name.empty() ? std::to_string(now / 1'000'000) : wanted_.name;
        entry_.description = wanted_.description;
        entry_.creation_time = now;
        entry_.has_domain = true;
        settle_memory();
        for (const auto& disk : subject_.config.devices.disks) add(disk);
        require_all_found();
        settle_kind();
        return std::move(entry_);
    }

private:
    SnapshotPlace memory() const { return wanted_.memory ? wanted_.memory->place : SnapshotPlace::unset; }

    void settle_memory() {
        const auto said = memory();
        const auto file = wanted_.memory ? wanted_.memory->file : std::string{};
        if (said == SnapshotPlace::manual) refuse(Code::invalid_xml, "memory cannot be of snapshot='manual'");
        external_memory_ =
            said == SnapshotPlace::external || (said == SnapshotPlace::unset && !file.empty() && subject_.runs());
        if (!file.empty() && !external_memory_)
            refuse(Code::invalid_xml, "<memory> names a file, which is for snapshot='external' of a running domain");
        if (external_memory_ && file.empty())
            refuse(Code::invalid_xml, "<memory snapshot='external'> needs the attribute 'file'");
        if (!file.empty() && !file.starts_with('/'))
            refuse(Code::invalid_xml, fmt::format("the memory's file '{}' is no absolute path", file));
        const bool some = said == SnapshotPlace::internal || said == SnapshotPlace::external;
        if (some && !subject_.runs())
            unsupported(subject_, fmt::format("it is {}, so there is no memory to keep", word(subject_.state)));
        if (some && options_.disk_only)
            refuse(Code::conflicting_options, "'disk-only' leaves the memory out, but <memory> asks for it");
        if (said == SnapshotPlace::no && subject_.runs() && !options_.disk_only)
            unsupported(subject_, "it runs; without its memory a snapshot of it is 'disk-only': give that option");
        entry_.memory_file = file;
    }

    const SnapshotDisk* find_wanted(const Disk& disk) {
        const SnapshotDisk* found = nullptr;
        const auto top = top_image(disk);
        for (const auto& entry : wanted_.disks) {
            const bool meant = entry.name == disk.target.dev || (top && entry.name == top->path);
            if (!meant) continue;
            if (found) refuse(Code::invalid_xml, fmt::format("<disks> speaks twice of disk '{}'", disk.target.dev));
            found = &entry;
        }
        if (found) used_.insert(found);
        return found;
    }

    void require_all_found() const {
        for (const auto& entry : wanted_.disks)
            if (!used_.contains(&entry))
                refuse(Code::invalid_xml, fmt::format("<disks> speaks of '{}', and domain '{}' has no such disk",
                                                      entry.name, subject_.config.name));
    }

    SnapshotPlace choose(const Disk& disk, const SnapshotDisk* wanted) const {
        const auto outside = options_.disk_only || external_memory_;
        if (wanted && wanted->place != SnapshotPlace::unset) return wanted->place;
        if (wanted && wanted->source) return SnapshotPlace::external;
        if (const auto said = place_of(disk.snapshot); said != SnapshotPlace::unset) return said;
        if (is_constant(disk)) return SnapshotPlace::no;
        return outside ? SnapshotPlace::external : SnapshotPlace::internal;
    }

    void add(const Disk& disk) {
        const auto* wanted = find_wanted(disk);
        MomentDisk part;
        part.target = disk.target.dev;
        part.place = choose(disk, wanted);
        if (const auto top = top_image(disk)) part.frozen = *top;
        if (!disk.source && part.place != SnapshotPlace::no)
            unsupported(subject_, fmt::format("the drive '{}' is empty; it can only be of snapshot='no'", part.target));
        if (part.place == SnapshotPlace::internal) check_internal(disk);
        if (part.place == SnapshotPlace::external) part.overlay = overlay_for(disk, wanted);
        if (part.place != SnapshotPlace::external && wanted && wanted->source)
            refuse(Code::invalid_xml, fmt::format("disk '{}' is of snapshot='{}' and cannot have an overlay",
                                                  part.target, word(part.place)));
        entry_.disks.push_back(std::move(part));
    }

    void check_internal(const Disk& disk) const {
        const auto top = top_image(disk);
        if (disk.transient)
            unsupported(subject_, fmt::format("disk '{}' is transient: what it holds is thrown away", disk.target.dev));
        if (!top || top->format != "qcow2")
            unsupported(subject_, fmt::format("disk '{}' is {}; an internal snapshot needs qcow2. Use an external one "
                                              "(snapshot='external' or 'disk-only'), or leave the disk out "
                                              "(snapshot='no')",
                                              disk.target.dev, top ? "of the format " + top->format : "no local file"));
        if (disk.readonly)
            unsupported(subject_,
                        fmt::format("disk '{}' is read-only; it can only be of snapshot='no'", disk.target.dev));
        if (is_encrypted(disk) && !subject_.runs())
            unsupported(subject_, fmt::format("disk '{}' is encrypted; a snapshot inside it is made while it runs, "
                                              "when QEMU has the key",
                                              disk.target.dev));
    }

    ImageFile overlay_for(const Disk& disk, const SnapshotDisk* wanted) {
        if (disk.transient)
            unsupported(subject_, fmt::format("disk '{}' is transient: what it holds is thrown away", disk.target.dev));
        if (disk.device == DiskDevice::cdrom || disk.device == DiskDevice::floppy || disk.readonly)
            unsupported(subject_,
                        fmt::format("disk '{}' is not one that the guest writes to; it can only be of snapshot='no'",
                                    disk.target.dev));
        if (disk.type == StorageType::vhostuser || disk.type == StorageType::dir || disk.type == StorageType::vhostvdpa)
            unsupported(subject_, fmt::format("nothing can be laid on top of disk '{}' of type '{}'", disk.target.dev,
                                              word(disk.type)));
        if (!top_image(disk))
            unsupported(subject_, fmt::format("disk '{}' (of type '{}') has no local image that an overlay could lie "
                                              "on; leave it out (snapshot='no')",
                                              disk.target.dev, word(disk.type)));
        if (disk.shareable)
            unsupported(subject_, fmt::format("disk '{}' is shared: who else writes to its image would not see what "
                                              "goes to an overlay. Leave it out (snapshot='no')",
                                              disk.target.dev));
        if (is_encrypted(disk))
            unsupported(subject_, fmt::format("disk '{}' is encrypted, and its overlay would not be. Use an internal "
                                              "one, or leave it out (snapshot='no')",
                                              disk.target.dev));
        ImageFile overlay;
        const auto type = wanted && wanted->type ? *wanted->type : StorageType::file;
        if (type != StorageType::file && type != StorageType::block)
            unsupported(subject_, fmt::format("the overlay of disk '{}' is of type '{}'; it can be a file or a block "
                                              "device",
                                              disk.target.dev, word(type)));
        overlay.block_device = type == StorageType::block;
        overlay.format = wanted && wanted->driver && !wanted->driver->type.empty() ? wanted->driver->type : "qcow2";
        if (overlay.format != "qcow2")
            unsupported(subject_, fmt::format("the overlay of disk '{}' is of the format '{}'; it must be qcow2",
                                              disk.target.dev, overlay.format));
        if (wanted && wanted->source) overlay.path = overlay.block_device ? wanted->source->dev : wanted->source->file;
        if (overlay.path.empty()) overlay.path = default_overlay(subject_, disk, entry_.name);
        if (!overlay.path.starts_with('/'))
            refuse(Code::invalid_xml,
                   fmt::format("the overlay '{}' of disk '{}' is no absolute path", overlay.path, disk.target.dev));
        require_free(overlay.path, disk);
        return overlay;
    }

    void require_free(const std::string& path, const Disk& for_disk) {
        if (!overlays_.insert(path).second)
            refuse(Code::invalid_xml, fmt::format("two disks are to have the same overlay '{}'", path));
        for (const auto& disk : subject_.config.devices.disks)
            for (const auto& image : written_images(disk))
                if (image.path == path)
                    unsupported(subject_, fmt::format("the overlay '{}' of disk '{}' is an image of disk '{}'", path,
                                                      for_disk.target.dev, disk.target.dev));
    }

    bool any(SnapshotPlace place) const {
        return std::ranges::any_of(entry_.disks, [&](const auto& disk) { return disk.place == place; });
    }

    void settle_kind() {
        const bool internal = any(SnapshotPlace::internal) || memory() == SnapshotPlace::internal;
        const bool outside = any(SnapshotPlace::external) || any(SnapshotPlace::manual);
        const bool external = outside || options_.disk_only || external_memory_;
        if (internal && external)
            unsupported(subject_,
                        "internal and external parts cannot be mixed; make all of its disks and its memory "
                        "one or the other");
        if (external && !outside) unsupported(subject_, "no disk takes part in it; name one with snapshot='external'");
        const bool memory_inside = subject_.runs() && !external;
        if (memory_inside && !any(SnapshotPlace::internal))
            unsupported(subject_, "no qcow2 disk takes part in it that could hold the memory");
        if (outside && subject_.runs() && !options_.disk_only && !external_memory_)
            unsupported(subject_, "it runs and its disks are external: give 'disk-only', or a file for the memory");
        if (any(SnapshotPlace::manual) && subject_.state == State::running)
            refuse(Code::invalid_state,
                   fmt::format("domain '{}' is running; disks of snapshot='manual' need it paused or shutoff, so that "
                               "what is done to them by hand fits. Suspend it first",
                               subject_.config.name));
        entry_.kind = !external                               ? SnapshotKind::internal
                      : options_.disk_only && subject_.runs() ? SnapshotKind::disk_only
                                                              : SnapshotKind::external;
        entry_.state = entry_.kind == SnapshotKind::disk_only ? "disk-snapshot" : std::string{word(subject_.state)};
        if (memory_inside) check_store();
    }

    void check_store() const {
        const auto& os = subject_.config.os;
        const auto store = variable_store(os);
        if (store.empty()) return;
        auto format = os.nvram->format;
        if (format.empty()) format = store.ends_with(".qcow2") ? "qcow2" : "raw";
        if (format == "qcow2") return;
        unsupported(subject_, fmt::format("its variable store {} is {}; a snapshot of a running domain inside its "
                                          "images needs it in qcow2 (<nvram format='qcow2'>). Use an external one",
                                          store, format));
    }

    const SnapshotConfig& wanted_;
    const SnapshotCreateOptions& options_;
    const SnapshotSubject& subject_;
    MomentEntry entry_;
    bool external_memory_ = false;
    std::set<const SnapshotDisk*> used_;
    std::set<std::string> overlays_;
};

}  // namespace

void check_options(const SnapshotCreateOptions& options) {
    const auto exclude = [](bool one, const char* name, bool other, const char* others) {
        if (one && other)
            refuse(Code::conflicting_options, fmt::format("'{}' and '{}' exclude each other", name, others));
    };
    if (options.current && !options.redefine)
        refuse(Code::conflicting_options, "'current' is for 'redefine': a new snapshot becomes current by itself");
    exclude(options.redefine, "redefine", options.no_metadata, "no-metadata");
    exclude(options.redefine, "redefine", options.halt, "halt");
    exclude(options.redefine, "redefine", options.live, "live");
    if (options.quiesce && !options.disk_only)
        refuse(Code::conflicting_options, "'quiesce' needs 'disk-only': with its memory the guest is whole anyway");
    exclude(options.disk_only, "disk-only", options.live, "live");
    exclude(options.halt, "halt", options.live, "live");
}

MomentEntry plan_snapshot(const SnapshotConfig& wanted, const SnapshotCreateOptions& options,
                          const SnapshotSubject& subject, std::uint64_t now) {
    check_options(options);
    const auto needs = [&](const char* option, const char* what) {
        refuse(Code::invalid_state,
               fmt::format("domain '{}' is {}; '{}' needs {}", subject.config.name, word(subject.state), option, what));
    };
    if (options.live && !subject.runs()) needs("live", "it running");
    if (options.quiesce && subject.state != State::running) needs("quiesce", "it running");
    if (options.halt && !subject.persistent) needs("halt", "a persistent domain: a transient one would be gone");
    if (subject.state != State::running && subject.state != State::paused && subject.state != State::shutoff)
        needs("snapshot", "it running, paused or shutoff");
    auto entry = Planner{wanted, options, subject}.plan(now);
    if (options.live && entry.memory_file.empty())
        refuse(Code::conflicting_options, "'live' needs external memory: <memory snapshot='external' file='...'/>");
    return entry;
}

std::vector<std::string> targets(const MomentEntry& entry, SnapshotPlace place) {
    std::vector<std::string> names;
    for (const auto& disk : entry.disks)
        if (disk.place == place) names.push_back(disk.target);
    return names;
}

SnapshotConfig record_of(const MomentEntry& entry, const SnapshotConfig& wanted) {
    SnapshotConfig record;
    record.name = entry.name;
    record.description = entry.description;
    record.creation_time = entry.creation_time / 1'000'000;
    record.state = entry.state;
    record.parent = entry.parent;
    record.unknown = wanted.unknown;
    record.memory.emplace();
    record.memory->file = entry.memory_file;
    const bool inside = entry.kind == SnapshotKind::internal && entry.state != word(State::shutoff);
    record.memory->place = !entry.memory_file.empty() ? SnapshotPlace::external
                           : inside                   ? SnapshotPlace::internal
                                                      : SnapshotPlace::no;
    for (const auto& part : entry.disks) {
        SnapshotDisk disk;
        disk.name = part.target;
        disk.place = part.place;
        if (part.place == SnapshotPlace::external) {
            disk.type = part.overlay.block_device ? StorageType::block : StorageType::file;
            disk.driver.emplace();
            disk.driver->type = part.overlay.format;
            disk.source.emplace();
            (part.overlay.block_device ? disk.source->dev : disk.source->file) = part.overlay.path;
        }
        record.disks.push_back(std::move(disk));
    }
    return record;
}

}  // namespace virtbus
