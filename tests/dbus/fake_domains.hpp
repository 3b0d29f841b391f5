// SPDX-License-Identifier: LGPL-2.1-or-later
// For tests: domains that keep what they are told and tell the audience, with real jobs around.
#pragma once

#include <fmt/format.h>

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "service/audience.hpp"
#include "service/domains.hpp"
#include "service/jobs.hpp"
#include "tests/dbus/fake_moments.hpp"
#include "virtbus/error.hpp"

namespace virtbus::dbus {

class FakeDomain final : public Domain {
public:
    FakeDomain(Jobs& jobs, Audience& audience, Loop& loop, DomainView view)
        : jobs_{jobs}, audience_{audience}, loop_{loop}, view_{std::move(view)} {}

    const DomainView& view() const override { return view_; }
    std::string xml(XmlOptions options) const override {
        return fmt::format("<domain inactive='{}' secure='{}' migratable='{}'/>", options.inactive, options.secure,
                           options.migratable);
    }
    std::vector<std::string> unknown() const override { return {}; }

    /// Changes the view and tells.
    void change(const std::function<void(DomainView&)>& how) {
        const DomainView before = view_;
        how(view_);
        audience_.domain_changed(*this, before);
    }

    JobPtr start(StartOptions o, Caller caller) override {
        auto job = verb(
            "start", "domain.start", caller,
            fmt::format("{} {} {} {} {}", o.paused, o.autodestroy, o.bypass_cache, o.force_boot, o.reset_nvram), true);
        return job;
    }
    JobPtr stop(StopOptions o, Caller caller) override {
        return verb("stop", "domain.stop", caller, fmt::format("{}", o.graceful), true);
    }
    JobPtr shutdown(ShutdownMode mode, Caller caller) override { return verb("shutdown", "domain.stop", caller, mode); }
    JobPtr reboot(ShutdownMode mode, Caller caller) override { return verb("reboot", "domain.stop", caller, mode); }
    JobPtr reset(Caller caller) override { return verb("reset", "domain.stop", caller); }
    JobPtr suspend(Caller caller) override { return verb("suspend", "domain.stop", caller); }
    JobPtr resume(Caller caller) override { return verb("resume", "domain.start", caller); }
    JobPtr inject_nmi(Caller caller) override { return verb("inject-nmi", "domain.stop", caller); }
    JobPtr save(std::string file, SaveOptions o, Caller caller) override {
        return verb("save", "domain.save", caller,
                    fmt::format("{} {} {} {} {} {}", file, o.xml, o.running, o.paused, o.bypass_cache, o.compression),
                    true);
    }
    JobPtr managed_save(SaveOptions o, Caller caller) override {
        return verb("managed-save", "domain.save", caller,
                    fmt::format("{} {} {} {}", o.running, o.paused, o.bypass_cache, o.compression), true);
    }
    JobPtr remove_managed_save(Caller caller) override { return verb("remove-managed-save", "domain.save", caller); }
    JobPtr set_autostart(bool autostart, Caller caller) override {
        return verb("set-autostart", "domain.configure", caller, fmt::format("{}", autostart));
    }
    JobPtr undefine(UndefineOptions o, Caller caller) override {
        return verb("undefine", "domain.delete", caller,
                    fmt::format("{} {} {} {} {} {} {}", o.managed_save, o.snapshots_metadata, o.checkpoints_metadata,
                                o.nvram, o.keep_nvram, o.tpm, o.keep_tpm));
    }
    JobPtr rename(std::string name, Caller caller) override { return verb("rename", "domain.configure", caller, name); }
    JobPtr set_metadata(std::string kind, std::string uri, std::string key, std::string value, ChangeScope scope,
                        Caller caller) override {
        return verb("set-metadata", "domain.configure", caller,
                    fmt::format("{} {} {} {} {}", kind, uri, key, value, static_cast<int>(scope)));
    }
    std::string metadata(std::string kind, std::string uri, ChangeScope scope) const override {
        return fmt::format("{} {} {}", kind, uri, static_cast<int>(scope));
    }
    JobPtr set_memory(std::uint64_t bytes, ChangeScope scope, bool maximum, Caller caller) override {
        return verb("set-memory", "domain.configure", caller,
                    fmt::format("{} {} {}", bytes, static_cast<int>(scope), maximum));
    }
    JobPtr set_vcpus(std::uint32_t count, ChangeScope scope, bool maximum, Caller caller) override {
        return verb("set-vcpus", "domain.configure", caller,
                    fmt::format("{} {} {}", count, static_cast<int>(scope), maximum));
    }
    JobPtr attach_device(std::string xml, ChangeScope scope, bool force, Caller caller) override {
        return verb("attach-device", "domain.configure", caller,
                    fmt::format("{} {} {}", xml, static_cast<int>(scope), force));
    }
    JobPtr detach_device(std::string xml, ChangeScope scope, bool force, Caller caller) override {
        return verb("detach-device", "domain.configure", caller,
                    fmt::format("{} {} {}", xml, static_cast<int>(scope), force));
    }
    JobPtr update_device(std::string xml, ChangeScope scope, bool force, Caller caller) override {
        return verb("update-device", "domain.configure", caller,
                    fmt::format("{} {} {}", xml, static_cast<int>(scope), force));
    }
    FakeSnapshots& snapshots() override { return snapshots_; }
    FakeCheckpoints& checkpoints() override { return checkpoints_; }
    FakeBackups& backups() override { return backups_; }
    Task<TimedStats> stats(std::vector<std::string> groups) override {
        TimedStats found;
        found.values["cpu.time"] = std::uint64_t{groups.size()};
        found.timestamp = 42;
        co_return found;
    }
    Task<> send_key(std::vector<std::string> keys) override {
        said = fmt::format("send-key {}", keys.size());
        co_return;
    }
    Task<Screenshot> screenshot(std::uint32_t screen) override {
        if (screen) throw Error{Code::no_such_device, "there is one screen"};
        co_return Screenshot{"not really a PNG"};
    }
    Task<Fd> open_console(std::string name, bool force) override {
        said = fmt::format("open-console {} {}", name, force);
        int ends[2];
        if (::pipe(ends) < 0) throw Error{Code::internal, "no pipe"};
        ::close(ends[1]);
        co_return Fd{ends[0]};
    }
    Task<Fd> open_display(std::string type) override {
        throw Error{Code::no_such_device, fmt::format("no display of type '{}'", type)};
        co_return Fd{};
    }

