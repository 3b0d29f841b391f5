// SPDX-License-Identifier: LGPL-2.1-or-later
// The ports on the real system: tasks and replies on the loop, workers, durable files, children.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <fstream>
#include <future>
#include <thread>

#include "service/host/files.hpp"
#include "service/host/loop.hpp"
#include "service/host/spawner.hpp"
#include "service/host/workers.hpp"
#include "tests/support/run.hpp"

using namespace virtbus;
using namespace std::chrono_literals;
using virtbus::tests::run;
using virtbus::tests::TemporaryFolder;

namespace {

template <class F>
Code code_of(F work) {
    try {
        work();
    } catch (const Error& error) {
        return error.code();
    }
    ADD_FAILURE() << "nothing was thrown";
    return Code::internal;
}

struct HostTest : ::testing::Test {
    host::MainLoop loop;
    host::ThreadPool state{loop, 8}, outside{loop, 4};
    host::LinuxFiles files{state, outside};
    host::ChildSpawner spawner{loop};
    TemporaryFolder folder;
};

Task<int> doubled(int value) {
    co_return value * 2;
}
Task<int> sum_of_two() {
    const int a = co_await doubled(2);
    const int b = co_await doubled(3);
    co_return a + b;
}
Task<int> failing() {
    const int a = co_await doubled(1);
    throw Error{Code::busy, std::to_string(a)};
}

TEST_F(HostTest, ResultsAndExceptionsTravelToWhoeverAwaits) {
    EXPECT_EQ(run(loop, sum_of_two()), 10);
    EXPECT_EQ(code_of([&] { run(loop, failing()); }), Code::busy);
}

TEST_F(HostTest, AScopeDestroysTheFramesThatAreLeft) {
    struct Witness {
        bool& gone;
        ~Witness() { gone = true; }
    };
    bool gone = false;
    {
        Scope scope;
        scope.spawn([](Loop& on, bool& flag) -> Task<> {
            const Witness witness{flag};
            co_await sleep(on, 1h);
        }(loop, gone));
        EXPECT_FALSE(gone);
        EXPECT_EQ(scope.size(), 1u);
    }
    EXPECT_TRUE(gone);
}

Task<int> wait_for(Reply<int>& reply, std::optional<Deadline> deadline, std::stop_token stop) {
    co_return co_await reply.wait("the answer", deadline, std::move(stop));
}

TEST_F(HostTest, TheFirstAnswerWins) {
    Reply<int> reply{loop};
    loop.post([promise = reply.promise()] {
        promise.set(1);
        promise.set(2);
        promise.fail(Error{Code::busy, "late"});
    });
    EXPECT_EQ(run(loop, wait_for(reply, in(1min), {})), 1);
}

TEST_F(HostTest, AWaitEndsAtItsDeadlineAndNamesWhatItWaitedFor) {
    Reply<int> reply{loop};
    try {
        run(loop, wait_for(reply, in(1ms), {}));
        FAIL() << "an answer that nobody gave";
    } catch (const Error& error) {
        EXPECT_EQ(error.code(), Code::timeout);
        EXPECT_NE(std::string{error.what()}.find("the answer"), std::string::npos);
    }
}

TEST_F(HostTest, AStopTokenEndsAWaitBeforeAndWhileItWaits) {
    for (const bool before : {true, false}) {
        std::stop_source stop;
        Reply<int> reply{loop};
        if (before)
            stop.request_stop();
        else
            loop.post([stop]() mutable { stop.request_stop(); });
        EXPECT_THROW(run(loop, wait_for(reply, std::nullopt, stop.get_token())), Cancelled);
    }
}

TEST_F(HostTest, AnAnswerAfterTheWaiterHasGoneHarmsNobody) {
    std::optional<Reply<int>::Promise> late;
    {
        Reply<int> reply{loop};
        late = reply.promise();
        Scope scope;
        scope.spawn([](Reply<int>& waited) -> Task<> { (void)co_await waited.wait("it", std::nullopt); }(reply));
    }
    late->set(7);
    bool turned = false;
    loop.post([&] { turned = true; });
    EXPECT_TRUE(loop.run_until([&] { return turned; }, 1min));
}

TEST_F(HostTest, ALongLoopOfAwaitsUsesNoStack) {
    auto many = []() -> Task<int> {
        int total = 0;
        for (int i = 0; i < 200000; ++i) total += co_await doubled(1);
        co_return total;
    };
    EXPECT_EQ(run(loop, many()), 400000);
}

TEST_F(HostTest, ARegistrationMayGoInsideItsOwnCall) {
    Registration timer;
    bool ran = false;
    timer = loop.after(0ms, [&] {
        timer.reset();
        ran = true;
    });
    EXPECT_TRUE(loop.run_until([&] { return ran; }, 1min));
}

TEST_F(HostTest, WorkersGiveBackResultsAndExceptions) {
    EXPECT_EQ(run(loop, outside.run("adding", [] { return 40 + 2; }, in(1min))), 42);
    EXPECT_EQ(
        code_of([&] { run(loop, outside.run("failing", [] { throw Error{Code::no_space, "full"}; }, in(1min))); }),
        Code::no_space);
}

TEST_F(HostTest, AStuckWorkerDoesNotHoldItsCaller) {
    std::promise<void> release;
    auto stuck = [released = release.get_future().share()] { released.wait(); };
    EXPECT_EQ(code_of([&] { run(loop, outside.run("a dead mount", stuck, in(1ms))); }), Code::timeout);
    release.set_value();
    EXPECT_TRUE(outside.settle(1min));
}

TEST_F(HostTest, AFullQueueIsRefused) {
    host::ThreadPool small{loop, 1, 1};
    std::promise<void> release;
    const auto released = release.get_future().share();
    Scope scope;
    int refused = 0;
    const auto wait = [](host::ThreadPool& pool, std::shared_future<void> until, int& count) -> Task<> {
        auto work = [until] { until.wait(); };
        try {
            co_await pool.run("waiting", std::move(work), in(1min));
        } catch (const Error& error) {
            count += error.code() == Code::limits_exceeded;
        }
    };
    for (int i = 0; i < 5; ++i) scope.spawn(wait(small, released, refused));
    EXPECT_GE(refused, 3);
    release.set_value();
    EXPECT_TRUE(loop.run_until([&] { return scope.empty(); }, 1min));
}

TEST_F(HostTest, AWriteReplacesTheWholeFileAndKeepsItsMode) {
    const auto path = folder / "a";
    run(loop, files.write(path, "first, and longer", 0600));
    run(loop, files.write(path, "second", 0640));
    EXPECT_EQ(files.read(path, 100), "second");
    struct stat facts{};
    ASSERT_EQ(::stat(path.c_str(), &facts), 0);
    EXPECT_EQ(
        facts.st_mode & 0777, 0640u & ~[] {
            const auto mask = ::umask(0);
            ::umask(mask);
            return mask;
        }());
    EXPECT_EQ(files.list(folder.path()), std::vector<std::string>{"a"});
}

TEST_F(HostTest, AFolderHasTheModeAskedForWhateverTheUmask) {
    const auto mask = ::umask(0077);
    files.make_folder(folder / "a/b", 0711);
    ::umask(mask);
    struct stat facts{};
    ASSERT_EQ(::stat((folder / "a/b").c_str(), &facts), 0);
    EXPECT_EQ(facts.st_mode & 0777, 0711u);
}

TEST_F(HostTest, AFailedWriteLeavesTheOldFileAndNoRemains) {
    const auto path = folder / "a";
    run(loop, files.write(path, "old", 0600));
    // A folder of the target's name cannot be replaced by a file.
    ASSERT_EQ(::mkdir((folder / "b").c_str(), 0700), 0);
    EXPECT_THROW(run(loop, files.write(folder / "b", "new", 0600)), Error);
    EXPECT_THROW(run(loop, files.write(folder / "missing/c", "new", 0600)), Error);
    EXPECT_EQ(files.read(path, 100), "old");
    std::size_t entries = 0;
    for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator(folder.path())) ++entries;
    EXPECT_EQ(entries, 2u) << "a temporary file was left";
}

