// SPDX-License-Identifier: LGPL-2.1-or-later
// Overlays and merges in a real QEMU, byte for byte, and what the next daemon makes of what the last one left.
#include "tests/qemu/block_bed.hpp"

namespace virtbus::tests {
namespace {

using Overlays = BlockGuest;

TEST_F(Overlays, LieOnTopBelowAllFilters) {
    make_image("a.qcow2", 1);
    make_image("b.qcow2", 2);
    auto limited = disk(path("b.qcow2"), "vdb");
    limited.iotune.emplace().total_bytes_sec = 1 << 30;
    limited.driver->copy_on_read = true;
    start({disk(path("a.qcow2")), limited});
    qmp("block-dirty-bitmap-add", {{"node", "libvirt-1-format"}, {"name", "since"}, {"persistent", true}});
    qmp("block-dirty-bitmap-add", {{"node", "libvirt-1-format"}, {"name", "passing"}});
    put({{"vda", {make_overlay("a1.qcow2", "a.qcow2"), "qcow2"}},
         {"vdb", {make_overlay("b1.qcow2", "b.qcow2"), "qcow2"}}});
    EXPECT_EQ(top(0), path("a1.qcow2"));
    EXPECT_EQ(top(1), path("b1.qcow2"));
    EXPECT_EQ(events.told.back().config, core->config);
    EXPECT_EQ(qemu::GuestRecord::from_text(events.told.back().state).changing.size(), 0U);
    write(7, 5);
    write(8, 5, "virtio-disk1");
    for (unsigned i = 0; i < 2; ++i) {
        expect_bytes(i + 1, i + 1, fmt::format("virtio-disk{}", i));
        expect_bytes(i + 7, 5, fmt::format("virtio-disk{}", i));
    }
    const auto nodes = qmp("query-named-block-nodes", {{"flat", true}});
    const auto overlay = std::find_if(nodes.begin(), nodes.end(),
                                      [](const json& node) { return node["node-name"] == "libvirt-3-format"; });
    ASSERT_NE(overlay, nodes.end());
    ASSERT_EQ((*overlay)["dirty-bitmaps"].size(), 1U);
    EXPECT_EQ((*overlay)["dirty-bitmaps"][0]["name"], "since");
    EXPECT_EQ((*overlay)["dirty-bitmaps"][0]["persistent"], true);
    end();
    shell("qemu-io -r -c 'read -P 0 5M 1M' a.qcow2 && qemu-io -r -c 'read -P 0 5M 1M' b.qcow2");
    shell("qemu-io -r -c 'read -P 7 5M 1M' -c 'read -P 1 1M 1M' a1.qcow2");
    shell("qemu-io -r -c 'read -P 8 5M 1M' -c 'read -P 2 2M 1M' b1.qcow2");
}

TEST_F(Overlays, ComeAllOrNot) {
    make_image("a.qcow2", 1);
    make_image("b.qcow2", 2);
    start({disk(path("a.qcow2")), disk(path("b.qcow2"), "vdb")});
    qmp("block-dirty-bitmap-add", {{"node", "libvirt-2-format"}, {"name", "since"}, {"persistent", true}});
    const auto before = inventory();
    const auto config = core->config;
    const auto parts = core->record.parts;
    const ImageFile good{make_overlay("a1.qcow2", "a.qcow2"), "qcow2"};
    const auto try_with = [&](ImageFile other) { return refusal([&] { put({{"vda", good}, {"vdb", other}}); }).first; };
    EXPECT_EQ(try_with({path("missing"), "qcow2"}), Code::invalid_state);
    EXPECT_EQ(try_with({path("b.qcow2"), "qcow2"}), Code::unsupported_configuration) << "it lies on nothing";
    // The transaction itself fails: the bitmap is in the overlay already.
    make_overlay("b1.qcow2", "b.qcow2");
    shell("qemu-img bitmap --add b1.qcow2 since");
    EXPECT_EQ(try_with({path("b1.qcow2"), "qcow2"}), Code::hypervisor_failed);
    EXPECT_EQ(refusal([&] { put({{"vdz", good}}); }).first, Code::no_such_device);
    EXPECT_EQ(inventory(), before);
    EXPECT_EQ(core->config, config);
    EXPECT_EQ(core->record.parts, parts);
    // And the good one can still come.
    put({{"vda", good}});
    EXPECT_EQ(top(), good.path);
    end();
}

TEST_F(Overlays, GoWithTheDisk) {
    make_image("a.qcow2", 1);
    make_image("b.qcow2", 2);
    start({disk(path("a.qcow2"))});
    const auto before = inventory();
    const DeviceRequest request{disk(path("b.qcow2"), "sda", "scsi"), nullptr, bed.resources, false};
    Notes notes;
    const auto record = on_record();
    leave();
    GuestEnd over;
    auto guest = bed.run(bed.driver->adopt(record.config, record.state, notes, over));
    bed.run(guest->attach(request, {}));
    bed.run(
        guest->disk_work()->put_overlays({{"sda", {make_overlay("b1.qcow2", "b.qcow2"), "qcow2"}}}, bed.resources, {}));
    EXPECT_EQ(guest->config().devices.disks.at(1).source->file, path("b1.qcow2"));
    bed.run(guest->detach("scsi0-0-0-0", false, {}));
    const Record later{guest->config(), guest->driver_state()};
    guest.reset();
    adopt(later);
    EXPECT_EQ(inventory(), before);
    end();
}

TEST_F(Overlays, CanBePutAfterASave) {
    make_image("a.qcow2", 1);
    start({disk(path("a.qcow2"))});
    qmp("block-dirty-bitmap-add", {{"node", "libvirt-1-format"}, {"name", "since"}, {"persistent", true}});
    const Record record = on_record();
    leave();
    Notes notes;
    GuestEnd over;
    auto guest = bed.run(bed.driver->adopt(record.config, record.state, notes, over));
    bed.run(guest->save(Fd{::open(path("memory").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600)}, {}, {}, false));
    bed.run(
        guest->disk_work()->put_overlays({{"vda", {make_overlay("a1.qcow2", "a.qcow2"), "qcow2"}}}, bed.resources, {}));
    bed.run(guest->undo_save(true));
    const Record later{guest->config(), guest->driver_state()};
    guest.reset();
    adopt(later);
    EXPECT_EQ(core->life.state(), State::running);
    write(7, 5);
    expect_bytes(1, 1);
    end();
    shell("qemu-img info a1.qcow2 | grep -q 'name: since'");
    shell("qemu-io -r -c 'read -P 0 5M 1M' a.qcow2 && qemu-io -r -c 'read -P 7 5M 1M' a1.qcow2");
}

TEST_F(Overlays, AreKnownToTheNextDaemonWhateverItKnew) {
    make_image("a.qcow2", 1);
    start({disk(path("a.qcow2"))});
    const auto before = inventory();
    const auto config = core->config;
    events.told.clear();
    put({{"vda", {make_overlay("a1.qcow2", "a.qcow2"), "qcow2"}}});
    const auto parts = core->record.parts;
    const auto told = events.told;
    ASSERT_FALSE(told.empty());
    EXPECT_EQ(told.front().config, config) << "the intention is on record before the deed";
    for (const auto& record : told) {
        adopt(record);
        EXPECT_EQ(top(), path("a1.qcow2"));
        EXPECT_EQ(core->record.parts, parts);
    }
    // The same intention, but it never came to the deed.
    auto intended = qemu::GuestRecord::from_text(core->record.text());
    intended.changing["virtio-disk0"] = intended.parts["virtio-disk0"];
    auto& planned = intended.changing["virtio-disk0"];
    planned.insert(planned.end() - 1, {"set:77", "blockdev:libvirt-77-storage", "blockdev:libvirt-77-format"});
    const auto now = core->config;
    adopt({now, intended.text()});
    EXPECT_EQ(core->config, now);
    EXPECT_EQ(core->record.parts, parts);
    EXPECT_EQ(inventory().first, before.first + 2);
    end();
}

}  // namespace
}  // namespace virtbus::tests
