// SPDX-License-Identifier: LGPL-2.1-or-later
// The files of moments: what a next daemon finds, also after damage and after a death between two steps.
#include "service/moments/shelf.hpp"

#include "../world.hpp"
#include "service/moments/entry.hpp"
#include "service/xml/domain_xml.hpp"
#include "service/xml/moment_xml.hpp"

namespace virtbus::tests {
namespace {

class ShelfTest : public World {
protected:
    ShelfTest() { store.prepare(); }

    MomentShelf shelf() { return {store, Kept::snapshots, uuid}; }
    std::string file(const std::string& name) const { return root + "/state/snapshots/" + uuid + "/" + name; }
    std::size_t count() { return store.snapshots(uuid); }
    bool index_is_there() const { return exists(file("index")); }

    static MomentEntry entry(const std::string& id, const std::string& name, const std::string& parent = "") {
        MomentEntry e;
        e.id = id, e.name = name, e.parent = parent, e.state = "shutoff";
        return e;
    }
    /// Bodies and index, as a verb leaves them.
    MomentIndex kept() {
        MomentIndex index;
        index.add(entry("1", "a"));
        index.add(entry("2", "b", "a"));
        index.set_current("b");
        auto on = shelf();
        run(on.write_body("1", body("a", "", 100)));
        run(on.write_body("2", body("b", "a", 200)));
        run(on.save(index));
        return index;
    }
    static std::string body(const std::string& name, const std::string& parent, std::uint64_t time) {
        SnapshotConfig config;
        config.name = name, config.parent = parent, config.creation_time = time, config.state = "shutoff";
        config.disks.push_back({.name = "vda", .place = SnapshotPlace::internal});
        config.domain =
            xml("d", "", "",
                "<disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='/img/a'/><target "
                "dev='vda' bus='virtio'/></disk>");
        return xml::format_snapshot(config);
    }