TEST_F(HostTest, AFullDiskIsNoSpaceAndTheOldFileStays) {
    if (::geteuid() != 0 || ::unshare(CLONE_NEWNS) != 0) GTEST_SKIP() << "a small file system needs root";
    ASSERT_EQ(::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr), 0);
    ASSERT_EQ(::mount("tmpfs", folder.path().c_str(), "tmpfs", 0, "size=64k"), 0);
    files.write_volatile(folder / "a", "old", 0600);
    EXPECT_EQ(code_of([&] { files.write_volatile(folder / "a", std::string(200000, 'x'), 0600); }), Code::no_space);
    EXPECT_EQ(files.read(folder / "a", 100), "old");
    ::umount(folder.path().c_str());
}

TEST_F(HostTest, ManyWritesAtOnceAllArrive) {
    Scope scope;
    int written = 0;
    const auto write = [](host::LinuxFiles& to, std::string path, std::string text, int& count) -> Task<> {
        co_await to.write(std::move(path), std::move(text), 0600);
        ++count;
    };
    for (int i = 0; i < 100; ++i) scope.spawn(write(files, folder / std::to_string(i), std::to_string(i * i), written));
    EXPECT_TRUE(loop.run_until([&] { return scope.empty(); }, 1min));
    EXPECT_EQ(written, 100);
    for (int i = 0; i < 100; ++i) EXPECT_EQ(files.read(folder / std::to_string(i), 100), std::to_string(i * i));
}

