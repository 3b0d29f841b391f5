// SPDX-License-Identifier: LGPL-2.1-or-later
// What the test driver believes of images: chains, snapshots and bitmaps of guests that run, and what a later daemon
// finds of them.
#include "tests/service/world.hpp"

namespace virtbus::tests {
namespace {

struct NothingToOpen final : Resources {
    Task<Fd> open_file(std::string, Access) override { co_return Fd{}; }
    Task<Fd> create_file(std::string) override { co_return Fd{}; }
    Task<Fd> open_log(std::string) override { co_return Fd{}; }
    Task<Link> open_link(LinkRequest) override { co_return Link{}; }
    std::stop_token stop() const override { return {}; }
};

struct Told final : GuestEvents {
    void state_changed(State state, std::string reason) override {
        states.push_back(std::string{word(state)} + ' ' + reason);
    }
    void ended(GuestEnd) override {}
    void rebooted() override {}
    void config_changed(DomainConfig) override {}
    void responsive_changed(bool) override {}
    void device_added(std::string) override {}
    void device_removed(std::string) override {}
    void device_removal_failed(std::string) override {}
    void io_error(std::string, std::string, std::string) override {}
    void watchdog_fired(std::string) override {}
    void agent_changed(bool) override {}
    std::vector<std::string> states;
};

class TestImages : public World {
protected:
    static DomainConfig machine(const std::string& behaviour = {}) {
        DomainConfig config;
        config.name = "web";
        config.uuid = uuid_of("web");
        config.memory = std::uint64_t{64} << 20;
        for (const char* target : {"vda", "vdb"}) {
            Disk disk;
            disk.target.dev = target;
            set_top(disk, image(target));
            config.devices.disks.push_back(std::move(disk));
        }
        if (!behaviour.empty())
            config.metadata.push_back("<test:behaviour xmlns:test='http://virtbus.org/domain/test/1.0' " + behaviour +
                                      "/>");
        return config;
    }
    static ImageFile image(const std::string& name) { return {"/nowhere/" + name + ".qcow2", "qcow2", false}; }

