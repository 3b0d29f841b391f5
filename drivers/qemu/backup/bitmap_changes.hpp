// SPDX-License-Identifier: LGPL-2.1-or-later
// Changes of bitmaps as the actions of one QMP transaction. Pure; sending them is bitmap_work.hpp's.
#pragma once

#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "qemu/backup/disk_chain.hpp"
#include "virtbus/disk_work.hpp"

namespace virtbus::qemu {

class BitmapActions {
public:
    /// `who` names the guest in messages.
    BitmapActions(std::string who, std::map<std::string, DiskChain> chains)
        : who_{std::move(who)}, chains_{std::move(chains)} {}

    /// NoSuchDevice, InvalidState: the disk or the bitmap is not there; CheckpointInconsistent: it was not closed.
    void add(const BitmapChange& change);
    /// A bitmap on `node` that does not record: what `sources` of the disk have between them.
    void add_union(const std::string& disk, const std::vector<std::string>& sources, const std::string& node,
                   const std::string& name);
    void add(std::string type, nlohmann::json data);

    const DiskChain& chain(const std::string& disk) const;
    const nlohmann::json& list() const { return actions_; }

private:
    const NodeBitmap& get(const ChainNode& node, const std::string& disk, const std::string& name) const;
    ChainNode& top(const std::string& disk);
    nlohmann::json sources(const std::string& disk, const std::string& name) const;
    void create(const std::string& disk, const BitmapChange& change);

    std::string who_;
    std::map<std::string, DiskChain> chains_;  // with what the actions will have done
    nlohmann::json actions_ = nlohmann::json::array();
};

}  // namespace virtbus::qemu