TEST_F(HostTest, LeftoverTemporaryFilesGoWhenTheFolderIsMadeReady) {
    std::ofstream{folder / ".x.1.1.virtbus-tmp"} << "half";
    std::ofstream{folder / "kept"} << "whole";
    files.make_folder(folder.path(), 0700);
    EXPECT_FALSE(files.exists(folder / ".x.1.1.virtbus-tmp"));
    EXPECT_TRUE(files.exists(folder / "kept"));
}

TEST_F(HostTest, ReadingIsBoundedAndRefusesWhatIsNoFile) {
    run(loop, files.write(folder / "a", std::string(1000, 'x'), 0600));
    EXPECT_EQ(files.read(folder / "a", 1000)->size(), 1000u);
    EXPECT_EQ(code_of([&] { (void)files.read(folder / "a", 999); }), Code::limits_exceeded);
    EXPECT_EQ(files.read(folder / "none", 10), std::nullopt);
    EXPECT_EQ(code_of([&] { (void)files.read(folder.path(), 10); }), Code::internal);
    ASSERT_EQ(::mkfifo((folder / "pipe").c_str(), 0600), 0);
    EXPECT_EQ(code_of([&] { (void)files.read(folder / "pipe", 10); }), Code::internal);
}

TEST_F(HostTest, LinksAreReplacedAndRemovingTwiceIsFine) {
    run(loop, files.link("../one", folder / "l"));
    run(loop, files.link("../two", folder / "l"));
    EXPECT_EQ(std::filesystem::read_symlink(folder / "l"), "../two");
    run(loop, files.remove(folder / "l"));
    run(loop, files.remove(folder / "l"));
}

TEST_F(HostTest, OpeningAsAnotherUsesThatUsersRights) {
    if (::geteuid() != 0) GTEST_SKIP() << "taking another's rights needs root";
    ASSERT_EQ(::chmod(folder.path().c_str(), 0755), 0);
    run(loop, files.write(folder / "secret", "x", 0600));
    const Identity nobody{65534, 65534, {65534}};
    EXPECT_EQ(code_of([&] { run(loop, files.open(folder / "secret", O_RDONLY, 0, nobody, in(1min), {})); }),
              Code::access_denied);
    EXPECT_TRUE(run(loop, files.open(folder / "secret", O_RDONLY, 0, std::nullopt, in(1min), {})));
}

