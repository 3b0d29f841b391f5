// SPDX-License-Identifier: LGPL-2.1-or-later
#include "service/networking/filters.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <filesystem>

#include "service/networking/filter_tree.hpp"
#include "service/owned_file.hpp"
#include "service/places.hpp"
#include "service/xml/filter_xml.hpp"
#include "virtbus/error.hpp"

namespace virtbus {

namespace {

constexpr std::size_t most_filters = 256;  ///< that one interface comes to

[[noreturn]] void refuse(const std::string& why) {
    throw Error{Code::unsupported_configuration, why};
}

/// One name of a file, so that it cannot lead out of the folder it is in.
bool is_name(std::string_view name) {
    constexpr std::size_t longest = 200;
    return !name.empty() && name.size() <= longest && !name.starts_with('.') &&
           std::ranges::none_of(name, [](unsigned char c) { return c < 0x20 || c == 0x7f || c == '/'; });
}

std::string shipped_folder() {
    std::error_code error;
    const auto self = std::filesystem::read_symlink("/proc/self/exe", error);
    const auto beside = self.parent_path() / "data" / "filters";
    return !error && std::filesystem::exists(beside, error) ? beside.string() : std::string{places::data} + "/filters";
}

}  // namespace

NetworkFilters::NetworkFilters(Files& files, const Folders& folders)
    : files_{files}, folders_{folders.config + "/nwfilter", shipped_folder()} {}

Task<NetworkFilter> NetworkFilters::get(std::string name, Deadline deadline, std::stop_token stop) {
    if (!is_name(name)) refuse(fmt::format("'{}' is no name of a network filter", name.substr(0, 64)));
    std::vector<std::string> paths;
    for (const auto& folder : folders_) paths.push_back(fmt::format("{}/{}.xml", folder, name));
    const auto path = std::ranges::find_if(paths, [this](const auto& each) { return files_.exists(each); });
    if (path == paths.end())
        refuse(
            fmt::format("there is no network filter '{}', neither {}; put its definition, as 'virsh "
                        "nwfilter-dumpxml' prints it, into the first",
                        name, fmt::join(paths, " nor ")));
    const Fd fd = co_await files_.open(*path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK, 0, std::nullopt, deadline, stop);
    const auto text = read_owned(fd, {.words = "the definition of a network filter " + *path,
                                      .path = *path,
                                      .longest = xml::largest_filter,
                                      .forbidden = 022,
                                      .rights = "written",
                                      .right_mode = "go-w"});
    NetworkFilter filter;
    try {
        filter = xml::parse_filter(text);
    } catch (const Error& error) {
        refuse(fmt::format("{}: {}", *path, error.what()));
    }
    if (filter.name != name)
        refuse(fmt::format("{} defines the network filter '{}', not '{}'", *path, filter.name, name));
    co_return filter;
}

/// With all that it refers to. Circles end here by themselves; that they are wrong is for the tree to say.
Task<NetworkFilters::Book> NetworkFilters::gather(std::string name, Deadline deadline, std::stop_token stop) {
    Book book;
    std::vector<std::pair<std::string, std::string>> wanted{{std::move(name), ""}};  // and who wants it
    while (!wanted.empty()) {
        const auto [each, by] = std::move(wanted.back());
        wanted.pop_back();
        if (book.contains(each)) continue;
        if (book.size() == most_filters)
            refuse(fmt::format("more than {} network filters are referred to", most_filters));
        NetworkFilter filter;
        try {
            filter = co_await get(each, deadline, stop);
        } catch (const Error& error) {
            if (error.code() != Code::unsupported_configuration || by.empty()) throw;
            refuse(fmt::format("network filter '{}': {}", by, error.what()));
        }
        for (const auto& entry : filter.entries)
            if (const auto* reference = std::get_if<FilterRef>(&entry)) wanted.emplace_back(reference->filter, each);
        book.emplace(each, std::move(filter));
    }
    co_return book;
}

Task<std::shared_ptr<const LinkFilter>> NetworkFilters::resolve(Interface interface, Deadline deadline,
                                                                std::stop_token stop) {
    if (!interface.filterref) co_return nullptr;
    try {
        const auto book = co_await gather(interface.filterref->filter, deadline, std::move(stop));
        co_return std::make_shared<const LinkFilter>(
            resolve_filter(interface, [&](const std::string& name) -> const NetworkFilter& { return book.at(name); }));
    } catch (const Error& error) {
        if (error.code() != Code::unsupported_configuration) throw;
        refuse(fmt::format("interface {}: {} (definitions are looked for in {})", interface.mac, error.what(),
                           fmt::join(folders_, ", then ")));
    }
}

Task<std::vector<std::string>> NetworkFilters::problems(std::vector<Interface> interfaces, Deadline deadline) {
    std::vector<std::string> problems;
    for (const auto& interface : interfaces) {
        try {
            co_await resolve(interface, deadline);
        } catch (const Error& error) {
            if (error.code() != Code::unsupported_configuration) throw;
            problems.emplace_back(error.what());
        }
    }
    co_return problems;
}

}  // namespace virtbus
