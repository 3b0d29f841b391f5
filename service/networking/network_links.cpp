// SPDX-License-Identifier: LGPL-2.1-or-later
#include "service/networking/network_links.hpp"

#include <fmt/format.h>

#include "service/networking/filters.hpp"
#include "service/parallel.hpp"

namespace virtbus {

namespace {

constexpr std::string_view prefix = "net:";  // net:<network's uuid>:<port's id>:<the driver's key>
constexpr std::size_t uuid_size = 36;

struct Key {
    std::string network, port, driver;

    std::string text() const { return fmt::format("{}{}:{}:{}", prefix, network, port, driver); }
    /// Nothing for a link of another kind.
    static std::optional<Key> parse(const std::string& text) {
        const auto colon = prefix.size() + uuid_size;
        if (!text.starts_with(prefix) || text.size() < colon + uuid_size + 2 || text[colon] != ':' ||
            text[colon + uuid_size + 1] != ':')
            return std::nullopt;
        return Key{text.substr(prefix.size(), uuid_size), text.substr(colon + 1, uuid_size),
                   text.substr(colon + uuid_size + 2)};
    }
};

std::string described(const LinkRequest& request) {
    return fmt::format("interface {} of domain '{}'", request.interface.mac, request.domain_name);
}

}  // namespace

VirtualNetworkPtr NetworkLinks::network_for(const LinkRequest& request) const {
    const auto name = request.interface.source ? request.interface.source->network : std::string{};
    if (name.empty()) throw Error{Code::invalid_xml, fmt::format("{} names no network", described(request))};
    auto network = networks_.network_by_name(name);
    if (!network || !network->listed())
        throw Error{Code::no_such_network,
                    fmt::format("there is no network '{}', which {} is to be on", name, described(request))};
    return network;
}

// ---- filters

Task<LinkFilterPtr> NetworkLinks::find_filter(LinkRequest request, Deadline deadline, std::stop_token stop) {
    if (!request.interface.filterref) co_return nullptr;
    NetworkFilters filters{context_.ports.files, context_.ports.folders};
    try {
        co_return co_await filters.resolve(request.interface, deadline, std::move(stop));
    } catch (const Error& error) {
        throw Error{error.code(), fmt::format("domain '{}': {}", request.domain_name, error.what())};
    }
}

/// A driver that does not filter refuses an interface that wants to be.
Task<Link> NetworkLinks::open_by_driver(LinkRequest request, LinkFilterPtr filter, Deadline deadline,
                                        std::stop_token stop) {
    if (auto* const filtering = filter ? dynamic_cast<FilteringLinks*>(driver_) : nullptr)
        return filtering->open_filtered(std::move(request), std::move(filter), deadline, std::move(stop));
    return driver_->open_link(std::move(request), deadline, std::move(stop));
}

Task<Link> NetworkLinks::move_by_driver(std::string key, LinkRequest request, LinkFilterPtr filter, Deadline deadline) {
    if (auto* const filtering = filter ? dynamic_cast<FilteringLinks*>(driver_) : nullptr)
        return filtering->move_filtered(std::move(key), std::move(request), std::move(filter), deadline);
    return dynamic_cast<MovableLinks&>(*driver_).move_link(std::move(key), std::move(request), deadline);
}

Task<> NetworkLinks::reconnect_by_driver(std::string key, LinkRequest request, LinkFilterPtr filter,
                                         Deadline deadline) {
    if (auto* const filtering = filter ? dynamic_cast<FilteringLinks*>(driver_) : nullptr)
        return filtering->reconnect_filtered(std::move(key), std::move(request), std::move(filter), deadline);
    return driver_->reconnect_link(std::move(key), std::move(request), deadline);
}

Task<> NetworkLinks::links_are_known(Deadline deadline) {
    if (auto* const filtering = dynamic_cast<FilteringLinks*>(driver_)) co_await filtering->links_are_known(deadline);
}

// ---- opening and closing

Task<Link> NetworkLinks::open_link(LinkRequest request, Deadline deadline, std::stop_token stop) {
    if (!driver_)
        throw Error{Code::unsupported,
                    fmt::format("{} needs a link to the host, and none can be made here", described(request))};
    auto filter = co_await find_filter(request, deadline, stop);
    if (request.interface.type != InterfaceType::network)
        co_return co_await open_by_driver(std::move(request), std::move(filter), deadline, std::move(stop));
    const auto network = network_for(request);
    auto attachment = co_await network->attach(request, deadline);
    const auto id = attachment.port.id;
    Link link;
    std::exception_ptr error;
    try {
        link = co_await open_on(network, std::move(attachment), std::move(request), std::move(filter), deadline,
                                std::move(stop));
    } catch (...) {
        error = std::current_exception();
    }
    if (!error) co_return link;
    co_await network->release(id);
    std::rethrow_exception(error);
}

Task<Link> NetworkLinks::open_on(VirtualNetworkPtr network, Attachment attachment, LinkRequest request,
                                 LinkFilterPtr filter, Deadline deadline, std::stop_token stop) {
    network->require_on(attachment);
    auto wanted = request;
    wanted.interface = attachment.resolved;
    auto link = co_await open_by_driver(std::move(wanted), filter, deadline, std::move(stop));
    const Key key{network->view().uuid, attachment.port.id, link.undo_key};
    std::exception_ptr error;
    try {
        network->require_on(attachment);
    } catch (...) {
        error = std::current_exception();
    }
    if (error) {
        try {
            co_await driver_->close_link(key.driver);
        } catch (const std::exception& e) {
            context_.ports.log.warning(fmt::format("Taking back {} failed: {}", key.driver, e.what()));
        }
        std::rethrow_exception(error);
    }
    link.undo_key = key.text();
    link.interface = attachment.shown;
    request.interface = attachment.shown;
    places_[attachment.port.id] = {key.network, std::move(request), std::move(filter), key.driver};
    co_return link;
}

/// The link goes also when its network has.
Task<> NetworkLinks::close_link(std::string undo_key) {
    const auto key = Key::parse(undo_key);
    if (!key) {
        if (driver_) co_await driver_->close_link(std::move(undo_key));
        co_return;
    }
    places_.erase(key->port);
    std::exception_ptr error;
    try {
        if (driver_) co_await driver_->close_link(key->driver);
    } catch (...) {
        error = std::current_exception();
    }
    if (const auto network = networks_.network(key->network)) co_await network->release(key->port);
    if (error) std::rethrow_exception(error);
}

// ---- moving

/// On another network it has another port; the old one is given up when the link has gone.
Task<Link> NetworkLinks::move_link(std::string undo_key, LinkRequest request, Deadline deadline) {
    auto* const movable = dynamic_cast<MovableLinks*>(driver_);
    if (!movable)
        throw Error{Code::unsupported,
                    fmt::format("{} cannot be put elsewhere while the machine runs", described(request))};
    const auto key = Key::parse(undo_key);
    auto filter = co_await find_filter(request, deadline, {});
    auto driver_key = key ? key->driver : std::move(undo_key);
    Link link;
    if (request.interface.type == InterfaceType::network) {
        const auto network = network_for(request);
        link = co_await move_to(network, std::move(driver_key), std::move(request), std::move(filter), deadline);
    } else {
        link = co_await move_by_driver(std::move(driver_key), std::move(request), std::move(filter), deadline);
    }
    if (!key) co_return link;
    places_.erase(key->port);
    if (const auto network = networks_.network(key->network)) co_await network->release(key->port);
    co_return link;
}

Task<Link> NetworkLinks::move_to(VirtualNetworkPtr network, std::string driver_key, LinkRequest request,
                                 LinkFilterPtr filter, Deadline deadline) {
    // What the network before has made of it is not asked of this one.
    InterfaceSource source;
    source.network = request.interface.source->network;
    source.portgroup = request.interface.source->portgroup;
    request.interface.source = std::move(source);
    const auto attachment = co_await network->attach(request, deadline);
    Link link;
    std::exception_ptr error;
    try {
        network->require_on(attachment);
        auto wanted = request;
        wanted.interface = attachment.resolved;
        link = co_await move_by_driver(std::move(driver_key), std::move(wanted), filter, deadline);
    } catch (...) {
        error = std::current_exception();
    }
    if (error) {
        co_await network->release(attachment.port.id);
        std::rethrow_exception(error);
    }
    const Key key{network->view().uuid, attachment.port.id, link.undo_key};
    link.undo_key = key.text();
    link.interface = attachment.shown;
    request.interface = attachment.shown;
    places_[attachment.port.id] = {key.network, std::move(request), std::move(filter), key.driver};
    co_return link;
}

// ---- coming back

/// A filter that cannot be found any more stays what it was: no driver touches a link without knowing its filter.
Task<> NetworkLinks::reconnect_link(std::string undo_key, LinkRequest request, Deadline deadline) {
    const auto key = Key::parse(undo_key);
    LinkFilterPtr filter;
    try {
        filter = co_await find_filter(request, deadline, {});
    } catch (const Error& error) {
        context_.ports.log.warning(fmt::format("What filters it stays as it is: {}", error.what()));
    }
    if (!key) {
        if (driver_) co_await reconnect_by_driver(std::move(undo_key), std::move(request), std::move(filter), deadline);
        co_return;
    }
    places_[key->port] = {key->network, std::move(request), std::move(filter), key->driver};
    const auto network = networks_.network(key->network);
    if (network && network->active()) co_await reconnect_place(network, key->port);
}

Task<> NetworkLinks::reconnect(VirtualNetworkPtr network) {
    std::vector<std::function<Task<>()>> work;
    for (const auto& [id, place] : places_)
        if (place.network == network->view().uuid)
            work.emplace_back([this, network, id] { return reconnect_place(network, id); });
    constexpr std::size_t at_once = 8;
    if (!work.empty()) co_await run_all(context_.ports.loop, context_.scope, std::move(work), at_once);
}

/// The guest may lose its link meanwhile, and the network may go.
Task<> NetworkLinks::reconnect_place(VirtualNetworkPtr network, std::string port_id) {
    const auto found = places_.find(port_id);
    if (found == places_.end()) co_return;
    const auto place = found->second;
    const auto deadline = in(context_.patience.verb);
    try {
        auto attachment = co_await network->attach_again(port_id, place.request, deadline);
        if (attachment && places_.contains(port_id) && driver_) {
            auto request = place.request;
            request.interface = std::move(attachment->resolved);
            co_await reconnect_by_driver(place.driver_key, std::move(request), place.filter, deadline);
        }
    } catch (const std::exception& e) {
        context_.ports.log.warning(fmt::format("{} could not be put back on network '{}': {}", described(place.request),
                                               network->view().name, e.what()));
    }
    if (!places_.contains(port_id)) co_await network->release(port_id);
}

bool NetworkLinks::has(const std::string& port_id) const {
    return places_.contains(port_id);
}

}  // namespace virtbus
