// SPDX-License-Identifier: LGPL-2.1-or-later
// What stands behind disks as values: the images in it, the definition that follows, QEMU's word on it.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "qemu/block/carried_bitmaps.hpp"
#include "qemu/block/graph.hpp"
#include "qemu/block/open_images.hpp"
#include "qemu/json.hpp"

namespace virtbus::qemu {
namespace {

using nlohmann::json;
using Texts = std::vector<std::string>;

const Texts two_images{"set:2",
                       "blockdev:libvirt-2-storage",
                       "blockdev:libvirt-2-format",
                       "set:1",
                       "blockdev:libvirt-1-storage",
                       "blockdev:libvirt-1-format",
                       "object:throttle-virtio-disk0",
                       "blockdev:libvirt-1-throttle",
                       "device:virtio-disk0"};

GuestRecord record_of_two() {
    GuestRecord record;
    record.parts["virtio-disk0"] = two_images;
    record.images["libvirt-1-format"] = {{"/top", "qcow2"}, R"({"node-name":"libvirt-1-format","backing":"x"})", "{}"};
    record.images["libvirt-2-format"] = {{"/base", "raw"}, "{}", "{}"};
    return record;
}

/// The answer of x-debug-query-block-graph for "parent name child" each; '/' begins a device.
json graph_of(const std::vector<std::array<std::string, 3>>& edges) {
    json graph{{"nodes", json::array()}, {"edges", json::array()}};
    std::map<std::string, int> ids;
    const auto id = [&](const std::string& name) {
        const auto [at, fresh] = ids.emplace(name, static_cast<int>(ids.size()) + 1);
        if (fresh)
            graph["nodes"].push_back({{"id", at->second},
                                      {"name", name},
                                      {"type", name.starts_with("/") ? "block-backend" : "block-driver"}});
        return at->second;
    };
    for (const auto& [parent, name, child] : edges)
        graph["edges"].push_back({{"parent", id(parent)}, {"child", id(child)}, {"name", name}});
    return graph;
}

json nodes_of(const json& graph) {
    json nodes = json::array();
    for (const auto& node : graph["nodes"])
        nodes.push_back({{"node-name", node["name"]}, {"ro", node["name"] != "libvirt-1-format"}});
    return nodes;
}

TEST(DiskParts, AreImagesAndWhatIsAbove) {
    auto disk = DiskParts::of(two_images);
    ASSERT_EQ(disk.images.size(), 2U);
    EXPECT_EQ(disk.images[0].node(), "libvirt-2-format");
    EXPECT_EQ(disk.images[1].storage(), "libvirt-1-storage");
    EXPECT_EQ(disk.root(), "libvirt-1-throttle");
    EXPECT_EQ(disk.texts(), two_images);
    EXPECT_TRUE(disk.images[0].exchange_storage("7", "libvirt-7-storage"));
    EXPECT_EQ(disk.texts()[0], "set:7");
    EXPECT_EQ(disk.texts()[1], "blockdev:libvirt-7-storage");
    ImageParts remote{{"blockdev:libvirt-3-storage", "blockdev:libvirt-3-format"}};
    EXPECT_FALSE(remote.exchange_storage("7", "libvirt-7-storage")) << "it has no set";
    EXPECT_EQ(DiskParts::of({"device:ide0-0-0"}).root(), "");
}

TEST(DiskParts, TheDefinitionFollows) {
    auto record = record_of_two();
    record.images["libvirt-5-format"] = {{"/new", "qcow2"}, "{}", "{}"};
    Disk disk;
    disk.source.emplace().file = "/top";
    disk.driver.emplace().type = "qcow2";
    const auto before = DiskParts::of(two_images);
    auto now = before;
    now.images.push_back({{"set:5", "blockdev:libvirt-5-storage", "blockdev:libvirt-5-format"}});
    follow_images(disk, before, now, record);
    EXPECT_EQ(disk.source->file, "/new");
    auto bottom = now;
    bottom.images.erase(bottom.images.begin() + 1, bottom.images.end());
    follow_images(disk, now, bottom, record);
    EXPECT_EQ(disk.source->file, "/base");
    EXPECT_EQ(disk.driver->type, "raw");
}

TEST(BlockGraph, SeesImagesThroughFilters) {
    const auto graph = graph_of({{"/machine/peripheral/virtio-disk0/virtio-backend", "root", "libvirt-1-throttle"},
                                 {"libvirt-1-throttle", "file", "#block1"},
                                 {"#block1", "backing", "libvirt-1-format"},
                                 {"libvirt-1-format", "file", "libvirt-1-storage"},
                                 {"libvirt-1-format", "backing", "libvirt-2-format"},
                                 {"libvirt-2-format", "file", "libvirt-2-storage"}});
    const BlockGraph known{graph, nodes_of(graph)};
    EXPECT_EQ(known.chain("virtio-disk0"), (Texts{"libvirt-1-format", "libvirt-2-format"}));
    EXPECT_TRUE(known.is("virtio-disk0", DiskParts::of(two_images)));
    EXPECT_TRUE(known.is_writable("libvirt-1-format"));
    EXPECT_FALSE(known.is_writable("libvirt-2-format"));
    auto other = DiskParts::of(two_images);
    other.images[0].exchange_storage("7", "libvirt-7-storage");
    EXPECT_FALSE(known.is("virtio-disk0", other)) << "it reads another file";
    other = DiskParts::of(two_images);
    other.images.erase(other.images.begin());
    EXPECT_FALSE(known.is("virtio-disk0", other)) << "something lies below";
    EXPECT_FALSE(known.is("virtio-disk1", DiskParts::of(two_images)));
}

TEST(BlockGraph, IsNotLedInCirclesNorByNonsense) {
    const auto circle = graph_of({{"/disk", "root", "a"}, {"a", "file", "b"}, {"b", "backing", "a"}});
    EXPECT_TRUE(BlockGraph(circle, nodes_of(circle)).chain("/disk").empty());
    for (const auto& odd : {json{}, json(7), json::array({1, "x"}), json{{"nodes", 3}, {"edges", {{{"parent", "x"}}}}}})
        EXPECT_FALSE(BlockGraph(odd, odd).is("virtio-disk0", DiskParts::of(two_images)));
}

TEST(GuestRecord, KeepsWhatIsUnderWayAndImagesInUse) {
    auto record = record_of_two();
    record.images["libvirt-9-format"] = {{"/gone", "qcow2"}, "{}", "{}"};
    record.changing["virtio-disk0"] = {"set:3", "blockdev:libvirt-3-format"};
    record.job = "virtbus-merge-vda";
    record.resume = true;
    record.closing = {4, 7};
    const auto read = GuestRecord::from_text(record.text());
    EXPECT_EQ(read.changing, record.changing);
    EXPECT_EQ(read.job, record.job);
    EXPECT_TRUE(read.resume);
    EXPECT_EQ(read.closing, record.closing);
    EXPECT_EQ(read.images.size(), 2U);
    EXPECT_EQ(read.images.at("libvirt-1-format"), record.images.at("libvirt-1-format"));
}

TEST(OpenImages, AreOpenedLikeTheTop) {
    const RecordedImage top{
        {"/top", "qcow2"},
        R"({"node-name":"libvirt-1-format","discard":"unmap","cache":{"direct":true,"no-flush":false}})",
        R"({"aio":"io_uring","driver":"host_device","discard":"unmap","cache":{"direct":true}})"};
    const auto nodes = overlay_nodes(top, {"/new", "qcow2"}, Disk{}, 5, 9);
    EXPECT_EQ(nodes.storage["driver"], "file");
    EXPECT_EQ(nodes.storage["filename"], "/dev/fdset/9");
    EXPECT_EQ(nodes.storage["aio"], "io_uring");
    EXPECT_EQ(nodes.node["discard"], "unmap");
    EXPECT_EQ(nodes.node["cache"]["direct"], true);
    EXPECT_TRUE(nodes.node["backing"].is_null());
    const RecordedImage base{{"/base", "raw"}, R"({"node-name":"libvirt-2-format","driver":"raw"})", "{}"};
    const auto options = reopened(base, "libvirt-7-storage", "", true);
    EXPECT_EQ(options["file"], "libvirt-7-storage");
    EXPECT_FALSE(options.contains("backing")) << "a raw image has none";
    EXPECT_EQ(reopened(top, "s", "libvirt-2-format", false)["backing"], "libvirt-2-format");
}

// ---- bitmaps of images that leave a chain

/// "r" records, "i" is inconsistent, "t" is not kept in the image.
json with_bitmaps(const std::map<std::string, std::vector<std::pair<std::string, std::string>>>& images) {
    json nodes = json::array();
    for (const auto& [name, bitmaps] : images) {
        json list = json::array();
        for (const auto& [bitmap, flags] : bitmaps)
            list.push_back({{"name", bitmap},
                            {"granularity", 4096},
                            {"recording", flags.find('r') != flags.npos},
                            {"inconsistent", flags.find('i') != flags.npos},
                            {"persistent", flags.find('t') == flags.npos}});
        nodes.push_back({{"node-name", name}, {"dirty-bitmaps", list}});
    }
    return nodes;
}

/// "add one, merge one top mid, enable one".
std::string said(const json& actions) {
    std::string all;
    for (const auto& action : actions) {
        const auto& data = action["data"];
        EXPECT_EQ(data["node"], "into");
        all += (all.empty() ? "" : ", ") + text(action, "type").substr(std::string{"block-dirty-bitmap-"}.size());
        all += " " + (data.contains("name") ? text(data, "name") : text(data, "target"));
        for (const auto& source : member(data, "bitmaps")) all += " " + text(source, "node");
    }
    return all;
}

TEST(CarriedBitmaps, GoWhereTheBytesGo) {
    const auto nodes = with_bitmaps({{"top", {{"one", ""}, {"two", "r"}, {"own", "rt"}}},
                                     {"mid", {{"one", "r"}, {"old", ""}}},
                                     {"into", {{"one", "r"}}},
                                     {"other", {{"x", "r"}}}});
    EXPECT_EQ(said(carried_bitmaps(nodes, {{"top", "mid"}, "into", true})),
              "add old, merge old mid, merge one top mid, disable one, add two, merge two top, enable two");
    // What takes up what lies below goes on as it was.
    EXPECT_EQ(said(carried_bitmaps(nodes, {{"mid"}, "into", false})), "add old, merge old mid, merge one mid");
    EXPECT_EQ(said(carried_bitmaps(nodes, {{"nobody"}, "into", true})), "");
    EXPECT_EQ(
        carried_bitmaps(nodes, {{"top"}, "into", true})[2]["data"],
        (json{{"node", "into"}, {"name", "two"}, {"persistent", true}, {"granularity", 4096}, {"disabled", true}}));
}

TEST(CarriedBitmaps, EndWithTheFormatThatKeepsThem) {
    auto nodes = with_bitmaps({{"top", {{"one", "r"}}}, {"into", {}}});
    for (auto& node : nodes) node["drv"] = node["node-name"] == "into" ? "raw" : "qcow2";
    EXPECT_EQ(said(carried_bitmaps(nodes, {{"top"}, "into", true})), "");
}

TEST(CarriedBitmaps, AreKnownAsAWholeOrNotAtAll) {
    const auto nodes = with_bitmaps({{"top", {{"one", "ri"}, {"two", "i"}, {"three", "r"}, {"four", "i"}}},
                                     {"into", {{"one", "r"}, {"two", ""}, {"three", "i"}}}});
    // A bitmap that recorded while the bytes came has them all.
    EXPECT_EQ(said(carried_bitmaps(nodes, {{"top"}, "into", true})), "remove two");
    EXPECT_EQ(said(carried_bitmaps(nodes, {{"top"}, "into", false})), "remove one, remove two");
}

}  // namespace
}  // namespace virtbus::qemu
