// SPDX-License-Identifier: LGPL-2.1-or-later
// LinuxBed: a test with a small Linux in a real QEMU, whose console is in the test's hands.
#pragma once

#include <gtest/gtest.h>

#include "tests/qemu/linux_guest.hpp"

namespace virtbus::tests {

class LinuxBed : public ::testing::Test {
protected:
    static constexpr auto ready = "virtbus-guest: ready";

    static void SetUpTestSuite() {
        folder_ = std::make_unique<TemporaryFolder>();
        const auto* script = std::getenv("VIRTBUS_MAKE_INITRAMFS");
        ASSERT_TRUE(script);
        ASSERT_EQ(std::system((std::string{script} + " " + initrd()).c_str()), 0);
    }
    static void TearDownTestSuite() { folder_.reset(); }
    void SetUp() override {
        kernel_ = newest_kernel();
        if (kernel_.empty()) GTEST_SKIP() << "no cloud kernel in /boot (package linux-image-cloud-amd64)";
    }

    static std::string initrd() { return folder_->path() + "/initrd"; }
    DomainConfig linux_config() const {
        auto config = QemuBed::bare("linux");
        config.memory = config.current_memory = 192ULL << 20;
        config.os.kernel = kernel_;
        config.os.initrd = initrd();
        // On a busy machine Linux finds that an emulated timer does not tick, and panics.
        config.os.cmdline = "console=ttyS0 quiet no_timer_check";
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
    static inline std::unique_ptr<TemporaryFolder> folder_;
    std::string kernel_;
};

}  // namespace virtbus::tests
