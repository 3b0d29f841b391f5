// SPDX-License-Identifier: LGPL-2.1-or-later
#include "service/moments/other_users.hpp"

#include <sys/stat.h>

#include <map>

#include "service/moments/chain_graph.hpp"

namespace virtbus {

namespace {

constexpr Duration patience{30'000};

using Identity = std::pair<dev_t, ino_t>;

std::optional<Identity> identity_of(const std::string& path) {
    struct stat facts{};
    if (::stat(path.c_str(), &facts) != 0) return std::nullopt;
    // A device node's own inode says nothing of the device.
    if (S_ISBLK(facts.st_mode)) return Identity{~dev_t{0}, facts.st_rdev};
    return Identity{facts.st_dev, facts.st_ino};
}

/// For a worker: a disk may hang.
std::optional<ImageUse> first_of(const std::vector<ImageUse>& uses, const std::vector<std::string>& images) {
    std::map<Identity, std::string> wanted;
    for (const auto& image : images)
        if (const auto identity = identity_of(image)) wanted.emplace(*identity, image);
    for (const auto& use : uses)
        if (const auto identity = identity_of(use.image.path))
            if (const auto found = wanted.find(*identity); found != wanted.end())
                return ImageUse{use.domain, {found->second, use.image.format}};
    return std::nullopt;
}

}  // namespace

Task<std::optional<ImageUse>> find_use(std::vector<ImageUse> uses, std::vector<std::string> images, Images& tool,
                                       Workers& workers, std::stop_token stop) {
    std::vector<ImageUse> all;
    for (const auto& use : uses) {
        all.push_back(use);
        if (use.image.format.empty() || use.image.format == "raw") continue;
        ChainGraph graph{tool, workers};
        try {
            co_await graph.follow(use.image, stop);
        } catch (const Error& error) {
            if (error.code() == Code::cancelled || error.code() == Code::timeout) throw;
        }
        for (auto& image : graph.chain(use.image.path)) all.push_back({use.domain, std::move(image)});
    }
    co_return co_await workers.run(
        "looking for others who use an image",
        [all = std::move(all), images = std::move(images)] { return first_of(all, images); }, in(patience), stop);
}

}  // namespace virtbus
