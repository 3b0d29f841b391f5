// SPDX-License-Identifier: LGPL-2.1-or-later
// A domain on the bus: translates between org.virtbus1.Domain and service/domain, decides nothing.
#pragma once

#include "dbus/domain_interface.hpp"
#include "dbus/server/interface.hpp"
#include "service/domains.hpp"
#include "service/jobs.hpp"
#include "virtbus/ports.hpp"

namespace virtbus::dbus {

class DomainObject final : public Kind, public DomainMethods {
public:
    DomainObject(const Domains& domains, Jobs& jobs, Workers& workers)
        : domains_{domains}, jobs_{jobs}, workers_{workers} {}

    const Interface& interface() const override { return domain_interface; }
    void* handler() override { return static_cast<DomainMethods*>(this); }
    const void* find(const Keys& keys) const override;
    void list(const Keys& parents, const std::function<void(std::string_view, const void*)>& each) const override;

    Subject subject(const Call& call) override;
    Task<ObjectPath> start(Call& call, DomainStartOptions options) override;
    Task<> set_autostart(Call& call, bool autostart) override;
    Task<> shutdown(Call& call, DomainShutdownOptions options) override;
    Task<> reboot(Call& call, DomainRebootOptions options) override;
    Task<> reset(Call& call) override;
    Task<> suspend(Call& call) override;
    Task<> inject_nmi(Call& call) override;
    Task<> resume(Call& call) override;
    Task<ObjectPath> stop(Call& call, DomainStopOptions options) override;
    Task<> undefine(Call& call, DomainUndefineOptions options) override;
    Task<> rename(Call& call, std::string name) override;
    Task<std::string> get_xml(Call& call, DomainGetXMLOptions options) override;
    Task<ObjectPath> save(Call& call, std::string file, DomainSaveOptions options) override;
    Task<ObjectPath> managed_save(Call& call, DomainManagedSaveOptions options) override;
    Task<> remove_managed_save(Call& call) override;
    Task<> attach_device(Call& call, std::string xml, DomainAttachDeviceOptions options) override;
    Task<> detach_device(Call& call, std::string xml, DomainDetachDeviceOptions options) override;
    Task<> update_device(Call& call, std::string xml, DomainUpdateDeviceOptions options) override;
    Task<> set_memory(Call& call, std::uint64_t bytes, DomainSetMemoryOptions options) override;
    Task<> set_vcpus(Call& call, std::uint32_t count, DomainSetVCpusOptions options) override;
    Task<> set_metadata(Call& call, std::string kind, std::string uri, std::string key, std::string xml,
                        DomainSetMetadataOptions options) override;
    Task<std::string> get_metadata(Call& call, std::string kind, std::string uri,
                                   DomainGetMetadataOptions options) override;
    Task<Dictionary> get_stats(Call& call, DomainGetStatsOptions options) override;
    Task<> send_key(Call& call, std::vector<std::string> keys) override;
    Task<DomainScreenshotResult> screenshot(Call& call, std::uint32_t screen) override;
    Task<Fd> open_console(Call& call, std::string name, DomainOpenConsoleOptions options) override;
    Task<Fd> open_display(Call& call, DomainOpenDisplayOptions options) override;
    Task<DomainCreateSnapshotResult> create_snapshot(Call& call, std::string xml,
                                                     DomainCreateSnapshotOptions options) override;
    Task<ObjectPath> get_snapshot(Call& call, std::string name) override;
    Task<Fd> export_snapshots(Call& call) override;
    Task<std::vector<ObjectPath>> import_snapshots(Call& call, Fd file) override;
    Task<ObjectPath> create_checkpoint(Call& call, std::string xml, DomainCreateCheckpointOptions options) override;
    Task<ObjectPath> get_checkpoint(Call& call, std::string name) override;

private:
    DomainPtr get(const Call& call) const;
    Task<> done(JobPtr job);

    const Domains& domains_;
    Jobs& jobs_;
    Workers& workers_;
    std::uint64_t importing_ = 0;  ///< bytes
};

/// Statistics as they travel: with `timestamp` and `stale` among them.
Dictionary stats_dictionary(const TimedStats& stats);

}  // namespace virtbus::dbus