    std::string said;  ///< the last verb and its arguments
    Caller asked_by;
    bool held = false;  ///< verbs wait for `release` or their stop token
    std::vector<Reply<>::Promise> release;
    bool fails = false;

private:
    JobPtr verb(const std::string& operation, const std::string& action, const Caller& caller,
                const std::string& arguments = "", bool publish_now = false) {
        said = arguments.empty() ? operation : operation + " " + arguments;
        asked_by = caller;
        return jobs_.run({operation, {view_.uuid}, {}, action, caller, publish_now},
                         [this](JobPtr job) { return work(job); });
    }
    Task<> work(JobPtr job) {
        if (held) {
            Reply<> reply{loop_};
            release.push_back(reply.promise());
            co_await reply.wait("the test", std::nullopt, job->stop());
        }
        if (fails) throw Error{Code::hypervisor_failed, "it broke"};
    }

    Jobs& jobs_;
    Audience& audience_;
    Loop& loop_;
    DomainView view_;
    FakeSnapshots snapshots_{jobs_, said};
    FakeCheckpoints checkpoints_{jobs_, said};
    FakeBackups backups_{jobs_, loop_, said};
};

class FakeDomains final : public Domains {
public:
    FakeDomains(Jobs& jobs, Audience& audience, Loop& loop) : jobs_{jobs}, audience_{audience}, loop_{loop} {}

    /// A domain with the number in its uuid.
    FakeDomain& add(unsigned number, State state = State::shutoff) {
        DomainView view;
        view.name = fmt::format("domain-{}", number);
        view.uuid = fmt::format("00000000-0000-4000-8000-{:012x}", number);
        view.driver = view.type = "test";
        view.state = state;
        view.state_reason = "unknown";
        view.persistent = true;
        view.arch = "x86_64";
        view.machine = "pc-q35-7.2";
        view.os_type = "hvm";
        view.vcpus = view.max_vcpus = 2;
        view.memory = view.max_memory = std::uint64_t{1} << 30;
        view.disks = {{{"target", std::string{"vda"}},
                       {"bus", std::string{"virtio"}},
                       {"device", std::string{"disk"}},
                       {"source", fmt::format("/var/lib/images/{}.qcow2", number)},
                       {"format", std::string{"qcow2"}},
                       {"capacity", std::uint64_t{10} << 30}}};
        view.interfaces = {{{"mac", std::string{"52:54:00:00:00:01"}}, {"type", std::string{"network"}}}};
        auto domain = std::make_shared<FakeDomain>(jobs_, audience_, loop_, view);
        domains_[view.uuid] = domain;
        audience_.domain_added(*domain);
        return *domain;
    }
    void remove(const std::string& uuid) {
        const DomainView last = domains_.at(uuid)->view();
        domains_.erase(uuid);
        audience_.domain_removed(last);
    }

