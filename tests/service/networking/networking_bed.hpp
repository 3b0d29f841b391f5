// SPDX-License-Identifier: LGPL-2.1-or-later
// NetworkWorld: a world with virtual networks on a made-up host, and links that remember what they were to be.
#pragma once

#include "../world.hpp"
#include "fake_network_driver.hpp"
#include "service/xml/network_status.hpp"

namespace virtbus::tests {

/// Links of the host's side: what was asked for, by key. They outlive daemons.
class RememberingLinks final : public LinkProvider {
public:
    explicit RememberingLinks(Loop& loop) : loop_{loop} {}

    Task<Link> open_link(LinkRequest request, Deadline, std::stop_token stop) override {
        if (hang) {
            Reply<> reply{loop_};
            hanging_ = reply.promise();
            co_await reply.wait("a link", std::nullopt, stop);
        }
        if (fail) throw Error{Code::internal, "no link can be made"};
        const auto key = "tap:" + std::to_string(++last_) + ':' + request.interface.mac;
        open[key] = request.interface;
        Link link;
        link.ifname = "vnet" + std::to_string(last_);
        link.undo_key = key;
        co_return link;
    }
    Task<> close_link(std::string undo_key) override {
        open.erase(undo_key);
        co_return;
    }
    Task<> reconnect_link(std::string undo_key, LinkRequest request, Deadline) override {
        if (fail_reconnect) throw Error{Code::internal, "it does not go back"};
        reconnected.push_back({undo_key, request.interface});
        co_return;
    }
    void let_go() {
        hang = false;
        if (hanging_) hanging_->set();
        hanging_.reset();
    }
    bool hangs() const { return hanging_.has_value(); }

    std::map<std::string, Interface> open;
    std::vector<std::pair<std::string, Interface>> reconnected;
    bool fail = false, hang = false, fail_reconnect = false;

private:
    Loop& loop_;
    int last_ = 0;
    std::optional<Reply<>::Promise> hanging_;
};

class NetworkWorld : public World {
protected:
    NetworkWorld() {
        network_driver = &fake;
        link_provider = &taps;
    }

    ~NetworkWorld() override { room.reset(); }  // before the host that it works on

    Networks& networks() { return room->networks(); }
    NetworkPtr network(const std::string& name) { return networks().get(name); }
    NetworkPtr define_network(const std::string& xml) { return run(networks().define(xml, false, caller)); }
    NetworkPtr create_network(const std::string& xml) { return run(networks().create(xml, false, caller)); }
    NetworkPtr active(const std::string& name, int number = 50, const std::string& more = {}) {
        auto made = define_network(nat(name, number, more));
        finish(made->start(caller));
        return made;
    }
    void start_network(const std::string& name) { finish(network(name)->start(caller)); }
    void stop_network(const std::string& name) { finish(network(name)->stop(caller)); }

    /// Its addresses are those of 192.168.<number>.0/24, its bridge is br<number>.
    static std::string nat(const std::string& name, int number = 50, const std::string& more = {}) {
        return with_bridge(name, "<bridge name='br" + std::to_string(number) + "'/>", number, more);
    }
    static std::string with_bridge(const std::string& name, const std::string& bridge, int number,
                                   const std::string& more = {}) {
        const auto net = "192.168." + std::to_string(number) + '.';
        return "<network><name>" + name + "</name><uuid>" + uuid_of(name) + "</uuid><forward mode='nat'/>" + bridge +
               more + "<ip address='" + net + "1' netmask='255.255.255.0'><dhcp><range start='" + net + "2' end='" +
               net + "99'/></dhcp></ip></network>";
    }
    static std::string pool(const std::string& name, const std::string& mode, const std::string& inside,
                            const std::string& more = {}) {
        return "<network><name>" + name + "</name><uuid>" + uuid_of(name) + "</uuid><forward mode='" + mode + "'>" +
               inside + "</forward>" + more + "</network>";
    }
    static std::string card(const std::string& network, int number = 1, const std::string& more = {},
                            const std::string& source = {}) {
        return "<interface type='network'><mac address='52:54:00:00:00:0" + std::to_string(number) +
               "'/><source network='" + network + "'" + source + "/>" + more + "</interface>";
    }
    DomainPtr guest(const std::string& name, const std::string& devices, const std::string& behaviour = {}) {
        auto domain = define(xml(name, behaviour, "", devices));
        finish(domain->start({}, caller));
        return domain;
    }
    DomainPtr defined_guest(const std::string& name, const std::string& devices) {
        return define(xml(name, "", "", devices));
    }

    std::string network_path(const std::string& name) const {
        return root + "/config/networks/" + uuid_of(name) + ".xml";
    }
    std::string autostart_path(const std::string& name) const {
        return root + "/config/networks/autostart/" + uuid_of(name) + ".xml";
    }
    std::string state_path(const std::string& name) const { return root + "/run/network/" + name + ".xml"; }
    std::string old_path(const std::string& name) const { return root + "/state/network/" + name + ".xml"; }
    NetworkStatus state_of(const std::string& name) { return xml::parse_network_status(read(state_path(name))); }

    FakeHost fake_host;
    FakeNetworkDriver fake{host.loop, fake_host};
    RememberingLinks taps{host.loop};
};

}  // namespace virtbus::tests
