// SPDX-License-Identifier: LGPL-2.1-or-later
#include "service/moments/chain_graph.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>

#include "service/moments/looking.hpp"
#include "virtbus/fd.hpp"

namespace virtbus {

namespace {

constexpr std::size_t deepest = 200, most_entries = 4096;

bool is_same(const std::string& one, const std::string& two) {
    std::error_code ignored;
    return one == two || std::filesystem::equivalent(one, two, ignored);
}

/// Regular files of the folder that begin as qcow2 images do.
std::vector<std::string> qcow2_files(const std::string& folder) {
    std::vector<std::string> found;
    std::error_code error;
    std::size_t seen = 0;
    for (std::filesystem::directory_iterator entry{folder, error}, end; !error && entry != end && seen < most_entries;
         entry.increment(error), ++seen) {
        const auto path = entry->path().string();
        const Fd file{::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK)};
        struct stat facts{};
        char magic[4]{};
        if (!file || ::fstat(file.get(), &facts) != 0 || !S_ISREG(facts.st_mode)) continue;
        if (::pread(file.get(), magic, sizeof magic, 0) == 4 && std::string_view{magic, 4} == "QFI\xfb")
            found.push_back(path);
    }
    return found;
}

}  // namespace

Task<> ChainGraph::follow(ImageFile top, std::stop_token stop) {
    for (std::size_t depth = 0; depth < deepest; ++depth) {
        if (top.path.empty() || images_of_.contains(top.path)) co_return;
        if (!(co_await look_at(workers_, top.path, stop)).there) co_return;
        const auto path = top.path;
        images_of_.emplace(path, top);
        const auto facts = co_await images_.examine(top, stop);
        if (!facts.tags.empty()) with_snapshots_.insert(path);
        if (!facts.backing) co_return;
        below_.insert_or_assign(path, *facts.backing);
        top = *facts.backing;
    }
}

std::vector<ImageFile> ChainGraph::on_top_of(const std::string& path) const {
    std::vector<ImageFile> above;
    for (const auto& [upper, lower] : below_)
        if (lower.path == path) above.push_back(images_of_.at(upper));
    return above;
}

const ImageFile* ChainGraph::below(const std::string& path) const {
    const auto found = below_.find(path);
    return found == below_.end() ? nullptr : &found->second;
}

const ImageFile* ChainGraph::find(const std::string& path) const {
    const auto found = images_of_.find(path);
    return found == images_of_.end() ? nullptr : &found->second;
}

std::vector<ImageFile> ChainGraph::chain(const std::string& top) const {
    std::vector<ImageFile> images;
    const auto* next = find(top);
    while (next && images.size() < deepest) {
        images.push_back(*next);
        next = below(next->path);
    }
    return images;
}

Task<std::vector<std::string>> ChainGraph::strangers(std::string path, std::stop_token stop) {
    const auto folder = path.substr(0, path.rfind('/') + 1);
    const auto files = co_await workers_.run(
        "looking for other images on " + path, [folder] { return qcow2_files(folder); }, in(Duration{30'000}), stop);
    std::vector<std::string> found;
    for (const auto& file : files) {
        if (knows(file)) continue;
        ImageFacts facts;
        try {
            facts = co_await images_.examine({file, "qcow2"}, stop);
        } catch (const Error& e) {
            if (e.code() == Code::cancelled) throw;
            continue;  // no image that anybody could use
        }
        if (facts.backing && is_same(facts.backing->path, path)) found.push_back(file);
    }
    co_return found;
}

}  // namespace virtbus
