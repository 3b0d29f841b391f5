// SPDX-License-Identifier: LGPL-2.1-or-later
// A virtual network on the bus: translates between org.virtbus1.Network and service/networks, decides nothing.
#pragma once

#include "dbus/network_interface.hpp"
#include "dbus/server/interface.hpp"
#include "service/jobs.hpp"
#include "service/networks.hpp"

namespace virtbus::dbus {

class NetworkObject final : public Kind, public NetworkMethods {
public:
    NetworkObject(const Networks& networks, Jobs& jobs) : networks_{networks}, jobs_{jobs} {}

    const Interface& interface() const override { return network_interface; }
    void* handler() override { return static_cast<NetworkMethods*>(this); }
    const void* find(const Keys& keys) const override;
    void list(const Keys& parents, const std::function<void(std::string_view, const void*)>& each) const override;

    Subject subject(const Call& call) override;
    Task<> start(Call& call) override;
    Task<> stop(Call& call) override;
    Task<> set_autostart(Call& call, bool autostart) override;
    Task<> undefine(Call& call) override;
    Task<std::string> get_xml(Call& call, NetworkGetXMLOptions options) override;
    Task<> update(Call& call, std::string command, std::string section, std::int32_t parent_index, std::string xml,
                  NetworkUpdateOptions options) override;
    Task<std::vector<Dictionary>> get_leases(Call& call, NetworkGetLeasesOptions options) override;

private:
    NetworkPtr get(const Call& call) const;

    const Networks& networks_;
    Jobs& jobs_;
};

}  // namespace virtbus::dbus
