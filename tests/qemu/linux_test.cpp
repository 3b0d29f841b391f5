// SPDX-License-Identifier: LGPL-2.1-or-later
// A real Linux in a real QEMU: greeted on its console, shut down and rebooted by its power button, crashed on purpose.
#include "tests/qemu/linux_bed.hpp"

namespace virtbus {
namespace {

using LinuxGuest = tests::LinuxBed;

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
