// SPDX-License-Identifier: LGPL-2.1-or-later
#include "service/moments/shelf.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>

#include "service/folder_copy.hpp"
#include "service/moments/entry.hpp"
#include "service/xml/domain_xml.hpp"
#include "service/xml/moment_xml.hpp"

namespace virtbus {

namespace {

constexpr std::string_view index_name = "index", body_suffix = ".xml", store_suffix = ".vars", tpm_suffix = ".tpm";
constexpr Duration body_deadline{60'000}, copy_deadline{120'000};

std::string index_path(const std::string& folder) {
    return fmt::format("{}/{}", folder, index_name);
}

std::optional<MomentIndex> read_index(Files& files, MomentKind kind, const std::string& folder) {
    const auto text = files.read(index_path(folder), MomentIndex::longest_text);
    if (!text) return std::nullopt;
    return MomentIndex::decode(kind, *text);
}

std::optional<DomainConfig> understood(const std::string& domain) try {
    if (domain.empty()) return std::nullopt;
    return xml::parse_domain(domain).config;
} catch (const Error&) {
    return std::nullopt;
}

MomentEntry entry_in(MomentKind kind, const std::string& body) {
    const auto made = [](const auto& config) {
        xml::require_moment_name("moment", config.name);
        const auto domain = understood(config.domain);
        return entry_of(config, domain ? &*domain : nullptr);
    };
    return kind == MomentKind::snapshot ? made(xml::parse_snapshot(body)) : made(xml::parse_checkpoint(body));
}

}  // namespace

MomentShelf::MomentShelf(Store& store, Kept kind, const std::string& uuid)
    : store_{store},
      kind_{kind == Kept::snapshots ? MomentKind::snapshot : MomentKind::checkpoint},
      folder_{store.path(kind, uuid)} {}

std::string MomentShelf::path(const std::string& id, std::string_view suffix) const {
    return fmt::format("{}/{}{}", folder_, id, suffix);
}

/// Making one that is there would take away what is being written in it.
void MomentShelf::make_folder() {
    auto& files = store_.files();
    if (!files.exists(folder_)) files.make_folder(folder_, 0700);
}

// ---- the index -----------------------------------------------------------------------------------------------------

MomentIndex MomentShelf::load() {
    MomentIndex index{kind_};
    if (!store_.files().exists(folder_)) return index;
    try {
        auto found = read_index(store_.files(), kind_, folder_);
        index = found ? std::move(*found) : rebuilt();
    } catch (const Error& e) {
        set_aside(e.what());
        index = rebuilt();
    }
    if (index.pending.empty()) tidy(index);
    return index;
}

void MomentShelf::set_aside(const std::string& why) {
    const auto from = index_path(folder_), aside = from + ".damaged";
    store_.log().error(
        fmt::format("The index of {}s {} is damaged: {}. It is kept as {}", word(kind_), from, why, aside));
    std::error_code error;
    std::filesystem::rename(from, aside, error);
    if (error) store_.log().error(fmt::format("Setting {} aside failed: {}", from, error.message()));
}

/// What the bodies say of the tree may be older than the last index: who was current, and whose parent has gone since,
/// nobody knows.
MomentIndex MomentShelf::rebuilt() {
    auto& files = store_.files();
    MomentIndex index{kind_};
    std::vector<MomentEntry> found;
    for (const auto& name : files.list(folder_)) {
        if (!name.ends_with(body_suffix)) continue;
        const auto id = name.substr(0, name.size() - body_suffix.size());
        try {
            auto entry = entry_in(kind_, files.read(path(id, body_suffix), longest_body).value_or(""));
            entry.id = id;
            entry.store_kept = has_store(id);
            entry.tpm_kept = has_tpm(id);
            found.push_back(std::move(entry));
        } catch (const Error& e) {
            std::error_code ignored;
            std::filesystem::rename(path(id, body_suffix), path(id, ".xml.damaged"), ignored);
            store_.log().error(
                fmt::format("{}/{} is of no use and kept with .damaged behind its name: {}", folder_, name, e.what()));
        }
    }
    if (found.empty()) return index;
    index.adopt(std::move(found));
    store_.log().warning(
        fmt::format("The index {} has been made anew from {} {}s; none is the current one, and one whose parent is not "
                    "there has none",
                    index_path(folder_), index.size(), word(kind_)));
    try {
        files.write_volatile(index_path(folder_), index.encode(), 0600);
    } catch (const Error& e) {
        store_.log().error(fmt::format("The index {} could not be written: {}", index_path(folder_), e.what()));
    }
    return index;
}

/// What a daemon that died between body and index has left. Without an index everything may be of use.
void MomentShelf::tidy(const MomentIndex& index) {
    if (!store_.files().exists(index_path(folder_))) return;
    store_.files().make_folder(folder_, 0700);  // which takes away what was being written
    std::set<std::string, std::less<>> ids;
    for (const auto* entry : index.list()) ids.insert(entry->id);
    bool other = false;
    for (const auto& name : store_.files().list(folder_)) {
        const auto dot = name.find('.');
        const auto suffix = dot == name.npos ? std::string_view{} : std::string_view{name}.substr(dot);
        const bool ours =
            suffix == body_suffix || suffix == store_suffix || suffix == tpm_suffix || suffix.ends_with(".new");
        if (ours && !ids.contains(name.substr(0, dot))) {
            std::error_code error;
            std::filesystem::remove_all(folder_ + '/' + name, error);
            if (error) store_.log().warning(fmt::format("{}/{} stays: {}", folder_, name, error.message()));
        } else if (name != index_name) {
            other = true;
        }
    }
    if (other || !index.empty() || !index.made.empty()) return;
    std::error_code ignored;
    std::filesystem::remove_all(folder_, ignored);
}

Task<> MomentShelf::save(const MomentIndex& index) {
    make_folder();
    return store_.files().write(index_path(folder_), index.encode(), 0600);
}

// ---- bodies and stores ---------------------------------------------------------------------------------------------

Task<> MomentShelf::write_body(std::string id, std::string text) {
    make_folder();
    return store_.files().write(path(id, body_suffix), std::move(text), 0600);
}

Task<std::string> MomentShelf::read_body(std::string id) {
    const auto from = path(id, body_suffix);
    auto work = [&files = store_.files(), from] { return files.read(from, longest_body); };
    auto text = co_await store_.workers().run("reading " + from, std::move(work), in(body_deadline));
    if (!text) throw Error{Code::internal, fmt::format("the XML of the {} is gone: {} is missing", word(kind_), from)};
    co_return std::move(*text);
}

Task<> MomentShelf::remove(std::string id) {
    co_await store_.files().remove(path(id, body_suffix));
    if (has_store(id)) co_await store_.files().remove(path(id, store_suffix));
    if (!has_tpm(id)) co_return;
    const auto folder = path(id, tpm_suffix);
    co_await store_.workers().run("removing " + folder, [folder] { remove_folder(folder); }, in(copy_deadline));
}

Task<> MomentShelf::keep_store(std::string id, std::string store) {
    make_folder();
    auto work = [from = store, to = path(id, store_suffix)] { copy_file(from, to); };
    return store_.workers().run("keeping " + store, std::move(work), in(copy_deadline));
}

Task<> MomentShelf::bring_store(std::string id, std::string store) {
    auto work = [from = path(id, store_suffix), to = store] { copy_file(from, to); };
    return store_.workers().run("bringing back " + store, std::move(work), in(copy_deadline));
}

namespace {

/// swtpm keeps its state in a folder or in one file.
void copy_tpm(const std::string& from, const std::string& to) {
    std::filesystem::is_regular_file(std::filesystem::symlink_status(from)) ? copy_file(from, to)
                                                                            : copy_folder(from, to);
}

}  // namespace

Task<> MomentShelf::keep_tpm(std::string id, std::string state) {
    make_folder();
    auto work = [from = state, to = path(id, tpm_suffix)] { copy_tpm(from, to); };
    return store_.workers().run("keeping " + state, std::move(work), in(copy_deadline));
}

Task<> MomentShelf::bring_tpm(std::string id, std::string state) {
    auto work = [from = path(id, tpm_suffix), to = state] { copy_tpm(from, to); };
    return store_.workers().run("bringing back " + state, std::move(work), in(copy_deadline));
}

Task<> MomentShelf::share_stores(std::string from, std::string to) {
    if (has_store(from)) co_await keep_store(to, path(from, store_suffix));
    if (has_tpm(from)) co_await keep_tpm(to, path(from, tpm_suffix));
}

bool MomentShelf::has_store(const std::string& id) const {
    return store_.files().exists(path(id, store_suffix));
}

bool MomentShelf::has_tpm(const std::string& id) const {
    return store_.files().exists(path(id, tpm_suffix));
}

std::string MomentShelf::new_id() const {
    return xml::random_uuid();
}

std::size_t count_moments(Files& files, MomentKind kind, const std::string& folder) {
    std::size_t least = 0;
    try {
        if (const auto index = read_index(files, kind, folder)) return index->size();
    } catch (const Error&) {
        least = 1;  // something is there, and if it is the folder that cannot be read, listing it throws as well
    }
    std::size_t bodies = 0;
    for (const auto& name : files.list(folder)) bodies += name.ends_with(body_suffix);
    return std::max(bodies, least);
}

}  // namespace virtbus
