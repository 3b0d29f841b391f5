// SPDX-License-Identifier: LGPL-2.1-or-later
#include "qemu/starter.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "qemu/backup/bitmap_work.hpp"
#include "qemu/block/follow.hpp"
#include "qemu/command_line.hpp"
#include "qemu/guest_folder.hpp"
#include "qemu/host_model.hpp"
#include "qemu/hotplug/plug.hpp"
#include "qemu/json.hpp"
#include "qemu/left_behind.hpp"
#include "qemu/live_config.hpp"
#include "qemu/migration.hpp"
#include "qemu/pins.hpp"
#include "qemu/unit_limits.hpp"
#include "qemu/unread_images.hpp"

namespace virtbus::qemu {

using nlohmann::json;

namespace {

constexpr Duration undo_time{5000};

/// The log is named for people; a name that is no file name is replaced by the UUID.
std::string log_path(const Ports& ports, const DomainConfig& config) {
    const bool plain = !config.name.empty() && config.name.size() <= 200 && config.name.front() != '.' &&
                       std::ranges::all_of(config.name, [](char c) { return c > ' ' && c != '/' && c != '\x7f'; });
    return fmt::format("{}/qemu/{}.log", ports.folders.logs, plain ? config.name : config.uuid);
}

std::uint64_t file_size(int fd) {
    struct stat info{};
    return ::fstat(fd, &info) == 0 ? static_cast<std::uint64_t>(info.st_size) : 0;
}

std::string slice_of(const DomainConfig& config) {
    if (!config.resource || config.resource->partition.size() < 2) return {};
    auto name = config.resource->partition.substr(1);
    std::ranges::replace(name, '/', '-');
    return name + ".slice";
}

UnitRequest unit_request(const DomainConfig& config, const GuestRecord& record, std::uint32_t id, CommandLine& line,
                         int output) {
    UnitRequest request;
    request.driver = "qemu";
    request.id = id;
    request.name = config.name;
    request.uuid = config.uuid;
    request.description = fmt::format("Virtual machine {}", config.name);
    request.argv = std::move(line.argv);
    request.environment = std::move(line.environment);
    request.fds = line.fds;
    request.output = output;
    request.network = line.needs_network;
    request.devices = std::move(line.devices);
    request.given = std::move(line.given);
    request.writable = std::move(line.folders);
    request.writable.push_back(guest_sockets(record));
    request.slice = slice_of(config);
    request.memory_locked = locked_memory(config);
    request.limits = unit_limits(config);
    return request;
}

/// What is said and asked while the CPUs still wait, in one go.
struct Batch {
    std::vector<Monitor::Answer> settings;
    std::optional<Monitor::Answer> chardevs, memories, vnc, spice, cpus, iothreads, resumed, model, nodes;
};

std::string_view password_protocol(GraphicsType type) {
    return type == GraphicsType::vnc ? "vnc" : type == GraphicsType::spice ? "spice" : "";
}

void send_passwords(GuestCore& core, Batch& batch) {
    for (auto& graphics : core.config.devices.graphics) {
        const auto protocol = password_protocol(graphics.type);
        if (protocol.empty() || !graphics.password) continue;
        json password{{"protocol", protocol}, {"password", *graphics.password}};
        if (!graphics.connected.empty()) password["connected"] = graphics.connected;
        batch.settings.push_back(core.monitor->send("set_password", password));
        // libvirt writes UTC; QEMU takes seconds since the epoch or "never".
        tm time{};
        if (::strptime(graphics.password_valid_to.c_str(), "%Y-%m-%dT%H:%M:%S", &time))
            batch.settings.push_back(core.monitor->send(
                "expire_password", json{{"protocol", protocol}, {"time", fmt::format("{}", ::timegm(&time))}}));
    }
}

Batch send_batch(GuestCore& core, const std::vector<UnreadImage>& unread, bool paused, bool incoming) {
    Batch batch;
    auto& monitor = *core.monitor;
    const auto& config = core.config;
    batch.settings.push_back(monitor.send("set-action", core.life.policy().actions(core.watchdog_action())));
    const bool has_balloon = config.devices.memballoon && config.devices.memballoon->model != "none";
    // A state that is taken up brings the balloon's size along.
    if (!incoming && has_balloon && config.current_memory && config.memory && *config.current_memory < *config.memory)
        batch.settings.push_back(monitor.send("balloon", json{{"value", *config.current_memory}}));
    if (has_balloon && config.devices.memballoon->stats_period)
        batch.settings.push_back(
            monitor.send("qom-set", json{{"path", "/machine/peripheral/" + config.devices.memballoon->info.alias},
                                         {"property", "guest-stats-polling-interval"},
                                         {"value", *config.devices.memballoon->stats_period}}));
    send_passwords(core, batch);
    for (const auto& interface : config.devices.interfaces)
        if (interface.link_state == "down" && actual_type(interface) != InterfaceType::hostdev)
            batch.settings.push_back(monitor.send("set_link", json{{"name", interface.info.alias}, {"up", false}}));
    if (has_terminals(config)) batch.chardevs = monitor.send("query-chardev");
    if (!config.devices.memories.empty()) batch.memories = monitor.send("query-memory-devices");
    const auto has = [&](GraphicsType type) {
        return std::ranges::find(config.devices.graphics, type, &Graphics::type) != config.devices.graphics.end();
    };
    if (has(GraphicsType::vnc)) batch.vnc = monitor.send("query-vnc");
    if (has(GraphicsType::spice)) batch.spice = monitor.send("query-spice");
    if (is_strict(config)) batch.model = monitor.send("query-cpu-model-expansion", strict_question(config));
    if (!unread.empty()) batch.nodes = monitor.send("query-named-block-nodes", nodes_question());
    if (has_pins(config)) {
        batch.cpus = monitor.send("query-cpus-fast");
        batch.iothreads = monitor.send("query-iothreads");
    }
    // Threads are pinned before they run, a model and images are judged; without these nothing waits.
    if (!batch.cpus && !batch.model && !batch.nodes && !paused) batch.resumed = monitor.send("cont");
    return batch;
}

void pin_threads(GuestCore& core, const json& cpus, const json& iothreads) {
    const auto plan = plan_pins(core.config, cpus, iothreads, threads_of(static_cast<pid_t>(core.record.pid)));
    if (const auto problem = apply_pins(plan); !problem.empty())
        core.ports.log.warning(fmt::format("{} runs without some of its pins: {}", core.who(), problem),
                               {{"DOMAIN", core.config.name}, {"DOMAIN_UUID", core.config.uuid}});
}

Task<> await_batch(std::shared_ptr<GuestCore> core, std::shared_ptr<const Capabilities> known, Batch batch,
                   std::vector<UnreadImage> unread, bool paused, Deadline deadline, std::stop_token stop) {
    for (const auto& setting : batch.settings) co_await setting.get(deadline, stop);
    if (batch.chardevs) fill_terminals(core->config, co_await batch.chardevs->get(deadline, stop));
    if (batch.memories) fill_memories(core->config, co_await batch.memories->get(deadline, stop));
    if (batch.vnc) fill_vnc_port(core->config, co_await batch.vnc->get(deadline, stop));
    if (batch.spice) fill_spice_ports(core->config, co_await batch.spice->get(deadline, stop));
    if (batch.cpus) {
        const auto cpus = co_await batch.cpus->get(deadline, stop);
        const auto iothreads = co_await batch.iothreads->get(deadline, stop);
        pin_threads(*core, cpus, iothreads);
    }
    if (batch.model) {
        const auto problem = strict_problem(core->config, *known, co_await batch.model->get(deadline, stop));
        if (!problem.empty()) throw Error{Code::unsupported_configuration, fmt::format("{}: {}", core->who(), problem)};
    }
    if (batch.nodes) {
        const auto nodes = co_await batch.nodes->get(deadline, stop);
        try {
            require_alone(unread, nodes);
        } catch (const Error& error) {
            throw Error{error.code(), fmt::format("{}: {}", core->who(), error.what())};
        }
        close_chains(core->config, unread);
    }
    if ((batch.cpus || batch.model || batch.nodes) && !paused) batch.resumed = core->monitor->send("cont");
    if (batch.resumed) co_await batch.resumed->get(deadline, stop);
}

/// startupPolicy 'requisite': there when the machine boots; when its state is taken up the medium may have gone. Those
/// are 'optional' until everything is open.
std::vector<std::string> let_media_be_missing(DomainConfig& config) {
    std::vector<std::string> targets;
    for (auto& disk : config.devices.disks) {
        const bool removable = disk.device == DiskDevice::cdrom || disk.device == DiskDevice::floppy;
        if (!removable || !disk.source || disk.source->startup_policy != "requisite") continue;
        targets.push_back(disk.target.dev);
        disk.source->startup_policy = "optional";
    }
    return targets;
}

void require_media_again(DomainConfig& config, const std::vector<std::string>& targets) {
    for (auto& disk : config.devices.disks)
        if (disk.source && std::ranges::find(targets, disk.target.dev) != targets.end())
            disk.source->startup_policy = "requisite";
}

void tell_missing(const GuestCore& core, const std::vector<Disk>& before) {
    for (const auto& disk : before) {
        const auto now = std::ranges::find(core.config.devices.disks, disk.info.alias,
                                           [](const Disk& each) { return each.info.alias; });
        const bool stays = now != core.config.devices.disks.end();
        if (!disk.source || (stays && now->source)) continue;
        core.ports.log.warning(
            fmt::format("{} starts without {} '{}', which is not there: {}{}", core.who(),
                        stays ? "the medium of drive" : "disk", disk.target.dev, disk.source->file, disk.source->dev),
            {{"DOMAIN", core.config.name}, {"DOMAIN_UUID", core.config.uuid}});
    }
}

/// From the opened resources to a guest that runs. What has been made is in `core` for the undo.
Task<> launch(std::shared_ptr<GuestCore> core, std::shared_ptr<const Capabilities> capabilities,
              const HelperPrograms& programs, StartRequest& request, FileNames& files) {
    auto& ports = core->ports;
    auto& record = core->record;
    require_none_left(ports, core->who(), core->config.uuid);
    ports.files.make_folder(guests_folder(ports), 0711);
    ports.files.make_folder(record.folder, 0711);
    ports.files.make_folder(guest_sockets(record), 0700);
    ports.files.make_folder(ports.folders.logs + "/qemu", 0750);
    auto listening = listen_at(record.monitor);
    OpenOptions options;
    options.reset_nvram = request.reset_nvram;
    options.nvram_folder = ports.folders.state + "/nvram";
    options.runtime_folder = guest_sockets(record);
    options.tls_folder = ports.folders.config + "/tls";
    options.host_root = programs.host_root;
    const bool incoming = static_cast<bool>(request.incoming);
    auto required = incoming ? let_media_be_missing(core->config) : std::vector<std::string>{};
    auto opened = co_await open_resources(core->config, request.resources, ports.workers, std::move(options));
    co_await start_helpers(core, programs, helper_order(*core, &request.resources, request.deadline, request.stop),
                           opened);
    const auto before = core->config.devices.disks;
    fill_opened(core->config, opened);
    tell_missing(*core, before);
    require_media_again(core->config, required);
    const auto log = co_await request.resources.open_log(record.log);
    record.log_start = file_size(log.get());
    auto line = command_line(core->config, *capabilities, opened, MonitorSocket{listening.get(), {}});
    files = std::move(line.files);
    note_parts(record, line);
    record.allowed[""] = {line.devices, line.given, 0};
    // The questions wait in the socket for QEMU to come up and read them.
    core->connect();
    const bool paused = request.paused || incoming;
    if (incoming) line.argv.insert(line.argv.end(), {"-incoming", "defer"});
    auto batch = send_batch(*core, line.unread, paused, incoming);
    request.unfinished(record.text());
    core->take_unit(co_await ports.units.start(unit_request(core->config, record, request.id, line, log.get()),
                                               request.deadline, request.stop));
    request.unfinished(record.text());
    // Once QEMU alone has these its end closes them.
    line.owned.clear();
    listening = Fd{};
    co_await await_batch(core, capabilities, std::move(batch), line.unread, paused, request.deadline, request.stop);
    if (incoming) co_await receive_state(core, std::move(request.incoming), request.stop);
}

/// Ends what a failed start has left; tells what QEMU said if it ended by itself.
Task<std::string> undo(std::shared_ptr<GuestCore> core) {
    auto& ports = core->ports;
    std::string words;
    try {
        if (core->unit.pid != 0) {
            // A closed monitor comes shortly before the end of its process.
            const bool ended =
                core->is_gone() || (!core->monitor->is_open() && co_await core->wait_gone(in(Duration{500})));
            if (ended)
                words = co_await ports.workers.run(
                    "reading the log",
                    [log = core->record.log, start = core->record.log_start] {
                        return GuestCore::last_words(log, start);
                    },
                    in(undo_time));
            core->kill(false);
            co_await core->wait_gone(in(undo_time));
            co_await ports.units.exit_status(core->record.unit, core->record.pid, in(undo_time));
        }
        for (const auto& helper : std::exchange(core->helpers, {})) co_await helper->undo();
        co_await remove_guest_folder(ports, core->record.folder);
    } catch (const Error& error) {
        ports.log.warning(fmt::format("undoing the start of {}: {}", core->who(), error.what()));
    }
    core->detach();
    co_return words;
}

/// The sentence says of which machine it is, and of which file.
[[noreturn]] void rethrow_named(const std::exception_ptr& failure, const std::string& who, const FileNames& files) {
    try {
        rethrow_with_paths(failure, files);
    } catch (const Error& error) {
        const std::string words = error.what();
        if (error.code() == Code::cancelled || words.find(who) != words.npos) throw;
        throw Error{error.code(), fmt::format("{}: {}", who, words)};
    }
}

Task<GuestEnd> past_end(Ports& ports, const GuestRecord& record) {
    GuestEnd end;
    ExitStatus status;
    try {
        status = co_await ports.units.exit_status(record.unit, record.pid, in(Duration{5000}));
    } catch (const Error&) {
        status.known = false;
    }
    end.reason = status.known && status.code == 0 && status.signal == 0 ? "shutdown" : "crashed";
    if (end.reason == "crashed") {
        end.last_words = co_await ports.workers.run(
            "reading the log",
            [log = record.log, start = record.log_start] { return GuestCore::last_words(log, start); },
            in(Duration{2000}));
    }
    co_await end_left_helpers(ports, record.helpers);
    co_await remove_guest_folder(ports, record.folder);
    co_return end;
}

}  // namespace

std::uint64_t locked_memory(const DomainConfig& config) {
    const bool assigned =
        !config.devices.hostdevs.empty() ||
        std::ranges::any_of(config.devices.interfaces,
                            [](auto& interface) {
                                const auto type = actual_type(interface);
                                return type == InterfaceType::vdpa || type == InterfaceType::hostdev;
                            }) ||
        std::ranges::any_of(config.devices.disks, [](auto& disk) { return disk.type == StorageType::nvme; });
    if (!assigned && !(config.memory_backing && config.memory_backing->locked)) return 0;
    // What QEMU needs besides the guest's memory is not known before; libvirt's gigabyte has proved enough.
    return config.memory.value_or(0) + (1ULL << 30);
}

std::string guest_sockets(const GuestRecord& record) {
    return record.folder + "/guest";
}

HelperOrder helper_order(const GuestCore& core, Resources* resources, Deadline deadline, std::stop_token stop) {
    return {.domain = core.config.name,
            .uuid = core.config.uuid,
            .id = core.config.id.value_or(0),
            .slice = slice_of(core.config),
            .log = core.record.log.substr(0, core.record.log.size() - std::string_view{".log"}.size()),
            .folder = guest_sockets(core.record),
            .resources = resources,
            .deadline = deadline,
            .stop = std::move(stop)};
}

Fd listen_at(const std::string& path) {
    const auto fail = [&](const char* step) {
        return Error{Code::internal, fmt::format("socket {}: {}: {}", path, step, std::strerror(errno))};
    };
    Fd fd{::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)};
    if (!fd) throw fail("socket");
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    // A path too long for the address is reached through its folder.
    Fd folder;
    auto name = path;
    if (name.size() >= sizeof address.sun_path) {
        folder = Fd{::open(std::filesystem::path{path}.parent_path().c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC)};
        name = fmt::format("/proc/self/fd/{}/{}", folder.get(), std::filesystem::path{path}.filename().string());
    }
    name.copy(address.sun_path, sizeof address.sun_path - 1);
    ::unlink(path.c_str());
    ::fchmod(fd.get(), 0600);  // takes effect at bind
    if (::bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) throw fail("bind");
    if (::listen(fd.get(), 4) != 0) throw fail("listen");
    return fd;
}

