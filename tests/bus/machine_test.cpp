// SPDX-License-Identifier: LGPL-2.1-or-later
// A real QEMU under the real daemon: saved in every way, with the daemon killed in the middle, and restored from files
// that were damaged. Its guest counts in its memory, beside much that does not compress: whatever happens, it must
// count on.
#include <poll.h>

#include <filesystem>
#include <random>

#include "tests/bus/daemon.hpp"
#include "tests/support/counter.hpp"

namespace virtbus::tests {
namespace {

const std::string uuid = "6f0f6f0c-8f0e-4a55-9d5a-0a1b2c3d4e5f";

struct Way {
    const char* compression;
    bool bypass_cache;
};
constexpr Way ways[] = {{"none", false}, {"zstd", false}, {"none", true}, {"zstd", true}};

class RealMachine : public ::testing::Test {
protected:
    static constexpr std::size_t noise_size = 192U << 20;

    void SetUp() override {
        write_counter_disk(bed.folder / "disk");
        std::mt19937_64 random{7};
        std::vector<std::uint64_t> noise(noise_size / sizeof(std::uint64_t));
        for (auto& word : noise) word = random();
        std::ofstream{bed.folder / "noise", std::ios::binary}.write(reinterpret_cast<const char*>(noise.data()),
                                                                    static_cast<std::streamsize>(noise_size));
        begin();
        path = text_of(client->call(root, manager, "DefineDomain", "sa{sv}", xml().c_str(), 0));
        ASSERT_TRUE(path.starts_with('/')) << path;
        start_counting();
    }
    void TearDown() override {
        if (client && bed.daemon && !bed.daemon->ended()) verb("Stop");
        client.reset();
        bed.stop();
    }
    std::string xml() const {
        return "<domain type='qemu' "
               "xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'><name>counter</name><uuid>" +
               uuid +
               "</uuid><memory unit='MiB'>288</memory><os><type arch='x86_64' machine='q35'>hvm</type></os><devices>"
               "<disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='" +
               (bed.folder / "disk") +
               "'/><target dev='vda' bus='virtio'/></disk><serial type='pty'/></devices><qemu:commandline><qemu:arg "
               "value='-device'/><qemu:arg value='loader,file=" +
               (bed.folder / "noise") + ",addr=0x4000000,force-raw=on'/></qemu:commandline></domain>";
    }
    void begin() {
        client.reset();
        ASSERT_TRUE(bed.start()) << read_file(bed.log());
        client = bed.connect();
    }
    Answer verb(const char* member) { return client->call(path, domain, member, "a{sv}", 0); }
    std::string get(const char* name) { return property(*client, path, domain, name); }

