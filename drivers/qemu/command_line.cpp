// SPDX-License-Identifier: LGPL-2.1-or-later
#include "qemu/command_line.hpp"

#include "qemu/command/families.hpp"
#include "qemu/command/storage.hpp"
#include "qemu/files_of.hpp"
#include "qemu/tls.hpp"

namespace virtbus::qemu {

namespace {

void add_monitor(Argv& line, const MonitorSocket& monitor) {
    KeyValues chardev{"socket"};
    chardev.add("id", "charmonitor");
    if (monitor.fd >= 0)
        chardev.add("fd", line.lend(monitor.fd));
    else if (!monitor.path.empty())
        chardev.add("path", monitor.path);
    else
        return;
    line.arg("-chardev", chardev.add("server", true).add("wait", false));
    line.arg("-mon", "chardev=charmonitor,id=monitor,mode=control");
}

void add_user_arguments(Argv& line) {
    if (!line.config.qemu_commandline) return;
    for (const auto& word : line.config.qemu_commandline->args) line.arg(word);
    for (const auto& variable : line.config.qemu_commandline->envs)
        line.out.environment[variable.name] = variable.value;
}

/// What the guest's emulator does when it is told something it means to drop one day.
void add_deprecation(Argv& line) {
    const std::string& wish = line.config.qemu_deprecation;
    KeyValues compat;
    if (wish == "omit" || wish == "reject" || wish == "crash") compat.add("deprecated-output", "hide");
    if (wish == "reject" || wish == "crash") compat.add("deprecated-input", wish);
    if (!compat.empty()) line.arg("-compat", compat);
}

void add_all(Argv& line, const MonitorSocket& monitor) {
    const DomainConfig& config = line.config;
    line.arg(config.devices.emulator.empty() ? line.capabilities.binary : config.devices.emulator);
    add_machine(line);
    add_cpu(line);
    add_direct_boot(line);
    add_memory(line);
    add_iothreads(line);
    if (!config.uuid.empty()) line.arg("-uuid", config.uuid);
    add_sysinfo(line);
    line.arg("-no-user-config");
    line.arg("-nodefaults");
    add_monitor(line, monitor);
    add_clock(line);
    add_power_and_boot(line);
    add_iommus(line);
    add_controllers(line);
    add_disks(line);
    add_filesystems(line);
    add_interfaces(line);
    add_character_devices(line);
    add_inputs(line);
    add_audio(line);
    add_graphics(line);
    add_videos(line);
    add_sounds(line);
    add_hostdevs(line);
    add_redirdevs(line);
    add_memory_devices(line);
    add_small_devices(line);
    line.arg("-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny");
    add_deprecation(line);
    add_user_arguments(line);
    line.arg("-msg", "timestamp=on");
}

}  // namespace

CommandLine command_line(const DomainConfig& config, const Capabilities& capabilities, OpenedResources& opened,
                         const MonitorSocket& monitor) {
    Argv line{config, capabilities, opened};
    add_all(line, monitor);
    return std::move(line.out);
}

std::vector<std::string> standalone_command(const DomainConfig& config, const Capabilities& capabilities,
                                            bool runnable) {
    DomainConfig named = config;
    assign_aliases(named);
    OpenedResources opened;
    opened.by_path = true;
    opened.runnable = runnable;
    if (!runnable) name_secrets(named, opened);
    if (!runnable)
        for (const auto& need : tls_needs(named)) opened.files[need.key()].path = "/etc/virtbus/tls/" + need.use;
    for (auto& file : files_of(named, "/run/virtbus/qemu/" + named.uuid)) {
        // A firmware image is replaced by an empty one of its size, all other files are left out.
        const bool flash =
            (file.key == "loader" || file.key == "nvram") && named.os.loader && named.os.loader->type == "pflash";
        if (runnable && !flash) continue;
        OpenedFile& entry = opened.files[file.key];
        entry.path = std::move(file.path);
        entry.format = std::move(file.format);
        entry.read_only = file.access == Access::read;
    }
    return command_line(named, capabilities, opened, MonitorSocket{}).argv;
}

namespace {

/// Media and devices that may be missing at the start, and are.
void leave_out_missing(DomainConfig& config, const OpenedResources& opened) {
    const auto missing = [&](const Disk& disk) {
        const bool optional = disk.source && disk.source->startup_policy == "optional" && !disk.transient;
        return optional && (disk.type == StorageType::file || disk.type == StorageType::block) &&
               disk.target.tray != "open" && !opened.files.contains(level_key(disk, 0));
    };
    for (auto& disk : config.devices.disks)
        if (missing(disk) && (disk.device == DiskDevice::cdrom || disk.device == DiskDevice::floppy))
            disk.source.reset();
    std::erase_if(config.devices.disks, missing);
    std::erase_if(config.devices.hostdevs, [&](const Hostdev& hostdev) {
        return hostdev.type == HostdevType::usb && hostdev.source.startup_policy == "optional" &&
               !opened.files.contains("usb:" + hostdev.info.alias);
    });
}

}  // namespace

void fill_links(DomainConfig& config, const OpenedResources& opened) {
    for (const auto& [index, link] : opened.links) {
        auto& interface = config.devices.interfaces[index];
        if (link.interface) {
            auto info = std::move(interface.info);
            interface = *link.interface;
            interface.info = std::move(info);
        }
        if (link.ifname.empty()) continue;
        auto& target = interface.target;
        if (!target) target.emplace();
        target->dev = link.ifname;
    }
}

void fill_opened(DomainConfig& config, const OpenedResources& opened) {
    fill_links(config, opened);
    if (opened.vsock_cid && config.devices.vsock) {
        auto& cid = config.devices.vsock->cid;
        if (!cid) cid.emplace();
        cid->address = opened.vsock_cid;
    }
    for (const auto& [index, port] : opened.ports) config.devices.graphics[index].port = port;
    for (const auto& [index, port] : opened.tls_ports) config.devices.graphics[index].tls_port = port;
    leave_out_missing(config, opened);
    for (auto& channel : config.devices.channels)
        if (const auto file = opened.files.find("chardev:" + channel.info.alias); file != opened.files.end())
            channel.backend.make_source().path = file->second.path;
}

}  // namespace virtbus::qemu
