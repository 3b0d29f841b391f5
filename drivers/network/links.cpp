// SPDX-License-Identifier: LGPL-2.1-or-later
#include "network/links.hpp"

#include <fmt/format.h>

#include <chrono>
#include <memory>
#include <optional>
#include <utility>

#include "network/bridge_vlans.hpp"
#include "network/filter_rules.hpp"
#include "network/filter_table.hpp"
#include "network/link_key.hpp"
#include "network/link_rules.hpp"
#include "network/macvtap.hpp"
#include "network/open_vswitch.hpp"
#include "network/shaping.hpp"
#include "network/table_watch.hpp"
#include "network/tap.hpp"
#include "network/virtual_function.hpp"

namespace virtbus::network {

namespace {

constexpr std::chrono::seconds removal_patience{30};
constexpr std::string_view generated_prefixes[] = {"vnet", "macvtap", "macvlan"};

/// A name that a program generated once is made anew each time, as it may be in use by another guest now.
std::string wanted_name(const Interface& interface) {
    if (!interface.target) return {};
    for (const auto prefix : generated_prefixes)
        if (interface.target->dev.starts_with(prefix)) return {};
    return interface.target->dev;
}

/// `told`: a switch is told of the port, so it is not put on a bridge here.
TapRequest tap_request(const LinkRequest& request, bool told) {
    const auto& interface = request.interface;
    TapRequest tap;
    tap.name = wanted_name(interface);
    tap.mac = host_mac(parse_mac(interface.mac));
    tap.mtu = interface.mtu.value_or(0);
    tap.queues = request.queues;
    tap.vnet_header = request.vnet_header;
    if (actual_type(interface) != InterfaceType::bridge) return tap;
    const std::string bridge = interface.source ? interface.source->bridge : "";
    if (bridge.empty()) throw Error{Code::invalid_xml, "the definition names no bridge"};
    if (told) return tap;
    tap.bridge = bridge;
    tap.isolated = interface.port_isolated.value_or(false);
    if (interface.vlan && !interface.vlan->tags.empty()) tap.vlans = port_vlans(*interface.vlan);
    return tap;
}

/// Limits of a tap, or of a macvtap device, which shows the guest's side: there its sending is the host's.
void set_limits(const Interface& interface, const Tap& tap, bool told) {
    if (!interface.bandwidth) return;
    const bool swapped = actual_type(interface) == InterfaceType::direct;
    // A floor alone limits nothing here.
    const auto limits = [](const std::optional<BandwidthLimit>& limit) {
        return limit && (limit->average || !limit->floor);
    };
    const auto& leaving = swapped ? interface.bandwidth->outbound : interface.bandwidth->inbound;
    const auto& coming = swapped ? interface.bandwidth->inbound : interface.bandwidth->outbound;
    if (limits(leaving)) limit_inbound(tap.index, tap.name, *leaving);
    if (limits(coming) && !told) limit_outbound(tap.index, tap.name, *coming);
}

using FiltersPtr = std::shared_ptr<FilterTable>;

/// Of what this thread can reach; ports of a switch are told of elsewhere. What is gone is no error.
void take_down(const LinkKey& key, FilterTable& filters) {
    switch (key.kind) {
        case LinkKey::Kind::foreign:
            if (key.index) filters.remove(key.index);
            return;
        case LinkKey::Kind::function:
            return set_state({key.beside, key.number}, {key.mac, key.vlan});
        case LinkKey::Kind::passthrough:
            remove_passthrough(key.name, key.index, key.beside, key.mac);
            break;
        case LinkKey::Kind::tap:
        case LinkKey::Kind::switch_port:
        case LinkKey::Kind::macvtap:
            remove_tap(key.name, key.index);
    }
    remove_limits(key.index);
    filters.remove(key.index);
}

/// A link that has been made. Unless it is taken, as its waiter had given up or something failed, it goes.
struct Made {
    Link link;
    LinkKey key;
    FiltersPtr filters;
    bool taken = false;

