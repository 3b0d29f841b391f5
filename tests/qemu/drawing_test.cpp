// SPDX-License-Identifier: LGPL-2.1-or-later
// Guests that are drawn on this host: a video card that the real vhost-user-gpu draws for, which comes and goes with
// its guest and whose stand-ins misbehave, and a window of SDL's.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "qemu/helpers/gpu.hpp"
#include "tests/qemu/qemu_bed.hpp"

namespace virtbus {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using tests::Notes;
using tests::QemuBed;

constexpr const char* real_program = "/usr/lib/qemu/vhost-user-gpu";

class GraphicsServerTest : public ::testing::Test {
protected:
    GraphicsServerTest() {
        programs_.vhost_user_folders = {bed_.host.folder.path() + "/descriptors"};
        std::filesystem::create_directory(programs_.vhost_user_folders[0]);
        renew();
    }
    void describe(const std::string& program, const std::string& type = "gpu") {
        std::ofstream{programs_.vhost_user_folders[0] + "/50.json"}
            << nlohmann::json{{"description", "a"}, {"type", type}, {"binary", program}}.dump();
    }
    void stand_in(const std::string& script) {
        const auto path = bed_.host.folder.path() + "/gpu";
        std::ofstream{path} << "#!/bin/sh\n" << script << '\n';
        ::chmod(path.c_str(), 0755);
        describe(path);
        programs_.times = {.answer = Duration{300}, .leave = Duration{300}};
        renew();
    }
    void renew() { bed_.driver = std::make_unique<qemu::QemuDriver>(bed_.host.ports, bed_.times, programs_); }
    static DomainConfig drawn() {
        auto config = QemuBed::bare("drawn");
        config.type = "kvm";
        auto& backing = config.memory_backing.emplace();
        backing.source_type = "memfd";
        backing.access_mode = "shared";
        auto& video = config.devices.videos.emplace_back();
        video.driver.emplace().name = "vhostuser";
        video.model.type = "virtio";
        return config;
    }
    std::string refusal(DomainConfig config) { return bed_.refusal(std::move(config), notes_); }

    QemuBed bed_;
    Notes notes_;
    qemu::HelperPrograms programs_;
};

TEST_F(GraphicsServerTest, ComesAndGoesWithItsGuest) {
    if (::access(real_program, X_OK) != 0) GTEST_SKIP() << "no vhost-user-gpu (package qemu-system-gui)";
    if (::access("/dev/kvm", R_OK | W_OK) != 0) GTEST_SKIP() << "QEMU 7.2 has such cards with KVM only";
    describe(real_program);
    auto config = drawn();
    config.devices.videos.push_back(config.devices.videos[0]);
    const auto guest = bed_.start(std::move(config), notes_);
    const auto helpers = nlohmann::json::parse(guest->driver_state()).at("helpers");
    ASSERT_EQ(helpers.size(), 2U);
    for (const auto& helper : helpers) EXPECT_EQ(helper.at("program"), "vhost-user-gpu");
    const Fd process{static_cast<int>(::syscall(SYS_pidfd_open, helpers.at(0).at("pid").get<pid_t>(), 0))};
    ASSERT_TRUE(process);
    pollfd state{process.get(), POLLIN, 0};
    EXPECT_EQ(::poll(&state, 1, 0), 0);
    bed_.stop(*guest, notes_);
    EXPECT_EQ(::poll(&state, 1, 10000), 1);
}

TEST_F(GraphicsServerTest, ThatCannotBeHadIsRefusedWithWhatToDo) {
    EXPECT_THAT(refusal(drawn()), HasSubstr("qemu-system-gui"));
    describe("/bin/true", "fs");
    EXPECT_THAT(refusal(drawn()), HasSubstr("no descriptor of type 'gpu'"));
    describe("/nothing/here");
    EXPECT_THAT(refusal(drawn()), HasSubstr("/nothing/here cannot be run"));
    auto alone = drawn();
    alone.memory_backing.reset();
    describe("/bin/true");
    EXPECT_THAT(refusal(alone), HasSubstr("needs memory that is shared"));
}

TEST_F(GraphicsServerTest, ThatFailsEndsTheStartWithItsLastWords) {
    stand_in("echo 'no such card' >&2; exit 3");
    EXPECT_THAT(refusal(drawn()), HasSubstr("no such card"));
    stand_in("sleep 60");
    EXPECT_THAT(refusal(drawn()), HasSubstr("did not answer"));
}

TEST_F(GraphicsServerTest, IsToldHowToDraw) {
    Video video = drawn().devices.videos[0];
    EXPECT_THAT(qemu::graphics_server_words("/p", video), ElementsAre("/p", "--fd=3"));
    auto& acceleration = video.model.acceleration.emplace();
    acceleration.accel3d = true;
    acceleration.rendernode = "/dev/dri/renderD129";
    EXPECT_THAT(qemu::graphics_server_words("/p", video),
                ElementsAre("/p", "--fd=3", "--virgl", "--render-node=/dev/dri/renderD129"));
}

/// SDL's driver that draws nowhere stands for an X server.
TEST(Window, IsToldItsServerAndTheKeyToIt) {
    if (std::system("qemu-system-x86_64 -display help 2>/dev/null | grep -qx sdl") != 0)
        GTEST_SKIP() << "no SDL (package qemu-system-gui)";
    QemuBed bed;
    Notes notes;
    const auto key = bed.host.folder.path() + "/key";
    std::ofstream{key} << "a key";
    auto config = QemuBed::bare("window");
    auto& graphics = config.devices.graphics.emplace_back();
    graphics.type = GraphicsType::sdl;
    graphics.display = ":7";
    graphics.xauth = key;
    config.devices.videos.emplace_back().model.type = "vga";
    config.qemu_commandline.emplace().envs.push_back({.name = "SDL_VIDEODRIVER", .value = "dummy", .unknown = {}});
    const auto guest = bed.start(std::move(config), notes);
    const auto process = fmt::format("/proc/{}", guest->pid());
    std::ifstream file{process + "/environ"};
    const std::string environment{std::istreambuf_iterator<char>{file}, {}};
    EXPECT_THAT(environment, HasSubstr(std::string{"DISPLAY=:7\0", 11}));
    const std::string name = "XAUTHORITY=/proc/self/fd/";
    const auto at = environment.find(name);
    ASSERT_NE(at, environment.npos);
    std::ifstream copy{process + "/fd/" + std::string{environment.c_str() + at + name.size()}};
    EXPECT_EQ((std::string{std::istreambuf_iterator<char>{copy}, {}}), "a key");
    bed.stop(*guest, notes);
}

TEST(Window, WithoutAServerIsRefused) {
    QemuBed bed;
    Notes notes;
    auto config = QemuBed::bare("window");
    config.devices.graphics.emplace_back().type = GraphicsType::sdl;
    try {
        bed.start(std::move(config), notes);
        FAIL();
    } catch (const Error& error) {
        EXPECT_THAT(error.what(), HasSubstr("which X server"));
    }
}

}  // namespace
}  // namespace virtbus
