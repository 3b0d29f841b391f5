// SPDX-License-Identifier: LGPL-2.1-or-later
// TestGuest: a guest without a process. Its life is a few times and timers, kept in the driver's state so that a later
// daemon finds it where time would have brought it.
#pragma once

#include <map>
#include <memory>
#include <stop_token>
#include <string>
#include <vector>

#include "test/behaviour.hpp"
#include "test/echo_console.hpp"
#include "test/image_shelf.hpp"
#include "virtbus/driver.hpp"

namespace virtbus::test_driver {

struct GuestRecord {
    std::uint64_t booted_at = 0;
    std::uint64_t ends_at = 0;  ///< 0: it has no end yet
    GuestEnd end;
    bool paused = false;
    std::map<std::string, std::uint64_t> leaving;  ///< devices that are given up, and when; 0 = never
};
std::string encode(const GuestRecord& record);
/// Internal when it is not of this driver and version.
GuestRecord decode_record(const std::string& text);

class TestGuest final : public Guest, private DiskWork, private BitmapWork, private Agent {
public:
    TestGuest(Loop& loop, Clock& clock, ImageShelf& shelf, GuestEvents& events, DomainConfig config,
              Behaviour behaviour, GuestRecord record);
    /// The reason to give when the CPUs run next.
    void expect_resume(std::string reason) { resume_reason_ = std::move(reason); }

    std::uint32_t pid() const override { return 0; }
    std::string unit() const override { return {}; }
    std::string driver_state() const override { return encode(record_); }
    const DomainConfig& config() const override { return config_; }

    Task<> resume(std::stop_token stop) override;
    Task<> suspend(std::stop_token stop) override;
    Task<> shutdown(ShutdownMode mode, std::stop_token stop) override;
    Task<> reboot(ShutdownMode mode, std::stop_token stop) override;
    Task<> reset(std::stop_token stop) override;
    Task<> inject_nmi(std::stop_token stop) override;
    void kill(bool graceful) override;
    Task<> save(Fd target, ProgressSink progress, std::stop_token stop, bool live) override;
    Task<> undo_save(bool running) override;

    Task<> attach(DeviceRequest request, std::stop_token stop) override;
    Task<> detach(std::string alias, bool force, std::stop_token stop) override;
    Task<> update(DeviceRequest request, std::stop_token stop) override;
    Task<> set_memory(std::uint64_t bytes, std::stop_token stop) override;
    Task<> set_vcpus(std::uint32_t count, std::stop_token stop) override;

    DiskWork* disk_work() override { return this; }
    BitmapWork* bitmap_work() override { return this; }
    Agent* agent() override { return this; }

    Task<Stats> stats(std::stop_token stop) override;
    Task<> send_key(std::vector<std::string> keys, std::stop_token stop) override;
    Task<Screenshot> screenshot(std::uint32_t screen, std::stop_token stop) override;
    Task<Fd> open_console(std::string name, bool force, std::stop_token stop) override;
    Task<Fd> open_display(std::string type, std::stop_token stop) override;

private:
    Task<> put_overlays(std::vector<NewOverlay> overlays, Resources& resources, std::stop_token stop) override;
    Task<> take_internal(InternalSnapshot snapshot, ProgressSink progress, std::stop_token stop) override;
    Task<> load_internal(InternalSnapshot snapshot, ProgressSink progress, std::stop_token stop) override;
    Task<> remove_internal(InternalSnapshot snapshot, std::stop_token stop) override;
    Task<> take_disks_only(InternalSnapshot snapshot, std::stop_token stop) override;
    Task<> merge(ChainMerge merge, Resources& resources, ProgressSink progress, std::stop_token stop) override;
    Task<std::vector<BitmapFacts>> bitmaps(std::stop_token stop) override;
    Task<> change_bitmaps(std::vector<BitmapChange> changes, std::stop_token stop) override;
    Task<> begin_backup(BackupRequest request, std::stop_token stop) override;
    Task<> finish_backup(ProgressSink progress, std::stop_token stop) override;
    Task<> end_backup() override;
    Task<> freeze(std::stop_token stop) override;
    Task<> thaw() override;

    Disk& disk_of(DomainConfig& config, const std::string& target) const;
    Task<> work_on_images(ProgressSink progress, std::string fails, std::stop_token stop);
    void follow_chains();
    void put_tags(const InternalSnapshot& snapshot, const std::string& memory);
    void merge_chain(const ChainMerge& merge);
    void change_bitmap(Shelf& shelf, const BitmapChange& change);
    void require_agent() const;

    /// What every verb does first: hangs when it shall, fails when the guest is gone.
    Task<> reach();
    void end_at(std::uint64_t when, GuestEnd end);
    void arm_end();
    /// Tells from the loop, unless the guest has been forgotten by then.
    void later(std::function<void()> work);
    /// Hangs or fails as it shall, opens what the device needs.
    Task<> prepare(DeviceRequest& request, Device& device, bool fresh, std::stop_token stop);
    void arm_leaving(const std::string& alias);
    void device_left(const std::string& alias);
    void require_mode(const ShutdownMode& mode) const;
    std::string console_name(const std::string& name) const;

    Loop& loop_;
    Clock& clock_;
    ImageShelf& shelf_;
    GuestEvents& events_;
    DomainConfig config_;
    Behaviour behaviour_;
    GuestRecord record_;
    bool gone_ = false;
    bool backup_ = false;
    std::string resume_reason_ = "user";
    std::stop_source saving_{std::nostopstate};
    std::uint64_t killed_at_ = 0;
    std::map<std::string, EchoConsole> consoles_;
    std::vector<Reply<>::Promise> hanging_;
    Registration end_timer_;
    std::map<std::string, Registration> leaving_timers_;
    std::multimap<std::string, Reply<>::Promise> waiting_for_device_;
    std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace virtbus::test_driver
