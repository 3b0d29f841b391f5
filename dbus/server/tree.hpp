// SPDX-License-Identifier: LGPL-2.1-or-later
// Which paths exist: patterns such as "domain/*" below one root, each with the kind of object that lives there. Nothing
// is registered per object; a path is parsed and its kind is asked.
#pragma once

#include <functional>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "dbus/server/interface.hpp"

namespace virtbus::dbus {

class Tree {
public:
    /// `root` is the path of the pattern "" and has an ObjectManager.
    explicit Tree(std::string root) : root_{std::move(root)} {}

    /// `*` in the pattern stands for one element of the path.
    void add(std::string_view pattern, Kind& kind);
    /// The objects of a pattern that was added have this interface besides. It shows the same view.
    void extend(std::string_view pattern, const Interface& interface, void* handler);
    const std::string& root() const { return root_; }

    struct Found {
        Kind* kind = nullptr;
        std::span<const Offer> offers;  ///< the kind's own interface first
        Keys keys;
        const void* view = nullptr;
        bool manager = false;  ///< it has an ObjectManager
    };
    /// The object at the path, nothing when there is none.
    std::optional<Found> find(std::string_view path) const;
    /// Which kind would live there, whether or not it does now.
    std::optional<Found> kind_at(std::string_view path) const;
    /// The names of the nodes below the path, nothing when the path leads nowhere.
    std::optional<std::set<std::string>> children(std::string_view path) const;
    /// Calls `each` for all objects that the ObjectManager at the path manages.
    void managed(
        std::string_view path,
        const std::function<void(const std::string& path, std::span<const Offer>, const void* view)>& each) const;
    /// The path of the ObjectManager that objects at the path belong to.
    std::string manager_of(std::string_view path) const;

private:
    using Elements = std::vector<std::string>;
    struct Branch {
        Elements pattern;
        Kind* kind;
        std::vector<Offer> offers;
    };
    std::optional<Elements> below_root(std::string_view path) const;
    bool is_manager(const Elements& pattern) const;
    bool exists_above(const Elements& elements) const;

    std::string root_;
    std::vector<Branch> branches_;
};

}  // namespace virtbus::dbus
