// SPDX-License-Identifier: LGPL-2.1-or-later
#include "qemu/tls.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "qemu/image_levels.hpp"
#include "virtbus/error.hpp"
#include "virtbus/fd.hpp"

namespace virtbus::qemu {

namespace {

constexpr std::size_t largest_file = 1 << 20;
using Names = std::vector<std::string>;

Names required_files(const TlsNeed& need) {
    return need.server ? Names{"ca-cert.pem", "server-cert.pem", "server-key.pem"} : Names{"ca-cert.pem"};
}
/// A client shows a certificate where it has one; it is none without its key.
Names optional_files(const TlsNeed& need) {
    return need.server ? Names{"ca-crl.pem", "dh-params.pem"}
                       : Names{"ca-crl.pem", "client-cert.pem", "client-key.pem"};
}

bool exists(const std::string& path) {
    return ::access(path.c_str(), F_OK) == 0;
}

void add(std::vector<TlsNeed>& needs, TlsNeed need) {
    const bool known = std::ranges::any_of(needs, [&](auto& each) { return each.key() == need.key(); });
    if (!known) needs.push_back(std::move(need));
}

void add_disk(std::vector<TlsNeed>& needs, const Disk& disk) {
    if (!disk.source || disk.type == StorageType::vhostuser) return;
    for (const auto& level : written_levels(disk).levels)
        if (level.type == StorageType::network && level.source && level.source->tls.value_or(false))
            add(needs, {"nbd", false, fmt::format("disk '{}'", disk.target.dev)});
}

template <class List>
void add_chardevs(std::vector<TlsNeed>& needs, const List& devices, const char* what) {
    for (const auto& device : devices) {
        const auto* source = device.backend.source();
        if (device.type == ChardevType::tcp && source && source->tls.value_or(false))
            add(needs, {"chardev", source->mode == "bind", fmt::format("{} '{}'", what, device.info.alias)});
    }
}

[[noreturn]] void fail(const std::string& path, const char* doing) {
    throw Error{Code::hypervisor_failed,
                fmt::format("certificate file '{}': {}: {}", path, doing, std::strerror(errno))};
}

std::string read_whole(const std::string& path) {
    const Fd file{::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK)};
    struct stat info{};
    if (!file || ::fstat(file.get(), &info) != 0) fail(path, "opening");
    if (!S_ISREG(info.st_mode) || static_cast<std::uint64_t>(info.st_size) > largest_file)
        throw Error{Code::unsupported_configuration,
                    fmt::format("certificate file '{}' is no plain file of at most 1 MiB", path)};
    std::string content(static_cast<std::size_t>(info.st_size), '\0');
    const auto got = ::read(file.get(), content.data(), content.size());
    if (got != static_cast<ssize_t>(content.size())) fail(path, "reading");
    return content;
}

/// Made anew in a folder that nobody else can write: nothing is followed and nothing replaced.
void write_new(const Fd& folder, const std::string& name, const std::string& content, const struct stat& like) {
    const Fd file{::openat(folder.get(), name.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600)};
    if (!file || ::write(file.get(), content.data(), content.size()) != static_cast<ssize_t>(content.size()))
        fail(name, "copying");
    if (like.st_uid != ::geteuid() && ::fchown(file.get(), like.st_uid, like.st_gid) != 0) fail(name, "handing over");
}

}  // namespace

bool listens_on_tcp(const Graphics& graphics) {
    if (!graphics.socket.empty()) return false;
    return std::ranges::none_of(graphics.listens,
                                [](auto& listen) { return listen.type == "socket" || listen.type == "none"; });
}

SpicePorts spice_ports(const Graphics& graphics) {
    SpicePorts ports;
    const auto& mode = graphics.default_mode;
    ports.plain = mode != "secure";
    ports.tls = mode == "secure";
    for (const auto& channel : graphics.channels) {
        ports.plain |= channel.mode == "insecure";
        ports.tls |= channel.mode == "secure";
    }
    return ports;
}

