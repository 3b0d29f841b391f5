// SPDX-License-Identifier: LGPL-2.1-or-later
#include "qemu/command/disk_nodes.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "qemu/command/storage.hpp"
#include "qemu/image_levels.hpp"
#include "virtbus/error.hpp"

namespace virtbus::qemu {

namespace {

constexpr Cache caches[]{{"none", true, true, false},
                         {"writeback", true, false, false},
                         {"writethrough", false, false, false},
                         {"directsync", false, true, false},
                         {"unsafe", true, false, true}};

void set_cache(Json& node, const Disk& disk) {
    if (const Cache* cache = find_cache(disk))
        node.set("cache", Json{}.set("direct", cache->direct).set("no-flush", cache->no_flush));
}

[[noreturn]] void refuse(const Disk& disk, const std::string& why) {
    throw Error{Code::unsupported_configuration, fmt::format("disk '{}': {}", disk.target.dev, why)};
}

// ---- nodes

/// The word of QEMU's block driver; some of libvirt's differ.
std::string driver_of(const std::string& format) {
    if (format == "iso" || format == "fat") return "raw";
    return format == "vhd" ? "vpc" : format;
}

/// Writes the nodes of one disk and knows their names.
class Nodes {
public:
    Nodes(Argv& line, const Disk& disk, unsigned& counter)
        : line_{line}, disk_{disk}, counter_{counter}, chain_{written_levels(disk)} {}

    /// The node that the device uses; "" for an empty drive.
    std::string add() {
        if (!disk_.source || disk_.target.tray == "open") return "";
        if (line_.runnable()) return add_empty();
        const std::size_t levels = count_levels();
        // From the bottom up: each names the one below it. The numbers go from the top down.
        const unsigned first = counter_ + 1;
        counter_ += static_cast<unsigned>(levels);
        std::string below;
        for (std::size_t level = levels; level-- > 0;)
            below = add_level(level, first + static_cast<unsigned>(level), below);
        return below;
    }

private:
    std::string add_empty() {
        const std::string name = fmt::format("libvirt-{}", ++counter_);
        line_.blockdev(Json{}
                           .set("driver", "null-co")
                           .set("node-name", name + "-storage")
                           .set("size", disk_.device == DiskDevice::floppy ? 1440 << 10 : 64 << 20)
                           .set("read-zeroes", true));
        Json node;
        set_common(node, name + "-format", true);
        node.set("driver", "raw").set("read-only", disk_.readonly).set("file", name + "-storage");
        line_.blockdev(node);
        return name + "-format";
    }

    const ImageLevel* written(std::size_t level) const {
        return level < chain_.levels.size() ? &chain_.levels[level] : nullptr;
    }
    std::size_t count_levels() const {
        if (line_.by_path()) return chain_.levels.size();
        std::size_t count = 0;
        while (line_.find(level_key(disk_, count)) || (written(count) && !is_local(*written(count)))) ++count;
        return count;
    }

    std::string add_level(std::size_t level, unsigned number, const std::string& below) {
        const std::string name = fmt::format("libvirt-{}", number), key = level_key(disk_, level);
        const ImageLevel* said = written(level);
        OpenedFile* file = line_.find(key);
        const bool read_only = level > 0 || disk_.readonly;
        add_storage(level, name + "-storage", key, file);
        std::string storage = name + "-storage";
        std::string data;
        if (OpenedFile* more = line_.find(key + ":data")) {
            data = name + "-data-storage";
            add_file(*more, Json{}, data);
        }
        const std::string format = driver_of(said ? said->format : file->format.empty() ? "raw" : file->format);
        const bool sliced = said && said->source && !said->source->slices.empty();
        if (sliced && (format != "raw" || is_luks(*said))) storage = add_slice(*said, name, storage);

        Json node;
        set_common(node, name + "-format", level == 0);
        node.set("read-only", read_only);
        set_format(node, said, format, name + "-format", key);
        if (sliced && format == "raw" && !is_luks(*said)) set_slice(node, *said);
        node.set("file", storage).set_text("data-file", data);
        const bool may_have_backing = format == "qcow2" || format == "qcow" || format == "qed" || format == "vmdk";
        // Said in so many words, else QEMU would follow whatever the image names.
        const bool told = chain_.complete || (said && is_unread(*said));
        const bool known_bottom = !line_.by_path() || (told && level + 1 == chain_.levels.size());
        if (!below.empty())
            node.set("backing", below);
        else if (may_have_backing && known_bottom)
            node.set_null("backing");
        if (below.empty() && !line_.by_path() && said && !chain_.complete && is_unread(*said))
            line_.out.unread.push_back({disk_.target.dev, name + "-format"});
        line_.blockdev(node);
        if (file && !line_.by_path())
            line_.out.images[name + "-format"] = {file->path, said ? said->format : format, file->block_device};
        return name + "-format";
    }