TEST_F(HostTest, AChildGetsItsInputAndGivesItsOutput) {
    Command command;
    command.argv = {"/bin/sh", "-c", "cat; echo oops >&2; exit 3"};
    command.input = std::string(300000, 'a');
    const auto result = run(loop, spawner.run(command, in(1min), {}));
    EXPECT_EQ(result.status, 3);
    EXPECT_EQ(result.output, command.input);
    EXPECT_EQ(result.errors, "oops\n");
}

TEST_F(HostTest, AChildGetsItsDescriptorsAtTheNumbersAsked) {
    const Fd memory{::memfd_create("x", MFD_CLOEXEC)};
    ASSERT_EQ(::write(memory.get(), "hello", 5), 5);
    ASSERT_EQ(::lseek(memory.get(), 0, SEEK_SET), 0);
    Command command;
    command.argv = {"/bin/sh", "-c", "cat <&7"};
    command.fds = {{memory.get(), 7}};
    EXPECT_EQ(run(loop, spawner.run(command, in(1min), {})).output, "hello");
}

TEST_F(HostTest, AChildThatTalksTooMuchOrTooLongIsEnded) {
    Command talker;
    talker.argv = {"/bin/sh", "-c", "yes"};
    talker.output_limit = 10000;
    EXPECT_EQ(code_of([&] { run(loop, spawner.run(talker, in(1min), {})); }), Code::limits_exceeded);
    Command sleeper;
    sleeper.argv = {"/bin/sleep", "1000"};
    EXPECT_EQ(code_of([&] { run(loop, spawner.run(sleeper, in(1ms), {})); }), Code::timeout);
    Command missing;
    missing.argv = {"/does/not/exist"};
    EXPECT_THROW(run(loop, spawner.run(missing, in(1min), {})), Error);
}

TEST_F(HostTest, AChildIsLimitedBeforeItsFirstInstruction) {
    Command command;
    command.argv = {"/bin/sh", "-c", "ulimit -d; ulimit -t; ulimit -n"};
    command.limits = {.memory = 64U << 20, .cpu_seconds = 7, .files = 20};
    EXPECT_EQ(run(loop, spawner.run(command, in(1min), {})).output, "65536\n7\n20\n");
}

TEST_F(HostTest, AChildIsGoneWhenTheWaitForItHasFailed) {
    const auto lock = folder / "lock";
    Command holder;
    holder.argv = {"/usr/bin/flock", lock, "-c", "echo held; exec sleep 1000"};
    std::stop_source stop;
    const auto timer = loop.after(50ms, [&stop] { stop.request_stop(); });
    EXPECT_EQ(code_of([&] { run(loop, spawner.run(holder, in(1min), stop.get_token())); }), Code::cancelled);
    Command next;
    next.argv = {"/usr/bin/flock", "--nonblock", lock, "-c", "true"};
    EXPECT_EQ(run(loop, spawner.run(next, in(1min), {})).status, 0);
}

TEST_F(HostTest, AChildDoesNotOutliveTheProcessThatRanIt) {
    const auto lock = folder / "lock";
    const pid_t daemon = ::fork();
    if (daemon == 0) {
        host::MainLoop own;
        host::ChildSpawner its{own};
        Command holder;
        holder.argv = {"/usr/bin/flock", "--no-fork", lock, "/bin/sh", "-c", "kill -9 $PPID; exec sleep 1000"};
        run(own, its.run(holder, in(1min), {}));
        ::_exit(1);
    }
    int status = 0;
    ASSERT_EQ(::waitpid(daemon, &status, 0), daemon);
    ASSERT_TRUE(WIFSIGNALED(status));
    Command next;
    next.argv = {"/usr/bin/flock", "--timeout", "30", lock, "-c", "true"};
    EXPECT_EQ(run(loop, spawner.run(next, in(1min), {})).status, 0);
}

}  // namespace
