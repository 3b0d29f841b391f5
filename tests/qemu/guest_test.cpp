// SPDX-License-Identifier: LGPL-2.1-or-later
// Real QEMU processes without a guest system in them.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <signal.h>
#include <sys/socket.h>

#include <chrono>

#include "qemu/pins.hpp"
#include "tests/qemu/qemu_bed.hpp"

namespace virtbus {
namespace {

using tests::Notes;
using tests::QemuBed;

TEST(BareGuest, StartsAndIsDestroyed) {
    QemuBed bed;
    Notes notes;
    const auto guest = bed.start(QemuBed::bare(), notes);
    EXPECT_GT(guest->pid(), 1U);
    EXPECT_EQ(guest->config().id, 1U);
    EXPECT_TRUE(notes.list.empty());
    const auto folder = bed.host.ports.folders.runtime + "/qemu/1-" + guest->config().uuid;
    EXPECT_TRUE(std::filesystem::exists(folder + "/monitor.sock"));
    bed.stop(*guest, notes);
    EXPECT_EQ(notes.list, (std::vector<std::string>{"ended destroyed"}));
    bed.run_until([&] { return !std::filesystem::exists(folder); });
}

TEST(BareGuest, SuspendsResumesAndResets) {
    QemuBed bed;
    Notes notes;
    const auto guest = bed.start(QemuBed::bare(), notes);
    bed.run(guest->suspend({}));
    EXPECT_TRUE(notes.has("state paused user"));
    bed.run(guest->resume({}));
    EXPECT_TRUE(notes.has("state running unpaused"));
    bed.run(guest->reset({}));
    bed.run_until([&] { return notes.has("rebooted"); });
    bed.run(guest->inject_nmi({}));
    bed.stop(*guest, notes);
}

TEST(BareGuest, StartsPaused) {
    QemuBed bed;
    Notes notes;
    const auto guest = bed.start(QemuBed::bare(), notes, true);
    EXPECT_EQ(std::get<std::uint32_t>(bed.run(guest->stats({}))["state.reason"]), 11U);
    bed.run(guest->resume({}));
    EXPECT_EQ(notes.list.front(), "state running unpaused");
    bed.stop(*guest, notes);
}

TEST(BareGuest, ItsDeathIsNoticed) {
    QemuBed bed;
    Notes notes;
    const auto guest = bed.start(QemuBed::bare(), notes);
    ::kill(static_cast<pid_t>(guest->pid()), SIGKILL);
    bed.run_until([&] { return notes.ended(); });
    EXPECT_EQ(notes.list.back(), "ended crashed");
    EXPECT_THROW(bed.run(guest->suspend({})), Error);
}

TEST(BareGuest, SomebodyElsesTermIsAShutdown) {
    QemuBed bed;
    Notes notes;
    const auto guest = bed.start(QemuBed::bare(), notes);
    ::kill(static_cast<pid_t>(guest->pid()), SIGTERM);
    bed.run_until([&] { return notes.ended(); });
    EXPECT_TRUE(notes.has("state shutdown shutting-down"));
    EXPECT_EQ(notes.list.back(), "ended shutdown");
}

TEST(BareGuest, AGracefulStopIsStillDestroyed) {
    QemuBed bed;
    Notes notes;
    const auto guest = bed.start(QemuBed::bare(), notes);
    guest->kill(true);
    bed.run_until([&] { return notes.ended(); });
    EXPECT_EQ(notes.list.back(), "ended destroyed");
}

TEST(BareGuest, ALineThatQemuRefusesIsInTheError) {
    QemuBed bed;
    Notes notes;
    auto config = QemuBed::bare();
    config.qemu_commandline.emplace();
    config.qemu_commandline->args = {"-device", "no-such-device"};
    try {
        bed.start(config, notes);
        FAIL();
    } catch (const Error& error) {
        EXPECT_EQ(error.code(), Code::hypervisor_failed);
        EXPECT_NE(std::string{error.what()}.find("no-such-device"), std::string::npos) << error.what();
        EXPECT_NE(std::string{error.what()}.find("domain 'bare'"), std::string::npos) << error.what();
    }
    EXPECT_TRUE(notes.list.empty());
    EXPECT_TRUE(std::filesystem::is_empty(bed.host.ports.folders.runtime + "/qemu"));
}

TEST(BareGuest, WhatTheHostCannotDoIsSaidBefore) {
    QemuBed bed;
    Notes notes;
    auto config = QemuBed::bare();
    config.cpu.emplace().mode = "host-passthrough";
    try {
        bed.start(config, notes);
        FAIL();
    } catch (const Error& error) {
        EXPECT_EQ(error.code(), Code::unsupported_configuration);
        EXPECT_NE(std::string{error.what()}.find("host-passthrough"), std::string::npos) << error.what();
    }
}

/// What the emulator was asked once about its processors decides, not a list of our own.
TEST(BareGuest, IsToldWhichFeaturesItsProcessorWouldMiss) {
    QemuBed bed;
    auto config = QemuBed::bare();
    auto& cpu = config.cpu.emplace();
    cpu.model.emplace().name = "Haswell";
    for (const auto& [name, policy] : {std::pair{"aes", "require"}, {"avx512f", "require"}, {"sse2", "forbid"}}) {
        auto& feature = cpu.features.emplace_back();
        feature.name = name;
        feature.policy = policy;
    }
    bed.host.run(bed.driver->complete(config, nullptr));
    const auto problems = bed.run(bed.driver->unsupported(config));
    ASSERT_EQ(problems.size(), 2U);
    EXPECT_THAT(problems[0], testing::AllOf(testing::HasSubstr("sse2"), testing::HasSubstr("forbidden")));
    EXPECT_THAT(problems[1], testing::AllOf(testing::HasSubstr("avx512f"), testing::HasSubstr("pcid"),
                                            testing::Not(testing::HasSubstr("aes"))));
    config.cpu->check = "none";
    EXPECT_THAT(bed.run(bed.driver->unsupported(config)), testing::IsEmpty());
}

TEST(BareGuest, DescribesTheHostInLibvirtsFormat) {
    QemuBed bed;
    const auto host = bed.run(bed.driver->capabilities());
    EXPECT_NE(host.find("<emulator>/usr/bin/qemu-system-x86_64</emulator>"), std::string::npos);
    EXPECT_NE(host.find("<domain type='qemu'/>"), std::string::npos);
    EXPECT_NE(host.find("<machine canonical='pc-q35-"), std::string::npos);
    const auto domain = bed.run(bed.driver->domain_capabilities("", "x86_64", "q35", "qemu"));
    EXPECT_NE(domain.find("<machine>pc-q35-"), std::string::npos) << domain;
    EXPECT_NE(domain.find("<mode name='host-passthrough' supported='no'/>"), std::string::npos);
    EXPECT_NE(domain.find("<model usable='yes'>qemu64</model>"), std::string::npos);
    EXPECT_NE(domain.find("<value>dbus</value>"), std::string::npos);
    EXPECT_THROW(bed.run(bed.driver->domain_capabilities("", "x86_64", "nothing", "")), Error);
    EXPECT_THROW(bed.run(bed.driver->domain_capabilities("/bin/sh", "", "", "")), Error);
    EXPECT_THROW(bed.run(bed.driver->domain_capabilities("", "x86_64", "", "xen")), Error);
}

TEST(BareGuest, AStartCanBeCancelled) {
    QemuBed bed;
    Notes notes;
    bed.host.run([](QemuBed& own) -> Task<> { co_await own.driver->domain_capabilities("", "x86_64", "", ""); }(bed));
    bed.resources.stopping.request_stop();
    try {
        bed.start(QemuBed::bare(), notes);
        FAIL();
    } catch (const Error& error) {
        EXPECT_EQ(error.code(), Code::cancelled);
    }
    EXPECT_TRUE(std::filesystem::is_empty(bed.host.ports.folders.runtime + "/qemu"));
}

TEST(BareGuest, AStoppedProcessIsNotResponsiveAndCanBeKilled) {
    QemuBed bed;
    qemu::GuestTimes times;
    times.patience = times.verb = times.sample = Duration{100};
    bed.set_times(times);
    Notes notes;
    const auto guest = bed.start(QemuBed::bare(), notes);
    const auto pid = static_cast<pid_t>(guest->pid());
    ::kill(pid, SIGSTOP);
    try {
        bed.run(guest->suspend({}));
        FAIL();
    } catch (const Error& error) {
        EXPECT_EQ(error.code(), Code::timeout);
    }
    bed.run_until([&] { return notes.has("silent"); });
    ::kill(pid, SIGCONT);
    bed.run_until([&] { return notes.has("responsive"); });
    ::kill(pid, SIGSTOP);
    EXPECT_THROW(bed.run(guest->stats({})), Error);
    bed.stop(*guest, notes);
    EXPECT_EQ(notes.list.back(), "ended destroyed");
}

TEST(BareGuest, IsTakenUpByAnotherDriver) {
    QemuBed bed;
    Notes notes, later;
    auto guest = bed.start(QemuBed::bare(), notes);
    const auto pid = guest->pid();
    const auto record = guest->driver_state();
    const auto config = guest->config();
    guest.reset();
    bed.driver = std::make_unique<qemu::QemuDriver>(bed.host.ports);
    GuestEnd end;
    const auto adopted = bed.run(bed.driver->adopt(config, record, later, end));
    ASSERT_TRUE(adopted);
    EXPECT_EQ(adopted->pid(), pid);
    bed.run_until([&] { return later.has("state running booted"); });
    bed.run(adopted->suspend({}));
    EXPECT_TRUE(later.has("state paused user"));
    EXPECT_TRUE(notes.list.empty());
    bed.stop(*adopted, later);
    EXPECT_EQ(later.list.back(), "ended destroyed");
}

TEST(BareGuest, IsTakenUpWhileItHangs) {
    QemuBed bed;
    qemu::GuestTimes times;
    times.adoption = Duration{50};
    bed.set_times(times);
    Notes notes, later;
    auto guest = bed.start(QemuBed::bare(), notes);
    const auto pid = static_cast<pid_t>(guest->pid());
    const auto record = guest->driver_state();
    const auto config = guest->config();
    guest.reset();
    ::kill(pid, SIGSTOP);
    GuestEnd end;
    const auto adopted = bed.run(bed.driver->adopt(config, record, later, end));
    ASSERT_TRUE(adopted);
    bed.run_until([&] { return later.has("silent"); });
    ::kill(pid, SIGCONT);
    bed.run_until([&] { return later.has("responsive"); });
    bed.run(adopted->suspend({}));
    bed.stop(*adopted, later);
}

TEST(BareGuest, OneThatIsGoneIsNotTakenUp) {
    QemuBed bed;
    Notes notes, later;
    auto guest = bed.start(QemuBed::bare(), notes);
    const auto record = guest->driver_state();
    const auto config = guest->config();
    bed.stop(*guest, notes);
    guest.reset();
    GuestEnd end;
    EXPECT_FALSE(bed.run(bed.driver->adopt(config, record, later, end)));
    EXPECT_EQ(end.reason, "crashed");
    EXPECT_THROW(bed.run(bed.driver->adopt(config, "{\"version\":99}", later, end)), Error);
    EXPECT_THROW(bed.run(bed.driver->adopt(config, "{\"vers", later, end)), Error);
}

void wait_for_end(QemuBed& bed) {
    bool ended = false;
    const auto watch = bed.host.loop.watch(bed.pidfd().get(), readable, [&](unsigned) { ended = true; });
    bed.run_until([&] { return ended; });
}

/// The daemon has died in the middle of the start: before and after the process had a number.
TEST(BareGuest, AnUnfinishedStartIsEnded) {
    for (const std::size_t step : {0U, 1U}) {
        QemuBed bed;
        Notes notes, later;
        auto guest = bed.start(QemuBed::bare(), notes);
        ASSERT_EQ(bed.unfinished.size(), 2U);
        const auto config = guest->config();
        guest.reset();
        bed.driver = std::make_unique<qemu::QemuDriver>(bed.host.ports);
        GuestEnd end;
        EXPECT_FALSE(bed.run(bed.driver->adopt(config, bed.unfinished[step], later, end)));
        EXPECT_EQ(end.reason, "failed");
        wait_for_end(bed);  // its monitor closes a moment before
        EXPECT_THAT(bed.host.files.list(bed.host.ports.folders.runtime + "/qemu"), ::testing::IsEmpty()) << step;
        // There is nothing left that could be ended, which is no error.
        EXPECT_FALSE(bed.run(bed.driver->adopt(config, bed.unfinished[step], later, end)));
    }
}

/// Its status was lost, so nobody watches it; a second one on the same disks would spoil them.
TEST(BareGuest, IsNotStartedBesideALostOne) {
    QemuBed bed;
    Notes notes, later;
    bed.start(QemuBed::bare(), notes).reset();
    try {
        bed.start(QemuBed::bare(), later);
        FAIL() << "started twice";
    } catch (const Error& error) {
        EXPECT_EQ(error.code(), Code::invalid_state);
        EXPECT_NE(std::string_view{error.what()}.find("still answers on"), std::string_view::npos) << error.what();
    }
    ASSERT_EQ(::syscall(SYS_pidfd_send_signal, bed.pidfd().get(), SIGKILL, nullptr, 0), 0);
    wait_for_end(bed);
    const auto guest = bed.start(QemuBed::bare(), later);
    bed.stop(*guest, later);
}

TEST(BareGuest, IsPhotographed) {
    QemuBed bed;
    Notes notes;
    auto config = QemuBed::bare();
    config.devices.videos.emplace_back().model.type = "vga";
    const auto guest = bed.start(config, notes);
    const auto picture = bed.run(guest->screenshot(0, {}));
    EXPECT_EQ(picture.png.substr(0, 8), "\x89PNG\r\n\x1a\n");
    EXPECT_GT(picture.png.size(), 200U);
    EXPECT_EQ(bed.run(guest->screenshot(0, {})).png.substr(1, 3), "PNG");
    EXPECT_THROW(bed.run(guest->screenshot(1, {})), Error);
    bed.stop(*guest, notes);
}

TEST(BareGuest, TakesKeys) {
    QemuBed bed;
    Notes notes;
    const auto guest = bed.start(QemuBed::bare(), notes);
    bed.run(guest->send_key({"KEY_LEFTCTRL", "KEY_LEFTALT", "KEY_DELETE"}, {}));
    EXPECT_THROW(bed.run(guest->send_key({"KEY_NOTHING"}, {})), Error);
    bed.stop(*guest, notes);
}

TEST(BareGuest, HandsOutItsDisplay) {
    QemuBed bed;
    Notes notes;
    auto config = QemuBed::bare();
    auto& graphics = config.devices.graphics.emplace_back();
    graphics.type = GraphicsType::dbus;
    graphics.p2p = true;
    config.devices.videos.emplace_back().model.type = "vga";
    const auto guest = bed.start(config, notes);
    const auto socket = bed.run(guest->open_display("", {}));
    // The D-Bus greeting of a client; QEMU is the server.
    const std::string hello{"\0AUTH EXTERNAL 30\r\n", 19};
    ASSERT_EQ(::send(socket.get(), hello.data(), hello.size(), MSG_NOSIGNAL), static_cast<ssize_t>(hello.size()));
    std::string answer;
    const auto watch = bed.host.loop.watch(socket.get(), readable, [&](unsigned) {
        char buffer[256];
        const auto got = ::recv(socket.get(), buffer, sizeof buffer, MSG_DONTWAIT);
        if (got > 0) answer.append(buffer, static_cast<std::size_t>(got));
    });
    bed.run_until([&] { return answer.find('\n') != std::string::npos; });
    EXPECT_TRUE(answer.starts_with("OK ") || answer.starts_with("REJECTED")) << answer;
    try {
        bed.run(guest->open_display("vnc", {}));
        FAIL();
    } catch (const Error& error) {
        EXPECT_EQ(error.code(), Code::no_such_device);
        EXPECT_NE(std::string{error.what()}.find("dbus"), std::string::npos) << error.what();
    }
    bed.stop(*guest, notes);
}

TEST(BareGuest, HandsOutVnc) {
    QemuBed bed;
    Notes notes;
    auto config = QemuBed::bare();
    auto& graphics = config.devices.graphics.emplace_back();
    graphics.type = GraphicsType::vnc;
    graphics.password = "secret";
    graphics.listens.emplace_back().type = "none";
    config.devices.videos.emplace_back().model.type = "vga";
    const auto guest = bed.start(config, notes);
    const auto socket = bed.run(guest->open_display("vnc", {}));
    std::string answer;
    const auto watch = bed.host.loop.watch(socket.get(), readable, [&](unsigned) {
        char buffer[256];
        const auto got = ::recv(socket.get(), buffer, sizeof buffer, MSG_DONTWAIT);
        if (got > 0) answer.append(buffer, static_cast<std::size_t>(got));
    });
    bed.run_until([&] { return answer.size() >= 12; });
    EXPECT_EQ(answer.substr(0, 12), "RFB 003.008\n");
    bed.stop(*guest, notes);
}

TEST(BareGuest, IsPinned) {
    QemuBed bed;
    Notes notes;
    auto config = QemuBed::bare();
    config.cputune.emplace().vcpu_pins.push_back({.vcpu = 0, .cpuset = {{0}}});
    const auto guest = bed.start(config, notes);
    // One thread, the vCPU's, has one processor; the others keep what they had.
    cpu_set_t own;
    ASSERT_EQ(::sched_getaffinity(0, sizeof own, &own), 0);
    if (CPU_COUNT(&own) < 2) GTEST_SKIP() << "one processor tells nothing";
    std::size_t pinned = 0, free = 0;
    for (const auto thread : qemu::threads_of(static_cast<pid_t>(guest->pid()))) {
        cpu_set_t set;
        ASSERT_EQ(::sched_getaffinity(thread, sizeof set, &set), 0);
        ++(CPU_COUNT(&set) == 1 && CPU_ISSET(0, &set) ? pinned : free);
    }
    EXPECT_EQ(pinned, 1U);
    EXPECT_GT(free, 0U);
    EXPECT_EQ(std::get<std::uint32_t>(bed.run(guest->stats({}))["state.state"]), 1U);
    bed.run(guest->suspend({}));
    EXPECT_TRUE(notes.has("state paused user"));
    bed.stop(*guest, notes);
}

TEST(BareGuest, HasDevicesThatTheDaemonOpenedForIt) {
    QemuBed bed;
    Notes notes;
    auto config = QemuBed::bare();
    auto& rng = config.devices.rngs.emplace_back();
    rng.backend.path = "/dev/urandom";
    auto& interface = config.devices.interfaces.emplace_back();
    interface.model = "virtio";
    interface.link_state = "down";
    config.devices.videos.emplace_back().model.type = "bochs";
    config.devices.graphics.emplace_back().type = GraphicsType::vnc;
    const auto guest = bed.start(config, notes);
    EXPECT_EQ(guest->config().devices.rngs.at(0).info.alias, "rng0");
    bed.stop(*guest, notes);
}

TEST(BareGuest, CountsItsDisks) {
    QemuBed bed;
    Notes notes;
    auto config = QemuBed::bare();
    const auto image = bed.host.folder.path() + "/disk.img";
    std::filesystem::copy("/proc/self/exe", image);
    std::filesystem::resize_file(image, 8U << 20);
    auto& disk = config.devices.disks.emplace_back();
    disk.target.dev = "vda";
    disk.target.bus = "virtio";
    disk.driver.emplace().type = "raw";
    disk.source.emplace().file = image;
    auto& empty = config.devices.disks.emplace_back();
    empty.device = DiskDevice::cdrom;
    empty.target.dev = "sda";
    empty.target.bus = "sata";
    const auto guest = bed.start(config, notes);
    auto stats = bed.run(guest->stats({}));
    EXPECT_EQ(std::get<std::uint64_t>(stats["block.count"]), 2U);
    EXPECT_EQ(std::get<std::string>(stats["block.0.name"]), "vda");
    EXPECT_EQ(std::get<std::string>(stats["block.0.path"]), image);
    EXPECT_EQ(std::get<std::uint64_t>(stats["block.0.capacity"]), 8U << 20);
    EXPECT_GT(std::get<std::uint64_t>(stats["block.0.physical"]), 0U);
    EXPECT_TRUE(stats.contains("block.0.rd.reqs"));
    EXPECT_TRUE(stats.contains("block.0.allocation"));
    EXPECT_EQ(std::get<std::string>(stats["block.1.name"]), "sda");
    EXPECT_FALSE(stats.contains("block.1.capacity"));
    bed.stop(*guest, notes);
}

TEST(BareGuest, OpensItsConsoleOnce) {
    QemuBed bed;
    Notes notes;
    auto config = QemuBed::bare();
    config.devices.serials.emplace_back();
    const auto guest = bed.start(config, notes);
    ASSERT_TRUE(guest->config().devices.serials.front().backend.source());
    EXPECT_TRUE(guest->config().devices.serials.front().backend.source()->path.starts_with("/dev/pts/"));
    auto first = bed.run(guest->open_console("", false, {}));
    try {
        bed.run(guest->open_console("serial0", false, {}));
        FAIL();
    } catch (const Error& error) {
        EXPECT_EQ(error.code(), Code::device_in_use);
    }
    const auto second = bed.run(guest->open_console("serial0", true, {}));
    char c;
    EXPECT_EQ(::recv(first.get(), &c, 1, 0), 0);
    EXPECT_THROW(bed.run(guest->open_console("serial9", false, {})), Error);
    bed.stop(*guest, notes);
}

TEST(BareGuest, CountsWhatItDoes) {
    QemuBed bed;
    Notes notes;
    const auto guest = bed.start(QemuBed::bare(), notes);
    auto stats = bed.run(guest->stats({}));
    EXPECT_EQ(std::get<std::uint32_t>(stats["state.state"]), 1U);
    EXPECT_GT(std::get<std::uint64_t>(stats["cpu.time"]), 0U);
    EXPECT_EQ(std::get<std::uint32_t>(stats["vcpu.current"]), 1U);
    EXPECT_TRUE(stats.contains("vcpu.0.time"));
    EXPECT_EQ(std::get<std::uint64_t>(stats["balloon.maximum"]), 64U << 10);
    EXPECT_EQ(std::get<std::uint64_t>(stats["block.count"]), 0U);
    bed.stop(*guest, notes);
}

}  // namespace
}  // namespace virtbus
