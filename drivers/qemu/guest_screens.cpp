// SPDX-License-Identifier: LGPL-2.1-or-later
// Keys, screenshots, displays and consoles: what a person does in front of the machine.
#include <fcntl.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <algorithm>
#include <cstring>
#include <nlohmann/json.hpp>
#include <optional>

#include "qemu/guest_verbs.hpp"
#include "qemu/json.hpp"
#include "qemu/keys.hpp"

namespace virtbus::qemu {

using nlohmann::json;

namespace {

constexpr std::size_t most_picture = 64U << 20;
constexpr std::string_view png_mark = "\x89PNG\r\n\x1a\n";

Error from_errno(const char* step) {
    return Error{Code::internal, fmt::format("{}: {}", step, std::strerror(errno))};
}

std::pair<Fd, Fd> socket_pair() {
    int ends[2];
    if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) throw from_errno("socketpair");
    return {Fd{ends[0]}, Fd{ends[1]}};
}

// ---- screens

/// The device and head behind the n-th screen of the definition.
json screen_arguments(const GuestCore& core, std::uint32_t screen) {
    std::uint32_t passed = 0;
    for (const auto& video : core.config.devices.videos) {
        if (video.model.type == "none") continue;
        const std::uint32_t heads = std::max(1U, video.model.heads.value_or(1));
        if (screen < passed + heads)
            return video.info.alias.empty() ? json::object()
                                            : json{{"device", video.info.alias}, {"head", screen - passed}};
        passed += heads;
    }
    throw Error{Code::invalid_args,
                fmt::format("{} has no screen {}; it has {} (counted from 0)", core.who(), screen, passed)};
}

std::string read_picture(const GuestCore& core, int fd) {
    struct stat info{};
    if (::fstat(fd, &info) != 0) throw from_errno("fstat");
    const auto size = static_cast<std::size_t>(info.st_size);
    if (size > most_picture)
        throw Error{Code::limits_exceeded,
                    fmt::format("the picture of {} has {} bytes; {} are allowed", core.who(), size, most_picture)};
    std::string picture(size, '\0');
    const auto got = ::pread(fd, picture.data(), picture.size(), 0);
    picture.resize(got > 0 ? static_cast<std::size_t>(got) : 0);
    if (!picture.starts_with(png_mark))
        throw Error{Code::hypervisor_failed, fmt::format("QEMU of {} gave a picture that is no PNG", core.who())};
    return picture;
}

// ---- displays

struct DisplayProtocol {
    std::string_view type;      ///< the caller's word
    std::string_view protocol;  ///< QEMU's
    GraphicsType graphics;
};
constexpr DisplayProtocol protocols[] = {
    {"dbus", "@dbus-display", GraphicsType::dbus},
    {"vnc", "vnc", GraphicsType::vnc},
    {"spice", "spice", GraphicsType::spice},
};

bool has_display(const DomainConfig& config, GraphicsType type) {
    return std::ranges::any_of(config.devices.graphics, [type](const Graphics& graphics) {
        // A bus of its own is not for us to hand out.
        return graphics.type == type && (type != GraphicsType::dbus || graphics.p2p.value_or(false));
    });
}

const DisplayProtocol& choose_display(const GuestCore& core, const std::string& type) {
    const auto& graphics = core.config.devices.graphics;
    for (const auto& each : graphics)
        for (const auto& known : protocols)
            if (type.empty() && each.type == known.graphics && has_display(core.config, each.type)) return known;
    std::vector<std::string_view> offered;
    for (const auto& known : protocols) {
        if (known.type == type && has_display(core.config, known.graphics)) return known;
        if (has_display(core.config, known.graphics)) offered.push_back(known.type);
    }
    throw Error{Code::no_such_device,
                fmt::format("{} has no {} display that can be opened; it has {}", core.who(), type.empty() ? "" : type,
                            offered.empty() ? std::string{"none"} : fmt::format("{}", fmt::join(offered, ", ")))};
}

// ---- consoles

struct ConsoleDevice {
    std::string name;
    ChardevType type;
    const ChardevBackend* backend;
};

template <class List>
void list_devices(const List& list, std::string_view kind, std::vector<ConsoleDevice>& result) {
    std::size_t index = 0;
    for (const auto& device : list) {
        const auto name = device.info.alias.empty() ? fmt::format("{}{}", kind, index) : device.info.alias;
        result.push_back({name, device.type, &device.backend});
        // A console may go by its serial port's alias; its place in the definition names it too.
        if (const auto plain = fmt::format("{}{}", kind, index); plain != name)
            result.push_back({plain, device.type, &device.backend});
        ++index;
    }
}

std::vector<ConsoleDevice> console_devices(const DomainConfig& config) {
    std::vector<ConsoleDevice> result;
    list_devices(config.devices.serials, "serial", result);
    list_devices(config.devices.consoles, "console", result);
    list_devices(config.devices.parallels, "parallel", result);
    list_devices(config.devices.channels, "channel", result);
    return result;
}

ConsoleDevice find_console(const GuestCore& core, const std::string& name) {
    const auto devices = console_devices(core.config);
    const auto& own = core.config.devices;
    const auto wanted = !name.empty() ? name : !own.consoles.empty() ? "console0" : "serial0";
    for (const auto& device : devices)
        if (device.name == wanted) return device;
    for (const auto& channel : own.channels)
        if (channel.target && channel.target->name == wanted) return {wanted, channel.type, &channel.backend};
    if (name.empty() && !devices.empty() && (!own.serials.empty() || !own.consoles.empty())) return devices.front();
    std::vector<std::string> names;
    for (const auto& device : devices) names.push_back(device.name);
    throw Error{Code::no_such_device,
                fmt::format("{} has no console {}; it has {}", core.who(),
                            name.empty() ? "" : fmt::format("\"{}\"", excerpt(name)),
                            names.empty() ? std::string{"none"} : fmt::format("{}", fmt::join(names, ", ")))};
}

std::string source_path(const ConsoleDevice& device) {
    const auto* source = device.backend->source();
    return source ? source->path : std::string{};
}

/// A stream into the device, if its back end lets somebody else in.
Fd open_device(const GuestCore& core, const ConsoleDevice& device) {
    const auto* source = device.backend->source();
    if (device.type == ChardevType::pty && source && !source->path.empty()) return open_pty(source->path);
    const bool listens = source && source->mode == "bind";
    if (device.type == ChardevType::unix_socket && listens && !source->path.empty())
        return connect_socket(source->path);
    const bool raw = device.backend->protocol.empty() || device.backend->protocol == "raw";
    if (device.type == ChardevType::tcp && listens && raw && !source->tls.value_or(false))
        return connect_tcp(source->host, source->service);
    throw Error{Code::unsupported,
                fmt::format("console {} of {} has a back end of type {} that nobody can connect to; pty can be opened, "
                            "and unix and tcp in mode bind",
                            device.name, core.who(), word(device.type))};
}

}  // namespace