    void set_common(Json& node, const std::string& name, bool top) {
        node.set("node-name", name);
        if (top && disk_.driver) {
            node.set_text("discard", disk_.driver->discard);
            // Zeroes may only be turned into holes where discarding is allowed.
            const bool unmap = disk_.driver->detect_zeroes == "unmap" && disk_.driver->discard != "unmap";
            node.set_text("detect-zeroes", unmap ? "on" : disk_.driver->detect_zeroes);
        }
        set_cache(node, disk_);
    }

    void set_format(Json& node, const ImageLevel* said, const std::string& format, const std::string& name,
                    const std::string& key) {
        const bool own_encryption = said && said->encryption && said->encryption->engine != "librbd";
        const std::string secret =
            own_encryption ? line_.secret(name + "-encryption-secret0", key + ":encryption") : std::string{};
        if (own_encryption && is_luks(*said)) {
            node.set("driver", "luks").set("key-secret", secret);
            return;
        }
        node.set("driver", format);
        if (own_encryption) node.set("encrypt", Json{}.set("format", "luks").set("key-secret", secret));
        if (format == "qcow2" && disk_.driver)
            node.set("cache-size", disk_.driver->metadata_cache_max_size)
                .set("discard-no-unref", disk_.driver->discard_no_unref);
    }

    static void set_slice(Json& node, const ImageLevel& level) {
        const auto& slice = level.source->slices.front();
        node.set("offset", slice.offset).set("size", slice.size);
    }
    std::string add_slice(const ImageLevel& level, const std::string& name, const std::string& storage) {
        Json node;
        node.set("driver", "raw").set("node-name", name + "-slice-sto").set("file", storage);
        node.set("auto-read-only", true).set("discard", "unmap");
        set_slice(node, level);
        line_.blockdev(node);
        return name + "-slice-sto";
    }

    void add_storage(std::size_t level, const std::string& name, const std::string& key, OpenedFile* file) {
        const ImageLevel* said = written(level);
        const SourcePlace place{fmt::format("disk '{}'", disk_.target.dev), key, name};
        if (!said || is_local(*said)) return add_local(said, place, file);
        const auto& source = *said->source;
        if (said->type == StorageType::network)
            return add_node(network_storage(line_, place, source, said->auth), name);
        if (said->type == StorageType::nvme) return add_node(nvme_storage(line_, place, source), name);
        if (said->type == StorageType::dir) {
            const bool floppy = disk_.device == DiskDevice::floppy;
            return add_node(Json{}.set("driver", "vvfat").set("dir", source.dir).set("floppy", floppy).set("rw", false),
                            name);
        }
        if (said->type == StorageType::vhostvdpa) {
            line_.out.devices.push_back(source.dev);
            return add_node(Json{}.set("driver", "virtio-blk-vhost-vdpa").set("path", source.dev), name);
        }
        refuse(disk_, fmt::format("sources of type '{}' are not supported", word(said->type)));
    }
    void add_local(const ImageLevel* said, const SourcePlace& place, OpenedFile* file) {
        OpenedFile by_path;
        if (!file) {
            // The stand-alone form: only the top was asked for by files_of.
            by_path.path = said->source ? path_of(*said) : "";
            file = &by_path;
        }
        if (said && !said->source && line_.by_path())
            file->path = path_of(chain_.levels[1]) + ".TRANSIENT-" + line_.config.name;
        else if (said && line_.by_path())
            file->path = path_of(*said);
        if (said && said->type == StorageType::block && line_.by_path()) file->block_device = true;
        Json node;
        if (said && said->source && said->source->reservations) {
            const auto& wish = *said->source->reservations;
            const std::string id = "pr-helper-" + disk_.info.alias;
            line_.object(Json{}
                             .set("qom-type", "pr-manager-helper")
                             .set("id", id)
                             .set("path", wish.managed.value_or(false) ? helper_path() : wish.path));
            node.set("pr-manager", id);
        }
        add_file(*file, std::move(node), place.node);
    }
    /// Of the one helper that serves all disks of the guest. Each has a connection of its own to it, which can so be
    /// taken away with the disk.
    std::string helper_path() {
        const auto* helper = line_.find("pr-helper");
        if (!helper && !line_.by_path())
            refuse(
                disk_,
                "the machine has no helper for managed reservations now; use managed='no' and the socket of a helper "
                "of your own");
        return helper ? helper->path : "pr-helper0.sock";
    }
    void add_file(OpenedFile& file, Json node, const std::string& name) {
        const bool cdrom = disk_.device == DiskDevice::cdrom;
        node.set("driver", !file.block_device ? "file" : cdrom ? "host_cdrom" : "host_device");
        node.set("filename", line_.fdset(file));
        if (disk_.driver) node.set_text("aio", disk_.driver->io);
        // When nobody writes for a while (a migration has ended) QEMU would take the set's read-only descriptor, and
        // then meet the locks of the other one, which the set keeps open: it could not write again.
        add_node(std::move(node), name, line_.by_path() || file.read_only);
    }
    void add_node(Json node, const std::string& name, bool may_narrow = true) {
        node.set("node-name", name).set("auto-read-only", may_narrow);
        const bool told = disk_.driver && !disk_.driver->discard.empty();
        node.set("discard", told ? disk_.driver->discard : "unmap");
        set_cache(node, disk_);
        line_.blockdev(node);
    }

