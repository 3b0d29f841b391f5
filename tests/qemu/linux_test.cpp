// SPDX-License-Identifier: LGPL-2.1-or-later
// A real Linux in a real QEMU: greeted on its console, shut down and rebooted by its power button, crashed on purpose.
#include <gtest/gtest.h>
#include "tests/qemu/linux_guest.hpp"

namespace virtbus {
namespace {

using test::Notes;
using test::QemuBed;
using test::Terminal;

class LinuxGuest : public ::testing::Test {
protected:
    static constexpr auto ready = "virtbus-guest: ready";

    static void SetUpTestSuite() {
        folder_ = std::make_unique<test::TemporaryFolder>();
        const auto* script = std::getenv("VIRTBUS_MAKE_INITRAMFS");
        ASSERT_TRUE(script);
        ASSERT_EQ(std::system((std::string{script} + " " + initrd()).c_str()), 0);
    }
    static void TearDownTestSuite() { folder_.reset(); }
    void SetUp() override {
        kernel_ = test::newest_kernel();
        if (kernel_.empty()) GTEST_SKIP() << "no cloud kernel in /boot (package linux-image-cloud-amd64)";
    }

    static std::string initrd() { return folder_->path + "/initrd"; }
    DomainConfig linux_config() const {
        auto config = QemuBed::bare("linux");
        config.memory = config.current_memory = 192ULL << 20;
        config.os.kernel = kernel_;
        config.os.initrd = initrd();
        config.os.cmdline = "console=ttyS0 quiet";
        config.features.emplace().acpi.emplace();
        config.devices.serials.emplace_back();
        return config;
    }
    /// Started paused, so that the console is open before the first word.
    std::unique_ptr<Guest> boot(DomainConfig config) {
        auto guest = bed_.start(std::move(config), notes_, true);
        terminal_ = std::make_unique<Terminal>(bed_, *guest);
        bed_.run(guest->resume({}));
        bed_.run_until([&] { return terminal_->has(ready); });
        return guest;
    }

    QemuBed bed_;
    Notes notes_;
    std::unique_ptr<Terminal> terminal_;

private:
    static std::unique_ptr<test::TemporaryFolder> folder_;
    std::string kernel_;
};
std::unique_ptr<test::TemporaryFolder> LinuxGuest::folder_;

TEST_F(LinuxGuest, GreetsObeysAndPowersOff) {
    const auto guest = boot(linux_config());
    terminal_->type("echo the sum is $((40 + 2))\r");
    bed_.run_until([&] { return terminal_->has("the sum is 42"); });
    bed_.run(guest->shutdown("acpi", {}));
    bed_.run_until([&] { return notes_.ended(); });
    EXPECT_TRUE(notes_.has("state shutdown shutting-down"));
    EXPECT_EQ(notes_.list.back(), "ended shutdown");
    EXPECT_TRUE(terminal_->has("virtbus-guest: power button"));
}

TEST_F(LinuxGuest, RebootsByItsPowerButton) {
    const auto guest = boot(linux_config());
    const auto pid = guest->pid();
    bed_.run(guest->reboot("default", {}));
    bed_.run_until([&] {
        return terminal_->has("power button") && terminal_->said.rfind(ready) > terminal_->said.find("power button");
    });
    EXPECT_EQ(guest->pid(), pid);
    EXPECT_TRUE(notes_.has("rebooted"));
    EXPECT_FALSE(notes_.has("state shutdown shutting-down"));
    // The next power-off is a power-off again.
    bed_.run(guest->shutdown("", {}));
    bed_.run_until([&] { return notes_.ended(); });
    EXPECT_EQ(notes_.list.back(), "ended shutdown");
}

TEST_F(LinuxGuest, RebootsByItself) {
    const auto guest = boot(linux_config());
    terminal_->said.clear();
    terminal_->type("reboot -f\r");
    bed_.run_until([&] { return terminal_->has(ready); });
    EXPECT_TRUE(notes_.has("rebooted"));
    bed_.stop(*guest, notes_);
}

TEST_F(LinuxGuest, ARebootMayBeTheEnd) {
    auto config = linux_config();
    config.on_reboot = "destroy";
    const auto guest = boot(std::move(config));
    terminal_->type("reboot -f\r");
    bed_.run_until([&] { return notes_.ended(); });
    EXPECT_EQ(notes_.list.back(), "ended shutdown");
}

TEST_F(LinuxGuest, APowerOffMayBeARestart) {
    auto config = linux_config();
    config.on_poweroff = "restart";
    const auto guest = boot(std::move(config));
    terminal_->said.clear();
    terminal_->type("poweroff -f\r");
    bed_.run_until([&] { return terminal_->has(ready); });
    EXPECT_FALSE(notes_.ended());
    bed_.stop(*guest, notes_);
}

TEST_F(LinuxGuest, APanicEndsIt) {
    auto config = linux_config();
    config.devices.panics.emplace_back().model = "isa";
    const auto guest = boot(std::move(config));
    terminal_->type("echo c > /proc/sysrq-trigger\r");
    bed_.run_until([&] { return notes_.ended(); });
    EXPECT_EQ(notes_.list.back(), "ended crashed");
}

TEST_F(LinuxGuest, AnAgentIsNotThereYet) {
    const auto guest = bed_.start(linux_config(), notes_, true);
    try {
        bed_.run(guest->shutdown("agent", {}));
        FAIL();
    } catch (const Error& error) {
        EXPECT_EQ(error.code(), Code::agent_unavailable);
    }
    EXPECT_THROW(bed_.run(guest->reboot("magic", {})), Error);
    bed_.stop(*guest, notes_);
}

}  // namespace
}  // namespace virtbus
