// SPDX-License-Identifier: LGPL-2.1-or-later
// A real QEMU whose guest counts in its memory and says each number on its serial port: after a restore it must count
// on.
#include <gtest/gtest.h>
#include <sys/socket.h>

#include <fstream>

#include "tests/qemu/qemu_bed.hpp"
#include "tests/support/counter.hpp"

namespace virtbus {
namespace {

using tests::Notes;
using tests::QemuBed;

class CountingGuest : public ::testing::Test {
protected:
    DomainConfig config() {
        const auto image = bed.host.folder.path() + "/counter.img";
        tests::write_counter_disk(image);
        auto config = QemuBed::bare("counter");
        auto& disk = config.devices.disks.emplace_back();
        disk.source.emplace().file = image;
        disk.driver.emplace().type = "raw";
        disk.target.dev = "vda";
        disk.target.bus = "virtio";
        config.devices.serials.emplace_back();
        return config;
    }
    /// The guest is up and has counted to `count`.
    std::unique_ptr<Guest> counting(unsigned count) {
        auto guest = bed.start(config(), notes, true);
        open(*guest);
        bed.run(guest->resume({}));
        bed.run_until([&] { return heard("R"); });
        for (unsigned i = 1; i <= count; ++i) expect_next(i);
        return guest;
    }
    void open(Guest& guest) {
        said.clear();
        console = bed.run(guest.open_console("", true, {}));
        watch = bed.host.loop.watch(console.get(), readable, [this](unsigned) {
            char bytes[256];
            const auto n = ::recv(console.get(), bytes, sizeof bytes, MSG_DONTWAIT);
            if (n > 0) said.append(bytes, static_cast<std::size_t>(n));
            if (n == 0) watch.reset();
        });
    }
    bool heard(const std::string& text) const { return said.find(text) != std::string::npos; }
    void expect_next(unsigned number) {
        ASSERT_EQ(::write(console.get(), "x", 1), 1);
        bed.run_until([&] { return heard(std::to_string(number)); });
    }
    Fd file(int flags) const {
        return Fd{::open((bed.host.folder.path() + "/stream").c_str(), flags | O_CLOEXEC, 0600)};
    }
    std::unique_ptr<Guest> restore(Notes& to, Fd stream) {
        StartRequest request{.config = config(),
                             .id = ++bed.last_id,
                             .resources = bed.resources,
                             .events = to,
                             .deadline = in(Duration{60000}),
                             .stop = bed.resources.stop(),
                             .incoming = std::move(stream)};
        bed.run(complete(*bed.driver, request.config));
        return bed.run(bed.driver->start(std::move(request)));
    }
    static Task<> complete(qemu::QemuDriver& driver, DomainConfig& whole) { co_await driver.complete(whole, nullptr); }

