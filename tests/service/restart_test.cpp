// SPDX-License-Identifier: LGPL-2.1-or-later
// What a daemon finds that another has left: on disk, and running.
#include "service/status.hpp"
#include "world.hpp"

namespace virtbus::tests {
namespace {

using Restart = World;

TEST_F(Restart, ARunningDomainIsTakenUpWithItsIdAndState) {
    boot();
    running("a");
    const auto before = running("b");
    finish(before->suspend(caller));
    const auto started = before->view().started_at;
    boot();
    EXPECT_FALSE(audience.heard("added b"));
    const auto after = get("b");
    EXPECT_EQ(after->view().state, State::paused);
    EXPECT_EQ(after->view().id, 2u);
    EXPECT_EQ(after->view().started_at, started);
    EXPECT_TRUE(after->view().responsive);
    EXPECT_EQ(get("a")->view().state, State::running);
    EXPECT_EQ(running("c")->view().id, 3u);
    finish(after->resume(caller));
    finish(after->stop({}, caller));
    EXPECT_EQ(after->view().state, State::shutoff);
}

TEST_F(Restart, AGuestThatEndedMeanwhileIsForgottenWithItsReasonAndItsLinks) {
    boot();
    const auto domain =
        define(xml("web", "die-after-ms='60000'", "", "<interface type='bridge'><source bridge='br0'/></interface>"));
    finish(domain->start({}, caller));
    room.reset();
    ASSERT_EQ(links.open.size(), 1u);
    clock.shift += 60'000'000;
    boot();
    EXPECT_EQ(get("web")->view().state, State::shutoff);
    EXPECT_EQ(get("web")->view().state_reason, "crashed");
    EXPECT_TRUE(links.open.empty());
    EXPECT_FALSE(exists(status_path("web")));
}

TEST_F(Restart, LinksOfAGuestTakenUpAreUndoneAtItsEnd) {
    boot();
    const auto domain = define(xml("web", "", "", "<interface type='bridge'><source bridge='br0'/></interface>"));
    finish(domain->start({}, caller));
    boot();
    ASSERT_EQ(links.open.size(), 1u);
    finish(get("web")->stop({}, caller));
    EXPECT_TRUE(links.open.empty());
}

TEST_F(Restart, ATransientDomainIsTakenUpAndGoneAtItsEnd) {
    boot();
    run(room->domains().create(xml("tmp"), {}, caller));
    boot();
    EXPECT_EQ(get("tmp")->view().state, State::running);
    EXPECT_FALSE(get("tmp")->view().persistent);
    finish(get("tmp")->stop({}, caller));
    EXPECT_EQ(room->domains().size(), 0u);
}

TEST_F(Restart, OneThatCannotBeTakenUpIsForgottenAndSaidSo) {
    boot();
    running("web", "fail-adopt='yes'");
    boot();
    EXPECT_EQ(get("web")->view().state, State::shutoff);
    EXPECT_EQ(get("web")->view().state_reason, "failed");
    EXPECT_TRUE(log.says("does not answer any more"));
    EXPECT_FALSE(exists(status_path("web")));
}

TEST_F(Restart, StatusOfAnotherBootIsRemoved) {
    boot();
    running("web");
    ports->boot_id = "boot-2";
    boot();
    EXPECT_EQ(get("web")->view().state, State::shutoff);
    EXPECT_FALSE(exists(status_path("web")));
}

TEST_F(Restart, AStatusFileCutAnywhereIsSetAsideAndNothingElseIsLost) {
    boot();
    running("web");
    running("sound");
    room.reset();
    const auto whole = read(status_path("web"));
    for (std::size_t length = 0; length < whole.size(); length += whole.size() / 40 + 1) {
        write(status_path("web"), whole.substr(0, length));
        log.lines.clear();
        boot();
        EXPECT_EQ(get("web")->view().state, State::shutoff) << length;
        EXPECT_EQ(get("sound")->view().state, State::running);
        EXPECT_TRUE(log.says("is damaged"));
        EXPECT_TRUE(exists(status_path("web") + ".damaged"));
        EXPECT_FALSE(exists(status_path("web")));
        room.reset();
    }
    auto altered = whole;
    altered[altered.size() / 2] = static_cast<char>(altered[altered.size() / 2] ^ 1);
    write(status_path("web"), altered);
    boot();
    EXPECT_TRUE(log.says("checksum"));
    write(status_path("web"), whole);
    boot();
    EXPECT_EQ(get("web")->view().state, State::running);
}

TEST_F(Restart, AStartThatTheDaemonDidNotSurviveIsUndone) {
    boot();
    const auto domain =
        define(xml("web", "hang-start='yes'", "", "<interface type='bridge'><source bridge='br0'/></interface>"));
    domain->start({}, caller);
    ASSERT_TRUE(until([&] { return links.open.size() == 1; }));
    boot();
    EXPECT_EQ(get("web")->view().state, State::shutoff);
    EXPECT_EQ(get("web")->view().state_reason, "failed");
    EXPECT_TRUE(links.open.empty());
}

TEST_F(Restart, AutodestroyStillHoldsAfterARestart) {
    boot();
    finish(define(xml("web"))->start({.autodestroy = true}, caller));
    boot();
    EXPECT_EQ(get("web")->view().state, State::running);
    callers.leave(":1.7");
    EXPECT_TRUE(until([&] { return get("web")->view().state == State::shutoff; }));

    Caller peer{.name = "peer:1", .on_bus = false};
    finish(get("web")->start({.autodestroy = true}, peer));
    boot();
    EXPECT_TRUE(until([&] { return get("web")->view().state == State::shutoff; }));
}

TEST_F(Restart, ADefinitionThatCannotBeUnderstoodStaysListedAndIsNotStarted) {
    boot();
    define(xml("good"));
    define(xml("bad"));
    finish(get("bad")->set_autostart(true, caller));
    room.reset();
    const auto path = definition_path("bad");
    auto text = read(path);
    const auto place = text.find("<memory unit='KiB'>");
    ASSERT_NE(place, text.npos) << text;
    text.replace(place, 19, "<memory unit='ells'>");
    write(path, text);
    boot();
    const auto bad = get("bad");
    EXPECT_EQ(bad->view().uuid, uuid_of("bad"));
    EXPECT_EQ(bad->view().state, State::shutoff);
    EXPECT_NE(bad->view().state_reason.find("ells"), std::string::npos) << bad->view().state_reason;
    EXPECT_REFUSED(finish(bad->start({}, caller)), Code::unsupported_configuration, "ells");
    EXPECT_EQ(read(path), text);
    EXPECT_EQ(get("good")->view().state, State::shutoff);
    define(xml("bad"));
    EXPECT_EQ(bad->view().state_reason, "unknown");
    finish(bad->start({}, caller));
}

TEST_F(Restart, BrokenFilesStopNothingAndAreKept) {
    const auto folder = root + "/config/domain/";
    write(folder + "aaaa.xml", "<domain");
    write(folder + "empty.xml", "");
    write(folder + "notes.txt", "not ours");
    write(folder + uuid_of("other") + ".xml", "<network/>");
    std::filesystem::create_directories(folder + "folder.xml");
    boot();
    EXPECT_EQ(room->domains().size(), 4u);
    for (const auto& domain : room->domains().list()) {
        EXPECT_REFUSED(finish(domain->start({}, caller)), Code::unsupported_configuration, "unusable");
        EXPECT_FALSE(domain->view().state_reason.empty());
    }
    EXPECT_EQ(read(folder + "aaaa.xml"), "<domain");
    EXPECT_TRUE(room->domains().find(uuid_of("other")));
    const auto lost = get("aaaa")->view().uuid;
    boot();
    EXPECT_EQ(get("aaaa")->view().uuid, lost);
    undefine("aaaa");
    EXPECT_FALSE(exists(folder + "aaaa.xml"));
}

TEST_F(Restart, TwoFilesOfOneNameOrUuidAreKeptAndTheFirstIsLoaded) {
    boot();
    define(xml("web"));
    room.reset();
    auto text = read(definition_path("web"));
    const auto copy = root + "/config/domain/zz-copy.xml";
    write(copy, text);
    const auto uuid = text.find(uuid_of("web"));
    text.replace(uuid, 36, uuid_of("namesake"));
    const auto namesake = root + "/config/domain/zz-namesake.xml";
    write(namesake, text);
    boot();
    EXPECT_EQ(room->domains().size(), 1u);
    EXPECT_TRUE(log.says("zz-copy.xml is left alone: its UUID"));
    EXPECT_TRUE(log.says("zz-namesake.xml is left alone: its name"));
    EXPECT_TRUE(exists(copy));
    undefine("web");
    EXPECT_TRUE(exists(copy));
    EXPECT_TRUE(exists(namesake));
}

TEST_F(Restart, AFileUnderAnotherNameIsChangedInItsPlace) {
    boot();
    define(xml("web"));
    room.reset();
    const auto own = root + "/config/domain/my-web.xml";
    std::filesystem::rename(definition_path("web"), own);
    boot();
    finish(get("web")->set_metadata("title", "", "", "Hello", ChangeScope::persistent, caller));
    EXPECT_FALSE(exists(definition_path("web")));
    EXPECT_NE(read(own).find("Hello"), std::string::npos);
}

// ---- autostart
// -----------------------------------------------------------------------------------------------------------

TEST_F(Restart, AutostartHappensOncePerBootAndAFailureStopsNobody) {
    boot();
    for (const auto* name : {"a", "b", "c", "d", "e", "f"}) define(xml(name));
    define(xml("broken", "fail-start='no luck'"));
    define(xml("off"));
    for (const auto* name : {"a", "b", "c", "d", "e", "f", "broken"}) finish(get(name)->set_autostart(true, caller));
    EXPECT_TRUE(get("a")->view().autostart);
    ports->boot_id = "boot-2";
    boot();
    EXPECT_TRUE(get("a")->view().autostart);
    int at_once = 0, most = 0;
    audience.on_change = [&](Domain& domain, const DomainView& before) {
        if (domain.view().state == before.state) return;
        if (domain.view().state == State::starting) most = std::max(most, ++at_once);
        if (before.state == State::starting) --at_once;
    };
    run(room->autostart());
    EXPECT_EQ(most, 4);
    for (const auto* name : {"a", "b", "c", "d", "e", "f"}) EXPECT_EQ(get(name)->view().state, State::running) << name;
    EXPECT_EQ(get("off")->view().state, State::shutoff);
    EXPECT_TRUE(log.says("no luck"));
    finish(get("a")->stop({}, caller));
    boot();
    run(room->autostart());
    EXPECT_EQ(get("a")->view().state, State::shutoff);
    EXPECT_EQ(get("b")->view().state, State::running);
}

// ---- the status file
// -------------------------------------------------------------------------------------------------------

TEST(Status, ComesBackAsItWentWhateverBytesItHolds) {
    LiveStatus status;
    status.boot_id = "b";
    status.uuid = "u";
    status.driver = "test";
    status.id = 7;
    status.state = State::paused;
    status.reason = "io-error";
    status.state_changed = 1;
    status.started_at = 2;
    status.persistent = status.live_changed = status.remove_nvram = true;
    status.live_xml = "<domain>\n</domain>";
    status.driver_state = std::string{"\0\xff\n 12\n", 7};
    status.links = {{"one", ""}, {"", "net0"}, {"two words\n", "net1"}};
    status.dies_with = Caller{.name = ":1.1", .uid = 5, .on_bus = false};
    const auto text = encode(status);
    const auto back = decode_status(text);
    EXPECT_EQ(encode(back), text);
    EXPECT_EQ(back.driver_state, status.driver_state);
    EXPECT_EQ(back.links, status.links);
    EXPECT_FALSE(back.dies_with->on_bus);
    for (std::size_t length = 0; length < text.size(); ++length)
        EXPECT_THROW(decode_status(text.substr(0, length)), Error) << length;
    EXPECT_THROW(decode_status(text + "x"), Error);
}

}  // namespace
}  // namespace virtbus::tests
