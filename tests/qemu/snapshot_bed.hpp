// SPDX-License-Identifier: LGPL-2.1-or-later
// The whole service with the QEMU driver and a domain of two small disks, whose content can be written and seen from
// outside. Asserts nothing.
#pragma once

#include <gtest/gtest.h>

#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include "plain_units.hpp"
#include "qemu/driver.hpp"
#include "tests/service/world.hpp"

namespace virtbus::tests {

inline int shell(const std::string& command) {
    return std::system((command + " >/dev/null 2>&1").c_str());  // NOLINT: the paths are the test's own
}

/// A service with the QEMU driver; one domain "web" with two small disks.
class QemuSnapshots : public World {
protected:
    static constexpr std::size_t cells = 4, cell = 65536;  ///< what is looked at: the first bytes of each disk

    QemuSnapshots() : qemu_ports_{make_ports()} {
        boot();
        for (const auto* disk : {"a", "b"}) {
            ASSERT_TRUE_(shell("qemu-img create -f qcow2 " + image(disk) + " 1M") == 0);
            put(image(disk), 0, 1);
        }
    }
    ~QemuSnapshots() override {
        if (!room) boot();
        if (auto domain = room->domains().find(uuid_of("web")); domain && is_active(domain->view().state))
            finish(domain->stop({}, caller));
        room.reset();
    }
    static void ASSERT_TRUE_(bool ok) {
        if (!ok) throw std::runtime_error{"the test's images cannot be made"};
    }

    void boot() {
        room.reset();
        audience.told.clear();
        qemu_.reset();
        qemu_ = std::make_unique<qemu::QemuDriver>(qemu_ports_, times);
        patience.kill = Duration{10'000};
        patience.verb = Duration{20'000};
        patience.adopt = Duration{20'000};
        room.emplace(qemu_ports_, std::vector<HypervisorDriver*>{qemu_.get()}, nullptr, nullptr, callers, audience,
                     patience);
        run(room->load());
    }

    qemu::GuestTimes times;
    std::string image(const std::string& name) const { return root + "/" + name + ".qcow2"; }
    /// Writes a value into one cell of an image that nobody uses.
    static void put(const std::string& path, std::size_t at, unsigned value) {
        ASSERT_TRUE_(shell("qemu-io -f qcow2 -c 'write -P " + std::to_string(value) + " " + std::to_string(at * cell) +
                           " " + std::to_string(cell) + "' " + path) == 0);
    }
    /// What the guest would see there: the values of the cells; 256 for a cell that holds different bytes.
    std::vector<unsigned> seen(const std::string& path) const {
        const auto raw = root + "/seen.raw";
        ASSERT_TRUE_(shell("qemu-img convert -U -O raw " + path + " " + raw) == 0);
        const auto bytes = read(raw);
        std::vector<unsigned> values;
        for (std::size_t i = 0; i < cells; ++i) {
            const auto part = bytes.substr(i * cell, cell);
            const bool same = part.find_first_not_of(part[0]) == part.npos && part.size() == cell;
            values.push_back(same ? static_cast<unsigned char>(part[0]) : 256);
        }
        return values;
    }
    using Cells = std::vector<unsigned>;

    DomainPtr define_web(const std::string& more = {}) {
        std::string disks;
        for (const auto* disk : {"a", "b"})
            disks += "<disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='" + image(disk) +
                     "'/><target dev='vd" + disk + "' bus='virtio'/></disk>";
        return define("<domain type='qemu'><name>web</name><uuid>" + uuid_of("web") +
                      "</uuid><memory unit='MiB'>64</memory><os><type arch='x86_64' machine='q35'>hvm</type></os>" +
                      more + "<devices>" + disks + "<memballoon model='none'/></devices></domain>");
    }
    DomainPtr web() { return get("web"); }
    void start(bool paused = true) {
        StartOptions options;
        options.paused = paused;
        finish(web()->start(options, caller));
    }
    void stop() { finish(web()->stop({}, caller)); }
    void take(const std::string& name, SnapshotCreateOptions options = {}, const std::string& inner = {}) {
        finish(web()
                   ->snapshots()
                   .create("<domainsnapshot><name>" + name + "</name>" + inner + "</domainsnapshot>", options, caller)
                   .job);
    }
    void take_outside(const std::string& name) { take(name, {.disk_only = true}); }
    void remove(const std::string& name, MomentDeleteOptions options = {}) {
        finish(web()->snapshots().remove(name, options, caller));
    }
    void revert(const std::string& name, RevertOptions options = {}) {
        finish(web()->snapshots().revert(name, options, caller));
    }
    /// What the disk writes to.
    std::string top(const std::string& target) {
        for (const auto& disk : web()->view().disks) {
            std::string name, source;
            for (const auto& [field, value] : disk) {
                if (field == "target") name = std::get<std::string>(value);
                if (field == "source") source = std::get<std::string>(value);
            }
            if (name == target) return source;
        }
        return {};
    }
    std::vector<std::string> names() {
        std::vector<std::string> list;
        for (const auto* view : web()->snapshots().list()) list.push_back(view->name);
        return list;
    }
    const SnapshotView& snapshot(const std::string& name) { return web()->snapshots().get(name); }
    std::vector<std::string> tags(const std::string& path) const {
        std::vector<std::string> found;
        const auto list = root + "/tags";
        ASSERT_TRUE_(std::system(("qemu-img snapshot -U -l " + path + " > " + list).c_str()) == 0);
        std::istringstream lines{read(list)};
        for (std::string line; std::getline(lines, line);) {
            std::istringstream words{line};
            std::string number, tag;
            words >> number >> tag;
            if (!number.empty() && std::isdigit(static_cast<unsigned char>(number[0]))) found.push_back(tag);
        }
        return found;
    }

private:
    Ports make_ports() {
        const char* launcher = std::getenv("VIRTBUS_LAUNCHER");
        if (!launcher) throw std::runtime_error{"VIRTBUS_LAUNCHER must name virtbus-launch"};
        plain_units_ = std::make_unique<systemd::PlainUnits>(host.loop, launcher, std::nullopt);
        return Ports{host.loop, clock,         host.outside_workers, files,          host.spawner,
                     log,       *plain_units_, ports->folders,       ports->boot_id, false};
    }
    std::unique_ptr<systemd::PlainUnits> plain_units_;
    Ports qemu_ports_;
    std::unique_ptr<qemu::QemuDriver> qemu_;
};

}  // namespace virtbus::tests
