// SPDX-License-Identifier: LGPL-2.1-or-later
#include "qemu/live_config.hpp"

#include <algorithm>
#include <charconv>
#include <nlohmann/json.hpp>

#include "qemu/json.hpp"

namespace virtbus::qemu {

using nlohmann::json;

namespace {

/// Calls it with every character device that has a back end.
template <class Config, class F>
void each_chardev(Config& config, F call) {
    auto& devices = config.devices;
    for (auto& device : devices.serials) call(device);
    for (auto& device : devices.parallels) call(device);
    for (auto& device : devices.channels) call(device);
    for (auto& device : devices.consoles) call(device);
}

std::string terminal_of(const json& chardevs, const std::string& id) {
    for (const auto& chardev : chardevs)
        if (const auto file = text(chardev, "filename"); text(chardev, "label") == id && file.starts_with("pty:"))
            return file.substr(4);
    return {};
}

int port_number(const std::string& text) {
    int port = 0;
    std::from_chars(text.data(), text.data() + text.size(), port);
    return port;
}

Graphics* find_graphics(DomainConfig& config, GraphicsType type) {
    const auto found = std::ranges::find(config.devices.graphics, type, &Graphics::type);
    return found == config.devices.graphics.end() ? nullptr : &*found;
}

}  // namespace

bool has_terminals(const DomainConfig& config) {
    bool found = false;
    each_chardev(config, [&](const auto& device) { found = found || device.type == ChardevType::pty; });
    return found;
}

void fill_terminals(DomainConfig& config, const json& chardevs) {
    each_chardev(config, [&](auto& device) {
        if (device.type != ChardevType::pty) return;
        if (auto path = terminal_of(chardevs, "char" + device.info.alias); !path.empty())
            device.backend.make_source().path = std::move(path);
    });
    // The first console is the first serial port under another name.
    auto& devices = config.devices;
    for (auto& console : devices.consoles) {
        if (console.type != ChardevType::pty) continue;
        const bool is_serial = !console.target || console.target->type.empty() || console.target->type == "serial";
        if (is_serial && !devices.serials.empty() && &console == &devices.consoles.front())
            if (const auto* source = devices.serials.front().backend.source())
                console.backend.make_source().path = source->path;
        if (const auto* source = console.backend.source()) console.tty = source->path;
    }
}

void fill_memories(DomainConfig& config, const json& memories) {
    for (const auto& entry : memories) {
        const auto& data = member(entry, "data");
        const auto id = text(data, "id");
        for (auto& memory : config.devices.memories) {
            if (id.empty() || memory.info.alias != id) continue;
            if (auto* at = memory.info.address_as<DimmAddress>(); at && data.contains("addr"))
                at->base = number(data, "addr");
            if (data.contains("memaddr")) memory.target.address_base = number(data, "memaddr");
            if (memory.model == "virtio-mem") memory.target.current = number(data, "size");
        }
    }
}

void fill_vnc_port(DomainConfig& config, const json& vnc) {
    auto* graphics = find_graphics(config, GraphicsType::vnc);
    if (const int port = port_number(text(vnc, "service")); graphics && port > 0 && text(vnc, "family") != "unix")
        graphics->port = port;
}

void fill_spice_ports(DomainConfig& config, const json& spice) {
    auto* graphics = find_graphics(config, GraphicsType::spice);
    if (!graphics) return;
    if (const auto port = number(spice, "port")) graphics->port = static_cast<std::int32_t>(port);
    if (const auto port = number(spice, "tls-port")) graphics->tls_port = static_cast<std::int32_t>(port);
}

std::string alias_of_path(std::string_view path, std::string_view fallback) {
    constexpr std::string_view root = "/machine/peripheral/";
    if (path.starts_with(root)) {
        path.remove_prefix(root.size());
        return std::string{path.substr(0, path.find('/'))};
    }
    return std::string{path.empty() || path.starts_with('/') ? fallback : path};
}

}  // namespace virtbus::qemu
