// SPDX-License-Identifier: LGPL-2.1-or-later
#include "service/store.hpp"

#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <utility>

#include "service/moments/shelf.hpp"
#include "virtbus/error.hpp"

namespace virtbus {

namespace {

struct Place {
    Kept kind;
    std::string Folders::* root;
    std::string_view folder;
    std::string_view suffix;  ///< after the uuid
};

/// The table of files. A kind whose things are folders has no suffix.
constexpr std::array places{
    Place{Kept::definition, &Folders::config, "domain", ".xml"},
    Place{Kept::autostart, &Folders::config, "autostart", ".xml"},
    Place{Kept::managed_save, &Folders::state, "save", ".save"},
    Place{Kept::snapshots, &Folders::state, "snapshots", ""},
    Place{Kept::checkpoints, &Folders::state, "checkpoints", ""},
    Place{Kept::nvram, &Folders::state, "nvram", "_VARS"},
    Place{Kept::tpm, &Folders::state, "tpm", ""},
    Place{Kept::undefining, &Folders::state, "undefining", ".journal"},
    Place{Kept::status, &Folders::runtime, "domain", ".status"},
    Place{Kept::autostart_done, &Folders::runtime, "", "autostart-done"},
};
static_assert([] {
    for (std::size_t i = 0; i < places.size(); ++i)
        if (static_cast<std::size_t>(places[i].kind) != i) return false;
    return true;
}());

constexpr std::array nvram_formats{std::string_view{".fd"}, std::string_view{".qcow2"}};
constexpr std::size_t definition_limit = 16u << 20, status_limit = 64u << 20, journal_limit = 1u << 20;

const Place& place(Kept kind) {
    return places[static_cast<std::size_t>(kind)];
}

std::string without(std::string_view name, std::string_view suffix) {
    return std::string{name.substr(0, name.size() - suffix.size())};
}

}  // namespace

Store::Store(Workers& workers, Files& files, Log& log, Folders folders, std::string boot_id)
    : workers_{workers}, files_{files}, log_{log}, folders_{std::move(folders)}, boot_id_{std::move(boot_id)} {}

void Store::prepare() {
    for (const auto& entry : places) files_.make_folder(folder(entry.kind), 0700);
}

std::string Store::folder(Kept kind) const {
    const auto& entry = place(kind);
    return entry.folder.empty() ? folders_.*entry.root : fmt::format("{}/{}", folders_.*entry.root, entry.folder);
}

std::string Store::path(Kept kind, std::string_view uuid) const {
    return fmt::format("{}/{}{}", folder(kind), uuid, place(kind).suffix);
}

// ---- definitions ---------------------------------------------------------------------------------------------------

std::vector<Store::DefinitionFile> Store::definitions() {
    std::vector<DefinitionFile> all;
    const auto suffix = place(Kept::definition).suffix;
    const auto in = folder(Kept::definition);
    for (const auto& name : files_.list(in)) {
        if (!name.ends_with(suffix)) continue;
        DefinitionFile file{.path = in + '/' + name, .stem = without(name, suffix), .text = {}, .problem = {}};
        try {
            if (auto text = files_.read(file.path, definition_limit)) file.text = std::move(*text);
        } catch (const Error& e) {
            file.problem = e.what();
        }
        all.push_back(std::move(file));
    }
    return all;
}

Task<> Store::write_definition(std::string path, std::string text) {
    co_await files_.write(std::move(path), std::move(text), 0600);
}

Task<> Store::remove_file(std::string path) {
    co_await files_.remove(std::move(path));
}

Task<> Store::remove_definition(std::string uuid, std::string definition) {
    co_await files_.remove(std::move(definition));
    // A link that leads nowhere starts nothing, so it is no reason to say that the domain is still there.
    try {
        co_await files_.remove(path(Kept::autostart, uuid));
    } catch (const Error& e) {
        log_.warning(fmt::format("The autostart link of {} stays behind: {}", uuid, e.what()));
    }
}

std::set<std::string> Store::autostarts() {
    std::set<std::string> uuids;
    const auto suffix = place(Kept::autostart).suffix;
    for (const auto& name : files_.list(folder(Kept::autostart)))
        if (name.ends_with(suffix) && files_.exists(folder(Kept::autostart) + '/' + name))
            uuids.insert(without(name, suffix));
    return uuids;
}

Task<> Store::set_autostart(std::string uuid, std::string definition, bool on) {
    auto link = path(Kept::autostart, uuid);
    if (on)
        co_await files_.link(std::move(definition), std::move(link));
    else
        co_await files_.remove(std::move(link));
}

// ---- live status ---------------------------------------------------------------------------------------------------

void Store::write_status(const LiveStatus& status) {
    files_.write_volatile(path(Kept::status, status.uuid), encode(status), 0600);
}

void Store::remove_status(const std::string& uuid) {
    files_.remove_volatile(path(Kept::status, uuid));
}

std::vector<LiveStatus> Store::statuses() {
    std::vector<LiveStatus> live;
    const auto suffix = place(Kept::status).suffix;
    const auto in = folder(Kept::status);
    for (const auto& name : files_.list(in)) {
        if (!name.ends_with(suffix)) continue;
        const auto path = in + '/' + name;
        try {
            const auto content = files_.read(path, status_limit);
            if (!content) continue;
            auto status = decode_status(*content);
            if (status.uuid != without(name, suffix)) throw Error{Code::internal, "it speaks of domain " + status.uuid};
            if (status.boot_id != boot_id_) {
                files_.remove_volatile(path);
                continue;
            }
            live.push_back(std::move(status));
        } catch (const Error& e) {
            set_aside(path, e.what());
        }
    }
    return live;
}

void Store::set_aside(const std::string& path, const std::string& why) {
    const auto aside = path + ".damaged";
    log_.error(
        fmt::format("The status file {} is damaged: {}. It is kept as {}; a guest it spoke of may still run and "
                    "is not known any more",
                    path, why, aside));
    try {
        const auto content = files_.read(path, status_limit);
        files_.write_volatile(aside, content.value_or(""), 0600);
        files_.remove_volatile(path);
    } catch (const Error& e) {
        log_.error(fmt::format("Setting {} aside failed: {}", path, e.what()));
    }
}

bool Store::autostart_done() {
    const auto mark = files_.read(path(Kept::autostart_done, ""), 4096);
    return mark && *mark == boot_id_;
}

void Store::mark_autostart_done() {
    files_.write_volatile(path(Kept::autostart_done, ""), boot_id_, 0600);
}

// ---- what outlives a run -------------------------------------------------------------------------------------------

bool Store::exists(const std::string& path) {
    return files_.exists(path);
}

bool Store::has_managed_save(std::string_view uuid) {
    return files_.exists(path(Kept::managed_save, uuid));
}

std::set<std::string> Store::managed_saves() {
    std::set<std::string> uuids;
    const auto suffix = place(Kept::managed_save).suffix;
    for (const auto& name : files_.list(folder(Kept::managed_save)))
        if (name.ends_with(suffix)) uuids.insert(without(name, suffix));
    return uuids;
}

std::size_t Store::snapshots(std::string_view uuid) {
    return count_moments(files_, MomentKind::snapshot, path(Kept::snapshots, uuid));
}

std::size_t Store::checkpoints(std::string_view uuid) {
    return count_moments(files_, MomentKind::checkpoint, path(Kept::checkpoints, uuid));
}

std::vector<std::string> Store::nvram(std::string_view uuid) {
    std::vector<std::string> there;
    for (const auto format : nvram_formats)
        if (auto file = path(Kept::nvram, uuid) + std::string{format}; files_.exists(file))
            there.push_back(std::move(file));
    return there;
}

namespace {

constexpr std::string_view record_suffix = ".domain";
constexpr std::string_view unfinished_suffix = ".new";

/// What the bus can carry.
bool is_utf8(std::string_view text) {
    for (std::size_t i = 0; i < text.size();) {
        const auto lead = static_cast<unsigned char>(text[i]);
        const std::size_t more = lead < 0x80 ? 0 : lead >= 0xc2 && lead < 0xe0 ? 1 : lead < 0xf0 ? 2 : 3;
        const bool first = lead < 0x80 || (lead >= 0xc2 && lead < 0xf5);
        if (!first || i + more >= text.size()) return false;
        for (std::size_t k = 1; k <= more; ++k)
            if ((static_cast<unsigned char>(text[i + k]) & 0xc0) != 0x80) return false;
        const auto second = more > 0 ? static_cast<unsigned char>(text[i + 1]) : 0;
        if ((lead == 0xe0 && second < 0xa0) || (lead == 0xed && second > 0x9f) || (lead == 0xf0 && second < 0x90) ||
            (lead == 0xf4 && second > 0x8f))
            return false;
        i += more + 1;
    }
    return text.find('\0') == text.npos;
}

std::string recorded_domain(Files& files, const std::string& store) {
    constexpr std::size_t longest_name = 4096;
    try {
        const auto name = files.read(store + std::string{record_suffix}, longest_name);
        return name && is_utf8(*name) ? *name : std::string{};
    } catch (const Error&) {
        return {};
    }
}

std::vector<Store::VariableStore> stores_in(Files& files, const std::string& folder) {
    std::vector<Store::VariableStore> stores;
    for (const auto& name : files.list(folder)) {
        if (name.ends_with(record_suffix) || name.ends_with(unfinished_suffix) || !is_utf8(name)) continue;
        struct stat facts{};
        auto path = folder + '/' + name;
        if (::lstat(path.c_str(), &facts) != 0 || !S_ISREG(facts.st_mode)) continue;
        auto domain = recorded_domain(files, path);
        stores.push_back({std::move(path), std::move(domain), static_cast<std::uint64_t>(facts.st_size)});
    }
    return stores;
}

}  // namespace

Task<std::vector<Store::VariableStore>> Store::nvram_stores() {
    auto work = [&files = files_, folder = folder(Kept::nvram)] { return stores_in(files, folder); };
    co_return co_await workers_.run("listing the variable stores", std::move(work), in(Duration{30'000}));
}

bool Store::is_in_nvram_folder(const std::string& path) const {
    const auto in = folder(Kept::nvram) + '/';
    return path.size() > in.size() && path.starts_with(in) && path.find('/', in.size()) == path.npos;
}

Task<> Store::record_nvram(std::string path, std::string domain) {
    co_await files_.write(path + std::string{record_suffix}, std::move(domain), 0600);
}

bool Store::has_nvram_record(const std::string& path) {
    return files_.exists(path + std::string{record_suffix});
}

Task<> Store::forget_nvram_record(std::string path) {
    if (has_nvram_record(path)) co_await files_.remove(path + std::string{record_suffix});
}

Task<> Store::remove_nvram(std::string path) {
    co_await files_.remove(path);
    if (is_in_nvram_folder(path)) co_await forget_nvram_record(std::move(path));
}

bool Store::has_tpm(std::string_view uuid) {
    return files_.exists(path(Kept::tpm, uuid));
}

Task<> Store::remove_all(Kept kind, std::string uuid) {
    if (kind == Kept::nvram) {
        for (const auto& file : nvram(uuid)) co_await remove_nvram(file);
        co_return;
    }
    auto target = path(kind, uuid);
    if (!place(kind).suffix.empty()) {
        co_await files_.remove(std::move(target));
        co_return;
    }
    if (!files_.exists(target)) co_return;
    auto work = [target] {
        std::error_code error;
        std::filesystem::remove_all(target, error);
        if (error) throw Error{Code::internal, fmt::format("cannot remove the folder {}: {}", target, error.message())};
    };
    co_await workers_.run("removing " + target, std::move(work), in(Duration{60'000}));
}

// ---- undefine, whole or not at all ---------------------------------------------------------------------------------

Task<> Store::write_undefining(const Undefining& journal) {
    auto text = fmt::format("definition {}\n", journal.definition);
    for (const auto kind : journal.kinds) text += fmt::format("kind {}\n", place(kind).folder);
    for (const auto& file : journal.files) text += fmt::format("file {}\n", file);
    co_await files_.write(path(Kept::undefining, journal.uuid), std::move(text));
}

Task<> Store::close_undefining(std::string uuid) {
    co_await files_.remove(path(Kept::undefining, uuid));
}

std::vector<Store::Undefining> Store::undefinings() {
    std::vector<Undefining> open;
    const auto suffix = place(Kept::undefining).suffix;
    for (const auto& name : files_.list(folder(Kept::undefining))) {
        if (!name.ends_with(suffix)) continue;
        Undefining journal;
        journal.uuid = without(name, suffix);
        const auto content = files_.read(folder(Kept::undefining) + '/' + name, journal_limit).value_or("");
        for (std::string_view rest = content; !rest.empty();) {
            const auto line = rest.substr(0, rest.find('\n'));
            rest.remove_prefix(std::min(line.size() + 1, rest.size()));
            const auto word = line.substr(0, line.find(' '));
            const auto value = line.substr(std::min(word.size() + 1, line.size()));
            if (word == "definition") journal.definition = value;
            if (word == "file") journal.files.emplace_back(value);
            if (word != "kind") continue;
            const auto* known = std::find_if(places.begin(), places.end(), [&](const Place& entry) {
                return entry.folder == value && entry.root == &Folders::state;
            });
            if (known != places.end()) journal.kinds.push_back(known->kind);
        }
        open.push_back(std::move(journal));
    }
    return open;
}

Task<> Store::carry_out(Undefining journal) {
    for (const auto kind : journal.kinds) co_await remove_all(kind, journal.uuid);
    for (const auto& file : journal.files) co_await remove_nvram(file);
    co_await remove_definition(journal.uuid, journal.definition);
}

}  // namespace virtbus
