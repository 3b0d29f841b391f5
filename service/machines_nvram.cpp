// SPDX-License-Identifier: LGPL-2.1-or-later
// Variable stores that nobody has any more.
#include <fmt/format.h>

#include <algorithm>

#include "service/machines.hpp"
#include "service/names.hpp"

namespace virtbus {

MachinePtr Machines::owner_of_store(const std::string& path) const {
    for (const auto& [uuid, machine] : by_uuid_)
        if (machine->has_store(path)) return machine;
    return nullptr;
}

Task<std::vector<OrphanedStore>> Machines::orphaned_nvram() {
    auto stores = co_await context_.store.nvram_stores();
    std::vector<OrphanedStore> orphans;
    for (auto& store : stores)
        if (!stores_going_.contains(store.path) && !owner_of_store(store.path))
            orphans.push_back({std::move(store.path), std::move(store.domain), store.size});
    co_return orphans;
}

Task<> Machines::delete_orphaned_nvram(std::string path) {
    const auto orphans = co_await orphaned_nvram();
    if (std::ranges::find(orphans, path, &OrphanedStore::path) == orphans.end()) {
        const auto told = printable(path);
        if (!context_.store.is_in_nvram_folder(path))
            throw Error{Code::invalid_args,
                        fmt::format("'{}' is no variable store in {}; only those that ListOrphanedNVRAM tells can be "
                                    "deleted",
                                    told, context_.store.folder(Kept::nvram))};
        if (const auto owner = owner_of_store(path))
            throw Error{Code::invalid_args,
                        fmt::format("the variable store '{}' is that of domain '{}'; undefine it with "
                                    "'nvram'",
                                    told, owner->view().name)};
        throw Error{Code::invalid_args,
                    fmt::format("'{}' is no variable store: there is no such file, or it is a link or the like", told)};
    }
    stores_going_.insert(path);
    std::exception_ptr error;
    try {
        co_await context_.store.remove_nvram(path);
    } catch (...) {
        error = std::current_exception();
    }
    stores_going_.erase(path);
    if (error) std::rethrow_exception(error);
}

void Machines::require_store_stays(const std::string& path) {
    if (stores_going_.contains(path))
        throw Error{Code::busy, fmt::format("the variable store {} is being deleted; try again", path)};
}

}  // namespace virtbus