Task<> send_key(CorePtr core, std::vector<std::string> keys, std::stop_token stop) {
    auto list = json::array();
    for (const auto& code : qcodes_of(keys)) list.push_back(json{{"type", "qcode"}, {"data", code}});
    co_await core->open_monitor().execute("send-key", json{{"keys", list}}, core->verb_deadline(), stop);
}

Task<Screenshot> screenshot(CorePtr core, std::uint32_t screen, std::stop_token stop) {
    auto arguments = screen_arguments(*core, screen);
    const Fd picture{::memfd_create("screenshot", MFD_CLOEXEC)};
    if (!picture) throw from_errno("memfd_create");
    // QEMU looks in the set for a descriptor of the kind it would open.
    Fd writable{::open(fmt::format("/proc/self/fd/{}", picture.get()).c_str(), O_WRONLY | O_CLOEXEC)};
    if (!writable) throw from_errno("opening the picture");
    const auto set = core->next_fdset();
    arguments["filename"] = fmt::format("/dev/fdset/{}", set);
    arguments["format"] = "png";
    auto& monitor = core->open_monitor();
    const auto added = monitor.send("add-fd", json{{"fdset-id", set}}, std::move(writable));
    const auto taken = monitor.send("screendump", arguments);
    monitor.send("remove-fd", json{{"fdset-id", set}});
    co_await added.get(core->verb_deadline(), stop);
    co_await taken.get(core->verb_deadline(), stop);
    co_return Screenshot{read_picture(*core, picture.get())};
}

Task<Fd> open_display(CorePtr core, std::string type, std::stop_token stop) {
    const auto& display = choose_display(*core, type);
    auto [ours, theirs] = socket_pair();
    const auto name = fmt::format("display-{}", core->next_fdset());
    auto& monitor = core->open_monitor();
    const auto given = monitor.send("getfd", json{{"fdname", name}}, std::move(theirs));
    json arguments{{"protocol", display.protocol}, {"fdname", name}};
    // Who may open the display has been asked already.
    if (display.graphics != GraphicsType::dbus) arguments["skipauth"] = true;
    const auto added = monitor.send("add_client", arguments);
    Fd result = std::move(ours);
    co_await given.get(core->verb_deadline(), stop);
    co_await added.get(core->verb_deadline(), stop);
    co_return std::move(result);
}

Task<Fd> open_console(CorePtr core, std::string name, bool force) {
    const auto device = find_console(*core, name);
    // One device may have several names: its place in the world tells who has it.
    const auto path = source_path(device);
    const auto key = path.empty() ? device.name : path;
    if (core->consoles.is_reserved(key))
        throw Error{Code::device_in_use,
                    fmt::format("console {} of {} is in use: virtbus speaks with the guest agent there", device.name,
                                core->who())};
    if (core->consoles.is_open(key) && !force)
        throw Error{Code::device_in_use, fmt::format("console {} of {} is open already; option force takes it away",
                                                     device.name, core->who())};
    core->consoles.close(key);
    co_return core->consoles.open(key, open_device(*core, device));
}

}  // namespace virtbus::qemu