    Made(std::vector<Fd> fds, const std::string& name, LinkKey of, FiltersPtr table)
        : key{std::move(of)}, filters{std::move(table)} {
        link.fds = std::move(fds);
        link.ifname = name;
        link.undo_key = key.text();
    }
    Made(const Made&) = delete;
    ~Made() {
        if (taken) return;
        link.fds.clear();
        try {
            take_down(key, *filters);
        } catch (const Error&) {
            // A tap has gone with its last descriptor.
        }
    }
};
using MadePtr = std::shared_ptr<Made>;

/// Stands before the first frame comes by, and is taken back when what it was for fails.
class FilterGuard {
public:
    FilterGuard(FiltersPtr filters, std::shared_ptr<const LinkFilter> filter)
        : filters_{std::move(filters)}, filter_{std::move(filter)} {}
    FilterGuard(const FilterGuard&) = delete;
    ~FilterGuard() {
        if (!index_ || kept_) return;
        try {
            if (before_)
                filters_->set(*before_);
            else
                filters_->remove(index_);
        } catch (const Error&) {
            // The failure before this one is the one to be told.
        }
    }
    void set(const std::string& name, int index) {
        if (!filter_) return;
        before_ = filters_->set(filter_rules(*filter_, index, name));
        index_ = index;
    }
    void keep() { kept_ = true; }

private:
    FiltersPtr filters_;
    std::shared_ptr<const LinkFilter> filter_;
    std::optional<FilterRules> before_;
    int index_ = 0;
    bool kept_ = false;
};

void require_no_switch(const Wanted& request, bool told) {
    if (told && request.filter)
        throw Error{Code::unsupported,
                    fmt::format("the network filter '{}' is for bridges of the kernel; frames of Open vSwitch go by "
                                "its rules",
                                request.filter->name)};
}

MadePtr make_tap_link(const Wanted& request, FiltersPtr filters) {
    const auto& interface = request.interface;
    const bool told = actual_type(interface) == InterfaceType::bridge && is_switch_port(interface);
    require_no_switch(request, told);
    FilterGuard guard{filters, request.filter};
    auto wanted = tap_request(request, told);
    wanted.guard = [&guard](const std::string& name, int index) { guard.set(name, index); };
    auto tap = make_tap(wanted);
    guard.keep();
    LinkKey key;
    key.kind = told ? LinkKey::Kind::switch_port : LinkKey::Kind::tap;
    key.index = tap.index;
    key.name = tap.name;
    if (told) key.beside = interface.source->bridge;
    auto made = std::make_shared<Made>(std::move(tap.fds), tap.name, std::move(key), std::move(filters));
    set_limits(interface, tap, told);
    if (const auto frames = interface.coalesce_rx_frames_max) set_coalesced_frames(tap.name, *frames);
    return made;
}

MadePtr make_direct_link(const LinkRequest& request, FiltersPtr filters) {
    const auto& interface = request.interface;
    MacvtapRequest wanted;
    wanted.name = wanted_name(interface);
    wanted.lower = interface.source ? interface.source->dev : "";
    if (wanted.lower.empty()) throw Error{Code::invalid_xml, "the definition names no network device"};
    wanted.mode = interface.source->mode;
    wanted.mac = parse_mac(interface.mac);
    wanted.mtu = interface.mtu.value_or(0);
    wanted.queues = request.queues;
    wanted.vnet_header = request.vnet_header;
    auto macvtap = make_macvtap(wanted);
    LinkKey key;
    key.kind = wanted.mode == "passthrough" ? LinkKey::Kind::passthrough : LinkKey::Kind::macvtap;
    key.index = macvtap.tap.index;
    key.name = macvtap.tap.name;
    if (key.kind == LinkKey::Kind::passthrough) {
        key.beside = wanted.lower;
        key.mac = macvtap.lower_mac;
    }
    auto made =
        std::make_shared<Made>(std::move(macvtap.tap.fds), macvtap.tap.name, std::move(key), std::move(filters));
    set_limits(interface, macvtap.tap, false);
    return made;
}

/// The PCI device is given to QEMU elsewhere; what is to do here is the address that the card lets it have.
MadePtr prepare_function(const LinkRequest& request, const std::string& root, FiltersPtr filters) {
    const auto& interface = request.interface;
    const auto* at = interface.source && interface.source->host_address
                         ? std::get_if<HostPciAddress>(&*interface.source->host_address)
                         : nullptr;
    if (!at) throw Error{Code::invalid_xml, "its <source> has no <address type='pci'>"};
    const auto address = fmt::format("{:04x}:{:02x}:{:02x}.{:x}", at->domain, at->bus, at->slot, at->function);
    const auto function = find_virtual_function(root, address);
    if (!function)
        throw Error{
            Code::unsupported_configuration,
            fmt::format("PCI device {} is no virtual function of a network card (SR-IOV), so nobody can set its "
                        "MAC address; use a <hostdev>",
                        address)};
    const auto before = state_of(*function);
    VirtualFunctionState wanted{parse_mac(interface.mac), 0};
    if (interface.vlan && !interface.vlan->tags.empty()) wanted.vlan = interface.vlan->tags[0].id;
    set_state(*function, wanted);
    LinkKey key;
    key.kind = LinkKey::Kind::function;
    key.beside = function->parent;
    key.number = function->number;
    key.vlan = before.vlan;
    key.mac = before.mac;
    return std::make_shared<Made>(std::vector<Fd>{}, "", std::move(key), std::move(filters));
}

MadePtr attach(const Wanted& request, FiltersPtr filters) {
    const auto& name = request.interface.target->dev;
    if (name.empty()) throw Error{Code::invalid_xml, "a device that is not managed must be named with <target dev=>"};
    auto tap = attach_tap(name, request.queues, request.vnet_header);
    LinkKey key;
    FilterGuard guard{filters, request.filter};
    if (request.filter) {
        if (!is_bridge_port(tap.name, tap.index))
            throw Error{Code::unsupported_configuration,
                        fmt::format("the network filter '{}' rules frames on a bridge, and '{}' is on none",
                                    request.filter->name, name)};
        guard.set(tap.name, tap.index);
        key.index = tap.index;
        key.name = tap.name;
    }
    auto made = std::make_shared<Made>(std::move(tap.fds), name, std::move(key), std::move(filters));
    guard.keep();
    return made;
}

MadePtr make(const Wanted& request, const std::string& root, FiltersPtr filters) {
    if (is_foreign(request)) return attach(request, std::move(filters));
    const auto type = actual_type(request.interface);
    if (type == InterfaceType::hostdev) return prepare_function(request, root, std::move(filters));
    return type == InterfaceType::direct ? make_direct_link(request, std::move(filters))
                                         : make_tap_link(request, std::move(filters));
}

/// Runs on a worker; messages say whose link it is.
template <class F>
auto with_context(const LinkRequest& request, F work) {
    try {
        return work();
    } catch (const Error& error) {
        throw Error{error.code(), fmt::format("{}: {}", described(request), error.what())};
    }
}

/// False: it is gone.
bool reconnect(const LinkKey& key, const Wanted& request, const FiltersPtr& filters) {
    const bool told = key.kind == LinkKey::Kind::switch_port;
    require_no_switch(request, told);
    FilterGuard guard{filters, request.filter};
    if (key.kind == LinkKey::Kind::foreign) {
        guard.set(key.name, key.index);
        guard.keep();
        return true;
    }
    auto wanted = tap_request(request, told);
    wanted.guard = [&guard](const std::string& name, int index) { guard.set(name, index); };
    if (!reconnect_tap(key.name, key.index, wanted)) return false;
    guard.keep();
    if (!request.filter) filters->remove(key.index);
    clear_limits(key.index, key.name);
    set_limits(request.interface, Tap{{}, key.name, key.index}, told);
    return true;
}

std::string last_line(std::string_view text) {
    while (text.ends_with('\n')) text.remove_suffix(1);
    const auto start = text.rfind('\n');
    return std::string{start == text.npos ? text : text.substr(start + 1)};
}

}  // namespace

TapLinks::TapLinks(Workers& workers, Spawner* spawner, Setting setting)
    : workers_{workers}, spawner_{spawner}, setting_{std::move(setting)}, filters_{std::make_shared<FilterTable>()} {}

TapLinks::~TapLinks() = default;

void TapLinks::watch_filters(Loop& loop) {
    watch_ = std::make_unique<TableWatch>(loop, [this] {
        again_ = true;
        if (!std::exchange(putting_back_, true)) scope_.spawn(put_filters_back());
    });
}

Task<> TapLinks::put_filters_back() {
    while (std::exchange(again_, false)) {
        try {
            co_await workers_.run(
                "putting filters back", [filters = filters_] { filters->repair(); }, in(removal_patience));
        } catch (const Error&) {
            // The next change of a filter tries it again, and says what is wrong.
        }
    }
    putting_back_ = false;
}

Task<> TapLinks::tell_switch(std::string what, std::vector<std::string> arguments, Deadline deadline,
                             std::stop_token stop) {
    if (!spawner_) throw Error{Code::unsupported, fmt::format("{}: Open vSwitch is not served here", what)};
    Command command;
    command.argv = setting_.switch_program;
    command.argv.insert(command.argv.end(), arguments.begin(), arguments.end());
    CommandResult result;
    try {
        result = co_await spawner_->run(std::move(command), deadline, std::move(stop));
    } catch (const Error& error) {
        if (error.code() == Code::cancelled || error.code() == Code::timeout) throw;
        throw Error{Code::unsupported_configuration,
                    fmt::format("{}: {}; is Open vSwitch installed?", what, error.what())};
    }
    if (result.status != 0)
        throw Error{Code::hypervisor_failed, fmt::format("{}: Open vSwitch says: {}", what, last_line(result.errors))};
}

Task<Link> TapLinks::open_filtered(LinkRequest request, LinkFilterPtr filter, Deadline deadline, std::stop_token stop) {
    const auto shared = std::make_shared<const Wanted>(Wanted{std::move(request), std::move(filter)});
    require_only_what_is_done(*shared);
    auto work = [shared, root = setting_.root, filters = filters_] {
        return with_context(*shared, [&] { return make(*shared, root, filters); });
    };
    const auto made =
        co_await workers_.run("making the link of " + described(*shared), std::move(work), deadline, stop);
    if (made->key.kind == LinkKey::Kind::switch_port) {
        const auto what =
            fmt::format("{}: putting '{}' on bridge '{}'", described(*shared), made->key.name, made->key.beside);
        std::exception_ptr failure;
        try {
            co_await tell_switch(what, add_port_arguments(*shared, made->key.name), deadline, stop);
        } catch (...) {
            failure = std::current_exception();
        }
        if (failure) {
            // Nobody knows whether a switch that did not answer has done it.
            try {
                co_await tell_switch(what, remove_port_arguments(made->key.beside, made->key.name),
                                     in(removal_patience), {});
            } catch (const Error&) {
                // The first failure is the one to be told.
            }
            std::rethrow_exception(failure);
        }
    }
    made->taken = true;
    co_return std::move(made->link);
}

Task<> TapLinks::close_link(std::string undo_key) {
    const auto key = LinkKey::parse(undo_key);
    if (key.kind == LinkKey::Kind::foreign && !key.index) co_return;
    co_await workers_.run(
        fmt::format("removing the link {}", undo_key), [key, filters = filters_] { take_down(key, *filters); },
        in(removal_patience));
    if (key.kind == LinkKey::Kind::switch_port)
        co_await tell_switch(fmt::format("removing '{}' from bridge '{}'", key.name, key.beside),
                             remove_port_arguments(key.beside, key.name), in(removal_patience), {});
}

Task<> TapLinks::reconnect_filtered(std::string undo_key, LinkRequest request, LinkFilterPtr filter,
                                    Deadline deadline) {
    const auto key = LinkKey::parse(undo_key);
    const bool filtered = key.kind == LinkKey::Kind::foreign && key.index && filter;
    if (key.kind != LinkKey::Kind::tap && key.kind != LinkKey::Kind::switch_port && !filtered) co_return;
    const auto shared = std::make_shared<const Wanted>(Wanted{std::move(request), std::move(filter)});
    require_only_what_is_done(*shared);
    auto work = [shared, key, filters = filters_] {
        return with_context(*shared, [&] { return reconnect(key, *shared, filters); });
    };
    const bool there =
        co_await workers_.run("putting back the link of " + described(*shared), std::move(work), deadline);
    if (there && key.kind == LinkKey::Kind::switch_port)
        co_await tell_switch(fmt::format("{}: putting '{}' back", described(*shared), key.name),
                             add_port_arguments(*shared, key.name), deadline, {});
}

/// What is on a bridge can go to another one; between a bridge and a switch, nobody would take the port away.
Task<Link> TapLinks::move_filtered(std::string undo_key, LinkRequest request, LinkFilterPtr filter, Deadline deadline) {
    const auto key = LinkKey::parse(undo_key);
    const bool bridged = actual_type(request.interface) == InterfaceType::bridge;
    const auto shared = std::make_shared<const LinkRequest>(request);
    const bool told =
        bridged &&
        co_await workers_.run("looking at a bridge", [shared] { return is_switch_port(shared->interface); }, deadline);
    const auto kind = told ? LinkKey::Kind::switch_port : LinkKey::Kind::tap;
    if (!bridged || key.kind != kind)
        refuse(request, "only from one bridge to another of its kind can a link be put while the machine runs");
    auto moved = key;
    if (told) moved.beside = request.interface.source->bridge;
    co_await reconnect_filtered(std::move(undo_key), std::move(request), std::move(filter), deadline);
    Link link;
    link.ifname = moved.name;
    link.undo_key = moved.text();
    co_return link;
}

Task<> TapLinks::links_are_known(Deadline deadline) {
    co_await workers_.run("looking at the filters of interfaces", [filters = filters_] { filters->sweep(); }, deadline);
}

}  // namespace virtbus::network
