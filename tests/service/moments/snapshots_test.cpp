// SPDX-License-Identifier: LGPL-2.1-or-later
// The rules of the verbs on snapshots and their borders, on domains that run nothing.
#include <gtest/gtest.h>

#include "tests/service/world.hpp"

namespace virtbus::tests {
namespace {

class SnapshotRules : public World {
protected:
    SnapshotRules() {
        boot();
        std::filesystem::create_directories(root + "/img");
        write(image(), "");
    }
    std::string image() const { return root + "/img/web.qcow2"; }
    std::string disk() const {
        return "<disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='" + image() +
               "'/><target dev='vda' bus='virtio'/></disk>";
    }
    DomainPtr defined(const std::string& behaviour = {}) { return define(xml("web", behaviour, {}, disk())); }
    DomainPtr started(const std::string& behaviour = {}) {
        auto domain = defined(behaviour);
        finish(domain->start({}, caller));
        return domain;
    }
    void take(const std::string& name, SnapshotCreateOptions options = {}, const std::string& inner = {}) {
        finish(get("web")
                   ->snapshots()
                   .create("<domainsnapshot><name>" + name + "</name>" + inner + "</domainsnapshot>", options, caller)
                   .job);
    }
    void redefine(const std::string& text, SnapshotCreateOptions options = {}) {
        options.redefine = true;
        finish(get("web")->snapshots().create(text, options, caller).job);
    }
    void revert(const std::string& name, RevertOptions options = {}) {
        finish(get("web")->snapshots().revert(name, options, caller));
    }
    void remove(const std::string& name, MomentDeleteOptions options = {}) {
        finish(get("web")->snapshots().remove(name, options, caller));
    }
    std::string text(const std::string& name) { return run(get("web")->snapshots().xml(name, true)); }
    std::vector<std::string> names() {
        std::vector<std::string> list;
        for (const auto* view : get("web")->snapshots().list()) list.push_back(view->name);
        return list;
    }
    State state() { return get("web")->view().state; }
};

TEST_F(SnapshotRules, ANameIsGivenOnce) {
    defined();
    take("one");
    EXPECT_REFUSED(take("one"), Code::already_exists, "one");
    EXPECT_REFUSED(take("a/b"), Code::invalid_xml, "a/b");
    EXPECT_REFUSED(take(".hidden"), Code::invalid_xml, ".hidden");
    EXPECT_EQ(names(), std::vector<std::string>{"one"});
}

TEST_F(SnapshotRules, WithoutANameItIsTheTime) {
    defined();
    auto& snapshots = get("web")->snapshots();
    const auto first = snapshots.create("<domainsnapshot/>", {}, caller);
    finish(first.job);
    EXPECT_EQ(first.name, std::to_string(snapshots.get(first.name).creation_time / 1'000'000));
    const auto second = snapshots.create("<domainsnapshot/>", {}, caller);
    finish(second.job);
    EXPECT_NE(second.name, first.name);
    EXPECT_EQ(snapshots.get(second.name).parent, first.name);
}

TEST_F(SnapshotRules, TheViewTellsOfTheTree) {
    defined();
    take("one");
    take("two");
    take("three");
    EXPECT_EQ(get("web")->view().current_snapshot, "three");
    remove("two");
    auto& snapshots = get("web")->snapshots();
    EXPECT_EQ(snapshots.get("three").parent, "one");
    EXPECT_EQ(snapshots.get("one").children, std::vector<std::string>{"three"});
    remove("three");
    EXPECT_EQ(get("web")->view().current_snapshot, "one");
    EXPECT_TRUE(snapshots.get("one").current);
}

TEST_F(SnapshotRules, DeletingWithChildrenOrOnlyThem) {
    defined();
    for (const auto* name : {"one", "two", "three"}) take(name);
    EXPECT_REFUSED(remove("one", {.children = true, .children_only = true}), Code::conflicting_options, "children");
    remove("two", {.children_only = true});
    EXPECT_EQ(names(), (std::vector<std::string>{"one", "two"}));
    remove("one", {.children = true});
    EXPECT_TRUE(names().empty());
    EXPECT_REFUSED(remove("one"), Code::no_such_snapshot, "one");
}

TEST_F(SnapshotRules, RecordsAreForgottenAllOrNone) {
    defined();
    for (const auto* name : {"one", "two", "three"}) take(name);
    files.steps_left = 0;
    EXPECT_REFUSED(remove("one", {.children = true, .metadata_only = true}), Code::internal, "");
    files.steps_left = 1;
    boot();
    EXPECT_EQ(names().size(), 3u);
    remove("one", {.children = true, .metadata_only = true});
    files.steps_left = -1;
    boot();
    EXPECT_TRUE(names().empty());
}

TEST_F(SnapshotRules, ARestartFindsTheTreeAsItWas) {
    started();
    take("one");
    take("two");
    const auto before = text("two");
    boot();
    EXPECT_EQ(names(), (std::vector<std::string>{"one", "two"}));
    EXPECT_EQ(get("web")->view().current_snapshot, "two");
    EXPECT_EQ(text("two"), before);
}

// ---- revert

TEST_F(SnapshotRules, RevertBringsTheStateBack) {
    started();
    take("running");
    finish(get("web")->suspend(caller));
    take("paused");
    finish(get("web")->stop({}, caller));
    take("off");
    revert("running");
    EXPECT_EQ(state(), State::running);
    revert("paused");
    EXPECT_EQ(state(), State::paused);
    revert("off");
    EXPECT_EQ(state(), State::shutoff);
    revert("off", {.paused = true});
    EXPECT_EQ(state(), State::paused);
    revert("off", {.running = true});
    EXPECT_EQ(state(), State::running);
    revert("running", {.paused = true});
    EXPECT_EQ(state(), State::paused);
    EXPECT_REFUSED(revert("off", {.running = true, .paused = true}), Code::conflicting_options, "running");
}

TEST_F(SnapshotRules, RevertBringsTheDefinitionBack) {
    defined();
    take("one");
    finish(get("web")->set_vcpus(1, ChangeScope::persistent, false, caller));
    EXPECT_EQ(get("web")->view().vcpus, 1u);
    revert("one");
    EXPECT_EQ(get("web")->view().vcpus, 2u);
}

TEST_F(SnapshotRules, RevertWithoutADefinitionIsRisky) {
    defined();
    redefine(
        "<domainsnapshot><name>bare</name><creationTime>1700000000</creationTime><state>shutoff</state>"
        "</domainsnapshot>");
    EXPECT_FALSE(get("web")->snapshots().get("bare").has_domain_xml);
    EXPECT_REFUSED(revert("bare"), Code::revert_risky, "force");
    revert("bare", {.force = true});
    EXPECT_EQ(get("web")->view().current_snapshot, "bare");
}

TEST_F(SnapshotRules, RevertBesideAManagedSaveIsRisky) {
    started();
    take("memory");
    finish(get("web")->stop({}, caller));
    take("off");
    finish(get("web")->start({}, caller));
    finish(get("web")->managed_save({}, caller));
    EXPECT_REFUSED(revert("off"), Code::revert_risky, "managed-save");
    EXPECT_TRUE(get("web")->view().has_managed_save);
    revert("off", {.force = true});
    EXPECT_FALSE(get("web")->view().has_managed_save);
}

TEST_F(SnapshotRules, RevertToAnotherMachineIsRisky) {
    started();
    take("two-cpus");
    finish(get("web")->stop({}, caller));
    finish(get("web")->set_memory(std::uint64_t{32} << 20, ChangeScope::persistent, true, caller));
    finish(get("web")->start({}, caller));
    EXPECT_REFUSED(revert("two-cpus"), Code::revert_risky, "memory");
    EXPECT_EQ(state(), State::running);
    revert("two-cpus", {.force = true});
    EXPECT_EQ(get("web")->view().max_memory, std::uint64_t{64} << 20);
}

TEST_F(SnapshotRules, ATransientDomainIsNotRevertedIntoNothing) {
    run(room->domains().create(xml("web", {}, {}, disk()), {}, caller));
    take("one", {.disk_only = true});
    EXPECT_REFUSED(revert("one"), Code::invalid_state, "running");
    EXPECT_REFUSED(take("two", {.halt = true}), Code::invalid_state, "halt");
    finish(get("web")->stop({}, caller));
    EXPECT_EQ(room->domains().find(uuid_of("web")), nullptr);
    EXPECT_FALSE(exists(root + "/state/snapshots/" + uuid_of("web"))) << "the records go with it";
}

TEST_F(SnapshotRules, AMissingImageKeepsFromReverting) {
    defined();
    take("one");
    std::filesystem::remove(image());
    EXPECT_REFUSED(revert("one"), Code::invalid_state, image());
}

TEST_F(SnapshotRules, TheVariableStoreAndTheTpmComeBackToo) {
    const auto store = root + "/img/vars.fd", tpm = root + "/state/tpm/" + uuid_of("web") + "/tpm2/state";
    auto text = xml("web", {}, {}, disk());
    const std::string_view os = "</type></os>";
    text.replace(text.find(os), os.size(),
                 "</type><loader readonly='yes' type='pflash'>/usr/share/f.fd</loader><nvram format='raw'>" + store +
                     "</nvram></os>");
    define(text);
    write(store, "then");
    write(tpm, "then");
    take("one");
    write(store, "now");
    write(tpm, "now");
    revert("one", {.reset_nvram = true});
    EXPECT_EQ(read(store), "now") << "it is made afresh at the next start";
    EXPECT_EQ(read(tpm), "then");
    write(tpm, "now");
    revert("one");
    EXPECT_EQ(read(store), "then");
    EXPECT_EQ(read(tpm), "then");
    remove("one");
    EXPECT_EQ(read(store), "then");
}

// ---- others

TEST_F(SnapshotRules, ATpmComesBackWhereTheDefinitionKeepsIt) {
    for (const std::string kind : {"file", "dir"}) {
        SCOPED_TRACE(kind);
        const auto place = root + "/tpm-" + kind, state = kind == "file" ? place : place + "/tpm2-00.permall";
        auto text = xml("web", {}, {}, disk());
        const std::string_view devices = "</devices>";
        text.replace(text.find(devices), devices.size(),
                     "<tpm model='tpm-crb'><backend type='emulator' version='2.0'><source type='" + kind + "' path='" +
                         place + "'/></backend></tpm></devices>");
        define(text);
        write(state, "then");
        take("one");
        write(state, "now");
        revert("one");
        EXPECT_EQ(read(state), "then");
        remove("one");
    }
}

TEST_F(SnapshotRules, OverlaysBesideAManagedSaveAreRefused) {
    started();
    finish(get("web")->managed_save({}, caller));
    EXPECT_REFUSED(take("out", {.disk_only = true}), Code::has_managed_save, "managed-save");
    take("in");  // inside the image nothing changes that the saved memory knows of
}

TEST_F(SnapshotRules, UndefineAsksForTheRecords) {
    defined();
    take("one");
    take("two");
    EXPECT_REFUSED(undefine("web"), Code::has_snapshots, "2 snapshots");
    audience.told.clear();
    undefine("web", {.snapshots_metadata = true});
    EXPECT_TRUE(audience.heard("snapshot-removed one"));
    EXPECT_EQ(audience.told.back(), "removed web");
}

TEST_F(SnapshotRules, ADomainWhoseDefinitionWasLostFindsItsRecords) {
    defined();
    take("one");
    room.reset();
    std::filesystem::remove(definition_path("web"));
    boot();
    EXPECT_EQ(room->domains().find(uuid_of("web")), nullptr);
    defined();
    EXPECT_EQ(names(), std::vector<std::string>{"one"});
    EXPECT_EQ(get("web")->view().current_snapshot, "one");
}

TEST_F(SnapshotRules, RedefiningKeepsChildrenAndCurrent) {
    defined();
    take("one");
    take("two");
    redefine(text("one"));
    EXPECT_EQ(get("web")->view().current_snapshot, "two");
    EXPECT_EQ(get("web")->snapshots().get("one").children, std::vector<std::string>{"two"});
    redefine(text("one"), {.current = true});
    EXPECT_EQ(get("web")->view().current_snapshot, "one");
}

TEST_F(SnapshotRules, AFileThatOnlyARecordSpeaksOfIsNotRemoved) {
    defined();
    const auto precious = root + "/precious";
    write(precious, "x");
    redefine(
        "<domainsnapshot><name>x</name><state>running</state><creationTime>1</creationTime>"
        "<memory snapshot='external' file='" +
        precious + "'/><disks><disk name='vda' snapshot='no'/></disks></domainsnapshot>");
    remove("x");
    EXPECT_TRUE(names().empty());
    EXPECT_TRUE(exists(precious));
}

TEST_F(SnapshotRules, AFailedWriteLeavesTheOldRecord) {
    defined();
    take("one");
    const auto before = text("one");
    auto changed = before;
    changed.insert(changed.find("<state>"), "<description>new</description>");
    files.full = true;
    EXPECT_REFUSED(redefine(changed), Code::no_space, "");
    files.full = false;
    EXPECT_EQ(text("one"), before);
    redefine(changed);
    EXPECT_EQ(get("web")->snapshots().get("one").description, "new");
}

TEST_F(SnapshotRules, AllGoOutAndComeBack) {
    defined();
    for (const auto* name : {"one", "two", "three"}) take(name);
    const auto document = run(get("web")->snapshots().export_all());
    undefine("web", {.snapshots_metadata = true});
    defined();
    EXPECT_TRUE(names().empty());
    EXPECT_EQ(run(get("web")->snapshots().import_all(document, caller)),
              (std::vector<std::string>{"one", "two", "three"}));
    EXPECT_EQ(get("web")->snapshots().get("three").parent, "two");
    EXPECT_EQ(get("web")->view().current_snapshot, "three");
    boot();
    EXPECT_EQ(names(), (std::vector<std::string>{"one", "two", "three"}));
}

TEST_F(SnapshotRules, AnImportIsAllOrNone) {
    defined();
    take("one");
    const auto good =
        "<domainsnapshot><name>a</name><creationTime>1</creationTime><state>shutoff</state>"
        "</domainsnapshot>";
    const auto bad =
        "<domainsnapshot><name>b</name><creationTime>1</creationTime><state>shutoff</state>"
        "<parent><name>nowhere</name></parent></domainsnapshot>";
    EXPECT_REFUSED(run(get("web")->snapshots().import_all(
                       std::string{"<domainsnapshots>"} + good + bad + "</domainsnapshots>", caller)),
                   Code::invalid_xml, "nowhere");
    EXPECT_EQ(names(), std::vector<std::string>{"one"});
    boot();
    EXPECT_EQ(names(), std::vector<std::string>{"one"});
}

TEST_F(SnapshotRules, AFullDiskLeavesNoTrace) {
    defined();
    files.full = true;
    EXPECT_REFUSED(take("one"), Code::no_space, "");
    files.full = false;
    EXPECT_TRUE(names().empty());
    take("one");
    EXPECT_EQ(names(), std::vector<std::string>{"one"});
}

/// The images were exchanged in the running machine, the disk of the records was full, and then the machine ended.
TEST_F(SnapshotRules, AMergeIsPutOnRecordAtTheEndAtTheLatest) {
    started();
    take("one", {.disk_only = true});
    const auto overlay = get("web")->xml({.inactive = true});
    EXPECT_EQ(overlay.find("web.qcow2"), std::string::npos) << overlay;
    write(root + "/img/web.one", "");  // the driver makes up its images
    files.room_for = 1;                // the note that it begins
    EXPECT_REFUSED(remove("one"), Code::no_space, "");
    ASSERT_EQ(names(), std::vector<std::string>{"one"});
    ASSERT_EQ(get("web")->xml({.inactive = true}), overlay) << "the note alone was written";
    EXPECT_NE(get("web")->xml({}).find("web.qcow2"), std::string::npos) << "it writes to the image that was frozen";
    files.room_for = 0;
    finish(get("web")->stop({}, caller));
    EXPECT_REFUSED(finish(get("web")->start({}, caller)), Code::invalid_state, "Make room");
    files.room_for = -1;
    finish(get("web")->start({}, caller));
    EXPECT_NE(get("web")->xml({}).find("web.qcow2"), std::string::npos) << get("web")->xml({});
    EXPECT_NE(get("web")->xml({.inactive = true}).find("web.qcow2"), std::string::npos);
    EXPECT_REFUSED(remove("one"), Code::no_such_snapshot, "one");  // the deletion that was begun is finished before
    EXPECT_TRUE(names().empty());
}

TEST_F(SnapshotRules, ARevertWithoutRoomLeavesTheMachineAsItIs) {
    started();
    take("one");
    const auto id = get("web")->view().id;
    files.room_for = 0;
    for (const bool replaces : {false, true}) {  // the process
        EXPECT_REFUSED(revert("one", {.reset_nvram = replaces}), Code::no_space, "");
        EXPECT_EQ(state(), State::running);
        EXPECT_EQ(get("web")->view().id, id);
    }
    files.room_for = -1;
    revert("one");
    EXPECT_EQ(state(), State::running);
}

}  // namespace
}  // namespace virtbus::tests
