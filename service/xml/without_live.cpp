// SPDX-License-Identifier: LGPL-2.1-or-later
// From a running machine's definition back to the one that is stored.
#include "service/xml/domain_xml.hpp"

namespace virtbus::xml {

namespace {

constexpr std::string_view generated_taps[]{"vnet", "macvtap", "macvlan"};
/// Where libvirt makes the sockets of channels that name none.
constexpr std::string_view folders_of_channels[]{"/run/libvirt/qemu/channel/", "/var/run/libvirt/qemu/channel/",
                                                 "/var/lib/libvirt/qemu/channel/"};

void forget_alias(DeviceInfo& info) {
    if (!info.alias.starts_with("ua-")) info.alias.clear();
}

void forget_index(std::optional<StorageSource>& source) {
    if (source) source->index.reset();
}

void forget_indexes(std::vector<BackingStore>& chain) {
    for (auto& level : chain) {
        level.index.reset();
        forget_index(level.source);
        forget_indexes(level.backing_store);
    }
}

/// The path of a pty is chosen when it is opened.
void forget_pty(ChardevType type, ChardevBackend& backend) {
    if (type != ChardevType::pty) return;
    for (auto& source : backend.sources) source.path.clear();
    std::erase_if(backend.sources, [](const ChardevSource& source) { return source == ChardevSource{}; });
}

/// A socket that was made for a channel when its machine was started, in a folder that goes with the run.
void forget_socket(Channel& channel, const std::string& uuid) {
    if (channel.type != ChardevType::unix_socket) return;
    const auto own = '-' + uuid + "/guest/" + channel.info.alias + ".sock";
    for (auto& source : channel.backend.sources) {
        if (source.mode != "bind") continue;
        bool generated = !channel.info.alias.empty() && source.path.ends_with(own);
        for (const auto folder : folders_of_channels) generated = generated || source.path.starts_with(folder);
        if (generated) source.path.clear();
    }
}

/// Where libvirt makes the socket of a display that names none; ours are not made at all.
constexpr std::string_view folders_of_displays[]{"/run/libvirt/qemu/domain-", "/var/run/libvirt/qemu/domain-",
                                                 "/var/lib/libvirt/qemu/domain-"};

void forget_socket(std::string& path) {
    for (const auto folder : folders_of_displays)
        if (path.starts_with(folder)) path.clear();
}

void forget_ports(Graphics& graphics) {
    forget_socket(graphics.socket);
    for (auto& listen : graphics.listens) forget_socket(listen.socket);
    for (auto& listen : graphics.listens)
        if (listen.type == "network") listen.address.clear();  // looked up in the network at start
    if (!graphics.autoport.value_or(false)) return;
    if (graphics.type == GraphicsType::spice) {
        graphics.port.reset();
        graphics.tls_port.reset();
    } else if (graphics.port) {
        graphics.port = -1;
    }
}

/// What a virtual network has given it.
void forget_place(Interface& interface) {
    if (interface.type != InterfaceType::network || !interface.source) return;
    auto& source = *interface.source;
    if (source.host_address) interface.managed.reset();
    source.port_id.clear(), source.bridge.clear(), source.dev.clear(), source.mode.clear();
    source.host_address.reset();
}

template <class List>
void forget_aliases(List& devices) {
    for (auto& device : devices) forget_alias(device.info);
}

}  // namespace

DomainConfig without_live(DomainConfig config) {
    config.id.reset();
    auto& d = config.devices;
    for (auto& disk : d.disks) {
        forget_index(disk.source);
        forget_indexes(disk.backing_store);
        disk.mirror.reset();
    }
    for (auto& memory : d.memories) memory.target.current.reset();
    for (auto& interface : d.interfaces) {
        forget_place(interface);
        if (!interface.target || interface.target->managed) continue;
        for (auto prefix : generated_taps)
            if (interface.target->dev.starts_with(prefix)) interface.target->dev.clear();
    }
    for (auto& serial : d.serials) forget_pty(serial.type, serial.backend);
    for (auto& parallel : d.parallels) forget_pty(parallel.type, parallel.backend);
    for (auto& console : d.consoles) {
        forget_pty(console.type, console.backend);
        console.tty.clear();
    }
    for (auto& channel : d.channels) {
        forget_pty(channel.type, channel.backend);
        forget_socket(channel, config.uuid);
        if (channel.target) channel.target->state.clear();
    }
    for (auto& graphics : d.graphics) forget_ports(graphics);
    for (auto& label : config.security_labels) {
        if (label.type == "dynamic" || label.type.empty()) label.label.clear();
        label.image_label.clear();
    }
    forget_aliases(d.disks), forget_aliases(d.controllers), forget_aliases(d.filesystems), forget_aliases(d.interfaces);
    forget_aliases(d.smartcards), forget_aliases(d.serials), forget_aliases(d.parallels), forget_aliases(d.consoles);
    forget_aliases(d.channels), forget_aliases(d.inputs), forget_aliases(d.tpms), forget_aliases(d.sounds);
    forget_aliases(d.videos), forget_aliases(d.hostdevs), forget_aliases(d.redirdevs), forget_aliases(d.hubs);
    forget_aliases(d.watchdogs), forget_aliases(d.rngs), forget_aliases(d.panics), forget_aliases(d.shmems);
    forget_aliases(d.memories), forget_aliases(d.cryptos), forget_aliases(d.iommus);
    if (d.memballoon) forget_alias(d.memballoon->info);
    if (d.nvram) forget_alias(d.nvram->info);
    if (d.vsock) forget_alias(d.vsock->info);
    if (d.pstore) forget_alias(d.pstore->info);
    return config;
}

}  // namespace virtbus::xml
