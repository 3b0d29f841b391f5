// SPDX-License-Identifier: LGPL-2.1-or-later
#include "dbus/server/tree.hpp"

#include <algorithm>

namespace virtbus::dbus {

namespace {

using Elements = std::vector<std::string>;

Elements split(std::string_view path) {
    Elements elements;
    for (std::size_t begin = 0; begin < path.size();) {
        const std::size_t end = std::min(path.find('/', begin), path.size());
        elements.emplace_back(path.substr(begin, end - begin));
        begin = end + 1;
    }
    return elements;
}

/// Whether the path follows the pattern as far as the shorter of both goes; the keys are what stood for the stars.
bool follows(const Elements& path, const Elements& pattern, Keys& keys) {
    keys.clear();
    for (std::size_t i = 0; i < std::min(path.size(), pattern.size()); i++) {
        if (pattern[i] == "*")
            keys.push_back(path[i]);
        else if (pattern[i] != path[i])
            return false;
    }
    return true;
}

/// Whether objects of the pattern belong to an ObjectManager at `manager`: one star further down, at the end.
bool belongs(const Elements& pattern, const Elements& manager) {
    if (pattern.size() <= manager.size() || !std::equal(manager.begin(), manager.end(), pattern.begin())) return false;
    return pattern.back() == "*" &&
           std::count(pattern.begin() + static_cast<std::ptrdiff_t>(manager.size()), pattern.end(), "*") == 1;
}

}  // namespace

const Method* Interface::method(std::string_view member) const {
    const auto found =
        std::find_if(methods.begin(), methods.end(), [&](const Method& one) { return one.name == member; });
    return found == methods.end() ? nullptr : &*found;
}

const Property* Interface::property(std::string_view member) const {
    const auto found =
        std::find_if(properties.begin(), properties.end(), [&](const Property& one) { return one.name == member; });
    return found == properties.end() ? nullptr : &*found;
}

void Tree::add(std::string_view pattern, Kind& kind) {
    branches_.push_back({split(pattern), &kind, {{&kind.interface(), kind.handler()}}});
}

void Tree::extend(std::string_view pattern, const Interface& interface, void* handler) {
    const auto elements = split(pattern);
    for (auto& branch : branches_)
        if (branch.pattern == elements) branch.offers.push_back({&interface, handler});
}

std::optional<Elements> Tree::below_root(std::string_view path) const {
    if (path == root_) return Elements{};
    if (!path.starts_with(root_) || path[root_.size()] != '/') return std::nullopt;
    return split(path.substr(root_.size() + 1));
}

bool Tree::is_manager(const Elements& pattern) const {
    return std::any_of(branches_.begin(), branches_.end(),
                       [&](const Branch& one) { return belongs(one.pattern, pattern); });
}

std::optional<Tree::Found> Tree::kind_at(std::string_view path) const {
    const auto elements = below_root(path);
    if (!elements) return std::nullopt;
    for (const auto& branch : branches_) {
        Keys keys;
        if (branch.pattern.size() == elements->size() && follows(*elements, branch.pattern, keys))
            return Found{branch.kind, branch.offers, std::move(keys), nullptr, is_manager(branch.pattern)};
    }
    return std::nullopt;
}

std::optional<Tree::Found> Tree::find(std::string_view path) const {
    auto found = kind_at(path);
    if (!found) return std::nullopt;
    found->view = found->kind->find(found->keys);
    if (!found->view) return std::nullopt;
    return found;
}

/// Whether the path leads from an object to others that belong to it.
bool Tree::exists_above(const Elements& elements) const {
    for (const auto& branch : branches_) {
        Keys keys;
        if (!branch.pattern.empty() && branch.pattern.back() == "*" && branch.pattern.size() < elements.size() &&
            follows(elements, branch.pattern, keys) && branch.kind->find(keys))
            return true;
    }
    return false;
}

std::optional<std::set<std::string>> Tree::children(std::string_view path) const {
    const std::string prefix = path == "/" ? "/" : std::string{path} + "/";
    if (root_.starts_with(prefix)) {
        const std::size_t end = root_.find('/', prefix.size());
        return std::set{root_.substr(prefix.size(), end == std::string::npos ? end : end - prefix.size())};
    }
    const auto elements = below_root(path);
    if (!elements) return std::nullopt;
    std::set<std::string> names;
    bool leads_on = find(path).has_value();
    for (const auto& branch : branches_) {
        Keys keys;
        if (branch.pattern.size() <= elements->size() || !follows(*elements, branch.pattern, keys)) continue;
        const std::string& next = branch.pattern[elements->size()];
        if (keys.empty() || exists_above(*elements)) leads_on = true;
        if (next != "*")
            names.insert(next);
        else if (branch.pattern.size() == elements->size() + 1)  // else a shorter pattern lists them
            branch.kind->list(keys, [&names](std::string_view key, const void*) { names.emplace(key); });
    }
    if (!leads_on) return std::nullopt;
    return names;
}

void Tree::managed(std::string_view path,
                   const std::function<void(const std::string&, std::span<const Offer>, const void*)>& each) const {
    const auto elements = below_root(path);
    if (!elements) return;
    for (const auto& branch : branches_) {
        const Elements manager{
            branch.pattern.begin(),
            branch.pattern.begin() + static_cast<std::ptrdiff_t>(std::min(elements->size(), branch.pattern.size()))};
        Keys keys;
        if (!follows(*elements, manager, keys) || !belongs(branch.pattern, manager)) continue;
        std::string prefix{path};
        for (std::size_t i = elements->size(); i + 1 < branch.pattern.size(); i++) prefix += '/' + branch.pattern[i];
        prefix += '/';
        std::string full;
        branch.kind->list(keys, [&](std::string_view key, const void* view) {
            full.assign(prefix).append(key);
            each(full, branch.offers, view);
        });
    }
}

std::string Tree::manager_of(std::string_view path) const {
    const auto elements = below_root(path);
    for (const auto& branch : branches_) {
        Keys keys;
        if (!elements || branch.pattern.size() != elements->size() || !follows(*elements, branch.pattern, keys))
            continue;
        const Branch* nearest = nullptr;
        for (const auto& one : branches_)
            if (belongs(branch.pattern, one.pattern) && (!nearest || nearest->pattern.size() < one.pattern.size()))
                nearest = &one;
        std::string manager = root_;
        for (std::size_t i = 0; nearest && i < nearest->pattern.size(); i++) manager += '/' + (*elements)[i];
        return manager;
    }
    return root_;
}

}  // namespace virtbus::dbus
