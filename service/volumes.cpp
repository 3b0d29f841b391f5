// SPDX-License-Identifier: LGPL-2.1-or-later
#include "service/volumes.hpp"

#include <fcntl.h>
#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "service/context.hpp"
#include "service/owned_file.hpp"
#include "service/xml/pool_xml.hpp"
#include "virtbus/error.hpp"

namespace virtbus {

namespace {

constexpr std::size_t longest_name = 255;

[[noreturn]] void refuse(const std::string& why) {
    throw Error{Code::unsupported_configuration, why};
}

/// One name of a file, so that it cannot lead out of the folder it is in.
bool is_name(std::string_view name) {
    return !name.empty() && name.size() <= longest_name && name != "." && name != ".." &&
           std::ranges::none_of(name, [](unsigned char c) { return c < 0x20 || c == 0x7f || c == '/'; });
}

bool is_folder(std::string_view path) {
    if (!path.starts_with('/') || path.size() > 4096) return false;
    return ("/" + std::string{path} + "/").find("/../") == std::string::npos &&
           std::ranges::none_of(path, [](unsigned char c) { return c < 0x20 || c == 0x7f; });
}

std::string inside(const std::string& folder, const std::string& name) {
    return folder + (folder.ends_with('/') ? "" : "/") + name;
}

/// A volume of a SCSI target: "unit:0:0:4" is its unit 4.
std::string unit_of(const StoragePool& pool, const std::string& volume) {
    const auto colon = volume.rfind(':');
    const auto number = volume.substr(colon == volume.npos ? 0 : colon + 1);
    const bool known = volume.starts_with("unit:") || colon == volume.npos;
    if (!known || number.empty() || number.size() > 5 || number.find_first_not_of("0123456789") != number.npos)
        refuse(fmt::format("pool '{}' has no volume '{}'; those of an iSCSI target are called unit:0:0:NUMBER",
                           pool.name, volume));
    return number;
}

const std::string& device_of(const StoragePool& pool) {
    if (pool.devices.empty() || pool.hosts.empty())
        refuse(fmt::format("pool '{}' of type '{}' needs a <host> and a <device path=> in its <source>", pool.name,
                           pool.type));
    return pool.devices.front();
}

/// The node that udev makes for a unit of an iSCSI target that the host is logged in to.
std::string node_of_unit(const StoragePool& pool, const std::string& volume) {
    const auto& iqn = device_of(pool);
    const auto& host = pool.hosts.front();
    return fmt::format("{}/ip-{}:{}-iscsi-{}-lun-{}", pool.target.empty() ? "/dev/disk/by-path" : pool.target,
                       host.name, host.port.empty() ? "3260" : host.port, iqn, unit_of(pool, volume));
}

void take_auth(StorageSource& source, const StoragePool& pool, std::string_view type) {
    if (!pool.auth) return;
    source.auth = pool.auth;
    source.auth->unknown = {};
    if (source.auth->secret && source.auth->secret->type.empty()) source.auth->secret->type = type;
}

std::string folder_of(const StoragePool& pool, const std::string& fallback) {
    const auto& folder = pool.target.empty() ? fallback : pool.target;
    if (!is_folder(folder))
        refuse(fmt::format("pool '{}' needs a <target> with the absolute <path> of its volumes", pool.name));
    return folder;
}

// ---- one for each kind of pool: what a volume of it is

StorageType file_in(StorageSource& source, const StoragePool& pool, const std::string& volume) {
    source.file = inside(folder_of(pool, {}), volume);
    return StorageType::file;
}

StorageType device_in(StorageSource& source, const StoragePool& pool, const std::string& volume) {
    const auto& group = pool.source_name.empty() ? pool.name : pool.source_name;
    const bool named = pool.type == "logical" || pool.type == "zfs";
    if (named && pool.target.empty() && !is_name(group))
        refuse(fmt::format("pool '{}': '{}' is no name of a group of volumes", pool.name, group));
    const std::string fallback = pool.type == "logical" ? "/dev/" + group
                                 : pool.type == "zfs"   ? "/dev/zvol/" + group
                                 : pool.type == "mpath" ? "/dev/mapper"
                                                        : "/dev";
    source.dev = inside(folder_of(pool, fallback), volume);
    return StorageType::block;
}

StorageType unit_over_network(StorageSource& source, const StoragePool& pool, const std::string& volume) {
    source.protocol = "iscsi";
    source.name = fmt::format("{}/{}", device_of(pool), unit_of(pool, volume));
    source.hosts = {pool.hosts.front()};
    source.initiator_iqn = pool.initiator_iqn;
    take_auth(source, pool, "iscsi");
    return StorageType::network;
}

StorageType unit(StorageSource& source, const StoragePool& pool, const std::string& volume) {
    if (source.mode == "direct") return unit_over_network(source, pool, volume);
    source.dev = node_of_unit(pool, volume);
    return StorageType::block;
}

StorageType rados_image(StorageSource& source, const StoragePool& pool, const std::string& volume) {
    if (pool.source_name.empty()) refuse(fmt::format("pool '{}' needs a <name> in its <source>", pool.name));
    source.protocol = "rbd";
    source.name = fmt::format("{}/{}", pool.source_name, volume);
    source.hosts = pool.hosts;
    take_auth(source, pool, "ceph");
    return StorageType::network;
}

StorageType gluster_file(StorageSource& source, const StoragePool& pool, const std::string& volume) {
    if (pool.source_name.empty() || pool.hosts.empty())
        refuse(fmt::format("pool '{}' needs a <host> and a <name> in its <source>", pool.name));
    auto folder = pool.source_folder;
    while (folder.starts_with('/')) folder.erase(0, 1);
    while (folder.ends_with('/')) folder.pop_back();
    source.protocol = "gluster";
    source.name = folder.empty() ? fmt::format("{}/{}", pool.source_name, volume)
                                 : fmt::format("{}/{}/{}", pool.source_name, folder, volume);
    source.hosts = pool.hosts;
    return StorageType::network;
}

struct Kind {
    std::string_view type;
    StorageType (*place)(StorageSource& source, const StoragePool& pool, const std::string& volume);
};
constexpr std::array kinds{Kind{"dir", file_in},       Kind{"fs", file_in},
                           Kind{"netfs", file_in},     Kind{"vstorage", file_in},
                           Kind{"logical", device_in}, Kind{"disk", device_in},
                           Kind{"mpath", device_in},   Kind{"zfs", device_in},
                           Kind{"iscsi", unit},        Kind{"iscsi-direct", unit_over_network},
                           Kind{"rbd", rados_image},   Kind{"gluster", gluster_file}};

bool is_open(const Disk& disk) {
    return disk.type == StorageType::volume && disk.source && !disk.source->pool.empty();
}

}  // namespace

void place_volume(Disk& disk, const StoragePool& pool) {
    auto& source = *disk.source;
    const auto kind = std::ranges::find(kinds, pool.type, &Kind::type);
    if (kind == kinds.end())
        refuse(
            fmt::format("pool '{}' is of type '{}', whose volumes are not looked up; name the file or device of '{}'",
                        pool.name, pool.type, source.volume));
    if (!is_name(source.volume))
        refuse(fmt::format("'{}' is no name of a volume of pool '{}'", source.volume, pool.name));
    if (!source.mode.empty() && pool.type != "iscsi" && pool.type != "iscsi-direct")
        refuse(fmt::format("mode='{}' is for volumes of iSCSI targets; pool '{}' is of type '{}'", source.mode,
                           pool.name, pool.type));
    if (pool.type == "iscsi-direct" && source.mode == "host")
        refuse(
            fmt::format("mode='host' needs a host that is logged in to the target; pool '{}' is of type "
                        "'iscsi-direct'",
                        pool.name));
    disk.type = kind->place(source, pool, source.volume);
    source.pool.clear(), source.volume.clear(), source.mode.clear();
    // Never probed: a guest can write any header into its disk.
    if (!disk.driver) disk.driver.emplace();
    if (disk.driver->type.empty()) disk.driver->type = "raw";
}

Volumes::Volumes(const Context& context) : Volumes{context.ports.files, context.store.folders().config + "/storage"} {}

Task<StoragePool> Volumes::get_pool(std::string name, Deadline deadline, std::stop_token stop) {
    if (!is_name(name) || name.size() + 4 > longest_name) refuse(fmt::format("'{}' is no name of a pool", name));
    const std::string path = fmt::format("{}/{}.xml", folder_, name);
    if (!files_.exists(path))
        refuse(fmt::format("there is no pool '{}'; put its definition, as 'virsh pool-dumpxml' prints it, into {}",
                           name, path));
    const Fd fd = co_await files_.open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK, 0, std::nullopt, deadline, stop);
    const auto text = read_owned(fd, {.words = "the definition of a pool " + path,
                                      .path = path,
                                      .longest = xml::largest_pool,
                                      .forbidden = 022,
                                      .rights = "written",
                                      .right_mode = "go-w"});
    StoragePool pool;
    try {
        pool = xml::parse_pool(text);
    } catch (const Error& error) {
        refuse(fmt::format("pool '{}': {}: {}", name, path, error.what()));
    }
    if (pool.name.empty()) pool.name = name;
    if (pool.name != name) refuse(fmt::format("{} defines the pool '{}', not '{}'", path, pool.name, name));
    co_return pool;
}

Task<> Volumes::resolve(Disk& disk, Deadline deadline, std::stop_token stop) {
    if (!is_open(disk)) co_return;
    try {
        const auto pool = co_await get_pool(disk.source->pool, deadline, stop);
        place_volume(disk, pool);
    } catch (const Error& error) {
        if (error.code() != Code::unsupported_configuration) throw;
        refuse(fmt::format("disk '{}': {}", disk.target.dev, error.what()));
    }
}

Task<> Volumes::resolve(DomainConfig& config, Deadline deadline, std::stop_token stop) {
    for (auto& disk : config.devices.disks) co_await resolve(disk, deadline, stop);
}

}  // namespace virtbus