    void start_counting() {
        ASSERT_EQ(text_of(client->call(path, domain, "Start", "a{sv}", 1, "paused", "b", 1)), "/");
        open_console();
        ASSERT_TRUE(verb("Resume").ok());
        ASSERT_TRUE(hears('R'));
    }
    void open_console() {
        const auto answer = client->call(path, domain, "OpenConsole", "sa{sv}", "", 1, "force", "b", 1);
        ASSERT_TRUE(answer.ok()) << answer.message;
        int fd = -1;
        sd_bus_message_read_basic(answer.body.get(), 'h', &fd);
        console = Fd{::fcntl(fd, F_DUPFD_CLOEXEC, 3)};
    }
    bool hears(char wanted) {
        for (pollfd state{console.get(), POLLIN, 0}; ::poll(&state, 1, 60'000) == 1;) {
            char said = 0;
            if (::read(console.get(), &said, 1) <= 0) return false;
            if (said == wanted) return true;
        }
        return false;
    }
    /// It is the same guest as before.
    void expect_it_counts_on() {
        open_console();
        ASSERT_EQ(::write(console.get(), "x", 1), 1);
        ++count;
        EXPECT_TRUE(hears(static_cast<char>('0' + count)));
    }
    Answer save(const Way& way) {
        return client->call(path, domain, "Save", "sa{sv}", file().c_str(), 2, "compression", "s", way.compression,
                            "bypass-cache", "b", int{way.bypass_cache});
    }
    Answer restore(bool bypass_cache = false) {
        return client->call(root, manager, "RestoreDomain", "sa{sv}", file().c_str(), 1, "bypass-cache", "b",
                            int{bypass_cache});
    }
    std::string file() const { return bed.folder / "saved"; }
    std::string save_folder() const { return bed.folder / "STATE/save"; }
    /// The size of the biggest file in that folder, the hidden ones too.
    std::uintmax_t written() const {
        std::uintmax_t size = 0;
        std::error_code gone;
        for (const auto& entry : std::filesystem::directory_iterator{save_folder(), gone})
            if (const auto one = std::filesystem::file_size(entry, gone); !gone) size = std::max(size, one);
        return size;
    }
    void flip(std::uintmax_t at) {
        std::fstream image{file(), std::ios::in | std::ios::out | std::ios::binary};
        image.seekg(static_cast<std::streamoff>(at));
        const auto byte = static_cast<char>(image.get() ^ 1);
        image.seekp(static_cast<std::streamoff>(at));
        image.put(byte);
    }

    DaemonBed bed{false};
    std::unique_ptr<Client> client;
    std::string path;
    Fd console;
    int count = 0;
};

TEST_F(RealMachine, IsSavedInEveryWayAndCountsOn) {
    for (const auto& way : ways) {
        SCOPED_TRACE(way.compression);
        const auto answer = save(way);
        if (way.bypass_cache && answer.error == error_prefix + "Unsupported") {
            EXPECT_NE(answer.message.find(file()), std::string::npos) << answer.message;
            expect_it_counts_on();
            continue;
        }
        ASSERT_EQ(text_of(answer), "/");
        EXPECT_EQ(get("State") + " " + get("StateReason"), "shutoff saved");
        EXPECT_GT(std::filesystem::file_size(file()), noise_size);
        ASSERT_TRUE(restore(way.bypass_cache).ok());
        EXPECT_EQ(get("State") + " " + get("StateReason"), "running restored");
        expect_it_counts_on();
    }
}

TEST_F(RealMachine, KilledInTheMiddleOfASaveTheDaemonLeavesAGuestOrAnImage) {
    int midway = 0;
    for (const auto& way : ways)
        for (const std::uintmax_t size : {0U, 1U << 20, 150U << 20}) {
            SCOPED_TRACE(way.compression + std::to_string(way.bypass_cache) + " at " + std::to_string(size));
            const auto job_path =
                text_of(client->call(path, domain, "ManagedSave", "a{sv}", 3, "no-wait", "b", 1, "compression", "s",
                                     way.compression, "bypass-cache", "b", int{way.bypass_cache}));
            ASSERT_TRUE(job_path.starts_with("/org")) << job_path;
            const auto tick = bed.loop_tick();
            ASSERT_TRUE(bed.loop.run_until(
                [&] { return (size ? written() >= size : get("State") == "paused") || get("State") == "shutoff"; },
                patience));
            ASSERT_EQ(bed.stop(SIGKILL), 128 + SIGKILL);
            begin();
            ASSERT_TRUE(
                bed.loop.run_until([&] { return get("State") == "running" || get("State") == "shutoff"; }, patience))
                << get("State");
            const bool saved = get("State") == "shutoff";
            EXPECT_EQ(get("HasManagedSave"), saved ? "1" : "0");
            EXPECT_EQ(std::filesystem::exists(save_folder() + "/" + uuid + ".save"), saved);
            if (saved)
                ASSERT_EQ(text_of(verb("Start")), "/");
            else
                ++midway;
            EXPECT_TRUE(std::filesystem::is_empty(save_folder()));
            expect_it_counts_on();
        }
    EXPECT_GE(midway, 4);
}

TEST_F(RealMachine, ADamagedStateIsAnErrorWithTheFilesNameAndNoGuest) {
    for (const auto& way : {ways[0], ways[1]}) {
        SCOPED_TRACE(way.compression);
        ASSERT_EQ(text_of(save(way)), "/");
        const auto size = std::filesystem::file_size(file());
        for (const auto at : {std::uintmax_t{1} << 20, size / 2, size - 1000}) {
            flip(at);
            const auto answer = restore();
            EXPECT_EQ(answer.error, error_prefix + "Unsupported") << answer.message;
            EXPECT_NE(answer.message.find(file()), std::string::npos) << answer.message;
            EXPECT_EQ(get("State"), "shutoff");
            flip(at);
        }
        ASSERT_TRUE(restore().ok());
        expect_it_counts_on();
    }
}

}  // namespace
}  // namespace virtbus::tests