    DomainPtr find(std::string_view uuid) const override {
        const auto found = domains_.find(uuid);
        return found == domains_.end() ? nullptr : found->second;
    }
    DomainPtr find_by_name(std::string_view name) const override {
        for (const auto& [uuid, domain] : domains_)
            if (domain->view().name == name) return domain;
        return nullptr;
    }
    DomainPtr get(std::string_view name_or_uuid) const override {
        if (auto domain = find_by_name(name_or_uuid)) return domain;
        if (auto domain = find(name_or_uuid)) return domain;
        throw Error{Code::no_such_domain, fmt::format("there is no domain '{}'", name_or_uuid)};
    }
    std::vector<DomainPtr> list(std::string_view after, std::size_t limit) const override {
        std::vector<DomainPtr> found;
        for (auto at = domains_.upper_bound(after); at != domains_.end() && (!limit || found.size() < limit); ++at)
            found.push_back(at->second);
        return found;
    }
    std::size_t size() const override { return domains_.size(); }
    Identity identify(std::string_view xml) const override {
        if (xml.empty()) throw Error{Code::invalid_xml, "the document is empty"};
        return {std::string{xml}, "", "test"};
    }
    Task<DomainPtr> define(std::string, DefineOptions, Caller) override { co_return add_next(); }
    Task<DomainPtr> create(std::string, CreateOptions options, Caller) override {
        created = options;
        co_return add_next();
    }
    Task<SavedDomainPtr> open_saved(std::string file, Caller) override {
        if (file != "/saved" && file != "/foreign") throw Error{Code::unsupported, file + " is no save image"};
        auto saved = std::make_shared<SavedDomain>();
        const auto& view = domains_.begin()->second->view();
        saved->name = view.name;
        saved->uuid = view.uuid;
        saved->driver = view.driver;
        saved->sealed = file == "/saved";
        co_return saved;
    }
    JobPtr restore(SavedDomainPtr saved, RestoreOptions o, Caller caller) override {
        restored = fmt::format("{} {} {} {} {}", o.xml, o.running, o.paused, o.bypass_cache, o.reset_nvram);
        return find(saved->uuid)->start({}, caller);
    }
    std::string restored;  ///< the options of the last restore
    Task<CheckResult> check(std::string xml, bool runnable) override {
        co_return CheckResult{std::move(xml), {"unknown"}, {}, {"argv", runnable ? "runnable" : "real"}};
    }
    Task<std::map<std::string, TimedStats>> stats(std::vector<std::string> groups, std::vector<std::string>) override {
        std::map<std::string, TimedStats> all;
        for (const auto& [uuid, domain] : domains_) all[uuid] = co_await domain->stats(groups);
        co_return all;
    }
    Task<std::vector<OrphanedStore>> orphaned_nvram() override {
        co_return std::vector<OrphanedStore>{{"/state/nvram/a", "web", 131072}};
    }
    Task<> delete_orphaned_nvram(std::string) override { co_return; }
    std::vector<std::string> drivers() const override { return {"test"}; }
    Task<std::string> capabilities(std::string driver) override {
        if (driver != "test") throw Error{Code::unsupported, "no such driver"};
        co_return "<capabilities/>";
    }
    Task<std::string> domain_capabilities(std::string driver, std::string emulator, std::string arch,
                                          std::string machine) override {
        co_return fmt::format("{} {} {} {}", driver, emulator, arch, machine);
    }

    CreateOptions created;

private:
    DomainPtr add_next() { return find(add(static_cast<unsigned>(domains_.size()) + 1).view().uuid); }

    Jobs& jobs_;
    Audience& audience_;
    Loop& loop_;
    std::map<std::string, std::shared_ptr<FakeDomain>, std::less<>> domains_;
};

}  // namespace virtbus::dbus
