// SPDX-License-Identifier: LGPL-2.1-or-later
// Overlays put on what disks write to, all in one transaction. The bitmaps that record there record on in the overlays.
#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "common/image_header.hpp"
#include "qemu/block/disk_work.hpp"
#include "qemu/block/follow.hpp"
#include "qemu/block/images.hpp"
#include "qemu/block/jobs.hpp"
#include "qemu/block/open_images.hpp"
#include "qemu/json.hpp"
#include "qemu/opening.hpp"

namespace virtbus::qemu {

using nlohmann::json;

namespace {

using CorePtr = std::shared_ptr<GuestCore>;

struct Coming {
    std::string alias, below;  ///< the node it is put on
    ImageFile image;
    OpenedImage opened;
    NewNodes nodes;
    DiskParts after;
};

/// Made by others perhaps: it may not lead QEMU to further files.
void check_overlay(const Fd& fd, const ImageFile& image) {
    const auto format = common::find_image_format(image.format);
    if (!format) throw Error{Code::unsupported_configuration, fmt::format("'{}' is no format of images", image.format)};
    const auto header = common::read_image_header(fd.get(), image.path, *format);
    const char* what = !header.data_file.empty()     ? "keeps its data in another file"
                       : header.encrypted            ? "is encrypted"
                       : !header.extents.empty()     ? "is made of several files"
                       : header.backing_file.empty() ? "lies on no other image"
                                                     : nullptr;
    if (what) throw Error{Code::unsupported_configuration, fmt::format("the overlay '{}' {}", image.path, what)};
}

Task<Coming> open_overlay(CorePtr core, NewOverlay overlay, Resources& resources, std::stop_token stop) {
    Coming coming;
    coming.image = overlay.image;
    coming.opened = co_await open_image(overlay.image.path, resources);
    co_await core->ports.workers.run(
        fmt::format("reading the header of image '{}'", overlay.image.path),
        [fd = duplicate(coming.opened.writer), image = overlay.image] { check_overlay(fd, image); },
        core->verb_deadline(), stop);
    const auto& disk = get_disk(*core, overlay.disk);
    auto parts = get_parts(*core, disk);
    coming.alias = disk.info.alias;
    coming.below = parts.images.back().node();
    const auto top = core->record.images.find(coming.below);
    coming.nodes = overlay_nodes(top == core->record.images.end() ? RecordedImage{{}, "{}", "{}"} : top->second,
                                 overlay.image, disk, ++core->record.nodes, ++core->record.sets);
    parts.images.push_back(
        {{fmt::format("set:{}", coming.nodes.set), "blockdev:" + text(coming.nodes.storage, "node-name"),
          "blockdev:" + text(coming.nodes.node, "node-name")}});
    coming.after = std::move(parts);
    co_return coming;
}

/// One action for each bitmap that records on what the overlay is put on and is kept in the image.
void add_bitmaps(const json& nodes, const Coming& coming, json& actions) {
    if (coming.image.format != "qcow2") return;
    for (const auto& node : nodes) {
        if (text(node, "node-name") != coming.below) continue;
        for (const auto& bitmap : member(node, "dirty-bitmaps"))
            if (flag(bitmap, "persistent") && flag(bitmap, "recording") && !flag(bitmap, "inconsistent"))
                actions.push_back({{"type", "block-dirty-bitmap-add"},
                                   {"data",
                                    {{"node", coming.nodes.node["node-name"]},
                                     {"name", text(bitmap, "name")},
                                     {"persistent", true},
                                     {"granularity", number(bitmap, "granularity")}}}});
    }
}

Task<> transact(CorePtr core, std::vector<Coming>& all) {
    for (auto& coming : all) co_await add_image(core, std::move(coming.opened), coming.nodes);
    json actions = json::array();
    for (const auto& coming : all)
        actions.push_back({{"type", "blockdev-snapshot"},
                           {"data", {{"node", coming.below}, {"overlay", coming.nodes.node["node-name"]}}}});
    const auto nodes =
        co_await core->open_monitor().execute("query-named-block-nodes", json{{"flat", true}}, core->verb_deadline());
    for (const auto& coming : all) add_bitmaps(nodes, coming, actions);
    co_await core->open_monitor().execute("transaction", json{{"actions", actions}}, in(patient));
}

}  // namespace

Task<> put_overlays(CorePtr core, std::vector<NewOverlay> overlays, Resources& resources, std::stop_token stop) {
    co_await make_ready(core);
    std::vector<Coming> all;
    for (auto& overlay : overlays) all.push_back(co_await open_overlay(core, std::move(overlay), resources, stop));
    if (stop.stop_requested()) throw Cancelled{fmt::format("a snapshot of {}", core->who())};
    // A daemon that ends from here on leaves it to the next one to ask QEMU what has become of it.
    for (const auto& coming : all) {
        core->record.changing[coming.alias] = coming.after.texts();
        core->record.images[text(coming.nodes.node, "node-name")] = {coming.image, coming.nodes.node.dump(),
                                                                     coming.nodes.storage.dump()};
    }
    core->tell_config();
    const auto failure = co_await outcome_of(transact(core, all));
    const auto unknown = core->is_gone() ? nullptr : co_await outcome_of(follow_chains(core));
    if (failure) std::rethrow_exception(failure);
    if (unknown) std::rethrow_exception(unknown);
}

}  // namespace virtbus::qemu