Task<std::shared_ptr<GuestCore>> start_guest(Ports& ports, Scope& scope, const GuestTimes& times,
                                             std::shared_ptr<const Capabilities> capabilities,
                                             std::shared_ptr<const HelperPrograms> programs, StartRequest request) {
    GuestRecord record;
    record.folder = guest_folder(ports, request.id, request.config.uuid);
    record.monitor = monitor_path(record.folder);
    record.log = log_path(ports, request.config);
    auto config = std::move(request.config);
    config.id = request.id;
    assign_aliases(config);
    auto core = std::make_shared<GuestCore>(ports, scope, times, request.events, std::move(config), std::move(record));
    core->programs = std::move(programs);
    if (request.incoming) core->life.expect_resume("restored");
    if (request.incoming)
        core->life.set(State::paused, "restored");
    else if (request.paused)
        core->life.set(State::paused, "starting-up");
    else
        core->life.set(State::running, "booted");
    std::exception_ptr failure;
    FileNames files;
    try {
        co_await launch(core, std::move(capabilities), *core->programs, request, files);
    } catch (...) {
        failure = std::current_exception();
    }
    if (failure) {
        const auto words = co_await undo(core);
        if (!words.empty())
            throw Error{Code::hypervisor_failed,
                        fmt::format("QEMU of {} ended while starting: {}", core->who(), with_paths(words, files))};
        rethrow_named(failure, core->who(), files);
    }
    core->apply({});
    core->publish();
    scope.spawn(look_for_bitmaps(core));
    co_return core;
}

