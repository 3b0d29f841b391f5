// SPDX-License-Identifier: LGPL-2.1-or-later
// Start, stop and what lies between.
#include "world.hpp"

namespace virtbus::tests {
namespace {

using Lifecycle = World;

TEST_F(Lifecycle, ADefinedDomainStartsAndStops) {
    boot();
    const auto domain = define(xml("web"));
    EXPECT_TRUE(audience.heard("added web"));
    EXPECT_EQ(domain->view().state, State::shutoff);
    EXPECT_TRUE(domain->view().persistent);

    finish(domain->start({}, caller));
    EXPECT_EQ(domain->view().state, State::running);
    EXPECT_EQ(domain->view().state_reason, "booted");
    EXPECT_EQ(domain->view().id, 1u);
    EXPECT_GT(domain->view().started_at, 0u);
    EXPECT_TRUE(exists(status_path("web")));

    finish(domain->stop({}, caller));
    EXPECT_EQ(domain->view().state, State::shutoff);
    EXPECT_EQ(domain->view().state_reason, "destroyed");
    EXPECT_EQ(domain->view().id, 0u);
    EXPECT_FALSE(exists(status_path("web")));
}

TEST_F(Lifecycle, TheStatusIsOnDiskBeforeTheSignalAndTheSignalBeforeTheReply) {
    boot();
    const auto domain = define(xml("web"));
    std::vector<std::string> order;
    audience.on_change = [&](Domain& changed, const DomainView& before) {
        if (before.state == changed.view().state) return;
        order.emplace_back(word(changed.view().state));
        if (is_active(changed.view().state)) {
            EXPECT_NE(read(status_path("web")).find(word(changed.view().state)), std::string::npos);
        }
    };
    finish(domain->start({}, caller));
    order.emplace_back("reply");
    EXPECT_EQ(order, (std::vector<std::string>{"starting", "running", "reply"}));
}

TEST_F(Lifecycle, StartPausedWaitsForResume) {
    boot();
    const auto domain = define(xml("web"));
    finish(domain->start({.paused = true}, caller));
    EXPECT_EQ(domain->view().state, State::paused);
    EXPECT_EQ(domain->view().state_reason, "starting-up");
    finish(domain->resume(caller));
    EXPECT_EQ(domain->view().state, State::running);
}

TEST_F(Lifecycle, SuspendAndResumeAreSeenBeforeTheReply) {
    boot();
    const auto domain = running("web");
    finish(domain->suspend(caller));
    EXPECT_EQ(domain->view().state, State::paused);
    EXPECT_EQ(domain->view().state_reason, "user");
    EXPECT_NE(read(status_path("web")).find("paused"), std::string::npos);
    EXPECT_REFUSED(finish(domain->suspend(caller)), Code::invalid_state, "needs it running");
    finish(domain->resume(caller));
    EXPECT_EQ(domain->view().state, State::running);
    EXPECT_REFUSED(finish(domain->resume(caller)), Code::invalid_state, "is running (user); 'resume' needs it paused");
}

TEST_F(Lifecycle, ShutdownPassesThroughShutdownToShutoff) {
    boot();
    const auto domain = running("web", "shutdown-delay-ms='30'");
    finish(domain->shutdown("acpi", caller));
    ASSERT_TRUE(until([&] { return domain->view().state == State::shutdown; }));
    ASSERT_TRUE(until([&] { return domain->view().state == State::shutoff; }));
    EXPECT_EQ(domain->view().state_reason, "shutdown");
    EXPECT_REFUSED(finish(domain->shutdown("acpi", caller)), Code::invalid_state, "is shutoff (shutdown)");
}

TEST_F(Lifecycle, ARebootIsAnEvent) {
    boot();
    const auto domain = running("web");
    finish(domain->reboot("default", caller));
    EXPECT_TRUE(until([&] { return audience.heard("event web 0"); }));
    EXPECT_REFUSED(finish(domain->reboot("agent", caller)), Code::agent_unavailable, "no guest agent");
}

TEST_F(Lifecycle, EveryVerbThatNeedsAGuestNamesTheStateItFound) {
    boot();
    const auto domain = define(xml("web"));
    EXPECT_REFUSED(finish(domain->suspend(caller)), Code::invalid_state,
                   "domain 'web' is shutoff (unknown); 'suspend'");
    EXPECT_REFUSED(finish(domain->resume(caller)), Code::invalid_state, "needs it paused");
    EXPECT_REFUSED(finish(domain->shutdown("acpi", caller)), Code::invalid_state, "running or paused");
    EXPECT_REFUSED(finish(domain->reboot("acpi", caller)), Code::invalid_state, "running or paused");
    EXPECT_REFUSED(finish(domain->reset(caller)), Code::invalid_state, "running");
    EXPECT_REFUSED(finish(domain->inject_nmi(caller)), Code::invalid_state, "running");
    EXPECT_REFUSED(finish(domain->stop({}, caller)), Code::invalid_state, "'stop' needs it running");
    EXPECT_REFUSED(run(domain->send_key({"KEY_A"})), Code::invalid_state, "shutoff");
    finish(domain->start({}, caller));
    EXPECT_REFUSED(finish(domain->start({}, caller)), Code::invalid_state, "needs it shutoff");
}

TEST_F(Lifecycle, AFailedStartLeavesNoTrace) {
    boot();
    const auto domain = define(
        xml("web", "fail-start='no such firmware'", "", "<interface type='bridge'><source bridge='br0'/></interface>"));
    EXPECT_REFUSED(finish(domain->start({}, caller)), Code::hypervisor_failed, "no such firmware");
    EXPECT_EQ(domain->view().state, State::shutoff);
    EXPECT_EQ(domain->view().state_reason, "failed");
    EXPECT_EQ(domain->view().id, 0u);
    EXPECT_FALSE(exists(status_path("web")));
    EXPECT_TRUE(links.open.empty());
}

TEST_F(Lifecycle, LinksAreRecordedWhileItRunsAndUndoneAtItsEnd) {
    boot();
    const auto domain = define(xml("web", "", "", "<interface type='bridge'><source bridge='br0'/></interface>"));
    finish(domain->start({}, caller));
    ASSERT_EQ(links.open.size(), 1u);
    EXPECT_NE(read(status_path("web")).find(*links.open.begin()), std::string::npos);
    finish(domain->stop({}, caller));
    EXPECT_TRUE(links.open.empty());
}

TEST_F(Lifecycle, WithoutALinkProviderTheStartSaysWhichInterface) {
    boot(false);
    const auto domain = define(xml("web", "", "",
                                   "<interface type='bridge'><mac address='52:54:00:00:00:01'/>"
                                   "<source bridge='br0'/></interface>"));
    EXPECT_REFUSED(finish(domain->start({}, caller)), Code::unsupported, "52:54:00:00:00:01");
}

TEST_F(Lifecycle, AMissingImageIsNamed) {
    boot();
    const auto domain = define(xml("web", "open-disks='yes'", "",
                                   "<disk type='file'><source file='/nowhere/disk.img'/><target dev='vda'/></disk>"));
    EXPECT_REFUSED(finish(domain->start({}, caller)), Code::unsupported_configuration, "/nowhere/disk.img");
    EXPECT_EQ(domain->view().state_reason, "failed");
}

TEST_F(Lifecycle, AGuestThatCrashesIsToldWithItsReason) {
    boot();
    const auto domain = running("web", "die-after-ms='20'");
    ASSERT_TRUE(until([&] { return domain->view().state == State::shutoff; }));
    EXPECT_TRUE(audience.heard("state web shutoff crashed"));
    ASSERT_TRUE(until([&] { return !room->jobs().busy(); }));
    EXPECT_FALSE(exists(status_path("web")));
    finish(domain->start({}, caller));
    EXPECT_EQ(domain->view().state, State::running);
}

TEST_F(Lifecycle, StopGetsThroughBehindAHungVerbAndCancelsIt) {
    boot();
    const auto domain = running("web", "hang-verbs='yes'");
    const auto hung = domain->suspend(caller);
    const auto waiting = domain->resume(caller);
    settle();
    EXPECT_FALSE(hung->finished());
    finish(domain->stop({}, caller));
    EXPECT_EQ(domain->view().state, State::shutoff);
    EXPECT_REFUSED(finish(hung), Code::cancelled, "cancelled");
    EXPECT_REFUSED(finish(waiting), Code::cancelled, "cancelled");
}

TEST_F(Lifecycle, StopEndsAStartThatHangs) {
    boot();
    const auto domain =
        define(xml("web", "hang-start='yes'", "", "<interface type='bridge'><source bridge='br0'/></interface>"));
    const auto start = domain->start({}, caller);
    ASSERT_TRUE(until([&] { return links.open.size() == 1; }));
    EXPECT_EQ(domain->view().state, State::starting);
    finish(domain->stop({}, caller));
    EXPECT_REFUSED(finish(start), Code::cancelled, "");
    EXPECT_EQ(domain->view().state, State::shutoff);
    EXPECT_EQ(domain->view().state_reason, "destroyed");
    EXPECT_TRUE(links.open.empty());
}

TEST_F(Lifecycle, AStartQueuedBehindAStopRunsAfterIt) {
    boot();
    const auto domain = running("web", "ignore-kill-ms='50'");
    const auto stop = domain->stop({}, caller);
    const auto start = domain->start({}, caller);
    finish(start);
    EXPECT_TRUE(stop->finished());
    EXPECT_EQ(domain->view().state, State::running);
    EXPECT_EQ(domain->view().id, 2u);
}

TEST_F(Lifecycle, AnUnkillableGuestIsShownAsSuchUntilItIsGone) {
    boot();
    const auto domain = running("web", "ignore-kill-ms='600'");
    EXPECT_REFUSED(finish(domain->stop({}, caller)), Code::timeout, "did not end in time");
    EXPECT_EQ(domain->view().state, State::shutdown);
    EXPECT_EQ(domain->view().state_reason, "unkillable");
    EXPECT_REFUSED(finish(domain->start({}, caller)), Code::invalid_state, "unkillable");
    ASSERT_TRUE(until([&] { return domain->view().state == State::shutoff; }));
    finish(domain->start({}, caller));
}

TEST_F(Lifecycle, AutodestroyEndsItWhenItsCreatorLeaves) {
    boot();
    const auto domain = define(xml("web"));
    finish(domain->start({.autodestroy = true}, caller));
    callers.leave(":1.8");
    settle();
    EXPECT_EQ(domain->view().state, State::running);
    callers.leave(":1.7");
    ASSERT_TRUE(until([&] { return domain->view().state == State::shutoff; }));
    ASSERT_TRUE(until([&] { return !room->jobs().busy(); }));
    EXPECT_TRUE(callers.watches.empty());
}

TEST_F(Lifecycle, ATransientDomainIsGoneAtItsEnd) {
    boot();
    const auto domain = run(room->domains().create(xml("tmp"), {}, caller));
    EXPECT_EQ(domain->view().state, State::running);
    EXPECT_FALSE(domain->view().persistent);
    EXPECT_FALSE(exists(definition_path("tmp")));
    finish(domain->stop({}, caller));
    EXPECT_TRUE(audience.heard("removed tmp"));
    EXPECT_REFUSED(get("tmp"), Code::no_such_domain, "tmp");
    EXPECT_REFUSED(finish(domain->start({}, caller)), Code::no_such_domain, "gone");
}

TEST_F(Lifecycle, ATransientDomainThatCannotStartIsGoneToo) {
    boot();
    EXPECT_REFUSED(run(room->domains().create(xml("tmp", "fail-start='broken'"), {}, caller)), Code::hypervisor_failed,
                   "broken");
    EXPECT_REFUSED(get("tmp"), Code::no_such_domain, "tmp");
    EXPECT_EQ(audience.count("added tmp"), audience.count("removed tmp"));
    run(room->domains().create(xml("tmp"), {}, caller));
}

TEST_F(Lifecycle, FrontEndsAnswerBesideTheLane) {
    boot();
    const auto domain = define(xml("web", "", "", "<serial type='pty'/>"));
    finish(domain->start({}, caller));
    const auto console = run(domain->open_console("", false));
    EXPECT_REFUSED(run(domain->open_console("serial0", false)), Code::device_in_use, "serial0");
    EXPECT_TRUE(run(domain->open_console("serial0", true)));
    EXPECT_REFUSED(run(domain->open_console("nothing", false)), Code::no_such_device, "nothing");
    EXPECT_EQ(run(domain->screenshot(0)).png.substr(1, 3), "PNG");
    EXPECT_REFUSED(run(domain->send_key({"KEY_NONSENSE"})), Code::invalid_args, "KEY_NONSENSE");
    run(domain->send_key({"KEY_LEFTCTRL", "KEY_LEFTALT", "KEY_F1"}));
}

TEST_F(Lifecycle, StatisticsAreFreshOrMarkedStale) {
    boot();
    const auto domain = running("web");
    const auto stats = run(domain->stats({}));
    EXPECT_FALSE(stats.stale);
    EXPECT_TRUE(stats.values.contains("cpu.time"));
    EXPECT_EQ(std::get<std::string>(stats.values.at("state.state")), "running");
    const auto some = run(domain->stats({"balloon"}));
    EXPECT_TRUE(some.values.contains("balloon.current"));
    EXPECT_FALSE(some.values.contains("cpu.time"));

    const auto mute = running("mute", "unresponsive='yes'");
    EXPECT_TRUE(until([&] { return !mute->view().responsive; }));
    EXPECT_TRUE(run(mute->stats({})).stale);
    EXPECT_TRUE(run(mute->stats({})).stale);
    const auto all = run(room->domains().stats({}, {}));
    EXPECT_EQ(all.size(), 2u);
    EXPECT_FALSE(all.at(uuid_of("web")).stale);
    EXPECT_TRUE(all.at(uuid_of("mute")).stale);
    EXPECT_EQ(run(room->domains().stats({}, {"shutoff"})).size(), 0u);
}

TEST_F(Lifecycle, AFullRuntimeFolderFailsTheStartAndEndsTheGuest) {
    boot();
    const auto domain = define(xml("web"));
    files.full = true;
    EXPECT_REFUSED(finish(domain->start({}, caller)), Code::no_space, "no space");
    files.full = false;
    EXPECT_EQ(domain->view().state, State::shutoff);
    finish(domain->start({}, caller));
}

TEST_F(Lifecycle, DrainWaitsForVerbsUnderWay) {
    boot();
    const auto domain = define(xml("web"));
    const auto start = domain->start({}, caller);
    EXPECT_FALSE(room->idle());
    run(room->drain(std::chrono::minutes{1}));
    EXPECT_TRUE(start->finished());
    EXPECT_FALSE(room->idle());
    finish(domain->stop({}, caller));
    run(room->drain(std::chrono::minutes{1}));
    EXPECT_TRUE(room->idle());
}

TEST_F(Lifecycle, DrainCancelsWhatDoesNotEndAndLeavesItToItsUndo) {
    boot();
    const auto domain = define(xml("web", "hang-start='yes'"));
    const auto start = domain->start({}, caller);
    run(room->drain(std::chrono::milliseconds{50}));
    EXPECT_TRUE(start->finished());
    EXPECT_EQ(domain->view().state, State::shutoff);
}

}  // namespace
}  // namespace virtbus::tests
