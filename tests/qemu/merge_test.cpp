// SPDX-License-Identifier: LGPL-2.1-or-later
// Images taken out of chains in a real QEMU: at the top, in the middle, at the bottom, byte for byte; given up on the
// way; and found by the next daemon in whatever state the last one left them.
#include "tests/qemu/block_bed.hpp"

namespace virtbus::tests {
namespace {

using How = ChainMerge::How;

/// a <- b <- c <- d: each has a byte of its own at its own place, and the one before it at 0.
class Merges : public BlockGuest {
public:
    void chain(bool paused = false) {
        std::string below;
        unsigned number = 0;
        for (const auto* name : {"a.qcow2", "b.qcow2", "c.qcow2", "d.qcow2"}) {
            make_image(name, ++number, below);
            shell(fmt::format("qemu-io -c 'write -P {} 0 1M' {}", number, name));
            below = name;
        }
        auto top = disk(path("d.qcow2"));
        top.iotune.emplace().total_bytes_sec = 1 << 30;
        start({top}, paused);
    }
    void expect_chain() {
        expect_bytes(4, 0);
        for (unsigned i = 1; i <= 4; ++i) expect_bytes(i, i);
    }
    void merge(ChainMerge what, std::stop_token stop = {}, ProgressSink progress = {}) {
        bed.run(qemu::merge(core, std::move(what), bed.resources, std::move(progress), std::move(stop)));
    }
    ChainMerge of(How how, const std::string& upper, const std::string& lower) const {
        return {"vda", how, path(upper + ".qcow2"), lower.empty() ? "" : path(lower + ".qcow2")};
    }
    std::size_t images() { return qemu::DiskParts::of(core->record.parts["virtio-disk0"]).images.size(); }
    /// Nobody has the file any more.
    void expect_closed(const std::string& name) {
        shell(
            fmt::format("qemu-io -c 'write -P 99 7M 4k' 'json:{{\"driver\":\"qcow2\",\"backing\":null,"
                        "\"file\":{{\"driver\":\"file\",\"filename\":\"{}.qcow2\"}}}}'",
                        name));
    }
    void expect_lower_is_read_only(const std::string& name) {
        shell(fmt::format("qemu-io -r -c 'read 0 4k' {}.qcow2", name));
    }
};

struct Case {
    How how;
    const char *upper, *lower;  ///< "" = nothing
    std::vector<const char*> gone;
    const char* top;
    const char *above, *names;  ///< what is above, and what it names then
};

void PrintTo(const Case& what, std::ostream* out) {
    *out << (what.how == How::commit ? "commit " : "stream ") << what.upper << " to '" << what.lower << "'";
}

class EveryMerge : public Merges, public ::testing::WithParamInterface<Case> {};

TEST_P(EveryMerge, KeepsEveryByte) {
    const auto& [how, upper, lower, gone, top_name, above, names] = GetParam();
    chain();
    const auto before = inventory();
    bool halted = false, on_record = false;
    auto what = of(how, upper, lower);
    const auto settle = [](EveryMerge* self, bool* still, bool* told) -> Task<> {
        *still = self->core->life.state() == State::paused;
        *told = self->events.told.back().config.devices.disks[0].source->file == self->top();
        co_return;
    };
    what.settle = [&] { return settle(this, &halted, &on_record); };
    merge(what);
    EXPECT_TRUE(halted);
    EXPECT_TRUE(on_record);
    bed.run_until([&] { return core->life.state() == State::running; });
    EXPECT_TRUE(heard("paused snapshot"));
    EXPECT_EQ(top(), path(std::string{top_name} + ".qcow2"));
    EXPECT_EQ(images(), 4 - gone.size());
    bed.run_until([&] { return core->record.closing.empty(); });
    EXPECT_EQ(inventory().first, before.first - 2 * gone.size());
    EXPECT_EQ(inventory().second, before.second - gone.size());
    for (const auto* name : gone) expect_closed(name);
    if (*above)
        EXPECT_EQ(backing_of(std::string{above} + ".qcow2"),
                  *names ? path(std::string{names} + ".qcow2") + " qcow2" : " ");
    expect_chain();
    write(9, 5);
    expect_bytes(9, 5);
    if (*lower && top() != path(std::string{lower} + ".qcow2")) expect_lower_is_read_only(lower);
    // A record without anything under way, and nodes that go with the disk.
    EXPECT_TRUE(core->record.changing.empty() && core->record.job.empty() && !core->record.resume);
    end();
    for (const auto* name : gone) shell(fmt::format("rm {}.qcow2", name));
    shell(
        fmt::format("qemu-io -r -c 'read -P 4 0 1M' -c 'read -P 1 1M 1M' -c 'read -P 2 2M 1M' -c 'read -P 3 3M 1M' "
                    "-c 'read -P 4 4M 1M' -c 'read -P 9 5M 1M' {0}.qcow2 && qemu-img check -q {0}.qcow2",
                    top_name));
}

INSTANTIATE_TEST_SUITE_P(
    Positions, EveryMerge,
    testing::Values(Case{How::commit, "d", "c", {"d"}, "c", "c", "b"},           // the top into the next
                    Case{How::commit, "d", "a", {"d", "c", "b"}, "a", "a", ""},  // everything into the bottom
                    Case{How::commit, "c", "b", {"c"}, "d", "d", "b"},           // from the middle
                    Case{How::commit, "b", "a", {"b"}, "d", "c", "a"},           // into the bottom, below an overlay
                    Case{How::stream, "d", "", {"c", "b", "a"}, "d", "d", ""},   // the top takes up all
                    Case{How::stream, "d", "b", {"c"}, "d", "d", "b"},           // the top takes up the next
                    Case{How::stream, "c", "a", {"b"}, "d", "c", "a"},           // the middle takes up the next
                    Case{How::stream, "b", "", {"a"}, "d", "b", ""}));           // the middle takes up the bottom

TEST_F(Merges, OfAPausedGuestLeaveItPaused) {
    chain(true);
    const auto before = inventory();
    bool settled = false;
    auto what = of(How::commit, "d", "c");
    const auto settle = [](bool* done) -> Task<> {
        *done = true;
        co_return;
    };
    what.settle = [&] { return settle(&settled); };
    merge(what);
    EXPECT_TRUE(settled);
    EXPECT_EQ(core->life.state(), State::paused);
    expect_chain();
    // QEMU closes the descriptors when it runs.
    qmp("cont");
    bed.run_until([&] { return core->record.closing.empty(); });
    EXPECT_EQ(inventory().second, before.second - 1);
    end();
}

TEST_F(Merges, FollowOneAnother) {
    chain();
    put({{"vda", {make_overlay("e.qcow2", "d.qcow2"), "qcow2"}}});
    write(9, 5);
    merge(of(How::commit, "c", "b"));
    merge(of(How::commit, "e", "d"));
    write(8, 6);
    merge(of(How::stream, "d", "a"));
    merge(of(How::commit, "d", "a"));
    EXPECT_EQ(top(), path("a.qcow2"));
    EXPECT_EQ(images(), 1U);
    expect_chain();
    expect_bytes(9, 5);
    expect_bytes(8, 6);
    end();
}

TEST_F(Merges, ThatAreGivenUpChangeNothing) {
    chain();
    const auto before = inventory();
    const auto config = core->config;
    for (const auto& [how, upper, lower] :
         {std::tuple{How::commit, "d", "c"}, std::tuple{How::commit, "c", "b"}, std::tuple{How::stream, "c", ""}}) {
        std::stop_source stopping;
        // Told of when the job has done its work and waits for us.
        const auto [code, message] = refusal(
            [&] { merge(of(how, upper, lower), stopping.get_token(), [&](auto, auto) { stopping.request_stop(); }); });
        EXPECT_EQ(code, Code::cancelled) << message;
        bed.run_until([&] { return core->life.state() == State::running; });
        EXPECT_EQ(core->config, config);
        EXPECT_EQ(images(), 4U);
        EXPECT_EQ(inventory(), before);
        EXPECT_TRUE(qmp("query-jobs").empty());
        if (*lower) expect_lower_is_read_only(lower);
        expect_chain();
    }
    merge(of(How::commit, "d", "c"));
    expect_chain();
    end();
}

TEST_F(Merges, ThatCannotBeAreRefused) {
    chain();
    const auto parts = core->record.parts;
    EXPECT_EQ(refusal([&] { merge(of(How::commit, "b", "c")); }).first, Code::invalid_args);
    EXPECT_EQ(refusal([&] { merge(of(How::commit, "b", "")); }).first, Code::invalid_args);
    EXPECT_EQ(refusal([&] { merge(of(How::commit, "x", "c")); }).first, Code::invalid_state);
    shell("mv b.qcow2 b.away");
    EXPECT_EQ(refusal([&] { merge(of(How::commit, "c", "b")); }).first, Code::invalid_state);
    EXPECT_EQ(core->record.parts, parts);
    EXPECT_TRUE(core->record.changing.empty());
    end();
}

TEST_F(Merges, RunOnWhenTheRecordCannotBeKept) {
    chain();
    auto what = of(How::commit, "d", "c");
    const auto settle = []() -> Task<> {
        throw Error{Code::no_space, "no room for the record"};
        co_return;
    };
    what.settle = settle;
    EXPECT_EQ(refusal([&] { merge(what); }).first, Code::no_space);
    bed.run_until([&] { return core->life.state() == State::running; });
    EXPECT_EQ(top(), path("c.qcow2"));
    end();
}

TEST_F(Merges, AreKnownToTheNextDaemonWhateverItKnew) {
    for (const auto& [how, upper, lower, now] :
         {std::tuple{How::commit, "d", "b", "b"}, std::tuple{How::commit, "c", "b", "d"},
          std::tuple{How::stream, "d", "a", "d"}}) {
        chain();
        events.told.clear();
        merge(of(how, upper, lower));
        const auto parts = core->record.parts;
        const auto config = core->config;
        const auto told = events.told;
        // From the moment that the job is on record; before, QEMU exchanges what reads a file.
        const auto begun = std::find_if(told.begin(), told.end(), [](const Record& record) {
            return !qemu::GuestRecord::from_text(record.state).job.empty();
        });
        ASSERT_NE(begun, told.end());
        for (auto record = begun; record != told.end(); ++record) {
            adopt(*record);
            EXPECT_EQ(top(), path(std::string{now} + ".qcow2"));
            EXPECT_EQ(core->config, config);
            EXPECT_EQ(core->record.parts, parts);
            bed.run_until([&] { return core->life.state() == State::running; });
        }
        expect_chain();
        end();
        shell("rm *.qcow2");
    }
}

TEST_F(Merges, OfADaemonThatEndsBeforeTheGuestRunsOnAreFinishedByTheNext) {
    chain();
    Record record;
    auto what = of(How::commit, "d", "c");
    const auto settle = [](Merges* self, Record* kept) -> Task<> {
        *kept = self->on_record();
        self->core->detach();
        co_return;
    };
    what.settle = [&] { return settle(this, &record); };
    EXPECT_EQ(refusal([&] { merge(what); }).first, Code::hypervisor_failed);
    adopt(record);
    EXPECT_EQ(top(), path("c.qcow2"));
    bed.run_until([&] { return core->life.state() == State::running; });
    bed.run_until([&] { return !core->record.resume; });
    expect_chain();
    end();
}

TEST_F(Merges, ThatAnEarlierDaemonBeganAreCancelled) {
    chain();
    merge(of(How::commit, "c", "b"));  // b can be written now, so that the job below can begin
    const auto config = core->config;
    const auto parts = core->record.parts;
    auto record = qemu::GuestRecord::from_text(core->record.text());
    record.job = "virtbus-merge-vda";
    auto after = qemu::DiskParts::of(record.parts["virtio-disk0"]);
    const auto root = after.root(), top_node = after.images[2].node(), base = after.images[1].node();
    after.images.erase(after.images.begin() + 2);
    record.changing["virtio-disk0"] = after.texts();
    qmp("block-commit", {{"job-id", "virtbus-merge-vda"},
                         {"device", root},
                         {"top-node", top_node},
                         {"base-node", base},
                         {"auto-finalize", false},
                         {"auto-dismiss", false}});
    adopt({config, record.text()});
    EXPECT_EQ(core->config, config);
    EXPECT_EQ(core->record.parts, parts);
    EXPECT_TRUE(core->record.changing.empty() && core->record.job.empty());
    EXPECT_TRUE(qmp("query-jobs").empty());
    expect_lower_is_read_only("b");
    expect_chain();
    end();
}

}  // namespace
}  // namespace virtbus::tests
