// SPDX-License-Identifier: LGPL-2.1-or-later
// World: a service room on the real loop, real files in a folder of its own and the test driver, that can be taken down
// and built anew on the same folders. Owns what the tests look at; asserts nothing.
#pragma once

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "service/checkpoints.hpp"
#include "service/host/host.hpp"
#include "service/machine_room.hpp"
#include "service/networks.hpp"
#include "test/driver.hpp"
#include "tests/support/run.hpp"
#include "virtbus/ports.hpp"

namespace virtbus::tests {

class RecordingLog final : public Log {
public:
    void write(Priority priority, std::string_view message, const Fields&) override {
        lines.emplace_back(priority, std::string{message});
    }
    bool says(std::string_view text) const {
        for (const auto& [priority, line] : lines)
            if (line.find(text) != line.npos) return true;
        return false;
    }
    std::vector<std::pair<Priority, std::string>> lines;
};

/// Writes down what it is told, one word line each.
class RecordingAudience final : public Audience {
public:
    void domain_added(Domain& domain) override { tell("added " + domain.view().name); }
    void domain_changed(Domain& domain, const DomainView& before) override {
        const auto& now = domain.view();
        if (before.state != now.state)
            tell("state " + now.name + ' ' + std::string{word(now.state)} + ' ' + now.state_reason);
        else
            tell("changed " + now.name);
        if (on_change) on_change(domain, before);
    }
    void domain_event(Domain& domain, const DomainEvent& event) override {
        tell("event " + domain.view().name + ' ' + std::to_string(static_cast<int>(event.kind)));
    }
    void domain_removed(const DomainView& last) override { tell("removed " + last.name); }
    void snapshot_added(Domain&, const SnapshotView& snapshot) override { tell("snapshot-added " + snapshot.name); }
    void snapshot_changed(Domain&, const SnapshotView& before, const SnapshotView&) override {
        tell("snapshot-changed " + before.name);
    }
    void snapshot_removed(const std::string&, const SnapshotView& last) override {
        tell("snapshot-removed " + last.name);
    }
    void checkpoint_added(Domain&, const CheckpointView& checkpoint) override {
        tell("checkpoint-added " + checkpoint.name);
    }
    void checkpoint_changed(Domain&, const CheckpointView& before, const CheckpointView&) override {
        tell("checkpoint-changed " + before.name);
    }
    void checkpoint_removed(const std::string&, const CheckpointView& last) override {
        tell("checkpoint-removed " + last.name);
    }
    void network_added(Network& network) override { tell("network added " + network.view().name); }
    void network_changed(Network& network, const NetworkView&) override {
        tell("network changed " + network.view().name);
    }
    void network_removed(const NetworkView& last) override { tell("network removed " + last.name); }
    void job_added(Job& job) override { tell("job " + job.view().operation); }
    void job_changed(Job& job, const JobView&) override {
        tell("job-changed " + job.view().operation);
        job_phases.push_back(job.view().phase);
    }
    void job_completed(Job& job) override { tell("job-completed " + job.view().operation); }
    void job_removed(std::uint64_t id) override { tell("job-removed " + std::to_string(id)); }

    void tell(std::string line) { told.push_back(std::move(line)); }
    bool heard(std::string_view line) const { return std::find(told.begin(), told.end(), line) != told.end(); }
    std::size_t count(std::string_view line) const {
        return static_cast<std::size_t>(std::count(told.begin(), told.end(), line));
    }
    std::vector<std::string> told, job_phases;
    std::function<void(Domain&, const DomainView&)> on_change;
};

class TestCallers final : public Callers {
public:
    Registration when_gone(const Caller& caller, std::function<void()> gone) override {
        struct Watch final : Registered {
            Watch(TestCallers& owner, int id) : owner{owner}, id{id} {}
            ~Watch() override { owner.watches.erase(id); }
            TestCallers& owner;
            int id;
        };
        watches[++last] = {caller.name, std::move(gone)};
        return std::make_unique<Watch>(*this, last);
    }
    void leave(const std::string& name) {
        auto copy = watches;
        for (auto& [id, watch] : copy)
            if (watch.first == name) watch.second();
    }
    std::map<int, std::pair<std::string, std::function<void()>>> watches;
    int last = 0;
};

class TestLinks final : public LinkProvider {
public:
    Task<Link> open_link(LinkRequest request, Deadline, std::stop_token) override {
        const auto key = "link " + request.interface.mac;
        open.insert(key);
        Link link;
        link.ifname = "tap0";
        link.undo_key = key;
        co_return link;
    }
    Task<> close_link(std::string undo_key) override {
        open.erase(undo_key);
        co_return;
    }
    std::set<std::string> open;
};

/// The host's time, which a test can move on.
class ShiftedClock final : public Clock {
public:
    std::uint64_t now() const override { return real.now() + shift; }
    host::SystemClock real;
    std::uint64_t shift = 0;
};

/// Nothing here starts a process.
class NoUnits final : public Units {
public:
    Task<Unit> start(UnitRequest, Deadline, std::stop_token) override { throw Error{Code::unsupported, "no units"}; }
    std::optional<Unit> adopt(std::uint32_t, std::uint64_t, const std::string&) override { return std::nullopt; }
    void kill(const Unit&, bool) override {}
    Task<ExitStatus> exit_status(std::string, std::uint32_t, Deadline) override { co_return ExitStatus{}; }
    Task<> allow(std::string, std::uint32_t, UnitGrant, Deadline) override { co_return; }
    Task<> deny(std::string, UnitGrant, Deadline) override { co_return; }
};

/// The real files, with faults: a full disk, or a daemon that dies at the n-th lasting change.
class FaultyFiles final : public Files {
public:
    explicit FaultyFiles(Files& real) : real_{real} {}
    bool full = false;
    int room_for = -1;    ///< writes that still fit on the disk; -1: all
    int steps_left = -1;  ///< lasting changes that still happen; -1: all
    int steps = 0;        ///< lasting changes that have happened

