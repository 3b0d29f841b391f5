// SPDX-License-Identifier: LGPL-2.1-or-later
// A running QEMU without a guest system, whose disks are written to and read by QEMU's own commands, and which one
// daemon after the other takes up, each with what was on record at some moment.
#pragma once

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <nlohmann/json.hpp>

#include "qemu/block/disk_parts.hpp"
#include "qemu/block/disk_work.hpp"
#include "qemu/json.hpp"
#include "qemu/starter.hpp"
#include "tests/qemu/qemu_bed.hpp"

namespace virtbus::tests {

using nlohmann::json;

/// What was on record whenever the guest told of a change.
struct Record {
    DomainConfig config;
    std::string state;
};

struct BlockEvents final : GuestEvents {
    qemu::GuestCore* core = nullptr;
    std::vector<Record> told;
    std::vector<std::string> states;

    void state_changed(State state, std::string reason) override {
        states.push_back(std::string{word(state)} + " " + reason);
    }
    void ended(GuestEnd) override { states.emplace_back("ended"); }
    void rebooted() override {}
    void config_changed(DomainConfig changed) override {
        if (core) told.push_back({std::move(changed), core->record.text()});
    }
    void responsive_changed(bool) override {}
    void device_added(std::string) override {}
    void device_removed(std::string) override {}
    void device_removal_failed(std::string) override {}
    void io_error(std::string, std::string, std::string) override {}
    void watchdog_fired(std::string) override {}
    void agent_changed(bool) override {}
};

class BlockGuest : public ::testing::Test {
public:
    std::string path(const std::string& name) const { return bed.host.folder.path() + "/" + name; }
    void shell(const std::string& command) const {
        ASSERT_EQ(std::system(fmt::format("cd {} && {} >/dev/null", bed.host.folder.path(), command).c_str()), 0)
            << command;
    }
    /// `number` MiB in it has that byte.
    std::string make_image(const std::string& name, unsigned number, const std::string& below = {}) const {
        shell(fmt::format("qemu-img create -q -f qcow2 {} {} 8M && qemu-io -c 'write -P {} {}M 1M' {}",
                          below.empty() ? "" : "-F qcow2 -b " + path(below), name, number, number, name));
        return path(name);
    }
    std::string make_overlay(const std::string& name, const std::string& below) const {
        shell(fmt::format("qemu-img create -q -f qcow2 -F qcow2 -b {} {} 8M", path(below), name));
        return path(name);
    }
    static Disk disk(const std::string& file, const std::string& target = "vda", const std::string& bus = "virtio") {
        Disk made;
        made.target.dev = target;
        made.target.bus = bus;
        made.driver.emplace().type = "qcow2";
        made.driver->discard = "unmap";
        made.source.emplace().file = file;
        return made;
    }
    void start(std::vector<Disk> disks, bool paused = false) {
        auto config = QemuBed::bare("blocks");
        auto& controller = config.devices.controllers.emplace_back();
        controller.type = ControllerType::scsi;
        controller.index = 0;
        controller.model = "virtio-scsi";
        config.devices.disks = std::move(disks);
        prepare(config);
        Notes notes;
        auto guest = bed.start(std::move(config), notes, paused);
        const Record record{guest->config(), guest->driver_state()};
        guest.reset();
        adopt(record);
    }
    virtual void prepare(DomainConfig&) {}
    /// The daemon that looked after it is gone; another one knows only what is in `record`.
    void adopt(Record record) {
        leave();
        GuestEnd end;
        core = bed.run(qemu::adopt_guest(bed.host.ports, scope, bed.times,
                                         std::make_shared<const qemu::HelperPrograms>(), std::move(record.config),
                                         qemu::GuestRecord::from_text(record.state), events, end));
        ASSERT_TRUE(core);
        events.core = core.get();
    }
    void leave() {
        events.core = nullptr;
        if (core) core->detach();
        core.reset();
    }
    Record on_record() const { return {core->config, core->record.text()}; }
    json qmp(const char* command, const json& arguments = json::object()) {
        return bed.run(core->open_monitor().execute(command, arguments, in(Duration{60000})));
    }
    /// QEMU says on its output, and so in its log, what came of it: end() looks there.
    void io(const std::string& command, const std::string& alias) {
        const auto device =
            alias.starts_with("virtio") ? fmt::format("/machine/peripheral/{}/virtio-backend", alias) : alias;
        const auto refusal =
            qmp("human-monitor-command", {{"command-line", fmt::format("qemu-io -d {} \"{}\"", device, command)}});
        EXPECT_EQ(refusal, "") << command;
    }
    void expect_bytes(unsigned number, unsigned at, const std::string& alias = "virtio-disk0") {
        io(fmt::format("read -P {} {}M 1M", number, at), alias);
        ++reads;
    }
    void write(unsigned number, unsigned at, const std::string& alias = "virtio-disk0") {
        io(fmt::format("write -P {} {}M 1M", number, at), alias);
        ++writes;
    }
    /// Nodes and sets that QEMU has, without the numbers they have by chance.
    std::pair<std::size_t, std::size_t> inventory() {
        return {qmp("query-named-block-nodes", {{"flat", true}}).size(), qmp("query-fdsets").size()};
    }
    std::string top(std::size_t number = 0) const { return core->config.devices.disks.at(number).source->file; }
    void put(std::vector<NewOverlay> overlays) {
        bed.run(qemu::put_overlays(core, std::move(overlays), bed.resources, {}));
    }
    template <class F>
    std::pair<Code, std::string> refusal(F work) {
        try {
            work();
        } catch (const Error& error) {
            return {error.code(), error.what()};
        }
        return {Code::internal, "it was not refused"};
    }
    std::string backing_of(const std::string& name) const {
        const auto file = path("info.json");
        EXPECT_EQ(std::system(fmt::format("qemu-img info -U --output=json {} >{}", path(name), file).c_str()), 0);
        std::ifstream in{file};
        const auto info = json::parse(in);
        return qemu::text(info, "backing-filename") + " " + qemu::text(info, "backing-filename-format");
    }
    bool heard(const std::string& state) const {
        return std::find(events.states.begin(), events.states.end(), state) != events.states.end();
    }
    /// Ends QEMU as its own command does: all is written. What was read and written in its life went well.
    void end() {
        qmp("quit");
        bed.run_until([&] { return core->is_gone(); });
        std::ifstream in{core->record.log};
        const std::string log{std::istreambuf_iterator<char>{in}, {}};
        const auto count = [&](std::string_view words) {
            unsigned found = 0;
            for (auto at = log.find(words); at != log.npos; at = log.find(words, at + 1)) ++found;
            return found;
        };
        EXPECT_EQ(count("read 1048576/1048576"), reads) << log;
        EXPECT_EQ(count("wrote 1048576/1048576"), writes) << log;
        EXPECT_EQ(count("verification failed"), 0U) << log;
    }
    void TearDown() override { leave(); }

    QemuBed bed;
    Scope scope;
    BlockEvents events;
    unsigned reads = 0, writes = 0;
    std::shared_ptr<qemu::GuestCore> core;
};

}  // namespace virtbus::tests