    Argv& line_;
    const Disk& disk_;
    unsigned& counter_;
    ImageLevels chain_;
};

Json limits_of(const DiskIoTune& tune) {
    struct Limit {
        const char* name;
        const std::optional<std::uint64_t>& value;
    };
    const Limit all[]{{"bps-total", tune.total_bytes_sec},
                      {"bps-read", tune.read_bytes_sec},
                      {"bps-write", tune.write_bytes_sec},
                      {"iops-total", tune.total_iops_sec},
                      {"iops-read", tune.read_iops_sec},
                      {"iops-write", tune.write_iops_sec},
                      {"bps-total-max", tune.total_bytes_sec_max},
                      {"bps-read-max", tune.read_bytes_sec_max},
                      {"bps-write-max", tune.write_bytes_sec_max},
                      {"iops-total-max", tune.total_iops_sec_max},
                      {"iops-read-max", tune.read_iops_sec_max},
                      {"iops-write-max", tune.write_iops_sec_max},
                      {"iops-size", tune.size_iops_sec},
                      {"bps-total-max-length", tune.total_bytes_sec_max_length},
                      {"bps-read-max-length", tune.read_bytes_sec_max_length},
                      {"bps-write-max-length", tune.write_bytes_sec_max_length},
                      {"iops-total-max-length", tune.total_iops_sec_max_length},
                      {"iops-read-max-length", tune.read_iops_sec_max_length},
                      {"iops-write-max-length", tune.write_iops_sec_max_length}};
    Json limits;
    for (const auto& limit : all)
        if (limit.value.value_or(0)) limits.set(limit.name, *limit.value);
    return limits;
}

/// A name that people chose as an id: others than letters, digits, "-" and "." become _xx.
std::string as_id(const std::string& name) {
    std::string out;
    for (const char c : name) {
        const bool plain =
            (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '.';
        out += plain ? std::string{c} : fmt::format("_{:02x}", static_cast<unsigned char>(c));
    }
    return out;
}

/// copy-on-read and limits are filters above the format.
class Filters {
public:
    Filters(Argv& line, std::set<std::string>& groups) : line_{line}, groups_{groups} {}

    std::string add(const Disk& disk, std::string node) {
        base_ = node.substr(0, node.size() - std::string_view{"-format"}.size());
        if (disk.driver && disk.driver->copy_on_read.value_or(false)) {
            Json filter;
            filter.set("driver", "copy-on-read").set("node-name", "libvirt-CoR-" + disk.target.dev);
            line_.blockdev(filter.set("file", node).set("discard", "unmap"));
            node = "libvirt-CoR-" + disk.target.dev;
        }
        if (disk.iotune) {
            const std::string& name = disk.iotune->group_name;
            node = throttle(disk, node, name.empty() ? "throttle-" + disk.info.alias : "throttle-group-" + as_id(name),
                            *disk.iotune);
        }
        for (const auto& filter : disk.throttle_filters)
            node = throttle(disk, node, "throttle-group-" + as_id(filter.group), get_group(disk, filter.group));
        return node;
    }

private:
    const DiskIoTune& get_group(const Disk& disk, const std::string& name) const {
        for (const auto& group : line_.config.throttle_groups)
            if (group.limits.group_name == name) return group.limits;
        refuse(disk, fmt::format("there is no <throttlegroup> '{}'", name));
    }
    std::string throttle(const Disk& disk, const std::string& below, const std::string& group, const DiskIoTune& tune) {
        if (groups_.insert(group).second)
            line_.object(Json{}.set("qom-type", "throttle-group").set("id", group).set("limits", limits_of(tune)));
        const std::string name = fmt::format("{}-throttle{}", base_, count_ ? std::to_string(count_) : "");
        ++count_;
        Json filter;
        filter.set("driver", "throttle").set("node-name", name).set("throttle-group", group).set("file", below);
        line_.blockdev(filter.set("read-only", disk.readonly).set("discard", "unmap"));
        return name;
    }

    Argv& line_;
    std::set<std::string>& groups_;  // made already
    std::string base_;
    unsigned count_ = 0;
};

}  // namespace

const Cache* find_cache(const Disk& disk) {
    const std::string said = disk.driver ? disk.driver->cache : std::string{};
    // Of a disk that others write too nothing may be kept here.
    const bool shared = (said.empty() || said == "default") && disk.shareable && !disk.readonly;
    const auto found =
        std::ranges::find(caches, shared ? std::string_view{"none"} : std::string_view{said}, &Cache::mode);
    return found == std::end(caches) ? nullptr : &*found;
}

std::string DiskNodes::add(const Disk& disk) {
    std::string node = Nodes{line_, disk, counter_}.add();
    return node.empty() ? node : Filters{line_, groups_}.add(disk, node);
}

}  // namespace virtbus::qemu
