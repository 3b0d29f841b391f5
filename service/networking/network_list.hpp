// SPDX-License-Identifier: LGPL-2.1-or-later
// NetworkList: the Networks of networks.hpp. It knows which networks exist, keeps names, UUIDs and bridges unique while
// many define at once, loads what is on disk and takes up what is active. What one does is virtual_network.hpp's work.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "service/networking/network_context.hpp"
#include "service/networking/virtual_network.hpp"
#include "service/networks.hpp"

namespace virtbus {

class NetworkList final : public Networks, public NetworkDirectory {
public:
    explicit NetworkList(NetworkContext& context) : context_{context} {}

    // ---- Networks
    NetworkPtr find(std::string_view uuid) const override;
    NetworkPtr find_by_name(std::string_view name) const override;
    NetworkPtr get(std::string_view name_or_uuid) const override;
    std::vector<NetworkPtr> list() const override;
    std::size_t size() const override;
    Identity identify(std::string_view xml) const override;
    Task<NetworkPtr> define(std::string xml, bool strict, Caller caller) override;
    Task<NetworkPtr> create(std::string xml, bool strict, Caller caller) override;

    // ---- NetworkDirectory
    void require_no_overlap(const NetworkConfig& config, const VirtualNetwork& but) const override;
    Task<NetworkConfig> with_bridge(VirtualNetworkPtr network, NetworkConfig config) override;
    void remove(VirtualNetwork& network) override;

    // ---- for the links of guests
    VirtualNetworkPtr network(std::string_view uuid) const;
    VirtualNetworkPtr network_by_name(std::string_view name) const;

    // ---- at start
    /// Definitions, then the active networks of this boot: takes them up side by side and waits a bounded time for
    /// them.
    Task<> load();
    /// All guests of an earlier daemon are known: places that none of them has are given up.
    Task<> guests_are_known();
    /// Starts those marked so, once per boot, a few at a time.
    Task<> autostart();
    bool any_active() const;
    /// Forgets all of them; they go on. For process exit.
    void forget();

private:
    /// A network with its lane held: the one that is there, or a new one that nobody sees yet.
    struct Place {
        VirtualNetworkPtr network;
        Lane::Hold hold;
        bool made = false;
    };
    NetworkConfig read(std::string_view xml, bool strict) const;
    Task<NetworkPtr> run(std::string verb, NetworkConfig config, Caller caller);
    Task<> do_define(JobPtr job, NetworkConfig config, std::shared_ptr<NetworkPtr> result);
    Task<> do_create(JobPtr job, NetworkConfig config, std::shared_ptr<NetworkPtr> result);
    Task<Place> claim(JobPtr job, const NetworkConfig& config, Lane::Subject subject);
    void require_no_other(const NetworkConfig& config) const;
    std::string owner_of_bridge(const std::string& name, const VirtualNetwork& but) const;
    VirtualNetworkPtr make(const std::string& uuid, const std::string& name);

    void load_definition(const NetworkStore::DefinitionFile& file, bool autostart);
    void load_broken(const NetworkStore::DefinitionFile& file, const std::string& problem);
    Task<> load_states();
    Task<> move_old_states();
    Task<> move_old_state(NetworkStore::StateFile file, std::vector<std::string> bridges);
    Task<> take_up(NetworkStore::StateFile file);

    NetworkContext& context_;
    std::map<std::string, VirtualNetworkPtr, std::less<>> by_uuid_;
    std::unordered_map<std::string, VirtualNetwork*> by_name_;
    bool guests_known_ = false;
};

}  // namespace virtbus