    const std::string uuid = uuid_of("d");
    Store store{host.outside_workers, files, log,
                Folders{root + "/config", root + "/state", root + "/run", root + "/cache", root + "/logs"}, "boot-1"};
};

TEST_F(ShelfTest, NothingThereIsAnEmptyIndexAndLeavesNothing) {
    EXPECT_TRUE(shelf().load().empty());
    EXPECT_EQ(count(), 0u);
    EXPECT_FALSE(exists(file("")));
}

TEST_F(ShelfTest, TheNextDaemonFindsWhatWasSaved) {
    const auto index = kept();
    EXPECT_EQ(shelf().load(), index);
    EXPECT_EQ(count(), 2u);
    EXPECT_EQ(run(shelf().read_body("2")), body("b", "a", 200));
    EXPECT_EQ(store.checkpoints(uuid), 0u);
    EXPECT_TRUE(log.lines.empty());
    auto on = shelf();
    run(on.remove("2"));
    EXPECT_FALSE(exists(file("2.xml")));
    run(on.remove("2"));
    try {
        run(on.read_body("2"));
        FAIL();
    } catch (const Error& e) {
        EXPECT_EQ(e.code(), Code::internal);
        EXPECT_NE(std::string{e.what()}.find("2.xml"), std::string::npos);
    }
}

TEST_F(ShelfTest, ABodyThatNobodyNamesGoesUnlessSomethingIsPending) {
    auto index = kept();
    write(file("3.xml"), "x");
    write(file("3.vars"), "x");
    write(file("3.tpm/state"), "x");
    write(file("notes.txt"), "an administrator's");
    index.pending = "a verb";
    run(shelf().save(index));
    EXPECT_EQ(shelf().load().pending, "a verb");
    EXPECT_TRUE(exists(file("3.xml")) && exists(file("3.vars")) && exists(file("3.tpm/state")));
    index.pending.clear();
    run(shelf().save(index));
    EXPECT_EQ(shelf().load(), index);
    EXPECT_FALSE(exists(file("3.xml")) || exists(file("3.vars")) || exists(file("3.tpm")));
    EXPECT_TRUE(exists(file("1.xml")) && exists(file("2.xml")) && exists(file("notes.txt")));
}

TEST_F(ShelfTest, AnEmptyFolderGoes) {
    run(shelf().save(MomentIndex{}));
    write(file("1.xml"), "x");
    EXPECT_EQ(count(), 0u) << "removed from the index, not yet from the folder";
    EXPECT_TRUE(shelf().load().empty());
    EXPECT_FALSE(exists(file("")));
}

TEST_F(ShelfTest, AFailedWriteLeavesTheOldIndex) {
    const auto index = kept();
    auto next = index;
    next.add(entry("3", "c", "b"));
    files.full = true;
    EXPECT_THROW(run(shelf().save(next)), Error);
    files.full = false;
    EXPECT_EQ(shelf().load(), index);
}

TEST_F(ShelfTest, ADamagedIndexIsSetAsideAndMadeAnewFromTheBodies) {
    kept();
    write(file("index"), read(file("index")).substr(0, 60));
    EXPECT_EQ(count(), 2u) << "damage hides nothing";
    const auto index = shelf().load();
    EXPECT_TRUE(log.says("is damaged"));
    EXPECT_TRUE(log.says("made anew from 2 snapshots"));
    EXPECT_TRUE(exists(file("index.damaged")));
    ASSERT_EQ(index.size(), 2u);
    EXPECT_EQ(index.get("b").parent, "a");
    EXPECT_EQ(index.get("b").id, "2");
    EXPECT_EQ(index.get("b").creation_time, 200'000'000u);
    EXPECT_TRUE(index.get("b").has_domain);
    ASSERT_EQ(index.get("b").disks.size(), 1u);
    EXPECT_EQ(index.get("b").disks[0].frozen, (ImageFile{"/img/a", "qcow2", false}));
    EXPECT_EQ(index.current(), "");
    log.lines.clear();
    EXPECT_EQ(shelf().load(), index) << "and stays so";
    EXPECT_TRUE(log.lines.empty());
}

TEST_F(ShelfTest, WithoutAnIndexOnlyUsefulBodiesCount) {
    write(file("1.xml"), body("a", "gone", 100));
    write(file("2.xml"), "<domainsnapshot><name>../x</name></domainsnapshot>");
    write(file("3.xml"), "rubbish");
    write(file("4.xml"), body("c", "d", 300));
    write(file("5.xml"), body("d", "c", 400));
    EXPECT_EQ(count(), 5u);
    const auto index = shelf().load();
    EXPECT_EQ(index.size(), 3u);
    EXPECT_EQ(index.get("a").parent, "");
    EXPECT_EQ(index.list().size(), 3u) << "no circle";
    EXPECT_TRUE(exists(file("3.xml.damaged")) && exists(file("2.xml.damaged")));
    EXPECT_EQ(count(), 3u);
}

TEST_F(ShelfTest, AFolderThatCannotBeReadDoesNotSayZero) {
    write(root + "/state/snapshots/" + uuid, "no folder");
    EXPECT_THROW(count(), Error);
    write(root + "/state/snapshots/" + uuid_of("e") + "/index", "rubbish");
    EXPECT_EQ(store.snapshots(uuid_of("e")), 1u);
}

TEST_F(ShelfTest, StoresAreKeptAndBroughtBack) {
    const auto vars = root + "/state/nvram/x_VARS.fd", tpm = root + "/state/tpm/x";
    write(vars, std::string(200'000, 'v'));
    write(tpm + "/tpm2/state", "secret");
    std::filesystem::create_symlink("/etc/passwd", tpm + "/tpm2/link");
    auto on = shelf();
    EXPECT_FALSE(on.has_store("1") || on.has_tpm("1"));
    run(on.keep_store("1", vars));
    run(on.keep_tpm("1", tpm));
    EXPECT_TRUE(on.has_store("1") && on.has_tpm("1"));
    EXPECT_EQ(read(file("1.tpm/tpm2/state")), "secret");
    EXPECT_FALSE(exists(file("1.tpm/tpm2/link"))) << "nothing is followed or copied that is no file";
    write(vars, "changed");
    write(tpm + "/tpm2/state", "changed");
    write(tpm + "/tpm2/more", "more");
    run(on.bring_store("1", vars));
    run(on.bring_tpm("1", tpm));
    EXPECT_EQ(read(vars), std::string(200'000, 'v'));
    EXPECT_EQ(read(tpm + "/tpm2/state"), "secret");
    EXPECT_FALSE(exists(tpm + "/tpm2/more"));
    EXPECT_FALSE(exists(tpm + ".new") || exists(vars + ".new"));
    std::filesystem::remove_all(tpm);
    run(on.bring_tpm("1", tpm));
    EXPECT_EQ(read(tpm + "/tpm2/state"), "secret");
    run(on.share_stores("1", "2"));
    run(on.remove("1"));
    EXPECT_FALSE(on.has_store("1") || on.has_tpm("1"));
    EXPECT_EQ(read(file("2.vars")), std::string(200'000, 'v'));
    EXPECT_EQ(read(file("2.tpm/tpm2/state")), "secret");
    EXPECT_THROW(run(on.bring_store("1", vars)), Error);
    EXPECT_EQ(read(vars), std::string(200'000, 'v'));
}

TEST_F(ShelfTest, AFolderOfTheGuestsChoiceIsBounded) {
    const auto tpm = root + "/state/tpm/x";
    write(tpm + "/1/2/3/4/5/6/7/state", "x");
    run(shelf().keep_tpm("0", tpm));
    write(tpm + "/1/2/3/4/5/6/7/8/state", "x");
    EXPECT_THROW(run(shelf().keep_tpm("1", tpm)), Error);
    EXPECT_FALSE(shelf().has_tpm("1") || exists(file("1.tpm.new")));
}

TEST_F(ShelfTest, CheckpointsHaveAShelfOfTheirOwn) {
    MomentShelf on{store, Kept::checkpoints, uuid};
    CheckpointConfig config;
    config.name = "c", config.creation_time = 5;
    config.disks = {{.name = "vda", .checkpoint = "bitmap"}, {.name = "vdb", .checkpoint = "no"}};
    run(on.write_body("1", xml::format_checkpoint(config)));
    EXPECT_EQ(store.checkpoints(uuid), 1u);
    EXPECT_EQ(count(), 0u);
    const auto index = on.load();
    ASSERT_EQ(index.get("c").disks.size(), 2u);
    EXPECT_EQ(index.get("c").disks[0].bitmap, "c");
    EXPECT_EQ(index.get("c").disks[1].bitmap, "");
    EXPECT_EQ(index.kind(), MomentKind::checkpoint);
}

TEST(MomentEntryOf, TellsKindsAndDisks) {
    const auto kind = [](const std::string& inside) {
        return kind_of(xml::parse_snapshot("<domainsnapshot>" + inside + "</domainsnapshot>"));
    };
    EXPECT_EQ(kind("<state>disk-snapshot</state>"), SnapshotKind::disk_only);
    EXPECT_EQ(kind("<state>running</state><memory file='/m'/>"), SnapshotKind::external);
    EXPECT_EQ(kind("<state>shutoff</state><disks><disk name='a' snapshot='external'/></disks>"),
              SnapshotKind::external);
    EXPECT_EQ(kind("<state>running</state><disks><disk name='a' snapshot='internal'/></disks>"),
              SnapshotKind::internal);

    const auto domain =
        xml::parse_domain(
            "<domain type='qemu'><name>d</name><memory>1</memory><os><type>hvm</type></os><devices>"
            "<disk type='file'><driver name='qemu' type='qcow2'/><source file='/a'/><target dev='vda'/></disk>"
            "<disk type='block'><driver name='qemu' type='raw'/><source dev='/dev/b'/><target dev='vdb'/></disk>"
            "<disk type='file' device='cdrom'><source file='/iso'/><target dev='sda'/></disk></devices></domain>")
            .config;
    auto config = xml::parse_snapshot(
        "<domainsnapshot><name>s</name><creationTime>18446744073709551615</creationTime><state>running</state><disks>"
        "<disk name='/a' type='block'><driver type='qcow2'/><source dev='/dev/over'/></disk></disks></domainsnapshot>");
    const auto entry = entry_of(config, &domain);
    EXPECT_EQ(entry.creation_time, UINT64_MAX);
    ASSERT_EQ(entry.disks.size(), 3u);
    EXPECT_EQ(entry.disks[0],
              (MomentDisk{"vda", SnapshotPlace::external, {"/a", "qcow2"}, {"/dev/over", "qcow2", true}, ""}));
    EXPECT_EQ(entry.disks[1], (MomentDisk{"vdb", SnapshotPlace::no, {"/dev/b", "raw", true}, {}, ""}));
    EXPECT_EQ(entry.disks[2].place, SnapshotPlace::no);
    config.disks.clear();
    const auto internal = entry_of(config, &domain);
    EXPECT_EQ(internal.disks[0].place, SnapshotPlace::internal);
    EXPECT_EQ(internal.disks[1].place, SnapshotPlace::internal);
    EXPECT_EQ(internal.disks[2].place, SnapshotPlace::no) << "an ISO has no snapshots";
}

}  // namespace
}  // namespace virtbus::tests