std::vector<TlsNeed> tls_needs(const DomainConfig& config) {
    const auto& devices = config.devices;
    std::vector<TlsNeed> needs;
    for (const auto& disk : devices.disks) add_disk(needs, disk);
    add_chardevs(needs, devices.serials, "serial port");
    add_chardevs(needs, devices.parallels, "parallel port");
    add_chardevs(needs, devices.channels, "channel");
    add_chardevs(needs, devices.consoles, "console");
    add_chardevs(needs, devices.redirdevs, "redirdev");
    for (const auto& card : devices.smartcards)
        if (const auto* source = card.backend.source();
            source && card.type == ChardevType::tcp && source->tls.value_or(false))
            add(needs, {"chardev", source->mode == "bind", fmt::format("smartcard '{}'", card.info.alias)});
    for (const auto& rng : devices.rngs)
        if (const auto* source = rng.backend.chardev.source();
            source && rng.backend.type == ChardevType::tcp && source->tls.value_or(false))
            add(needs, {"chardev", source->mode == "bind", fmt::format("rng '{}'", rng.info.alias)});
    for (const auto& graphics : devices.graphics)
        if (graphics.type == GraphicsType::spice && listens_on_tcp(graphics) &&
            (spice_ports(graphics).tls || graphics.tls_port.value_or(-1) > 0))
            add(needs, {"spice", true, "graphics spice"});
    return needs;
}

std::vector<TlsNeed> tls_needs_here(const DomainConfig& config, const std::string& tls_folder) {
    auto needs = tls_needs(config);
    for (const auto& graphics : config.devices.graphics) {
        if (!listens_on_tcp(graphics)) continue;
        if (graphics.type == GraphicsType::vnc && exists(tls_folder + "/vnc"))
            add(needs, {"vnc", true, "graphics vnc"});
        if (graphics.type == GraphicsType::spice && graphics.autoport.value_or(false) && exists(tls_folder + "/spice"))
            add(needs, {"spice", true, "graphics spice"});
    }
    return needs;
}

std::string find_certificates(const std::string& tls_folder, const TlsNeed& need) {
    const auto own = tls_folder + "/" + need.use, common = tls_folder + "/default";
    const auto& folder = exists(own) ? own : common;
    const auto refuse = [&](const std::string& why) {
        throw Error{Code::unsupported_configuration, fmt::format("{}: TLS {}", need.who, why)};
    };
    const auto required = required_files(need);
    if (!exists(folder))
        refuse(fmt::format("needs the certificate files {} in the folder {} or {}; neither folder is there",
                           fmt::join(required, ", "), own, common));
    Names missing;
    for (const auto& name : required)
        if (!exists(folder + "/" + name)) missing.push_back(name);
    if (!missing.empty())
        refuse(fmt::format("needs the certificate file{} {} in the folder {}", missing.size() > 1 ? "s" : "",
                           fmt::join(missing, ", "), folder));
    if (!need.server && exists(folder + "/client-cert.pem") != exists(folder + "/client-key.pem"))
        refuse(fmt::format("needs both or neither of client-cert.pem and client-key.pem in the folder {}", folder));
    return folder;
}

void copy_certificates(const std::string& from, const TlsNeed& need, const std::string& to, const std::string& like) {
    struct stat owner{};
    if (::stat(like.c_str(), &owner) != 0) fail(like, "looking at");
    if (::mkdir(to.c_str(), 0700) != 0) {
        if (errno == EEXIST) return;
        fail(to, "making the folder");
    }
    const Fd folder{::open(to.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)};
    if (!folder) fail(to, "opening");
    auto names = required_files(need);
    for (auto& name : optional_files(need))
        if (exists(from + "/" + name)) names.push_back(std::move(name));
    for (const auto& name : names) write_new(folder, name, read_whole(from + "/" + name), owner);
    if (owner.st_uid != ::geteuid() && ::fchown(folder.get(), owner.st_uid, owner.st_gid) != 0)
        fail(to, "handing over");
}

}  // namespace virtbus::qemu