    void start(const std::string& behaviour = {}, bool agent = false) {
        driver.emplace(*ports);
        auto config = machine(behaviour);
        if (agent) {
            Channel channel;
            channel.target.emplace();
            channel.target->name = "org.qemu.guest_agent.0";
            config.devices.channels.push_back(std::move(channel));
        }
        run(driver->complete(config, nullptr));
        guest = run(driver->start({.config = config,
                                   .id = 1,
                                   .resources = resources,
                                   .events = told,
                                   .deadline = in(Duration{10'000}),
                                   .stop = {}}));
    }
    /// A later daemon, which knows the definition as it was put on record.
    void adopt(DomainConfig recorded) {
        const auto state = guest->driver_state();
        guest.reset();
        driver.emplace(*ports);
        GuestEnd end;
        guest = run(driver->adopt(std::move(recorded), state, told, end));
    }
    std::string top(std::size_t disk = 0) const { return top_image(guest->config().devices.disks[disk])->path; }
    DiskWork& disks() { return *guest->disk_work(); }
    std::vector<std::string> tags(const std::string& name) {
        return run(driver->images()->examine(image(name), {})).tags;
    }
    void overlay(const std::string& disk, const std::string& name) {
        run(disks().put_overlays({{disk, image(name)}}, resources, {}));
    }

    NothingToOpen resources;
    Told told;
    std::unique_ptr<Guest> guest;
};

TEST_F(TestImages, OverlaysComeAndGo) {
    start();
    overlay("vda", "one");
    overlay("vda", "two");
    EXPECT_EQ(top(), image("two").path);
    EXPECT_EQ(top(1), image("vdb").path);
    EXPECT_EQ(run(driver->images()->examine(image("two"), {})).backing, image("one"));
    bool settled = false;
    ChainMerge middle{
        .disk = "vda", .how = ChainMerge::How::commit, .upper = image("one").path, .lower = image("vda").path};
    middle.settle = [&settled]() -> Task<> {
        settled = true;
        co_return;
    };
    run(disks().merge(middle, resources, {}, {}));
    EXPECT_TRUE(settled);
    EXPECT_EQ(top(), image("two").path);
    EXPECT_EQ(run(driver->images()->examine(image("two"), {})).backing, image("vda"));
    run(disks().merge({.disk = "vda", .how = ChainMerge::How::stream, .upper = image("two").path, .lower = ""},
                      resources, {}, {}));
    EXPECT_EQ(run(driver->images()->examine(image("two"), {})).backing, std::nullopt);
    overlay("vda", "three");
    run(disks().merge(
        {.disk = "vda", .how = ChainMerge::How::commit, .upper = image("three").path, .lower = image("two").path},
        resources, {}, {}));
    EXPECT_EQ(top(), image("two").path);
    EXPECT_REFUSED(
        run(disks().merge(
            {.disk = "vda", .how = ChainMerge::How::commit, .upper = image("two").path, .lower = image("one").path},
            resources, {}, {})),
        Code::hypervisor_failed, "one.qcow2");
}

TEST_F(TestImages, AllOverlaysOrNone) {
    start();
    EXPECT_REFUSED(run(disks().put_overlays({{"vda", image("one")}, {"vdz", image("two")}}, resources, {})),
                   Code::no_such_device, "vdz");
    EXPECT_EQ(top(), image("vda").path);
    start("fail-snapshot='the disk is broken'");
    EXPECT_REFUSED(overlay("vda", "one"), Code::hypervisor_failed, "the disk is broken");
    EXPECT_EQ(top(), image("vda").path);
}

TEST_F(TestImages, ALaterDaemonFindsTheChainsAsTheyAre) {
    start();
    const auto before = guest->config();
    overlay("vda", "one");
    adopt(before);
    EXPECT_EQ(top(), image("one").path) << "taken, but not put on record";
    const auto between = guest->config();
    run(disks().merge(
        {.disk = "vda", .how = ChainMerge::How::commit, .upper = image("one").path, .lower = image("vda").path},
        resources, {}, {}));
    adopt(between);
    EXPECT_EQ(top(), image("vda").path);
    start();
    EXPECT_EQ(top(), image("vda").path) << "a start follows its definition";
}

TEST_F(TestImages, MomentsInsideTheImages) {
    start();
    const InternalSnapshot moment{.tag = "a tag\n%", .disks = {"vda", "vdb"}};
    std::uint64_t done = 0;
    run(disks().take_internal(moment, [&done](std::uint64_t now, std::uint64_t) { done = now; }, {}));
    EXPECT_GT(done, 0u);
    EXPECT_TRUE(told.states.empty());
    adopt(guest->config());
    EXPECT_EQ(tags("vda"), std::vector<std::string>{"a tag\n%"});
    EXPECT_EQ(tags("vdb").size(), 1u);
    run(disks().load_internal(moment, {}, {}));
    ASSERT_TRUE(until([&] { return told.states.size() == 1; }));
    EXPECT_EQ(told.states[0], "paused from-snapshot");
    run(guest->resume({}));
    ASSERT_TRUE(until([&] { return told.states.size() == 2; }));
    EXPECT_EQ(told.states[1], "running from-snapshot");
    EXPECT_REFUSED(run(disks().load_internal({.tag = "none", .disks = {"vda"}}, {}, {})), Code::hypervisor_failed,
                   "'none'");
    run(disks().take_disks_only({.tag = "safety", .disks = {"vda"}}, {}));
    EXPECT_REFUSED(run(disks().load_internal({.tag = "safety", .disks = {"vda"}}, {}, {})), Code::hypervisor_failed,
                   "no memory");
    run(driver->images()->apply(image("vda"), "safety", {}));
    run(disks().remove_internal(moment, {}));
    run(disks().remove_internal(moment, {}));
    EXPECT_EQ(tags("vda"), std::vector<std::string>{"safety"});
    EXPECT_REFUSED(run(driver->images()->apply(image("vdb"), moment.tag, {})), Code::hypervisor_failed, "vdb.qcow2");
}

TEST_F(TestImages, AnOverlayTakesOverTheBitmapsThatRecord) {
    start();
    auto& work = *guest->bitmap_work();
    using Kind = BitmapChange::Kind;
    run(work.change_bitmaps(
        {{Kind::add, "vda", "old", ""}, {Kind::add, "vda", "new", ""}, {Kind::disable, "vda", "old", ""}}, {}));
    overlay("vda", "one");
    const auto facts = run(driver->images()->examine(image("one"), {}));
    ASSERT_EQ(facts.bitmaps.size(), 1u);
    EXPECT_EQ(facts.bitmaps[0].name, "new");
    EXPECT_REFUSED(run(work.change_bitmaps({{Kind::remove, "vda", "new", ""}, {Kind::remove, "vda", "none", ""}}, {})),
                   Code::hypervisor_failed, "'none'");
    EXPECT_EQ(run(work.bitmaps({})).size(), 3u) << "one in the overlay, two below";
}

TEST_F(TestImages, TheAgentAnswersOnItsChannel) {
    start();
    EXPECT_REFUSED(run(guest->agent()->freeze({})), Code::agent_unavailable, "no channel");
    start("", true);
    run(guest->agent()->freeze({}));
    run(guest->agent()->thaw());
    start("agent='silent'", true);
    EXPECT_REFUSED(run(guest->agent()->freeze({})), Code::agent_unavailable, "does not answer");
    start("agent='fails'", true);
    EXPECT_REFUSED(run(guest->agent()->freeze({})), Code::agent_failed, "refuses");
}

TEST_F(TestImages, ASnapshotThatHangsCanBeCancelled) {
    start("hang-snapshot='yes'");
    std::stop_source stop;
    host.loop.post([&] { stop.request_stop(); });
    EXPECT_REFUSED(run(disks().take_internal({.tag = "t", .disks = {"vda"}}, {}, stop.get_token())), Code::cancelled,
                   "cancelled");
    EXPECT_TRUE(tags("vda").empty());
}

TEST_F(TestImages, ImagesOfMachinesThatDoNotRun) {
    driver.emplace(*ports);
    auto& images = *driver->images();
    run(images.make_overlay(image("one"), image("vda"), {}));
    run(images.make_overlay(image("two"), image("one"), {}));
    EXPECT_REFUSED(run(images.commit(image("one"), image("two"), {}, {})), Code::unsupported_configuration,
                   "two.qcow2");
    run(images.commit(image("two"), image("vda"), {}, {}));
    run(images.pull(image("two"), image("vda"), {}, {}));
    EXPECT_EQ(run(images.examine(image("two"), {})).backing, image("vda"));
    run(images.rename_backing(image("two"), image("three"), {}));
    EXPECT_EQ(run(images.examine(image("two"), {})).backing, image("three"));
    write(root + "/there.qcow2", "bytes");
    EXPECT_REFUSED(run(images.make_overlay({root + "/there.qcow2", "qcow2"}, image("vda"), {})), Code::already_exists,
                   "there.qcow2");
    EXPECT_EQ(read(root + "/there.qcow2"), "bytes");
    EXPECT_FALSE(exists("/nowhere"));
}

}  // namespace
}  // namespace virtbus::tests
