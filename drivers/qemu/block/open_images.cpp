// SPDX-License-Identifier: LGPL-2.1-or-later
#include "qemu/block/open_images.hpp"

#include <fmt/format.h>

#include "qemu/json.hpp"

namespace virtbus::qemu {

using nlohmann::json;

namespace {

std::string fdset(unsigned set) {
    return fmt::format("/dev/fdset/{}", set);
}

void copy(const json& from, json& to, std::initializer_list<const char*> keys) {
    for (const char* key : keys)
        if (from.contains(key)) to[key] = from[key];
}

}  // namespace

void note_images(GuestRecord& record, const std::map<std::string, ImageFile>& images, const std::vector<Word>& words) {
    std::map<std::string, std::string> said;
    for (const auto& word : words)
        if (word.option == "-blockdev") said[text(parse_json(word.value), "node-name")] = word.value;
    for (const auto& [node, file] : images) {
        const auto own = said.find(node);
        if (own == said.end()) continue;
        record.images[node] = {file, own->second, said[text(parse_json(own->second), "file")]};
    }
}

NewNodes overlay_nodes(const RecordedImage& top, const ImageFile& overlay, const Disk& disk, unsigned number,
                       unsigned set) {
    const auto like = parse_json(top.node), like_storage = parse_json(top.storage);
    NewNodes nodes{set, json::object(), json::object()};
    copy(like_storage, nodes.storage, {"aio", "cache"});
    nodes.storage["driver"] = overlay.block_device ? "host_device" : "file";
    nodes.storage["node-name"] = fmt::format("libvirt-{}-storage", number);
    nodes.storage["filename"] = fdset(set);
    nodes.storage["auto-read-only"] = false;
    nodes.storage["discard"] = text(like_storage, "discard", "unmap");
    copy(like, nodes.node, {"discard", "detect-zeroes", "cache"});
    nodes.node["driver"] = overlay.format;
    nodes.node["node-name"] = fmt::format("libvirt-{}-format", number);
    nodes.node["read-only"] = false;
    nodes.node["file"] = nodes.storage["node-name"];
    // It is put on top by the transaction; until then QEMU must not look for what its header names.
    nodes.node["backing"] = nullptr;
    if (overlay.format == "qcow2" && disk.driver && disk.driver->metadata_cache_max_size)
        nodes.node["cache-size"] = *disk.driver->metadata_cache_max_size;
    return nodes;
}

NewNodes writable_storage(const RecordedImage& image, unsigned number, unsigned set) {
    NewNodes nodes{set, parse_json(image.storage), json::object()};
    nodes.storage["node-name"] = fmt::format("libvirt-{}-storage", number);
    nodes.storage["filename"] = fdset(set);
    nodes.storage["auto-read-only"] = false;
    nodes.storage.erase("read-only");
    return nodes;
}

void open_like_top(RecordedImage& image, const RecordedImage& top) {
    const auto like = parse_json(top.node);
    auto node = parse_json(image.node);
    for (const char* key : {"discard", "detect-zeroes"}) {
        node.erase(key);
        copy(like, node, {key});
    }
    image.node = node.dump();
}

json reopened(const RecordedImage& image, const std::string& storage, const std::string& below, bool read_only) {
    auto node = parse_json(image.node);
    node["file"] = storage;
    node["read-only"] = read_only;
    // Said only of formats that can have one.
    if (!below.empty())
        node["backing"] = below;
    else if (node.contains("backing"))
        node["backing"] = nullptr;
    return node;
}

}  // namespace virtbus::qemu
