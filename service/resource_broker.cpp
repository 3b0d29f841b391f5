// SPDX-License-Identifier: LGPL-2.1-or-later
#include "service/resource_broker.hpp"

#include <fcntl.h>
#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "service/claims.hpp"
#include "service/secrets.hpp"
#include "virtbus/error.hpp"

namespace virtbus {

ResourceBroker::ResourceBroker(Setting setting, Deadline deadline, std::stop_token stop)
    : setting_{std::move(setting)}, deadline_{deadline}, stop_{std::move(stop)} {}

ResourceBroker::ResourceBroker(Setting setting, std::vector<OpenLink> links)
    : setting_{std::move(setting)}, links_{std::move(links)} {}

Task<Fd> ResourceBroker::open_file(std::string path, Access access) {
    // A FIFO or a device without a medium must not hold a worker for good.
    const int flags = (access == Access::read ? O_RDONLY : O_RDWR) | O_NONBLOCK;
    auto file = co_await setting_.files.open(std::move(path), flags, 0, std::nullopt, deadline_, stop_);
    ::fcntl(file.get(), F_SETFL, ::fcntl(file.get(), F_GETFL) & ~O_NONBLOCK);
    co_return file;
}

Task<Fd> ResourceBroker::create_file(std::string path) {
    const bool there = setting_.files.exists(path);
    const int flags = O_RDWR | O_CREAT | O_NOFOLLOW | (there ? O_TRUNC : O_EXCL);
    auto file = co_await setting_.files.open(path, flags, 0600, std::nullopt, deadline_, stop_);
    if (!there) made_.push_back(std::move(path));
    co_return file;
}

Task<Fd> ResourceBroker::open_log(std::string path) {
    if (!path.starts_with('/')) path = setting_.logs_folder + '/' + path;
    setting_.files.make_folder(path.substr(0, path.rfind('/')), 0750);
    co_return co_await setting_.files.open(std::move(path), O_WRONLY | O_APPEND | O_CREAT | O_NOFOLLOW, 0640,
                                           std::nullopt, deadline_, stop_);
}

Task<Link> ResourceBroker::open_link(LinkRequest request) {
    if (!setting_.links)
        throw Error{
            Code::unsupported,
            fmt::format("domain '{}': interface {} of type '{}' needs a link to the host, and none can be made here",
                        request.domain_name, request.interface.mac, word(request.interface.type))};
    auto alias = request.interface.info.alias;
    auto link = co_await setting_.links->open_link(std::move(request), deadline_, stop_);
    links_.push_back({link.undo_key, std::move(alias)});
    setting_.recorded();
    co_return link;
}

Task<Link> ResourceBroker::move_link(LinkRequest request) {
    const auto& alias = request.interface.info.alias;
    const auto found = std::ranges::find_if(
        links_, [&](const OpenLink& link) { return !alias.empty() && link.alias == alias && !is_claim(link.key); });
    auto* const links = dynamic_cast<MovableLinks*>(setting_.links);
    if (!links || found == links_.end())
        throw Error{Code::unsupported, fmt::format("domain '{}': interface {} has no link that could be put elsewhere",
                                                   request.domain_name, request.interface.mac)};
    const auto key = found->key;
    auto link = co_await links->move_link(key, std::move(request), deadline_);
    for (auto& each : links_)
        if (each.key == key) each.key = link.undo_key;
    setting_.recorded();
    co_return link;
}

Task<std::string> ResourceBroker::secret(SecretRef reference) {
    Secrets secrets{setting_.files, setting_.secrets_folder};
    co_return co_await secrets.get(std::move(reference), deadline_, stop_);
}

Task<> ResourceBroker::close_link(std::string key) {
    try {
        if (is_claim(key))
            co_await release_claim(setting_.pci, key);
        else if (setting_.links)
            co_await setting_.links->close_link(key);
    } catch (const std::exception& e) {
        setting_.log.warning(fmt::format("Taking back {} failed: {}", key, e.what()));
    }
}

/// Until one is taken back it is in the list, so that nobody else takes the device.
Task<> ResourceBroker::undo() {
    while (!links_.empty()) {
        const auto key = links_.back().key;
        co_await close_link(key);
        forget_link(key);
    }
}

std::size_t ResourceBroker::renew(Deadline deadline, std::stop_token stop) {
    deadline_ = deadline;
    stop_ = std::move(stop);
    made_.clear();
    return links_.size();
}

/// Forgotten only when it is down: until then the record must name it.
void ResourceBroker::forget_link(const std::string& key) {
    std::erase_if(links_, [&](const OpenLink& link) { return link.key == key; });
}

Task<> ResourceBroker::undo_since(std::size_t mark) {
    while (links_.size() > mark) {
        const auto key = links_.back().key;
        co_await close_link(key);
        forget_link(key);
    }
    co_await remove_made();
}

Task<> ResourceBroker::close_links_of(std::string alias) {
    std::vector<std::string> keys;
    for (const auto& link : links_)
        if (!alias.empty() && link.alias == alias) keys.push_back(link.key);
    for (const auto& key : keys) {
        co_await close_link(key);
        forget_link(key);
    }
}

Task<> ResourceBroker::undo_start() {
    co_await remove_made();
    co_await undo();
}

Task<> ResourceBroker::remove_made() {
    for (const auto& path : std::exchange(made_, {})) {
        try {
            co_await setting_.files.remove(path);
        } catch (const std::exception& e) {
            setting_.log.warning(fmt::format("Removing {} after a failure did not work: {}", path, e.what()));
        }
    }
}

}  // namespace virtbus
