// SPDX-License-Identifier: LGPL-2.1-or-later
#include "service/domain_view.hpp"

#include <fmt/format.h>

namespace virtbus {

namespace {

/// Leaves out what the definition does not say.
class Row {
public:
    Row& text(const char* name, std::string_view value) {
        if (!value.empty()) fields_.emplace_back(name, std::string{value});
        return *this;
    }
    Row& value(const char* name, FieldValue value) {
        fields_.emplace_back(name, std::move(value));
        return *this;
    }
    Fields take() { return std::move(fields_); }

private:
    Fields fields_;
};

std::string place_of(const StorageSource& source) {
    if (!source.protocol.empty()) return fmt::format("{}:{}", source.protocol, source.name);
    for (const auto* path : {&source.file, &source.dev, &source.dir, &source.path})
        if (!path->empty()) return *path;
    return source.volume.empty() ? std::string{} : fmt::format("{}/{}", source.pool, source.volume);
}

Fields describe(const Disk& disk) {
    Row row;
    row.text("target", disk.target.dev).text("bus", disk.target.bus).text("device", word(disk.device));
    row.text("type", word(disk.type));
    if (disk.source) row.text("source", place_of(*disk.source));
    if (disk.driver) row.text("format", disk.driver->type);
    row.text("serial", disk.serial).text("alias", disk.info.alias);
    row.value("readonly", disk.readonly || disk.device == DiskDevice::cdrom);
    return row.take();
}

std::string place_of(const Interface& interface) {
    if (!interface.source) return {};
    const auto& source = *interface.source;
    switch (interface.type) {
        case InterfaceType::bridge:
            return source.bridge;
        case InterfaceType::network:
            return source.network;
        case InterfaceType::vhostuser:
            return source.path;
        case InterfaceType::internal:
            return source.name;
        case InterfaceType::mcast:
        case InterfaceType::client:
        case InterfaceType::server:
        case InterfaceType::udp:
            return source.port ? fmt::format("{}:{}", source.address, *source.port) : source.address;
        default:
            return source.dev;
    }
}

Fields describe(const Interface& interface) {
    Row row;
    row.text("mac", interface.mac).text("type", word(interface.type)).text("source", place_of(interface));
    if (interface.target) row.text("target", interface.target->dev);
    row.text("model", interface.model).text("alias", interface.info.alias);
    return row.take();
}

Fields describe(const Graphics& graphics) {
    Row row;
    row.text("type", word(graphics.type));
    std::string listen = graphics.listen, socket = graphics.socket;
    for (const auto& entry : graphics.listens) {
        if (listen.empty()) listen = entry.address.empty() ? entry.network : entry.address;
        if (socket.empty()) socket = entry.socket;
    }
    row.text("listen", listen).text("socket", socket);
    if (graphics.port) row.value("port", *graphics.port);
    if (graphics.tls_port) row.value("tls-port", *graphics.tls_port);
    row.text("address", graphics.address);
    return row.take();
}

Fields describe_chardev(const std::string& kind, std::size_t index, const std::string& alias, ChardevType type,
                        const ChardevBackend& backend, const std::string& target) {
    Row row;
    row.text("name", alias.empty() ? fmt::format("{}{}", kind, index) : alias)
        .text("kind", kind)
        .text("type", word(type));
    if (const auto* source = backend.source()) row.text("path", source->path);
    return row.text("target", target).take();
}

/// The first console is by convention a second name of the first serial port.
bool doubles_serial(const Console& console, std::size_t index, const Devices& devices) {
    const bool serial = !console.target || console.target->type.empty() || console.target->type == "serial";
    return index == 0 && serial && !devices.serials.empty();
}

std::vector<Fields> describe_consoles(const Devices& devices) {
    std::vector<Fields> list;
    for (std::size_t i = 0; i < devices.serials.size(); ++i) {
        const auto& serial = devices.serials[i];
        list.push_back(describe_chardev("serial", i, serial.info.alias, serial.type, serial.backend,
                                        serial.target ? serial.target->type : std::string{}));
    }
    for (std::size_t i = 0; i < devices.parallels.size(); ++i) {
        const auto& parallel = devices.parallels[i];
        list.push_back(describe_chardev("parallel", i, parallel.info.alias, parallel.type, parallel.backend, {}));
    }
    for (std::size_t i = 0; i < devices.consoles.size(); ++i) {
        const auto& console = devices.consoles[i];
        if (doubles_serial(console, i, devices)) continue;
        list.push_back(describe_chardev("console", i, console.info.alias, console.type, console.backend,
                                        console.target ? console.target->type : std::string{}));
    }
    for (std::size_t i = 0; i < devices.channels.size(); ++i) {
        const auto& channel = devices.channels[i];
        list.push_back(describe_chardev("channel", i, channel.info.alias, channel.type, channel.backend,
                                        channel.target ? channel.target->name : std::string{}));
    }
    return list;
}

template <class T>
std::vector<Fields> describe_all(const std::vector<T>& devices) {
    std::vector<Fields> list;
    list.reserve(devices.size());
    for (const auto& device : devices) list.push_back(describe(device));
    return list;
}

}  // namespace

std::string variable_store(const Os& os) {
    const bool without = os.loader && (os.loader->type == "rom" || os.loader->stateless.value_or(false));
    if (!os.nvram || without) return {};
    return os.nvram->source ? place_of(*os.nvram->source) : os.nvram->path;
}

void describe(DomainView& view, const DomainConfig& config) {
    view.name = config.name;
    view.uuid = config.uuid;
    view.type = config.type;
    view.title = config.title;
    view.description = config.description;
    view.arch = config.os.arch;
    view.machine = config.os.machine;
    view.os_type = config.os.type;
    view.max_vcpus = config.vcpu.value_or(1);
    view.vcpus = config.vcpu_current.value_or(view.max_vcpus);
    view.max_memory = config.memory.value_or(0);
    view.memory = config.current_memory.value_or(view.max_memory);
    view.disks = describe_all(config.devices.disks);
    view.interfaces = describe_all(config.devices.interfaces);
    view.displays = describe_all(config.devices.graphics);
    view.consoles = describe_consoles(config.devices);
    view.firmware_vars = variable_store(config.os);
}

}  // namespace virtbus
