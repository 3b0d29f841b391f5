// SPDX-License-Identifier: LGPL-2.1-or-later
// For tests: snapshots, checkpoints and backups of a domain that keep what they are told.
#pragma once

#include <fmt/format.h>

#include <map>
#include <string>
#include <vector>

#include "service/audience.hpp"
#include "service/checkpoints.hpp"
#include "service/domain.hpp"
#include "service/jobs.hpp"
#include "virtbus/error.hpp"

namespace virtbus::dbus {

class FakeSnapshots final : public Snapshots {
public:
    FakeSnapshots(Jobs& jobs, std::string& said) : jobs_{jobs}, said_{said} {}

    SnapshotView& add(const std::string& domain, const std::string& name, const std::string& parent = "") {
        SnapshotView& view = views[name];
        view.name = name;
        view.domain = domain;
        view.parent = parent;
        view.state = "running";
        view.creation_time = 1'700'000'000'000'000;
        view.has_domain_xml = true;
        if (!parent.empty()) views[parent].children.push_back(name);
        return view;
    }
    std::map<std::string, SnapshotView, std::less<>> views;

    const SnapshotView* find(std::string_view name) const override {
        const auto found = views.find(name);
        return found == views.end() ? nullptr : &found->second;
    }
    const SnapshotView& get(std::string_view name) const override {
        if (const auto* found = find(name)) return *found;
        throw Error{Code::no_such_snapshot, fmt::format("there is no snapshot '{}'", name)};
    }
    std::vector<const SnapshotView*> list() const override {
        std::vector<const SnapshotView*> all;
        for (const auto& [name, view] : views) all.push_back(&view);
        return all;
    }
    Task<std::string> xml(std::string name, bool secure) override {
        co_return fmt::format("<snapshot name='{}' secure='{}'/>", name, secure);
    }
    MomentJob create(std::string xml, SnapshotCreateOptions o, Caller) override {
        said_ = fmt::format("create {} {} {} {} {} {} {} {} {} {} {}", xml, o.redefine, o.current, o.no_metadata,
                            o.halt, o.disk_only, o.reuse_external, o.quiesce, o.atomic, o.live, o.validate);
        return {"a new/one", job("create-snapshot")};
    }
    JobPtr revert(std::string name, RevertOptions o, Caller) override {
        said_ = fmt::format("revert {} {} {} {} {} {}", name, o.running, o.paused, o.force, o.reset_nvram, o.no_undo);
        return job("revert");
    }
    JobPtr remove(std::string name, MomentDeleteOptions o, Caller) override {
        said_ = fmt::format("remove {} {} {} {}", name, o.children, o.children_only, o.metadata_only);
        return job("delete-snapshot");
    }
    Task<std::string> export_all() override { co_return exported; }
    Task<std::vector<std::string>> import_all(std::string document, Caller) override {
        said_ = fmt::format("import {} {}", document.size(), document.substr(0, 32));
        co_return std::vector<std::string>{"one", "two"};
    }
    std::string exported = "<domainsnapshots/>";

private:
    JobPtr job(const char* operation) {
        return jobs_.run({operation, {}, {}, "domain.snapshot", {}, true}, [](JobPtr) -> Task<> { co_return; });
    }
    Jobs& jobs_;
    std::string& said_;
};

class FakeCheckpoints final : public Checkpoints {
public:
    FakeCheckpoints(Jobs& jobs, std::string& said) : jobs_{jobs}, said_{said} {}

    std::map<std::string, CheckpointView, std::less<>> views;
    const CheckpointView* find(std::string_view name) const override {
        const auto found = views.find(name);
        return found == views.end() ? nullptr : &found->second;
    }
    const CheckpointView& get(std::string_view name) const override {
        if (const auto* found = find(name)) return *found;
        throw Error{Code::no_such_checkpoint, fmt::format("there is no checkpoint '{}'", name)};
    }
    std::vector<const CheckpointView*> list() const override {
        std::vector<const CheckpointView*> all;
        for (const auto& [name, view] : views) all.push_back(&view);
        return all;
    }
    Task<std::string> xml(std::string name, CheckpointXmlOptions o) override {
        co_return fmt::format("<checkpoint name='{}'> {} {} {}", name, o.secure, o.no_domain, o.size);
    }
    MomentJob create(std::string xml, CheckpointCreateOptions o, Caller) override {
        said_ = fmt::format("create-checkpoint {} {} {} {}", xml, o.redefine, o.validate_bitmaps, o.quiesce);
        return {"monday", job()};
    }
    JobPtr remove(std::string name, MomentDeleteOptions o, Caller) override {
        said_ = fmt::format("remove-checkpoint {} {} {} {}", name, o.children, o.children_only, o.metadata_only);
        return job();
    }

private:
    JobPtr job() {
        return jobs_.run({"checkpoint", {}, {}, "domain.snapshot", {}, true}, [](JobPtr) -> Task<> { co_return; });
    }
    Jobs& jobs_;
    std::string& said_;
};

/// A backup that is served until it is ended.
class FakeBackups final : public Backups {
public:
    FakeBackups(Jobs& jobs, Loop& loop, std::string& said) : jobs_{jobs}, loop_{loop}, said_{said} {}

    JobPtr begin(std::string xml, BackupOptions o, Caller) override {
        said_ = fmt::format("backup {} {} {}", xml, o.checkpoint, o.reuse_external);
        return jobs_.run({"backup", {}, {}, "domain.backup", {}, true}, [this](JobPtr job) { return work(job); });
    }
    Task<> end(Caller) override {
        if (!promise_) throw Error{Code::invalid_state, "there is no backup"};
        promise_->set();
        promise_.reset();
        co_return;
    }
    std::string xml() const override {
        if (!promise_) throw Error{Code::invalid_state, "there is no backup"};
        return "<domainbackup/>";
    }

private:
    Task<> work(JobPtr job) {
        Reply<> ended{loop_};
        promise_ = ended.promise();
        co_await sleep(loop_, Duration{1}, job->stop());
        job->phase("serving");
        co_await ended.wait("the test", std::nullopt, job->stop());
    }
    Jobs& jobs_;
    Loop& loop_;
    std::string& said_;
    std::optional<Reply<>::Promise> promise_;
};

}  // namespace virtbus::dbus
