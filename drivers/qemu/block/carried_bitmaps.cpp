// SPDX-License-Identifier: LGPL-2.1-or-later
#include "qemu/block/carried_bitmaps.hpp"

#include <map>
#include <nlohmann/json.hpp>

#include "qemu/json.hpp"

namespace virtbus::qemu {

using nlohmann::json;

namespace {

struct Carried {
    json sources = json::array();
    std::uint64_t granularity = 0;
    bool at_top = false, records = false;  ///< in the first of the images that leave
    bool broken = false;
};

const json& find_node(const json& nodes, const std::string& name) {
    static const json none;
    for (const auto& node : nodes)
        if (text(node, "node-name") == name) return node;
    return none;
}

std::map<std::string, Carried> collect(const json& nodes, const LeavingImages& leaving) {
    std::map<std::string, Carried> all;
    for (const auto& name : leaving.from)
        for (const auto& bitmap : member(find_node(nodes, name), "dirty-bitmaps")) {
            if (!flag(bitmap, "persistent")) continue;
            auto& carried = all[text(bitmap, "name")];
            carried.broken = carried.broken || flag(bitmap, "inconsistent");
            carried.sources.push_back({{"node", name}, {"name", text(bitmap, "name")}});
            if (carried.granularity == 0) carried.granularity = number(bitmap, "granularity");
            if (name != leaving.from.front()) continue;
            carried.at_top = true;
            carried.records = flag(bitmap, "recording");
        }
    return all;
}

class Actions {
public:
    Actions(const json& nodes, const LeavingImages& leaving) : leaving_{leaving} {
        for (const auto& bitmap : member(find_node(nodes, leaving.into), "dirty-bitmaps"))
            there_.emplace(text(bitmap, "name"), bitmap);
    }
    json take() { return std::move(list_); }

    void carry(const std::string& name, const Carried& carried) {
        const auto found = there_.find(name);
        const bool there = found != there_.end();
        if (there && flag(found->second, "inconsistent")) return;  // so is the union
        if (carried.broken) {
            // A bitmap that records while the bytes come has them, whatever was known of them before.
            const bool has_them = there && leaving_.takes_place && flag(found->second, "recording");
            if (there && !has_them) add("remove", name);
            return;
        }
        if (!there) add("add", name, {{"persistent", true}, {"granularity", carried.granularity}, {"disabled", true}});
        json merge{{"node", leaving_.into}, {"target", name}, {"bitmaps", carried.sources}};
        list_.push_back({{"type", "block-dirty-bitmap-merge"}, {"data", std::move(merge)}});
        if (leaving_.takes_place && carried.at_top) add(carried.records ? "enable" : "disable", name);
    }

private:
    void add(const std::string& what, const std::string& name, json more = json::object()) {
        more["node"] = leaving_.into;
        more["name"] = name;
        list_.push_back({{"type", "block-dirty-bitmap-" + what}, {"data", std::move(more)}});
    }

    const LeavingImages& leaving_;
    std::map<std::string, json> there_;
    json list_ = json::array();
};

}  // namespace

json carried_bitmaps(const json& nodes, const LeavingImages& leaving) {
    // No other format keeps any: there the checkpoints are at their end, and whoever asks for one is told so.
    if (text(find_node(nodes, leaving.into), "drv", "qcow2") != "qcow2") return json::array();
    Actions actions{nodes, leaving};
    for (const auto& [name, carried] : collect(nodes, leaving)) actions.carry(name, carried);
    return actions.take();
}

}  // namespace virtbus::qemu
