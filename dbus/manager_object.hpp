// SPDX-License-Identifier: LGPL-2.1-or-later
// The service itself on the bus: translates between org.virtbus1.Manager and service/domains and service/networks,
// decides nothing.
#pragma once

#include "dbus/manager_interface.hpp"
#include "dbus/server/interface.hpp"
#include "service/domains.hpp"
#include "service/jobs.hpp"
#include "service/networks.hpp"

namespace virtbus::dbus {

class ManagerObject final : public Kind, public ManagerMethods {
public:
    ManagerObject(Domains& domains, Networks& networks, Jobs& jobs, std::string version, bool system_mode);

    const Interface& interface() const override { return manager_interface; }
    void* handler() override { return static_cast<ManagerMethods*>(this); }
    const void* find(const Keys& keys) const override;
    void list(const Keys& parents, const std::function<void(std::string_view, const void*)>& each) const override;

    Subject subject(const Call& call) override;
    Subject subject_of_name(const Call& call, const std::string& name) override;
    Subject subject_of_xml(const Call& call, const std::string& xml) override;
    Subject subject_of_network_name(const Call& call, const std::string& name) override;
    Subject subject_of_network_xml(const Call& call, const std::string& xml) override;

    using Row = std::tuple<ObjectPath, std::string, std::string, std::string, bool>;
    Task<std::vector<Row>> list_domains(Call& call, ManagerListDomainsOptions options) override;
    Task<ObjectPath> get_domain(Call& call, std::string name_or_uuid) override;
    Task<ObjectPath> define_domain(Call& call, std::string xml, ManagerDefineDomainOptions options) override;
    Task<ObjectPath> create_domain(Call& call, std::string xml, ManagerCreateDomainOptions options) override;
    Task<ManagerRestoreDomainResult> restore_domain(Call& call, std::vector<std::string> actions, std::string file,
                                                    ManagerRestoreDomainOptions options) override;
    Task<Dictionary> check_domain(Call& call, std::string xml, ManagerCheckDomainOptions options) override;
    Task<std::vector<std::pair<ObjectPath, Dictionary>>> get_stats(Call& call, ManagerGetStatsOptions options) override;
    using Orphan = std::tuple<std::string, std::string, std::uint64_t>;
    Task<std::vector<Orphan>> list_orphaned_nvram(Call& call) override;
    Task<> delete_orphaned_nvram(Call& call, std::string path) override;
    Task<std::string> get_capabilities(Call& call, std::string driver) override;
    Task<std::string> get_domain_capabilities(Call& call, ManagerGetDomainCapabilitiesOptions options) override;

    using NetworkRow = std::tuple<ObjectPath, std::string, std::string, bool, bool>;
    Task<std::vector<NetworkRow>> list_networks(Call& call) override;
    Task<ObjectPath> get_network(Call& call, std::string name_or_uuid) override;
    Task<ObjectPath> define_network(Call& call, std::string xml, ManagerDefineNetworkOptions options) override;
    Task<ObjectPath> create_network(Call& call, std::string xml, ManagerCreateNetworkOptions options) override;

private:
    Domains& domains_;
    Networks& networks_;
    Jobs& jobs_;
    ManagerView view_;
};

}  // namespace virtbus::dbus
