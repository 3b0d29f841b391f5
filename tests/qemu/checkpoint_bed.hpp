// SPDX-License-Identifier: LGPL-2.1-or-later
// The whole service with the QEMU driver and a domain of one disk, which a second monitor writes to as its guest would.
// What is backed up of it can be compared with it byte by byte.
#pragma once

#include <gtest/gtest.h>

#include <cstdlib>
#include <nlohmann/json.hpp>

#include "plain_units.hpp"
#include "qemu/driver.hpp"
#include "qemu/json.hpp"
#include "qemu/monitor.hpp"
#include "qemu/starter.hpp"
#include "tests/service/world.hpp"

namespace virtbus::tests {

using nlohmann::json;

class Checkpointing : public World {
protected:
    Checkpointing() {
        const char* launcher = std::getenv("VIRTBUS_LAUNCHER");
        plain_ = std::make_unique<systemd::PlainUnits>(host.loop, launcher ? launcher : "", std::nullopt);
        const auto folders = ports->folders;
        ports.emplace(
            Ports{host.loop, clock, host.outside_workers, files, host.spawner, log, *plain_, folders, "boot-1", false});
        patience.kill = Duration{15'000};
        shell("qemu-img create -q -f qcow2 disk.qcow2 4M");
        disks_ = disk("vda", "qcow2", file("disk.qcow2"));
    }
    ~Checkpointing() override {
        if (room && get_web() && get_web()->view().state != State::shutoff) finish(get_web()->stop({}, caller));
        monitor_.reset();
        room.reset();
        qemu_.reset();
    }
    DomainPtr get_web() { return room->domains().get("web"); }

    void boot_daemon() {
        monitor_.reset();
        room.reset();
        qemu_.emplace(*ports);
        audience.told.clear();
        room.emplace(*ports, std::vector<HypervisorDriver*>{&*qemu_}, nullptr, nullptr, callers, audience, patience);
        run(room->load());
    }
    std::string definition() const {
        return "<domain type='qemu' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'><name>web</name><uuid>" +
               uuid_of("web") +
               "</uuid><memory unit='MiB'>64</memory><vcpu>1</vcpu><os><type arch='x86_64' machine='q35'>hvm</type>"
               "</os>" +
               more_ + "<devices>" + disks_ + "</devices><qemu:commandline>" +
               "<qemu:arg value='-qmp'/><qemu:arg value='unix:" + root +
               "/second,server=on,wait=off'/><qemu:arg value='-pidfile'/><qemu:arg value='" + root +
               "/pid'/></qemu:commandline></domain>";
    }
    void start() {
        boot_daemon();
        define(definition());
        finish(get_web()->start({}, caller));
        connect();
    }
    void connect() {
        monitor_ = std::make_unique<qemu::Monitor>(host.loop, qemu::connect_socket(root + "/second"), "the test",
                                                   qemu::Monitor::Handlers{});
    }
    json ask(const char* command, json arguments = json::object()) {
        return run(monitor_->execute(command, arguments, in(Duration{60'000})));
    }
    void io(const std::string& what, unsigned number = 0) {
        const auto said = ask("human-monitor-command",
                              {{"command-line", "qemu-io -d /machine/peripheral/virtio-disk" + std::to_string(number) +
                                                    "/virtio-backend \"" + what + "\""}});
        ASSERT_EQ(said.get<std::string>().find("rror"), std::string::npos) << said;
    }
    void shell(const std::string& command) {
        ASSERT_EQ(std::system(("cd " + root + " && " + command + " >/dev/null 2>&1").c_str()), 0) << command;
    }
    std::string bytes(const std::string& image) {
        shell("qemu-img convert -f qcow2 -O raw " + image + " bytes.raw");
        return read(root + "/bytes.raw");
    }
    /// The bitmaps that QEMU has, those that record with a '+'.
    std::set<std::string> bitmaps() {
        std::set<std::string> names;
        for (const auto& node : ask("query-named-block-nodes", {{"flat", true}}))
            for (const auto& each : qemu::member(node, "dirty-bitmaps"))
                names.insert(qemu::text(each, "name") + (qemu::flag(each, "recording") ? "+" : ""));
        return names;
    }
    Checkpoints& checkpoints() { return get_web()->checkpoints(); }
    std::set<std::string> names() {
        std::set<std::string> all;
        for (const auto* view : checkpoints().list()) all.insert(view->name + (view->current ? "+" : ""));
        return all;
    }
    void checkpoint(const std::string& name, const std::string& more = {}) {
        finish(checkpoints()
                   .create("<domaincheckpoint><name>" + name + "</name>" + more + "</domaincheckpoint>", {}, caller)
                   .job);
    }
    void drop(const std::string& name, MomentDeleteOptions options = {}) {
        finish(checkpoints().remove(name, options, caller));
    }
    static std::string named(const std::string& name) {
        return "<domaincheckpoint><name>" + name + "</name></domaincheckpoint>";
    }
    JobPtr backup(const std::string& inside, const std::string& checkpoint = {}, const std::string& mode = "push") {
        BackupOptions options;
        options.checkpoint = checkpoint.empty() ? "" : named(checkpoint);
        return get_web()->backups().begin("<domainbackup mode='" + mode + "'>" + inside + "</domainbackup>", options,
                                          caller);
    }
    void push(const std::string& file, const std::string& since = {}, const std::string& checkpoint = {}) {
        const auto more = since.empty() ? std::string{} : "<incremental>" + since + "</incremental>";
        finish(backup(more + "<disks><disk name='vda'><target file='" + root + '/' + file + "'/></disk></disks>",
                      checkpoint));
    }
    /// What the guest sees now.
    std::string disk_now() {
        std::filesystem::remove(root + "/now.qcow2");
        push("now.qcow2");
        return bytes("now.qcow2");
    }
    void serving(const JobPtr& job) {
        ASSERT_TRUE(until([&] { return job->finished() || job->view().phase == "serving"; }));
        ASSERT_FALSE(job->finished()) << job->view().error_message;
    }

    static std::string disk(const std::string& target, const std::string& format, const std::string& source,
                            const std::string& type = "file", const std::string& more = {}) {
        return "<disk type='" + type + "' device='disk'><driver name='qemu' type='" + format + "'/><source " + source +
               "/><target dev='" + target + "' bus='virtio'/>" + more + "</disk>";
    }
    std::string file(const std::string& name) const { return "file='" + root + '/' + name + "'"; }

    std::string more_, disks_;  ///< of the definition
    std::unique_ptr<systemd::PlainUnits> plain_;
    std::optional<qemu::QemuDriver> qemu_;
    std::unique_ptr<qemu::Monitor> monitor_;
};

}  // namespace virtbus::tests