    QemuBed bed;
    Notes notes, later;
    Fd console;
    Registration watch;
    std::string said;
};

TEST_F(CountingGuest, CountsOnAfterASaveToAFileAndARestore) {
    const auto guest = counting(3);
    std::uint64_t last = 0, of = 0;
    bed.run(guest->save(file(O_RDWR | O_CREAT),
                        [&](std::uint64_t done, std::uint64_t total) { last = done, of = total; }, {}));
    EXPECT_TRUE(notes.has("state paused save"));
    EXPECT_EQ(last, of);
    EXPECT_GT(of, 64U << 20);
    bed.stop(*guest, notes);

    const auto back = restore(later, file(O_RDONLY));
    EXPECT_TRUE(later.list.empty()) << later.list.front();
    open(*back);
    bed.run(back->resume({}));
    EXPECT_TRUE(later.has("state running restored"));
    expect_next(4);
    bed.stop(*back, later);
}

TEST_F(CountingGuest, RunsOnWhenTheSaveIsUndone) {
    const auto guest = counting(1);
    bed.run(guest->save(file(O_RDWR | O_CREAT), [](auto, auto) {}, {}));
    bed.run(guest->undo_save(true));
    EXPECT_TRUE(notes.has("state running save-canceled"));
    expect_next(2);
    bed.run(guest->undo_save(true));
    bed.run(guest->suspend({}));
    bed.run(guest->save(file(O_RDWR | O_CREAT | O_TRUNC), [](auto, auto) {}, {}));
    bed.run(guest->undo_save(false));
    EXPECT_NE(notes.list.back(), "state running save-canceled") << "it was paused before";
    bed.run(guest->resume({}));
    expect_next(3);
    bed.stop(*guest, notes);
}

TEST_F(CountingGuest, RunsOnWhenTheSaveIsCancelledMidway) {
    const auto guest = counting(1);
    int ends[2];
    ASSERT_EQ(::pipe2(ends, O_CLOEXEC), 0);
    Fd reader{ends[0]};
    std::stop_source stop;
    // Nobody reads, so it is under way until it is stopped.
    const auto pause = bed.host.loop.after(Duration{300}, [&] { stop.request_stop(); });
    try {
        bed.run(guest->save(Fd{ends[1]}, [](auto, auto) {}, stop.get_token()));
        FAIL();
    } catch (const Error& error) {
        EXPECT_EQ(error.code(), Code::cancelled) << error.what();
    }
    reader = Fd{};
    bed.run(guest->undo_save(true));
    EXPECT_TRUE(notes.has("state running save-canceled"));
    expect_next(2);
    bed.run(guest->save(file(O_RDWR | O_CREAT), [](auto, auto) {}, {}));
    bed.stop(*guest, notes);
}

TEST_F(CountingGuest, AFullDeviceIsSaidAndTheGuestRunsOn) {
    const auto guest = counting(1);
    try {
        bed.run(guest->save(Fd{::open("/dev/full", O_RDWR | O_CLOEXEC)}, [](auto, auto) {}, {}));
        FAIL();
    } catch (const Error& error) {
        EXPECT_TRUE(error.code() == Code::no_space || error.code() == Code::hypervisor_failed) << error.what();
    }
    bed.run(guest->undo_save(true));
    expect_next(2);
    bed.stop(*guest, notes);
}

TEST_F(CountingGuest, ACutStreamFailsTheStartAndLeavesNoProcess) {
    const auto guest = counting(1);
    bed.run(guest->save(file(O_RDWR | O_CREAT), [](auto, auto) {}, {}));
    bed.stop(*guest, notes);
    const auto path = bed.host.folder.path() + "/stream";
    std::filesystem::resize_file(path, std::filesystem::file_size(path) / 2);
    try {
        restore(later, file(O_RDONLY));
        FAIL();
    } catch (const Error& error) {
        EXPECT_EQ(error.code(), Code::hypervisor_failed) << error.what();
    }
    EXPECT_TRUE(std::filesystem::is_empty(bed.host.ports.folders.runtime + "/qemu"));
}

TEST_F(CountingGuest, AnotherDriverTakesBackWhatWasBeingSaved) {
    auto guest = counting(1);
    int ends[2];
    ASSERT_EQ(::pipe2(ends, O_CLOEXEC), 0);
    Fd reader{ends[0]};
    std::stop_source stop;
    const auto pause = bed.host.loop.after(Duration{300}, [&] { stop.request_stop(); });
    EXPECT_THROW(bed.run(guest->save(Fd{ends[1]}, [](auto, auto) {}, stop.get_token())), Error);
    const auto record = guest->driver_state();
    const auto live = guest->config();
    watch.reset();
    guest.reset();
    reader = Fd{};  // whatever read has gone with the daemon
    bed.driver = std::make_unique<qemu::QemuDriver>(bed.host.ports);
    GuestEnd end;
    const auto adopted = bed.run(bed.driver->adopt(live, record, later, end));
    ASSERT_TRUE(adopted);
    bed.run(adopted->undo_save(true));
    bed.run_until([&] { return later.has("state running save-canceled"); });
    open(*adopted);
    expect_next(2);
    bed.stop(*adopted, later);
}

}  // namespace
}  // namespace virtbus
