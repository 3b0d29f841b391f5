// SPDX-License-Identifier: LGPL-2.1-or-later
// Backups: what is put into QEMU for one, waiting for its jobs, and taking it all away again.
#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <nlohmann/json.hpp>
#include <set>

#include "qemu/backup/bitmap_changes.hpp"
#include "qemu/backup/bitmap_work.hpp"
#include "qemu/backup/clients.hpp"
#include "qemu/json.hpp"
#include "qemu/opening.hpp"

namespace virtbus::qemu {

using nlohmann::json;
using CorePtr = std::shared_ptr<GuestCore>;

namespace {

constexpr std::string_view prefix = "virtbus-backup";
constexpr const char *bitmap_name = "virtbus-backup", *listener_name = "virtbus-backup-nbd";
constexpr Duration sampling{500}, cancelling{30'000};

bool is_ours(std::string_view name) {
    return name.starts_with(prefix);
}

std::string name_of(std::size_t part) {
    return fmt::format("{}-{}", prefix, part);
}

void require_there(const GuestCore& core) {
    if (core.is_gone()) throw Error{Code::hypervisor_failed, fmt::format("QEMU of {} has ended", core.who())};
}

Task<json> ask(CorePtr core, const char* command, json arguments = json::object(), std::stop_token stop = {}) {
    co_return co_await core->open_monitor().execute(command, arguments, core->verb_deadline(), std::move(stop));
}

// ---- putting it there

json file_node(const BackupPart& part, const std::string& name, unsigned set) {
    return {{"driver", part.image.block_device ? "host_device" : "file"},
            {"filename", fmt::format("/dev/fdset/{}", set)},
            {"node-name", name},
            {"auto-read-only", false},
            {"discard", "unmap"}};
}

json format_node(const BackupPart& part, const std::string& name, const std::string& storage, const json& backing,
                 std::uint64_t size) {
    json node{{"driver", part.image.format}, {"file", storage}, {"node-name", name}, {"discard", "unmap"}};
    // A device is seldom as large as what goes to it, and a backup's two sides must be.
    if (part.image.format == "raw" && part.image.block_device && size > 0) node["size"] = size;
    if (part.image.format == "qcow2") node["backing"] = backing;
    return node;
}

/// The image that a disk's bytes go to, or for a pull the scratch image over the disk's own.
Task<> add_image(CorePtr core, BackupPart part, std::size_t number, Resources& resources, json backing,
                 std::uint64_t size, std::stop_token stop) {
    auto file = co_await resources.open_file(part.image.path, Access::read_write);
    require_there(*core);
    // Numbers of the record, so that a later daemon does not use one a second time.
    const auto set = ++core->record.sets;
    core->tell_config();
    co_await core->open_monitor()
        .send("add-fd", json{{"fdset-id", set}}, std::move(file))
        .get(core->verb_deadline(), stop);
    const auto name = name_of(number);
    co_await ask(core, "blockdev-add", file_node(part, name + "-storage", set), stop);
    co_await ask(core, "blockdev-add", format_node(part, name + "-format", name + "-storage", backing, size), stop);
}

void add_job(BitmapActions& actions, const BackupPart& part, std::size_t number, bool pull) {
    const auto name = name_of(number), target = name + "-format";
    const auto& source = actions.chain(part.disk).front().node;
    const bool some = !part.since.empty();
    // A copy of its own: the checkpoints' bitmaps stay free for what else is done with them meanwhile.
    if (some) actions.add_union(part.disk, part.since, pull ? target : source, pull ? part.export_bitmap : bitmap_name);
    json job{{"device", source}, {"target", target}, {"job-id", name}, {"auto-dismiss", false}};
    job["sync"] = pull ? "none" : some ? "bitmap" : "full";
    if (some && !pull) {
        job["bitmap"] = bitmap_name;
        job["bitmap-mode"] = "never";
    }
    actions.add("blockdev-backup", std::move(job));
}

Task<> add_export(CorePtr core, BackupPart part, std::size_t number, std::stop_token stop) {
    json export_{{"type", "nbd"},
                 {"id", name_of(number)},
                 {"node-name", name_of(number) + "-format"},
                 {"name", part.export_name},
                 {"writable", false}};
    if (!part.since.empty()) export_["bitmaps"] = json::array({part.export_bitmap});
    co_await ask(core, "block-export-add", std::move(export_), stop);
}

// ---- jobs

Task<std::vector<json>> jobs_of(CorePtr core) {
    require_there(*core);
    std::vector<json> ours;
    for (const auto& job : co_await ask(core, "query-jobs"))
        if (is_ours(text(job, "id"))) ours.push_back(job);
    co_return ours;
}

bool is_over(const json& job) {
    const auto status = text(job, "status");
    return status == "concluded" || status == "null";
}

/// Waits until QEMU says something of a job, or for a moment; for the progress.
Task<> next_word(CorePtr core, std::stop_token stop) {
    Reply<> word{core->ports.loop};
    core->on_job(word.promise());
    try {
        co_await word.wait("the backup of " + core->who(), in(sampling), std::move(stop));
    } catch (const Error& error) {
        if (error.code() != Code::timeout) throw;
    }
}

void throw_error_of(const GuestCore& core, const std::vector<json>& jobs) {
    for (const auto& job : jobs) {
        const auto why = excerpt(text(job, "error"), 2000);
        if (why.empty()) continue;
        const bool full = why.find("No space left") != std::string::npos;
        throw Error{full ? Code::no_space : Code::hypervisor_failed,
                    fmt::format("the backup of {} failed: {}", core.who(), why)};
    }
}

// ---- taking it away

/// A refusal means that it is gone already, or is not there yet.
Task<bool> try_to(CorePtr core, const char* command, json arguments) {
    try {
        co_await ask(core, command, std::move(arguments));
    } catch (const Error& error) {
        if (core->is_gone() || error.code() != Code::hypervisor_failed) throw;
        co_return false;
    }
    co_return true;
}

/// QEMU 7.2 stands still in nbd-server-stop, for good, while somebody has connected and says nothing. It drops such
/// clients itself after 10 s: until then the server stays, with nothing to serve and nobody new let in.
constexpr Duration glance{200}, handshake{11'000};

Task<bool> has_silent_clients(CorePtr core) {
    // Without a door it is an earlier daemon's server, and has been waited for.
    if (!core->backup_door) co_return false;
    auto door = std::make_shared<Fd>(duplicate(core->backup_door));
    co_return co_await core->ports.workers.run(
        "looking for clients of a backup", [door] { return has_clients(*door); }, core->verb_deadline());
}

Task<> stop_server(CorePtr core) {
    co_await try_to(core, "nbd-server-stop", json::object());
    core->backup_door = Fd{};
    core->backup_server_stays = false;
}

Task<> stop_server_later(CorePtr core) {
    try {
        if (!core->backup_door) co_await sleep(core->ports.loop, handshake);
        while (!core->is_gone() && co_await has_silent_clients(core)) co_await sleep(core->ports.loop, glance);
        if (!core->is_gone()) co_await stop_server(core);
    } catch (const Error& error) {
        core->ports.log.warning(fmt::format("{}: the server of a backup stays: {}", core->who(), error.what()),
                                {{"DOMAIN", core->config.name}, {"DOMAIN_UUID", core->config.uuid}});
    }
    core->backup_server_stays = false;
}

void leave_server(CorePtr core) {
    core->backup_server_stays = true;
    core->scope.spawn(stop_server_later(core));
}

Task<> end_server(CorePtr core) {
    if (!core->backup_door || core->backup_server_stays) co_return;
    close_door(core->backup_door);
    // Those whose export has gone need a moment to go.
    for (Duration pause{5}; pause < glance; pause *= 2) {
        if (!co_await has_silent_clients(core)) {
            co_await stop_server(core);
            co_return;
        }
        co_await sleep(core->ports.loop, pause);
    }
    leave_server(core);
}

Task<> wait_for_server(CorePtr core, std::stop_token stop) {
    const auto deadline = in(handshake * 2);
    while (core->backup_server_stays) {
        if (std::chrono::steady_clock::now() > deadline)
            throw Error{
                Code::timeout,
                fmt::format("the server of the last backup of {} still has clients that say nothing", core->who())};
        co_await sleep(core->ports.loop, glance, stop);
        require_there(*core);
    }
}

Task<> serve(CorePtr core, Fd listener, std::stop_token stop) {
    auto door = duplicate(listener);
    co_await core->open_monitor()
        .send("getfd", json{{"fdname", listener_name}}, std::move(listener))
        .get(core->verb_deadline(), stop);
    const json at{{"addr", {{"type", "fd"}, {"data", {{"str", listener_name}}}}}};
    if (!co_await try_to(core, "nbd-server-start", at)) {
        // Perhaps one that an earlier daemon left, for the sake of clients that said nothing.
        leave_server(core);
        co_await wait_for_server(core, stop);
        co_await ask(core, "nbd-server-start", at, stop);
    }
    core->backup_door = std::move(door);
}

Task<> remove_exports(CorePtr core) {
    for (const auto& each : co_await ask(core, "query-block-exports")) {
        const auto id = text(each, "id");
        if (is_ours(id)) co_await try_to(core, "block-export-del", {{"id", id}, {"mode", "hard"}});
    }
}

Task<> remove_jobs(CorePtr core) {
    const auto deadline = in(cancelling);
    std::set<std::string> cancelled;
    while (true) {
        const auto jobs = co_await jobs_of(core);
        if (jobs.empty()) co_return;
        bool waiting = false;
        for (const auto& job : jobs) {
            const auto id = text(job, "id");
            if (is_over(job)) {
                co_await try_to(core, "job-dismiss", {{"id", id}});
                continue;
            }
            waiting = true;
            if (cancelled.insert(id).second)
                co_await try_to(core, "block-job-cancel", {{"device", id}, {"force", true}});
        }
        if (!waiting) continue;
        if (std::chrono::steady_clock::now() > deadline)
            throw Error{Code::timeout, fmt::format("QEMU of {} does not end the backup", core->who())};
        co_await next_word(core, {});
    }
}

unsigned set_of(const json& node) {
    constexpr std::string_view folder = "/dev/fdset/";
    const auto file = text(node, "file");
    unsigned set = 0;
    if (file.starts_with(folder)) std::from_chars(file.data() + folder.size(), file.data() + file.size(), set);
    return set;
}

/// What a client still reads is in use for a moment after its export has gone.
Task<> remove_node(CorePtr core, std::string name) {
    constexpr Duration shortest{5}, longest{1000};
    for (auto pause = shortest; pause <= longest; pause *= 2) {
        if (co_await try_to(core, "blockdev-del", {{"node-name", name}})) co_return;
        co_await sleep(core->ports.loop, pause);
    }
    core->ports.log.warning(fmt::format("{}: the image {} of a backup stays", core->who(), name),
                            {{"DOMAIN", core->config.name}, {"DOMAIN_UUID", core->config.uuid}});
}

/// The nodes that are ours, those that others stand on last, and the bitmaps on nodes that are not.
Task<> remove_nodes(CorePtr core) {
    std::vector<std::string> nodes;
    std::set<unsigned> sets;
    for (const auto& node : co_await ask(core, "query-named-block-nodes", {{"flat", true}})) {
        const auto name = text(node, "node-name");
        if (is_ours(name)) {
            nodes.insert(name.ends_with("-format") ? nodes.begin() : nodes.end(), name);
            sets.insert(set_of(node));
            continue;
        }
        for (const auto& bitmap : member(node, "dirty-bitmaps"))
            if (text(bitmap, "name") == bitmap_name)
                co_await try_to(core, "block-dirty-bitmap-remove", {{"node", name}, {"name", bitmap_name}});
    }
    for (const auto& name : nodes) co_await remove_node(core, name);
    sets.erase(0);
    for (const auto set : sets) co_await try_to(core, "remove-fd", {{"fdset-id", set}});
}

// ---- all of it

Task<> put_there(CorePtr core, BackupRequest& request, std::stop_token stop) {
    BitmapActions actions{core->who(), co_await disk_chains(core, stop)};
    for (std::size_t i = 0; i < request.parts.size(); ++i) {
        const auto& part = request.parts[i];
        const auto& source = actions.chain(part.disk).front();
        co_await add_image(core, part, i, request.resources, request.pull ? json(source.node) : json(nullptr),
                           source.size, stop);
    }
    if (request.pull) co_await serve(core, std::move(request.listener), stop);
    for (const auto& change : request.bitmaps) actions.add(change);
    if (!request.bitmaps.empty()) core->keeps_bitmaps = true;
    for (std::size_t i = 0; i < request.parts.size(); ++i) add_job(actions, request.parts[i], i, request.pull);
    co_await ask(core, "transaction", {{"actions", actions.list()}}, stop);
    if (!request.pull) co_return;
    for (std::size_t i = 0; i < request.parts.size(); ++i) co_await add_export(core, request.parts[i], i, stop);
}

}  // namespace

Task<> begin_backup(CorePtr core, BackupRequest request, std::stop_token stop) {
    co_await clear_backup(core);
    if (request.pull) co_await wait_for_server(core, stop);
    std::exception_ptr failure;
    try {
        co_await put_there(core, request, stop);
    } catch (...) {
        failure = std::current_exception();
    }
    if (!failure) co_return;
    try {
        co_await clear_backup(core);
        // A listener that the server has not taken.
        if (!core->is_gone() && request.pull) co_await try_to(core, "closefd", {{"fdname", listener_name}});
    } catch (const Error& error) {
        core->ports.log.warning(fmt::format("{}: taking back a backup: {}", core->who(), error.what()),
                                {{"DOMAIN", core->config.name}, {"DOMAIN_UUID", core->config.uuid}});
    }
    std::rethrow_exception(failure);
}

Task<> finish_backup(CorePtr core, ProgressSink progress, std::stop_token stop) {
    while (true) {
        const auto jobs = co_await jobs_of(core);
        std::uint64_t done = 0, total = 0;
        for (const auto& job : jobs) {
            done += number(job, "current-progress");
            total += number(job, "total-progress");
        }
        if (progress) progress(done, total);
        throw_error_of(*core, jobs);
        if (std::ranges::all_of(jobs, is_over)) co_return;
        co_await next_word(core, stop);
    }
}

Task<> clear_backup(CorePtr core) {
    if (core->is_gone()) co_return;
    co_await remove_exports(core);
    co_await end_server(core);
    co_await remove_jobs(core);
    co_await remove_nodes(core);
}

Task<> end_left_backup(CorePtr core, Deadline deadline) {
    const auto jobs = core->open_monitor().send("query-jobs"),
               exports = core->open_monitor().send("query-block-exports");
    const auto any_ours = [](const json& all) {
        return std::ranges::any_of(all, [](const json& each) { return is_ours(text(each, "id")); });
    };
    const bool works = any_ours(co_await jobs.get(deadline)), serves = any_ours(co_await exports.get(deadline));
    if (!works && !serves) co_return;
    core->ports.log.warning(fmt::format("{}: a backup that an earlier daemon began is ended", core->who()),
                            {{"DOMAIN", core->config.name}, {"DOMAIN_UUID", core->config.uuid}});
    co_await clear_backup(core);
    serves ? leave_server(core) : co_await stop_server(core);
}

}  // namespace virtbus::qemu
