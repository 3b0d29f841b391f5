// SPDX-License-Identifier: LGPL-2.1-or-later
// How backups end when somebody goes away: a client, the guest, the daemon, the room on a disk. The guest runs on where
// it can, nothing is left, and the next incremental backup knows as much as before.
#include <arpa/inet.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "tests/qemu/checkpoint_bed.hpp"

namespace virtbus::tests {
namespace {

class BackupEnds : public Checkpointing {
protected:
    BackupEnds() { shell("qemu-img create -q -f qcow2 disk.qcow2 24M"); }
    ~BackupEnds() override {
        if (client_ > 0) {
            ::kill(client_, SIGKILL);
            ::waitpid(client_, nullptr, 0);
        }
    }
    /// A full backup and a checkpoint; much is written since.
    void begin() {
        start();
        io("write -P 1 0 1M");
        finish(backup("<disks><disk name='vda'/></disks>", "one"));
        std::filesystem::rename(root + "/disk.qcow2.one", root + "/full.qcow2");
        io("write -P 2 512k 20M");
    }
    std::string socket() const { return root + "/run/backup/" + uuid_of("web") + ".sock"; }
    void run_client(const std::string& command) {
        client_ = ::fork();
        if (client_ == 0) {
            ::execl("/bin/sh", "sh", "-c", ("exec " + command + " >/dev/null 2>&1").c_str(), nullptr);
            ::_exit(127);
        }
    }
    /// So much that its backup is not over before it is told to be slow.
    void add_large_disk() {
        shell("dd if=/dev/zero of=large.raw bs=1M count=384");
        disks_ += disk("vdb", "raw", file("large.raw"));
    }
    JobPtr slow_push(const std::string& checkpoint) {
        auto job =
            backup("<disks><disk name='vdb'><target file='" + root + "/slow.qcow2'/></disk></disks>", checkpoint);
        EXPECT_TRUE(until([&] { return job->finished() || job->view().phase == "copying"; }));
        EXPECT_FALSE(job->finished()) << job->view().error_message;
        ask("block-job-set-speed", {{"device", "virtbus-backup-0"}, {"speed", 1024}});
        return job;
    }
    /// The listening socket and those that came of it have its name; the folder is another way there.
    void wait_for_connections(int count) {
        EXPECT_TRUE(until([&] {
            std::istringstream lines{read("/proc/net/unix")};
            int found = 0;
            for (std::string line; std::getline(lines, line);) found += line.ends_with(uuid_of("web") + ".sock");
            return found > count;
        }));
    }
    Fd connect_and_say_nothing() const {
        Fd silent{::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)};
        sockaddr_un address{};
        address.sun_family = AF_UNIX;
        EXPECT_LT(socket().copy(address.sun_path, sizeof address.sun_path - 1), sizeof address.sun_path - 1);
        EXPECT_EQ(::connect(silent.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
        return silent;
    }
    void expect_no_trace() {
        for (const auto& node : ask("query-named-block-nodes", {{"flat", true}}))
            EXPECT_FALSE(qemu::text(node, "node-name").starts_with("virtbus-")) << node["node-name"];
        EXPECT_TRUE(ask("query-jobs").empty());
        EXPECT_TRUE(ask("query-block-exports").empty());
        EXPECT_FALSE(exists(socket()));
    }
    void expect_exact() {
        const auto now = disk_now();
        std::filesystem::remove(root + "/inc.qcow2");
        push("inc.qcow2", "one");
        shell("qemu-img rebase -u -f qcow2 -F qcow2 -b full.qcow2 inc.qcow2");
        EXPECT_TRUE(bytes("inc.qcow2") == now);
    }
    std::string pulled() {
        shell("qemu-img convert -f raw -O raw 'nbd+unix:///vda?socket=" + socket() + "' pulled.raw");
        return read(root + "/pulled.raw");
    }
    pid_t client_ = 0;
};

TEST_F(BackupEnds, AClientMayVanish) {
    begin();
    const auto moment = disk_now();
    const auto job = backup("<incremental>one</incremental>", "two", "pull");
    serving(job);
    // In the middle of its reading.
    run_client("qemu-img bench -f raw -c 100000000 -d 1 'nbd+unix:///vda?socket=" + socket() + "'");
    wait_for_connections(1);
    io("write -P 3 1M 1M");
    ::kill(client_, SIGKILL);
    ::waitpid(std::exchange(client_, 0), nullptr, 0);
    EXPECT_FALSE(job->finished());
    EXPECT_TRUE(pulled() == moment);
    run(get_web()->backups().end(caller));
    EXPECT_EQ(job->view().state, JobState::succeeded);
    expect_no_trace();
    expect_exact();
    EXPECT_EQ(names(), (std::set<std::string>{"one", "two+"}));
}

TEST_F(BackupEnds, TheEndDoesNotWaitForAClientThatReads) {
    begin();
    const auto job = backup("<incremental>one</incremental>", {}, "pull");
    serving(job);
    run_client("qemu-img bench -f raw -c 100000000 -d 1 'nbd+unix:///vda?socket=" + socket() + "'");
    wait_for_connections(1);
    io("write -P 3 1M 1M");
    run(get_web()->backups().end(caller));
    EXPECT_EQ(job->view().state, JobState::succeeded);
    expect_no_trace();
    EXPECT_FALSE(exists(root + "/disk.qcow2.one"));
    expect_exact();
}

/// A socket that listens on a port that was free.
std::pair<Fd, std::string> taken_port() {
    Fd fd{::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t length = sizeof address;
    const bool bound = ::bind(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) == 0 &&
                       ::listen(fd.get(), 1) == 0 &&
                       ::getsockname(fd.get(), reinterpret_cast<sockaddr*>(&address), &length) == 0;
    EXPECT_TRUE(bound);
    return {std::move(fd), std::to_string(ntohs(address.sin_port))};
}

TEST_F(BackupEnds, AClientThatSaysNothingHoldsNobody) {
    begin();
    const auto job = backup("<incremental>one</incremental>", {}, "pull");
    serving(job);
    const auto silent = connect_and_say_nothing();
    wait_for_connections(1);
    run(get_web()->backups().end(caller));
    EXPECT_EQ(job->view().state, JobState::succeeded);
    expect_no_trace();
    expect_exact();
    // QEMU drops it after a while, and serves again then.
    const auto now = disk_now();
    const auto again = backup("<incremental>one</incremental>", {}, "pull");
    serving(again);
    EXPECT_TRUE(pulled() == now);
    run(get_web()->backups().end(caller));
}

TEST_F(BackupEnds, AServerThatADaemonLeftForSilentClientsIsReplaced) {
    begin();
    const auto now = disk_now();
    serving(backup("<incremental>one</incremental>", {}, "pull"));
    const auto silent = connect_and_say_nothing();
    wait_for_connections(1);
    run(get_web()->backups().end(caller));
    monitor_.reset();
    boot_daemon();
    connect();
    const auto job = backup("<incremental>one</incremental>", {}, "pull");
    const auto serves = [&] { return job->finished() || job->view().phase == "serving"; };
    EXPECT_TRUE(until(serves) || until(serves)) << "QEMU drops silent clients after 10 s";
    serving(job);
    EXPECT_TRUE(pulled() == now);
    run(get_web()->backups().end(caller));
}

TEST_F(BackupEnds, APullIsServedOnTcp) {
    const auto at = [](const std::string& port, const std::string& more = {}) {
        return "<server transport='tcp' name='127.0.0.1' port='" + port + "'" + more + "/>";
    };
    auto [holder, port] = taken_port();
    start();
    EXPECT_REFUSED(finish(backup(at(port), {}, "pull")), Code::unsupported, "unix");
    finish(get_web()->stop({}, caller));
    monitor_.reset();
    const auto folders = ports->folders;
    room.reset();
    qemu_.reset();
    ports.emplace(
        Ports{host.loop, clock, host.outside_workers, files, host.spawner, log, *plain_, folders, "boot-1", true});
    caller.uid = 0;
    begin();
    const auto moment = disk_now();
    EXPECT_REFUSED(finish(backup(at(port, " tls='yes'"), {}, "pull")), Code::unsupported, "TLS");
    EXPECT_REFUSED(finish(backup(at(port), "two", "pull")), Code::already_exists, port);
    EXPECT_EQ(names(), (std::set<std::string>{"one+"}));
    EXPECT_FALSE(exists(root + "/disk.qcow2.two"));
    expect_no_trace();
    holder = Fd{};
    const auto job = backup(at(port), "two", "pull");
    serving(job);
    io("write -P 9 0 4M");
    shell("qemu-img convert -f raw -O raw nbd://127.0.0.1:" + port + "/vda pulled.raw");
    EXPECT_TRUE(read(root + "/pulled.raw") == moment);
    run(get_web()->backups().end(caller));
    EXPECT_NE(std::system(("qemu-img info nbd://127.0.0.1:" + port + "/vda >/dev/null 2>&1").c_str()), 0);
    expect_no_trace();
}

TEST_F(BackupEnds, AGuestThatEndsEndsItsPush) {
    add_large_disk();
    begin();
    const auto job = slow_push("two");
    finish(get_web()->stop({}, caller));
    monitor_.reset();
    EXPECT_REFUSED(finish(job), Code::hypervisor_failed, "destroyed");
    EXPECT_FALSE(exists(root + "/slow.qcow2")) << "what is not whole does not stay";
    EXPECT_EQ(names(), (std::set<std::string>{"one+"})) << "nobody has what came before the other one";
    finish(get_web()->start({}, caller));
    connect();
    io("write -P 4 3M 64k");
    expect_exact();
}

TEST_F(BackupEnds, ADiskWithoutRoomEndsThePushOnly) {
    const auto small = root + "/small";
    std::filesystem::create_directory(small);
    if (std::system(("mount -t tmpfs -o size=2M virtbus-test " + small).c_str()) != 0)
        GTEST_SKIP() << "mounting takes root";
    begin();
    const auto job = backup("<disks><disk name='vda'><target file='" + small + "/full.qcow2'/></disk></disks>", "two");
    EXPECT_REFUSED(finish(job), Code::no_space, "web");
    EXPECT_TRUE(std::filesystem::is_empty(small));
    EXPECT_EQ(names(), (std::set<std::string>{"one+"}));
    EXPECT_EQ(get_web()->view().state, State::running);
    expect_no_trace();
    io("write -P 4 3M 64k");
    expect_exact();
    shell("umount " + small);
}

TEST_F(BackupEnds, ACancelledPushIsAsIfItHadNotBeen) {
    add_large_disk();
    begin();
    const auto job = slow_push("two");
    job->cancel();
    EXPECT_REFUSED(finish(job), Code::cancelled, "");
    EXPECT_EQ(names(), (std::set<std::string>{"one+"}));
    EXPECT_EQ(bitmaps(), (std::set<std::string>{"one+"}));
    expect_no_trace();
    expect_exact();
}

TEST_F(BackupEnds, ADaemonThatDiesEndsThem) {
    add_large_disk();
    begin();
    for (const bool pull : {false, true}) {
        JobPtr job;
        if (pull) {
            job = backup("<incremental>one</incremental><disks><disk name='vda'/></disks>", "two", "pull");
            serving(job);
        } else {
            job = slow_push("two");
        }
        io("write -P 5 2M 64k");
        monitor_.reset();
        boot_daemon();
        job.reset();
        connect();
        expect_no_trace();
        EXPECT_EQ(names(), (std::set<std::string>{"one+"})) << pull;
        EXPECT_EQ(bitmaps(), (std::set<std::string>{"one+"})) << pull;
        EXPECT_FALSE(exists(root + "/slow.qcow2"));
        EXPECT_FALSE(exists(root + "/disk.qcow2.two"));
        EXPECT_REFUSED(run(get_web()->backups().end(caller)), Code::invalid_state, "no pull backup");
        io("write -P 6 5M 64k");
        expect_exact();
    }
}

}  // namespace
}  // namespace virtbus::tests