    Task<> write(std::string path, std::string content, unsigned mode) override {
        step(path, true);
        co_await real_.write(std::move(path), std::move(content), mode);
    }
    void write_volatile(const std::string& path, std::string_view content, unsigned mode) override {
        if (full) throw Error{Code::no_space, "no space for " + path};
        real_.write_volatile(path, content, mode);
    }
    Task<> remove(std::string path) override {
        step(path, false);
        co_await real_.remove(std::move(path));
    }
    void remove_volatile(const std::string& path) override { real_.remove_volatile(path); }
    Task<> rename(std::string from, std::string to) override {
        step(from, false);
        co_await real_.rename(std::move(from), std::move(to));
    }
    Task<> link(std::string target, std::string link) override {
        step(link, true);
        co_await real_.link(std::move(target), std::move(link));
    }
    std::optional<std::string> read(const std::string& path, std::size_t limit) override {
        return real_.read(path, limit);
    }
    std::vector<std::string> list(const std::string& folder) override { return real_.list(folder); }
    void make_folder(const std::string& path, unsigned mode) override { real_.make_folder(path, mode); }
    bool exists(const std::string& path) override { return real_.exists(path); }
    Task<Fd> open(std::string path, int flags, unsigned mode, std::optional<Identity> as, Deadline deadline,
                  std::stop_token stop) override {
        return real_.open(std::move(path), flags, mode, std::move(as), deadline, std::move(stop));
    }
    Task<Identity> identify(std::uint32_t uid, Deadline deadline) override { return real_.identify(uid, deadline); }
    Task<NewFilePtr> create_beside(std::string path, unsigned mode, std::optional<Identity> as, Deadline deadline,
                                   std::stop_token stop) override {
        step(path, true);
        co_return co_await real_.create_beside(std::move(path), mode, std::move(as), deadline, std::move(stop));
    }
    Task<> commit(NewFilePtr file) override {
        step(file->path, true);
        co_await real_.commit(std::move(file));
    }
    Task<> discard(NewFilePtr file) override {
        step(file->path, false);
        co_await real_.discard(std::move(file));
    }
    Task<> remove_temporary(std::string temporary, std::optional<Identity> as) override {
        step(temporary, false);
        co_await real_.remove_temporary(std::move(temporary), std::move(as));
    }

private:
    void step(const std::string& path, bool needs_space) {
        if (needs_space && room_for == 0) throw Error{Code::no_space, "no space left for " + path};
        if (needs_space && room_for > 0) --room_for;
        if (full && needs_space) throw Error{Code::no_space, "no space left for " + path};
        if (steps_left == 0) throw Error{Code::internal, "the test ends the daemon here"};
        if (steps_left > 0) --steps_left;
        ++steps;
    }
    Files& real_;
};

class World : public ::testing::Test {
protected:
    World() {
        char name[] = "/tmp/virtbus-service-XXXXXX";
        root = ::mkdtemp(name);
        patience.kill = Duration{300};
        patience.graceful = Duration{600};
        patience.sample = Duration{50};
        patience.verb = Duration{5'000};
        patience.adopt = Duration{2'000};
        ports.emplace(Ports{host.loop, clock, host.outside_workers, files, host.spawner, log, units,
                            Folders{root + "/config", root + "/state", root + "/run", root + "/cache", root + "/logs"},
                            "boot-1", false});
    }
    ~World() override {
        room.reset();
        host.outside_workers.settle(Duration{5'000});
        host.state_workers.settle(Duration{5'000});
        settle();
        std::filesystem::remove_all(root);
    }

    /// A daemon on the same folders: the first, or the next after the one before has gone without a word.
    void boot(bool with_links = true) {
        room.reset();
        audience.told.clear();
        driver.emplace(*ports);
        room.emplace(*ports, std::vector<HypervisorDriver*>{&*driver}, with_links ? link_provider : nullptr,
                     network_driver, callers, audience, patience);
        run(room->load());
    }

    /// Runs the loop until the task has ended; its result or its exception.
    template <class T>
    T run(Task<T> task) {
        return tests::run(host.loop, std::move(task), Duration{20'000});
    }
    void finish(const JobPtr& job) { (void)run(room->jobs().wait(job, std::nullopt)); }
    template <class Condition>
    bool until(Condition condition) {
        return host.loop.run_until(condition, Duration{10'000});
    }
    void settle() {
        bool turned = false;
        for (int i = 0; i < 3; ++i) {
            turned = false;
            host.loop.post([&] { turned = true; });
            host.loop.run_until([&] { return turned; }, Duration{1'000});
        }
    }

    DomainPtr define(const std::string& xml) { return run(room->domains().define(xml, {}, caller)); }
    DomainPtr get(const std::string& name) { return room->domains().get(name); }
    DomainPtr running(const std::string& name, const std::string& behaviour = {}) {
        auto domain = define(xml(name, behaviour));
        finish(domain->start({}, caller));
        return domain;
    }
    void undefine(const std::string& name, UndefineOptions options = {}) {
        finish(get(name)->undefine(options, caller));
    }

    /// The same name gives the same UUID.
    static std::string uuid_of(const std::string& name) {
        std::string digits;
        for (int i = 0; digits.size() < 32; ++i) {
            char byte[3];
            std::snprintf(byte, sizeof byte, "%02x",
                          static_cast<unsigned char>(name[static_cast<std::size_t>(i) % name.size()] + i));
            digits += byte;
        }
        for (const std::size_t dash : {8u, 13u, 18u, 23u}) digits.insert(dash, 1, '-');
        return digits;
    }
    static std::string xml(const std::string& name, const std::string& behaviour = {}, const std::string& more = {},
                           const std::string& devices = {}) {
        auto text = "<domain type='test'><name>" + name + "</name><uuid>" + uuid_of(name) + "</uuid>";
        if (!behaviour.empty())
            text += "<metadata><test:behaviour xmlns:test='http://virtbus.org/domain/test/1.0' " + behaviour +
                    "/></metadata>";
        return text + "<memory unit='MiB'>64</memory><vcpu>2</vcpu><os><type arch='x86_64'>hvm</type></os>" + more +
               "<devices>" + devices + "</devices></domain>";
    }

    std::string definition_path(const std::string& name) const {
        return root + "/config/domain/" + uuid_of(name) + ".xml";
    }
    std::string status_path(const std::string& name) const { return root + "/run/domain/" + uuid_of(name) + ".status"; }
    static bool exists(const std::string& path) {
        return std::filesystem::exists(std::filesystem::symlink_status(path));
    }
    static std::string read(const std::string& path) {
        std::ifstream in{path};
        return {std::istreambuf_iterator<char>{in}, {}};
    }
    static void write(const std::string& path, const std::string& content) {
        std::filesystem::create_directories(std::filesystem::path{path}.parent_path());
        std::ofstream{path} << content;
    }

    host::Host host;
    ShiftedClock clock;
    FaultyFiles files{host.files};
    RecordingLog log;
    NoUnits units;
    std::string root;
    std::optional<Ports> ports;
    Patience patience;
    RecordingAudience audience;
    TestCallers callers;
    TestLinks links;
    LinkProvider* link_provider = &links;
    NetworkDriver* network_driver = nullptr;
    Caller caller{.name = ":1.7", .uid = 1000};
    std::optional<test_driver::TestDriver> driver;
    std::optional<MachineRoom> room;
};

/// The code and message of the error that `work` throws.
struct Refusal {
    std::optional<Code> code;
    std::string message;
};
template <class F>
Refusal refusal(F work) {
    try {
        work();
    } catch (const Error& e) {
        return {e.code(), e.what()};
    }
    return {};
}
#define EXPECT_REFUSED(statement, expected, text)                                   \
    do {                                                                            \
        const auto seen = ::virtbus::tests::refusal([&] { statement; });            \
        EXPECT_TRUE(seen.code.has_value()) << "not refused: " #statement;           \
        if (seen.code) EXPECT_EQ(word(*seen.code), word(expected)) << seen.message; \
        EXPECT_NE(seen.message.find(text), std::string::npos) << seen.message;      \
    } while (false)

}  // namespace virtbus::tests
