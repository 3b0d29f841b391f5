// SPDX-License-Identifier: LGPL-2.1-or-later
// Which image lies on which, as far as a domain's definitions and snapshots lead to them. Asks the driver for what each
// image names; remembers the answers.
#pragma once

#include <map>
#include <set>
#include <stop_token>
#include <string>
#include <vector>

#include "virtbus/disk_work.hpp"
#include "virtbus/ports.hpp"

namespace virtbus {

class ChainGraph {
public:
    ChainGraph(Images& images, Workers& workers) : images_{images}, workers_{workers} {}

    /// Follows the chain from there down. An image that is not there is left out.
    Task<> follow(ImageFile top, std::stop_token stop);

    /// Images that lie directly on it.
    std::vector<ImageFile> on_top_of(const std::string& path) const;
    /// What it lies on; null: nothing known.
    const ImageFile* below(const std::string& path) const;
    /// It has internal snapshots, whoever made them.
    bool holds_snapshots(const std::string& path) const { return with_snapshots_.contains(path); }
    bool knows(const std::string& path) const { return images_of_.contains(path); }
    const ImageFile* find(const std::string& path) const;
    /// From `top` down, `top` first.
    std::vector<ImageFile> chain(const std::string& top) const;

    /// qcow2 images in the same folder that lie on `path` and that nobody led to. Bounded.
    Task<std::vector<std::string>> strangers(std::string path, std::stop_token stop);

private:
    Images& images_;
    Workers& workers_;
    std::map<std::string, ImageFile> images_of_;
    std::map<std::string, ImageFile> below_;
    std::set<std::string> with_snapshots_;
};

}  // namespace virtbus
