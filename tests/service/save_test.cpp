// SPDX-License-Identifier: LGPL-2.1-or-later
// Save, managed save, restore: what is kept, what is refused, and what a full disk, a cancellation or the daemon's end
// at any step leaves behind.
#include <fcntl.h>
#include <sys/stat.h>

#include "service/host/seal.hpp"
#include "service/host/workers.hpp"
#include "service/save_image.hpp"
#include "world.hpp"

namespace virtbus::tests {
namespace {

struct Saving : World {
    std::string file(const std::string& name = "web.save") const { return root + "/" + name; }
    std::string managed(const std::string& name = "web") const {
        return root + "/state/save/" + uuid_of(name) + ".save";
    }
    DomainPtr restore(const std::string& path, RestoreOptions options = {}) {
        const auto saved = run(room->domains().open_saved(path, caller));
        finish(room->domains().restore(saved, options, caller));
        return get(saved->name);
    }
    std::uint64_t cpu_time(const DomainPtr& domain) {
        return std::get<std::uint64_t>(run(domain->stats({"cpu"})).values.at("cpu.time"));
    }
    /// Names in the folder of saved files that are not `expected`, hidden ones included.
    std::vector<std::string> litter(const std::string& folder, const std::set<std::string>& expected = {}) {
        std::vector<std::string> names;
        for (const auto& entry : std::filesystem::directory_iterator{folder})
            if (entry.is_regular_file() && !expected.contains(entry.path().filename()))
                names.push_back(entry.path().filename());
        return names;
    }
    void alter(const std::string& path, std::size_t at, const std::string& bytes) {
        std::fstream file{path, std::ios::in | std::ios::out | std::ios::binary};
        file.seekp(static_cast<std::streamoff>(at));
        file << bytes;
    }
};

TEST_F(Saving, AManagedSaveIsRestoredByTheNextStartAndRemoved) {
    boot();
    const auto domain = running("web");
    clock.shift += 5'000'000;
    const auto before = cpu_time(domain);
    finish(domain->managed_save({}, caller));
    EXPECT_EQ(domain->view().state, State::shutoff);
    EXPECT_EQ(domain->view().state_reason, "saved");
    EXPECT_TRUE(domain->view().has_managed_save);
    EXPECT_TRUE(exists(managed()));
    EXPECT_FALSE(exists(status_path("web")));
    struct stat facts{};
    ASSERT_EQ(::stat(managed().c_str(), &facts), 0);
    EXPECT_EQ(facts.st_mode & 0777, 0600u);

    boot();  // it is known to the next daemon, too
    const auto again = get("web");
    EXPECT_TRUE(again->view().has_managed_save);
    finish(again->start({}, caller));
    EXPECT_EQ(again->view().state, State::running);
    EXPECT_EQ(again->view().state_reason, "restored");
    EXPECT_GE(cpu_time(again), before) << "its memory is that of before";
    EXPECT_FALSE(again->view().has_managed_save);
    EXPECT_FALSE(exists(managed()));
    EXPECT_TRUE(litter(root + "/state/save").empty());
}

TEST_F(Saving, ASavedFileBringsATransientDomainBack) {
    boot();
    const auto domain = run(room->domains().create(xml("web"), {}, caller));
    finish(domain->save(file(), {}, caller));
    EXPECT_TRUE(audience.heard("removed web"));
    const auto back = restore(file());
    EXPECT_EQ(back->view().state, State::running);
    EXPECT_EQ(back->view().state_reason, "restored");
    EXPECT_FALSE(back->view().persistent);
    EXPECT_TRUE(exists(file())) << "a file of the caller's stays";
    EXPECT_REFUSED(restore(file()), Code::invalid_state, "is running");
}

TEST_F(Saving, AManagedImageIsNotLeftBehindByAnotherRun) {
    boot();
    const auto domain = running("web");
    finish(domain->save(file(), {}, caller));
    finish(domain->start({}, caller));
    finish(domain->managed_save({}, caller));
    EXPECT_REFUSED(restore(file()), Code::has_managed_save, "RemoveManagedSave");
    EXPECT_REFUSED(run(room->domains().create(xml("web"), {}, caller)), Code::has_managed_save, "RemoveManagedSave");
    EXPECT_EQ(domain->view().state, State::shutoff);
    EXPECT_TRUE(exists(managed()));
    finish(domain->remove_managed_save(caller));
    EXPECT_EQ(restore(file())->view().state_reason, "restored");
}

TEST_F(Saving, PausedStaysPausedUnlessToldOtherwise) {
    boot();
    const auto domain = running("web");
    finish(domain->suspend(caller));
    finish(domain->save(file("paused"), {}, caller));
    EXPECT_EQ(restore(file("paused"))->view().state, State::paused);
    finish(domain->stop({}, caller));
    EXPECT_EQ(restore(file("paused"), {.running = true})->view().state, State::running);
    finish(domain->save(file("told"), {.paused = true}, caller));
    EXPECT_EQ(restore(file("told"))->view().state, State::paused);
    EXPECT_EQ(domain->view().state_reason, "restored");
    finish(domain->save(file("told"), {.running = true}, caller));
    EXPECT_EQ(restore(file("told"), {.paused = true})->view().state, State::paused);
    finish(domain->managed_save({.running = true}, caller));
    finish(domain->start({.paused = true}, caller));
    EXPECT_EQ(domain->view().state, State::paused);
}

TEST_F(Saving, CompressionAndBypassingTheCacheChangeTheFileAndNothingElse) {
    boot();
    const auto domain = running("web");
    finish(domain->save(file("plain"), {}, caller));
    EXPECT_EQ(restore(file("plain"))->view().state, State::running);
    finish(domain->save(file("packed"), {.compression = "zstd"}, caller));
    EXPECT_LT(std::filesystem::file_size(file("packed")), std::filesystem::file_size(file("plain")) / 100);
    EXPECT_EQ(restore(file("packed"))->view().state, State::running);
    for (const char* compression : {"none", "zstd"}) {
        const auto seen = refusal([&] {
            finish(domain->save(file("direct"), {.bypass_cache = true, .compression = compression}, caller));
            EXPECT_EQ(restore(file("direct"), {.bypass_cache = true})->view().state, State::running);
        });
        if (seen.code) {  // a file system without it
            EXPECT_EQ(*seen.code, Code::unsupported);
            EXPECT_NE(seen.message.find(file("direct")), std::string::npos) << seen.message;
            EXPECT_EQ(domain->view().state, State::running);
        }
    }
    EXPECT_REFUSED(finish(domain->save(file("x"), {.compression = "lha"}, caller)), Code::invalid_option,
                   "none or zstd");
}

TEST_F(Saving, GuardsComeBeforeTheFirstChange) {
    boot();
    const auto domain = define(xml("web"));
    EXPECT_REFUSED(finish(domain->managed_save({}, caller)), Code::invalid_state, "is shutoff");
    EXPECT_REFUSED(finish(domain->save(file(), {}, caller)), Code::invalid_state, "'save' needs it running or paused");
    finish(domain->start({}, caller));
    EXPECT_REFUSED(finish(domain->managed_save({.running = true, .paused = true}, caller)), Code::conflicting_options,
                   "'running' and 'paused'");
    EXPECT_REFUSED(finish(domain->save("relative", {}, caller)), Code::invalid_args, "no absolute path");
    EXPECT_REFUSED(finish(domain->save(root, {}, caller)), Code::invalid_args, "no regular file");
    EXPECT_REFUSED(finish(domain->save(root + "/none/x", {}, caller)), Code::invalid_args, "/none");
    const auto transient = run(room->domains().create(xml("temp"), {}, caller));
    EXPECT_REFUSED(finish(transient->managed_save({}, caller)), Code::invalid_state, "transient");
    EXPECT_EQ(domain->view().state, State::running);
    EXPECT_EQ(audience.count("state web paused save"), 0u);
    EXPECT_TRUE(litter(root).empty());
    finish(domain->save(file(), {}, caller));
    const auto saved = run(room->domains().open_saved(file(), caller));
    EXPECT_REFUSED(room->domains().restore(saved, {.running = true, .paused = true}, caller), Code::conflicting_options,
                   "'running' and 'paused'");
}

TEST_F(Saving, AReplacedDefinitionMustKeepWhatTheGuestSees) {
    boot();
    const std::string disk =
        "<disk type='file' device='disk'><source file='/a'/><target dev='vda' bus='virtio'/></disk>";
    const auto domain = define(xml("web", {}, {}, disk));
    finish(domain->start({}, caller));
    const auto other_source =
        xml("web", {}, "<description>moved</description>",
            "<disk type='file' device='disk'><source file='/b'/><target dev='vda' bus='virtio'/></disk>");
    const auto other_bus =
        xml("web", {}, {}, "<disk type='file' device='disk'><source file='/a'/><target dev='vda' bus='scsi'/></disk>");
    EXPECT_REFUSED(finish(domain->save(file(), {.xml = other_bus}, caller)), Code::unsupported_configuration, "disk");
    EXPECT_REFUSED(finish(domain->save(file(), {.xml = xml("other")}, caller)), Code::unsupported_configuration,
                   "'other'");
    EXPECT_EQ(domain->view().state, State::running);
    finish(domain->save(file(), {.xml = other_source}, caller));
    EXPECT_EQ(restore(file())->view().description, "moved");
    finish(domain->stop({}, caller));
    EXPECT_REFUSED(restore(file(), {.xml = other_bus}), Code::unsupported_configuration,
                   "changes what its guest can see");
    EXPECT_EQ(domain->view().state, State::shutoff);
    EXPECT_EQ(restore(file(), {.xml = xml("web", {}, "<description>again</description>", disk)})->view().description,
              "again");
}

TEST_F(Saving, AProcessorLikeTheHostsIsTheOneThatWasChosenAtTheStart) {
    boot();
    const auto with = [](const std::string& cpu) { return xml("web", {}, cpu); };
    const auto domain =
        define(with("<cpu mode='custom' match='exact' check='partial'><model fallback='forbid'>Haswell</model>"
                    "<topology sockets='1' cores='2' threads='1'/><feature policy='require' name='vmx'/>"
                    "<feature policy='disable' name='hle'/></cpu>"));
    finish(domain->start({}, caller));
    const std::string topology = "<topology sockets='1' cores='2' threads='1'/>";
    const auto like = with("<cpu mode='host-model'>" + topology + "</cpu>");
    const auto says = with("<cpu mode='host-model'>" + topology + "<feature policy='disable' name='hle'/></cpu>");
    const auto least = with("<cpu match='minimum'><model>Westmere</model>" + topology + "</cpu>");
    for (const auto& wrong :
         {with("<cpu mode='host-model'><topology sockets='2' cores='1' threads='1'/></cpu>"),
          with("<cpu mode='host-model'>" + topology + "<feature policy='require' name='hle'/></cpu>"),
          with("<cpu mode='host-model'>" + topology + "<feature policy='disable' name='vmx'/></cpu>"),
          with("<cpu mode='host-passthrough'>" + topology + "</cpu>"), with("")})
        EXPECT_REFUSED(finish(domain->save(file(), {.xml = wrong}, caller)), Code::unsupported_configuration, "cpu");
    for (const auto& good : {like, says, least}) {
        finish(domain->save(file(), {.xml = good}, caller));
        const auto back = restore(file(), {.xml = good});
        EXPECT_NE(back->xml({}).find("Haswell"), std::string::npos) << back->xml({});
        EXPECT_NE(back->xml({}).find("name='hle'"), std::string::npos) << back->xml({});
    }
}

TEST_F(Saving, ASaveThatFailsOrIsCancelledLetsTheGuestRunOn) {
    boot();
    const auto failing = running("fails", "fail-save='the disk is gone'");
    EXPECT_REFUSED(finish(failing->save(file("f"), {}, caller)), Code::hypervisor_failed, "the disk is gone");
    EXPECT_EQ(failing->view().state, State::running);
    EXPECT_REFUSED(finish(failing->save(file("f"), {.compression = "zstd"}, caller)), Code::hypervisor_failed,
                   "the disk");
    for (const char* compression : {"none", "zstd"}) {
        const auto domain = running("hangs", "hang-save='yes'");
        const auto job = domain->managed_save({.compression = compression}, caller);
        ASSERT_TRUE(until([&] { return job->view().bytes_done > 0 && domain->view().state == State::paused; }));
        EXPECT_EQ(domain->view().state_reason, "save");
        EXPECT_TRUE(job->view().progress_valid);
        job->cancel();
        EXPECT_REFUSED(finish(job), Code::cancelled, "cancelled");
        EXPECT_EQ(domain->view().state, State::running);
        EXPECT_EQ(domain->view().state_reason, "save-canceled");
        EXPECT_FALSE(domain->view().has_managed_save);
        finish(domain->stop({}, caller));
    }
    EXPECT_TRUE(litter(root).empty());
    EXPECT_TRUE(litter(root + "/state/save").empty());
}

TEST_F(Saving, StopGetsThroughAndLeavesNoImage) {
    boot();
    const auto domain = running("web", "hang-save='yes'");
    const auto job = domain->managed_save({}, caller);
    ASSERT_TRUE(until([&] { return domain->view().state == State::paused; }));
    finish(domain->stop({}, caller));
    EXPECT_EQ(domain->view().state, State::shutoff);
    EXPECT_EQ(domain->view().state_reason, "destroyed");
    EXPECT_TRUE(refusal([&] { finish(job); }).code.has_value());
    EXPECT_FALSE(domain->view().has_managed_save);
    EXPECT_TRUE(litter(root + "/state/save").empty());
}

TEST_F(Saving, AFullDiskAtTheEndGivesTheGuestBack) {
    boot();
    const auto domain = running("web", "hang-save='yes'");
    finish(domain->stop({}, caller));
    const auto other = running("other");
    const auto job = other->managed_save({}, caller);
    files.full = true;  // after the file was begun
    EXPECT_REFUSED(finish(job), Code::no_space, "no space");
    files.full = false;
    EXPECT_EQ(other->view().state, State::running);
    EXPECT_FALSE(other->view().has_managed_save);
}

TEST_F(Saving, ForceBootAndRemovalThrowTheImageAway) {
    boot();
    const auto domain = running("web");
    finish(domain->managed_save({}, caller));
    EXPECT_REFUSED(undefine("web"), Code::has_managed_save, "managed-save");
    finish(domain->start({.force_boot = true}, caller));
    EXPECT_EQ(domain->view().state_reason, "booted");
    EXPECT_FALSE(exists(managed()));
    finish(domain->managed_save({}, caller));
    finish(domain->remove_managed_save(caller));
    EXPECT_FALSE(domain->view().has_managed_save);
    EXPECT_FALSE(exists(managed()));
    finish(domain->remove_managed_save(caller));
    finish(domain->start({}, caller));
    EXPECT_EQ(domain->view().state_reason, "booted");
    finish(domain->managed_save({}, caller));
    undefine("web", {.managed_save = true});
    EXPECT_FALSE(exists(managed()));
}

TEST_F(Saving, ARenamedDomainKeepsItsImage) {
    boot();
    const auto domain = running("web");
    finish(domain->managed_save({}, caller));
    finish(domain->rename("shop", caller));
    finish(domain->start({}, caller));
    EXPECT_EQ(domain->view().state_reason, "restored");
    EXPECT_EQ(domain->view().name, "shop");
}

TEST_F(Saving, AHalfWrittenImageIsDiscardedAndOtherFailuresKeepIt) {
    boot();
    const auto domain = running("web");
    finish(domain->managed_save({}, caller));
    const auto whole = read(managed());

    alter(managed(), 48, std::string(8, '\0'));  // altered, not merely unfinished
    EXPECT_REFUSED(finish(domain->start({}, caller)), Code::unsupported, "checksum");
    EXPECT_TRUE(exists(managed()));
    write(managed(), whole.substr(0, whole.size() - 1));
    EXPECT_REFUSED(finish(domain->start({}, caller)), Code::unsupported, "it is cut");
    EXPECT_TRUE(exists(managed()));
    EXPECT_EQ(domain->view().state, State::shutoff);
    EXPECT_TRUE(domain->view().has_managed_save);

    SaveHeader header{.id = "1", .uuid = uuid_of("web"), .name = "web", .driver = "test", .xml = xml("web")};
    write(managed(), begin_save_image(header, Compression::none, {}) + "some of the state");
    finish(domain->start({}, caller));
    EXPECT_EQ(domain->view().state_reason, "booted");
    EXPECT_FALSE(exists(managed()));
    EXPECT_TRUE(log.says("was never finished"));
    finish(domain->stop({}, caller));

    write(managed(), "");
    finish(domain->start({}, caller));
    EXPECT_EQ(domain->view().state_reason, "booted");
}

TEST_F(Saving, ARestoreThatFailsKeepsTheImage) {
    boot();
    const auto domain = running("web");
    finish(domain->managed_save({}, caller));
    auto whole = read(managed());
    whole[whole.size() - 100] ^= 1;
    write(managed(), whole);
    EXPECT_REFUSED(finish(domain->start({}, caller)), Code::unsupported, managed());
    EXPECT_TRUE(exists(managed()));
    EXPECT_TRUE(domain->view().has_managed_save);
    EXPECT_EQ(domain->view().state, State::shutoff);
}

// ---- bad files

TEST_F(Saving, AForeignOrCutOrAlteredFileIsRefusedWithTheRuleItBreaks) {
    boot();
    const auto domain = running("web");
    finish(domain->save(file(), {.compression = "zstd"}, caller));
    const auto whole = read(file());
    const auto refuse = [&](const std::string& content, const std::string& rule) {
        write(file("bad"), content);
        EXPECT_REFUSED(restore(file("bad")), Code::unsupported, rule);
        EXPECT_REFUSED(restore(file("bad")), Code::unsupported, file("bad"));
    };
    refuse("", "does not begin");
    refuse("LibvirtQemudSave" + std::string(5000, 'x'), "does not begin");
    refuse(whole.substr(0, 100), "it is cut");
    refuse(whole.substr(0, 300), "it is cut");
    refuse(whole.substr(0, whole.size() / 2), "it is cut");
    auto altered = whole;
    altered[400] ^= 1;
    refuse(altered, "checksum of its header");
    altered = whole;
    altered[16] = 9;
    refuse(altered, "version 9");
    altered = whole;
    altered[26] = '\x7f';
    refuse(altered, "checksum of its fixed part");
    altered = whole;
    altered[altered.size() - 20] ^= 1;
    refuse(altered, "compressed state is damaged");
    finish(domain->start({}, caller));
    finish(domain->save(file("plain"), {}, caller));
    altered = read(file("plain"));
    altered[altered.size() - 20] ^= 1;
    refuse(altered, "checksum of the guest's state");
    EXPECT_EQ(restore(file())->view().state, State::running);
    finish(domain->stop({}, caller));
    write(file("grown"), whole + "what came later");
    EXPECT_EQ(restore(file("grown"))->view().state, State::running);
    EXPECT_REFUSED(restore("/dev/null"), Code::unsupported, "no regular file");
    ASSERT_EQ(::mkfifo(file("pipe").c_str(), 0600), 0);
    EXPECT_REFUSED(restore(file("pipe")), Code::unsupported, "no regular file");
    EXPECT_TRUE(refusal([&] { restore(root + "/none"); }).code.has_value());
}

TEST_F(Saving, WhatAnUnluckyHostHasLeftBesideAFileGoesWithTheNextSaveToIt) {
    boot();
    const auto domain = running("web");
    const auto dead = root + "/.web.save.999999999.1.virtbus-tmp", own = root + "/.web.save.1.1.virtbus-tmp",
               other = root + "/.web.save2.999999999.1.virtbus-tmp", odd = root + "/.web.save.x.1.virtbus-tmp";
    for (const auto& path : {dead, own, other, odd}) write(path, "x");
    finish(domain->save(file(), {}, caller));
    EXPECT_FALSE(exists(dead));
    for (const auto& path : {own, other, odd}) EXPECT_TRUE(exists(path)) << path;
}

TEST_F(Saving, AnImageWhoseHeaderAndDefinitionDisagreeIsRefused) {
    boot();
    SaveHeader header{.id = "1", .uuid = uuid_of("web"), .name = "web", .driver = "test", .xml = xml("other")};
    const auto begun = begin_save_image(header, Compression::none, {});
    write(file(), finish_save_image(begun, 4, 4, 0) + begun.substr(save_prelude_size) + "xxxx");
    EXPECT_REFUSED(restore(file()), Code::unsupported, "the definition in it of 'other'");
    header.xml = "<domain><name>";
    const auto broken = begin_save_image(header, Compression::none, {});
    write(file(), finish_save_image(broken, 4, 4, 0) + broken.substr(save_prelude_size) + "xxxx");
    EXPECT_REFUSED(restore(file()), Code::invalid_xml, "");
    EXPECT_EQ(room->domains().size(), 0u);
}

TEST_F(Saving, OnlyWhatThisServiceWroteIsSealed) {
    host::KeySeal seal{host.files, root + "/seal.key"};
    ports->seal = &seal;
    boot();
    const auto domain = running("web");
    finish(domain->save(file(), {}, caller));
    EXPECT_TRUE(run(room->domains().open_saved(file(), caller))->sealed);
    host::KeySeal same{host.files, root + "/seal.key"};
    ports->seal = &same;
    EXPECT_TRUE(run(room->domains().open_saved(file(), caller))->sealed) << "the key outlives the daemon";
    SaveHeader header{.id = "1", .uuid = uuid_of("web"), .name = "web", .driver = "test", .xml = xml("web")};
    const auto made_up = begin_save_image(header, Compression::none, std::string(32, 'x'));
    write(file(), finish_save_image(made_up, 4, 4, 0) + made_up.substr(save_prelude_size) + "xxxx");
    EXPECT_FALSE(run(room->domains().open_saved(file(), caller))->sealed);
    ports->seal = nullptr;
}

// ---- a disk that hangs

/// Work that blocks is done at once, or, while it is held, not at all.
struct HeldWorkers final : Workers {
    using Workers::Workers;
    void submit(std::function<void()> work) override { held ? waiting.push_back(std::move(work)) : work(); }
    bool held = false;
    std::vector<std::function<void()>> waiting;
};

TEST_F(Saving, ADiskThatHangsAtTheEndHoldsNobody) {
    HeldWorkers workers{host.loop};
    ports.emplace(Ports{host.loop, clock, workers, files, host.spawner, log, units, ports->folders, "boot-1", false});
    boot();
    const auto domain = running("web");
    const auto job = domain->save(file(), {}, caller);
    ASSERT_TRUE(until([&] { return job->view().phase == "saving"; }));
    workers.held = true;
    ASSERT_TRUE(until([&] { return !workers.waiting.empty(); }));
    EXPECT_EQ(job->view().phase, "finishing");
    job->cancel();
    EXPECT_REFUSED(finish(job), Code::cancelled, file());
    EXPECT_EQ(domain->view().state, State::running);
    EXPECT_TRUE(litter(root).empty());
    workers.held = false;
    for (auto& work : workers.waiting) work();
    EXPECT_TRUE(litter(root).empty()) << "what comes late has no name";
    finish(domain->save(file(), {}, caller));
    EXPECT_EQ(restore(file())->view().state, State::running);
    room.reset();
}

// ---- the daemon's end

/// After `steps` lasting changes the daemon is no more: what the next one finds must be whole.
TEST_F(Saving, WheneverTheDaemonEndsThereIsAGuestOrAnImage) {
    boot();
    int steps = 0;
    {
        running("web");
        files.steps = 0;
        finish(get("web")->managed_save({}, caller));
        steps = files.steps;
        finish(get("web")->start({.force_boot = true}, caller));
    }
    ASSERT_GE(steps, 2);
    for (int left = 0; left <= steps; ++left) {
        SCOPED_TRACE(left);
        files.steps_left = left;
        const auto job = get("web")->managed_save({}, caller);
        bool ended = false;
        while (!ended) {
            host.loop.post([&] {});
            host.loop.run_until([&] { return ended = job->finished() || files.steps_left == 0; }, Duration{10});
        }
        host.outside_workers.settle(Duration{5'000});  // what a worker has begun would have ended with the daemon
        host.state_workers.settle(Duration{5'000});
        files.steps_left = -1;
        boot();
        const auto domain = get("web");
        until([&] { return domain->view().state != State::shutdown; });
        const bool runs = domain->view().state == State::running;
        EXPECT_NE(runs, domain->view().has_managed_save) << word(domain->view().state) << domain->view().state_reason;
        EXPECT_EQ(exists(managed()), domain->view().has_managed_save);
        if (!runs) {
            EXPECT_EQ(domain->view().state, State::shutoff);
            finish(domain->start({}, caller));
            EXPECT_EQ(domain->view().state_reason, "restored");
        }
        EXPECT_TRUE(litter(root + "/state/save").empty());
        ASSERT_EQ(domain->view().state, State::running);
    }
}

TEST_F(Saving, ADaemonThatDiesInTheMiddleLeavesARunningGuestAndNoFile) {
    boot();
    const auto domain = running("web", "hang-save='yes'");
    for (const char* path : {"", "own"}) {
        const auto now = get("web");
        const auto job = *path ? now->save(file(path), {}, caller) : now->managed_save({}, caller);
        ASSERT_TRUE(until([&] { return now->view().state == State::paused; }));
        boot();
        EXPECT_EQ(get("web")->view().state, State::running);
        EXPECT_EQ(get("web")->view().state_reason, "save-canceled");
        EXPECT_TRUE(litter(root).empty());
        EXPECT_TRUE(litter(root + "/state/save").empty());
        boot();
        EXPECT_EQ(get("web")->view().state, State::running) << "the record of the save is gone";
    }
}

TEST_F(Saving, ADomainThatWasPausedIsPausedAfterTheDaemonsEnd) {
    boot();
    const auto domain = running("web", "hang-save='yes'");
    finish(domain->suspend(caller));
    const auto job = domain->managed_save({}, caller);
    ASSERT_TRUE(until([&] { return job->view().bytes_done > 0; }));
    boot();
    EXPECT_EQ(get("web")->view().state, State::paused);
}

}  // namespace
}  // namespace virtbus::tests
