// SPDX-License-Identifier: LGPL-2.1-or-later
// Machines: the Domains of domains.hpp. It knows which machines exist, keeps names and UUIDs unique while many define
// at once, loads what is on disk and takes up what runs. What one machine does is machine.hpp's work.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "service/context.hpp"
#include "service/domains.hpp"
#include "service/machine.hpp"

namespace virtbus {

class Machines final : public Domains, public Directory {
public:
    explicit Machines(Context& context) : context_{context} {}

    // ---- Domains
    DomainPtr find(std::string_view uuid) const override;
    DomainPtr find_by_name(std::string_view name) const override;
    DomainPtr get(std::string_view name_or_uuid) const override;
    std::vector<DomainPtr> list(std::string_view after, std::size_t limit) const override;
    std::size_t size() const override;
    Identity identify(std::string_view xml) const override;
    Task<DomainPtr> define(std::string xml, DefineOptions options, Caller caller) override;
    Task<DomainPtr> create(std::string xml, CreateOptions options, Caller caller) override;
    Task<SavedDomainPtr> open_saved(std::string file, Caller caller) override;
    JobPtr restore(SavedDomainPtr saved, RestoreOptions options, Caller caller) override;
    Task<CheckResult> check(std::string xml, bool runnable) override;
    Task<std::map<std::string, TimedStats>> stats(std::vector<std::string> groups,
                                                  std::vector<std::string> states) override;
    std::vector<std::string> drivers() const override { return context_.drivers.names(); }
    Task<std::string> capabilities(std::string driver) override;
    Task<std::string> domain_capabilities(std::string driver, std::string emulator, std::string arch,
                                          std::string machine) override;

    Task<std::vector<OrphanedStore>> orphaned_nvram() override;
    Task<> delete_orphaned_nvram(std::string path) override;

    // ---- Directory
    std::uint32_t next_id() override { return ++last_id_; }
    void reserve_name(const std::string& name, Machine& machine) override;
    void release_name(const std::string& name, Machine& machine) override;
    void require_store_stays(const std::string& path) override;
    std::string holder_of(const std::string& device, const Machine& but) override;
    std::string user_of_image(const std::string& path, const Machine& but) const override;
    std::vector<ImageUse> images_of_others(const Machine& but) const override;
    void remove(Machine& machine) override;

    // ---- at start
    /// Definitions, then the runs of this boot: adopts them side by side and waits a bounded time for them.
    Task<> load();
    /// Puts the links of all that run back where they belong.
    Task<> reconnect();
    /// Starts those marked so, once per boot, a few at a time.
    Task<> autostart();
    bool any_active() const;
    MachinePtr find_machine(std::string_view uuid) const;
    /// Forgets all of them; their guests go on. For process exit.
    void forget();

private:
    struct Wanted {
        DomainConfig config;
        std::vector<std::string> unknown;
    };
    /// A machine with its lane held: the one that is there, or a new one that nobody sees yet.
    struct Place {
        MachinePtr machine;
        Lane::Hold hold;
        bool made = false;
    };
    Wanted read(std::string_view xml, bool strict) const;
    Task<> do_define(JobPtr job, Wanted wanted, std::shared_ptr<MachinePtr> result);
    Task<> do_create(JobPtr job, Wanted wanted, StartOptions options, Caller caller,
                     std::shared_ptr<MachinePtr> result);
    Task<> do_restore(JobPtr job, std::shared_ptr<SavedFile> saved, RestoreOptions options, Caller caller);
    Task<> complete(DomainConfig& config, const Machine* existing) const;
    Task<Place> claim(JobPtr job, const DomainConfig& config);
    void require_no_other(const DomainConfig& config) const;
    MachinePtr make(const std::string& uuid, const std::string& name);
    MachinePtr any(std::string_view uuid) const;
    MachinePtr any_named(std::string_view name) const;

    MachinePtr owner_of_store(const std::string& path) const;

    struct LoadMarks;
    void load_definition(const Store::DefinitionFile& file, const LoadMarks& marks);
    void load_broken(const Store::DefinitionFile& file, const std::string& problem);
    bool refuse_double(const Store::DefinitionFile& file, const std::string& uuid, const std::string& name);
    Task<> load_runs();
    Task<> take_up(LiveStatus status);

    Context& context_;
    std::map<std::string, MachinePtr, std::less<>> by_uuid_;
    std::unordered_map<std::string, Machine*> by_name_;
    std::uint32_t last_id_ = 0;
    std::set<std::string> stores_going_;
};

}  // namespace virtbus