Task<std::shared_ptr<GuestCore>> adopt_guest(Ports& ports, Scope& scope, const GuestTimes& times,
                                             std::shared_ptr<const HelperPrograms> programs, DomainConfig config,
                                             GuestRecord record, GuestEvents& events, GuestEnd& end) {
    if (record.state == State::starting) {
        end.reason = "failed";
        end.last_words = "the daemon ended in the middle of the start";
        co_await end_unfinished(ports, fmt::format("domain '{}'", config.name), std::move(record));
        co_return nullptr;
    }
    auto unit = ports.units.adopt(record.pid, record.start_time, record.unit);
    if (!unit) {
        end = co_await past_end(ports, record);
        co_return nullptr;
    }
    auto core = std::make_shared<GuestCore>(ports, scope, times, events, std::move(config), std::move(record));
    core->programs = std::move(programs);
    core->life.set(core->record.state, core->record.reason);
    core->life.expect_reboot(core->record.rebooting);
    core->take_unit(std::move(*unit));
    for (const auto& left : std::exchange(core->record.helpers, {})) {
        const auto helper = std::make_shared<HelperUnit>(ports, core->programs->times);
        helper->adopt(left);
        core->take_helper(helper);
    }
    Lifecycle::Step step;
    bool silent = false;
    json present;
    try {
        core->connect();
        const auto asked = core->monitor->send("qom-list", json{{"path", "/machine/peripheral"}});
        const auto status = co_await core->monitor->execute("query-status", in(times.adoption));
        step = core->life.on_status(text(status, "status"));
        present = co_await asked.get(in(times.adoption));
        co_await end_left_backup(core, in(times.adoption));
    } catch (const Error&) {
        silent = true;
    }
    step.changed = true;  // its owner has not heard of a state from us
    core->apply(step);
    if (silent)
        core->lost();
    else
        co_await quietly(core, recover(core));
    core->publish();
    scope.spawn(look_for_bitmaps(core));
    if (core->record.resume) scope.spawn(quietly(core, run_again(core)));
    if (core->life.state() == State::running) scope.spawn(quietly(core, close_sets(core)));
    // Devices may have gone while no daemon watched.
    if (present.is_array()) scope.spawn(reconcile(core, std::move(present)));
    co_return core;
}

}  // namespace virtbus::qemu
