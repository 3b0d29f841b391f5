// SPDX-License-Identifier: LGPL-2.1-or-later
// For tests: networks that keep what they are told and tell the audience, with real jobs around.
#pragma once

#include <fmt/format.h>

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "service/audience.hpp"
#include "service/networks.hpp"
#include "virtbus/error.hpp"

namespace virtbus::dbus {

class FakeNetwork final : public Network {
public:
    FakeNetwork(Jobs& jobs, Audience& audience, Loop& loop, NetworkView view)
        : jobs_{jobs}, audience_{audience}, loop_{loop}, view_{std::move(view)} {}

    const NetworkView& view() const override { return view_; }
    std::string xml(bool inactive) const override {
        return fmt::format("<network name='{}' inactive='{}'/>", view_.name, inactive);
    }
    std::vector<DhcpLease> leases(const std::string& mac) const override {
        std::vector<DhcpLease> found;
        for (const auto& lease : given)
            if (mac.empty() || lease.mac == mac) found.push_back(lease);
        return found;
    }

    /// Changes the view and tells.
    void change(const std::function<void(NetworkView&)>& how) {
        const NetworkView before = view_;
        how(view_);
        audience_.network_changed(*this, before);
    }

    JobPtr start(Caller caller) override {
        return verb("start", "network.start", caller, "", [](NetworkView& view) { view.active = true; });
    }
    JobPtr stop(Caller caller) override {
        return verb("stop", "network.stop", caller, "", [](NetworkView& view) { view.active = false; });
    }
    JobPtr set_autostart(bool autostart, Caller caller) override {
        return verb("set-autostart", "network.configure", caller, fmt::format(" {}", autostart),
                    [autostart](NetworkView& view) { view.autostart = autostart; });
    }
    JobPtr undefine(Caller caller) override { return verb("undefine", "network.delete", caller, "", {}); }
    JobPtr update(NetworkUpdate update, ChangeScope scope, bool force, Caller caller) override {
        return verb("update", "network.configure", caller,
                    fmt::format(" {} {} {} {} {} {}", update.command, update.section, update.parent_index, update.xml,
                                static_cast<int>(scope), force),
                    {});
    }

    std::string said;  ///< the last verb and its arguments
    Caller asked_by;
    std::vector<DhcpLease> given;
    bool held = false;  ///< verbs wait for `release` or their stop token
    std::vector<Reply<>::Promise> release;
    bool fails = false;

private:
    using Change = std::function<void(NetworkView&)>;
    JobPtr verb(const std::string& operation, const std::string& action, const Caller& caller,
                const std::string& arguments, Change how) {
        said = operation + arguments;
        asked_by = caller;
        return jobs_.run({operation, {}, {view_.uuid}, action, caller, held},
                         [this, how = std::move(how)](JobPtr job) { return work(job, how); });
    }
    Task<> work(JobPtr job, Change how) {
        if (held) {
            Reply<> reply{loop_};
            release.push_back(reply.promise());
            co_await reply.wait("the test", std::nullopt, job->stop());
        }
        if (fails) throw Error{Code::network_in_use, "web is connected"};
        if (how) change(how);
    }

    Jobs& jobs_;
    Audience& audience_;
    Loop& loop_;
    NetworkView view_;
};

class FakeNetworks final : public Networks {
public:
    FakeNetworks(Jobs& jobs, Audience& audience, Loop& loop) : jobs_{jobs}, audience_{audience}, loop_{loop} {}

    /// A network with the number in its uuid.
    FakeNetwork& add(unsigned number, bool persistent = true) {
        NetworkView view;
        view.name = fmt::format("network-{}", number);
        view.uuid = fmt::format("00000000-0000-4000-9000-{:012x}", number);
        view.active = !persistent;
        view.persistent = persistent;
        view.bridge = fmt::format("virbr{}", number);
        view.forward_mode = "nat";
        view.domain_name = "example.org";
        view.addresses = {fmt::format("192.168.{}.1/24", number % 256), "fd00::1/64"};
        auto network = std::make_shared<FakeNetwork>(jobs_, audience_, loop_, view);
        networks_[view.uuid] = network;
        audience_.network_added(*network);
        return *network;
    }
    void remove(const std::string& uuid) {
        const NetworkView last = networks_.at(uuid)->view();
        networks_.erase(uuid);
        audience_.network_removed(last);
    }

    NetworkPtr find(std::string_view uuid) const override {
        const auto found = networks_.find(uuid);
        return found == networks_.end() ? nullptr : found->second;
    }
    NetworkPtr find_by_name(std::string_view name) const override {
        for (const auto& [uuid, network] : networks_)
            if (network->view().name == name) return network;
        return nullptr;
    }
    NetworkPtr get(std::string_view name_or_uuid) const override {
        if (auto network = find_by_name(name_or_uuid)) return network;
        if (auto network = find(name_or_uuid)) return network;
        throw Error{Code::no_such_network, fmt::format("there is no network '{}'", name_or_uuid)};
    }
    std::vector<NetworkPtr> list() const override {
        std::vector<NetworkPtr> all;
        for (const auto& [uuid, network] : networks_) all.push_back(network);
        return all;
    }
    std::size_t size() const override { return networks_.size(); }
    Identity identify(std::string_view xml) const override {
        if (xml.empty()) throw Error{Code::invalid_xml, "the document is empty"};
        return {std::string{xml}, ""};
    }
    Task<NetworkPtr> define(std::string, bool strict, Caller) override {
        said = fmt::format("define {}", strict);
        co_return add_next(true);
    }
    Task<NetworkPtr> create(std::string, bool strict, Caller) override {
        said = fmt::format("create {}", strict);
        co_return add_next(false);
    }

    std::string said;

private:
    NetworkPtr add_next(bool persistent) {
        return find(add(static_cast<unsigned>(networks_.size()) + 1, persistent).view().uuid);
    }

    Jobs& jobs_;
    Audience& audience_;
    Loop& loop_;
    std::map<std::string, std::shared_ptr<FakeNetwork>, std::less<>> networks_;
};

}  // namespace virtbus::dbus
