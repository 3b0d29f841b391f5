// SPDX-License-Identifier: LGPL-2.1-or-later
// Character devices: back ends, and the serial, parallel, console and channel devices before them; smartcards and USB
// redirection, which use the same back ends.
#include <fmt/format.h>

#include <algorithm>

#include "qemu/command/families.hpp"
#include "virtbus/error.hpp"

namespace virtbus::qemu {

namespace {

const ChardevSource& source_of(const ChardevBackend& backend) {
    static const ChardevSource none;
    return backend.source() ? *backend.source() : none;
}

void set_reconnect(KeyValues& value, const ChardevSource& source) {
    if (source.reconnect && source.reconnect->enabled.value_or(true)) value.add("reconnect", source.reconnect->timeout);
}

KeyValues tcp(Argv& line, const ChardevBackend& backend, const std::string& id) {
    const ChardevSource& source = source_of(backend);
    const bool server = source.mode == "bind";
    KeyValues value{"socket"};
    value.add("id", id).add("host", source.host).add("port", source.service);
    if (backend.protocol == "telnet") value.add("telnet", true);
    if (backend.protocol == "tls" || backend.protocol == "telnets")
        throw Error{Code::unsupported_configuration,
                    fmt::format("character device '{}': the protocol '{}' is not spoken; write <source tls='yes'>", id,
                                backend.protocol)};
    if (source.tls.value_or(false)) value.add("tls-creds", line.tls("obj" + id + "_tls0", "chardev", server));
    if (server) value.add("server", true).add("wait", false);
    if (!server) set_reconnect(value, source);
    line.out.needs_network = true;
    return value;
}

KeyValues udp(Argv& line, const ChardevBackend& backend, const std::string& id) {
    KeyValues value{"udp"};
    value.add("id", id);
    if (const auto* to = backend.find_source("connect")) value.add("host", to->host).add("port", to->service);
    if (const auto* from = backend.find_source("bind"))
        value.add("localaddr", from->host).add("localport", from->service);
    line.out.needs_network = true;
    return value;
}

KeyValues unix_socket(Argv& line, const ChardevBackend& backend, const std::string& alias, const std::string& id) {
    const ChardevSource& source = source_of(backend);
    const bool server = source.mode == "bind";
    KeyValues value{"socket"};
    value.add("id", id);
    auto* file = line.find("chardev:" + alias);
    if (file && file->fd)
        value.add("fd", line.give(std::move(file->fd)));
    else
        value.add("path", file ? file->path : source.path);
    if (server) value.add("server", true).add("wait", false);
    if (!server) set_reconnect(value, source);
    return value;
}

KeyValues file_backend(Argv& line, const ChardevBackend& backend, const std::string& alias, const std::string& id) {
    auto* file = line.find("chardev:" + alias);
    if (!file) throw Error{Code::unsupported_configuration, fmt::format("character device '{}': it names no file", id)};
    return KeyValues{"file"}
        .add("id", id)
        .add("path", line.fdset(*file))
        .add("append", source_of(backend).append.value_or(false));
}

KeyValues device_node(Argv& line, const ChardevSource& source, const std::string& alias, const std::string& id) {
    auto* file = line.find("chardev:" + alias);
    return KeyValues{alias.starts_with("parallel") ? "parallel" : "serial"}.add("id", id).add(
        "path", file ? line.fdset(*file) : source.path);
}

/// What SPICE calls the other end.
const char* spice_name(const std::string& alias) {
    return alias.starts_with("redir") ? "usbredir" : alias.starts_with("smartcard") ? "smartcard" : "vdagent";
}

KeyValues vdagent(const ChardevBackend& backend, const std::string& id) {
    const ChardevSource& source = source_of(backend);
    KeyValues value{"qemu-vdagent"};
    value.add("id", id).add("name", "vdagent");
    value.add("clipboard", source.clipboard_copypaste);
    if (!source.mouse_mode.empty()) value.add("mouse", source.mouse_mode == "client");
    return value;
}

KeyValues backend_words(Argv& line, ChardevType type, const ChardevBackend& backend, const std::string& alias,
                        const std::string& id) {
    const ChardevSource& source = source_of(backend);
    const auto plain = [&](const char* kind) { return KeyValues{kind}.add("id", id); };
    // What reaches outside becomes null where the line must run anywhere.
    const bool local = type == ChardevType::pty || type == ChardevType::vc || type == ChardevType::null ||
                       type == ChardevType::qemu_vdagent;
    if (line.runnable() && !local) return plain("null");
    switch (type) {
        case ChardevType::pty:
            return plain("pty");
        case ChardevType::vc:
            return plain("vc");
        case ChardevType::null:
            return plain("null");
        case ChardevType::stdio:
            return plain("stdio");
        case ChardevType::file:
            return file_backend(line, backend, alias, id);
        case ChardevType::dev:
            return device_node(line, source, alias, id);
        case ChardevType::pipe:
            return plain("pipe").add("path", source.path);
        case ChardevType::tcp:
            return tcp(line, backend, id);
        case ChardevType::udp:
            return udp(line, backend, id);
        case ChardevType::unix_socket:
            return unix_socket(line, backend, alias, id);
        case ChardevType::spicevmc:
            return plain("spicevmc").add("name", spice_name(alias));
        case ChardevType::spiceport:
            return plain("spiceport").add("name", source.channel);
        case ChardevType::qemu_vdagent:
            return vdagent(backend, id);
        case ChardevType::dbus:
            return plain("dbus").add("name", source.channel);
        default:
            break;
    }
    throw Error{Code::unsupported_configuration, fmt::format("QEMU has no character device back end '{}'", word(type))};
}

// ---- front ends

std::string serial_driver(const SerialTarget& target) {
    if (target.model == "16550a" || target.model == "pl011" || target.model == "sclpconsole" ||
        target.model == "sclplmconsole")
        return {};
    return target.model.empty() ? "isa-serial" : target.model;
}

void add_serial(Argv& line, const Serial& serial) {
    const std::string id = add_chardev(line, serial.type, serial.backend, serial.info.alias);
    const SerialTarget none;
    const SerialTarget& target = serial.target ? *serial.target : none;
    // A machine of which nothing is known has its own, too.
    if (target.type == "system-serial" || target.type.empty()) return line.arg("-serial", "chardev:" + id);
    Json device;
    device.set("driver", target.type == "sclp-serial" ? target.model : serial_driver(target)).set("chardev", id);
    line.place(device, serial.info);
    if (target.type == "isa-serial") device.set("index", target.port);
    if (target.type == "isa-debug" && !serial.info.address) device.set("iobase", 0x402);
    line.device(device, serial.info.alias);
}

void add_parallel(Argv& line, const Parallel& parallel) {
    const std::string id = add_chardev(line, parallel.type, parallel.backend, parallel.info.alias);
    Json device;
    device.set("driver", "isa-parallel").set("chardev", id);
    if (parallel.target) device.set("index", parallel.target->port);
    line.place(device, parallel.info);
    line.device(device, parallel.info.alias);
}

std::string serial_bus(const Argv& line, const VirtioSerialAddress& at) {
    return line.bus_of(ControllerType::virtio_serial, at.controller);
}

void add_console(Argv& line, const Console& console) {
    const std::string type = console.target ? console.target->type : "serial";
    if (type == "serial" || type.empty()) return;  // a serial port under another name
    const std::string id = add_chardev(line, console.type, console.backend, console.info.alias);
    Json device;
    if (type == "virtio") {
        device.set("driver", "virtconsole");
        if (const auto* at = console.info.address_as<VirtioSerialAddress>())
            device.set("bus", serial_bus(line, *at)).set("nr", at->port);
    } else if (type == "sclp" || type == "sclplm") {
        device.set("driver", type + "console");
    } else {
        throw Error{Code::unsupported_configuration, fmt::format("QEMU has no consoles of type '{}'", type)};
    }
    device.set("chardev", id).set("id", console.info.alias);
    line.device(device, console.info.alias);
}

void add_channel(Argv& line, const Channel& channel) {
    const std::string id = add_chardev(line, channel.type, channel.backend, channel.info.alias);
    if (channel.target->type == "guestfwd") {
        const auto to =
            fmt::format("tcp:{}:{}-chardev:{}", channel.target->address, channel.target->port.value_or(0), id);
        return line.arg("-netdev", Json{}
                                       .set("type", "user")
                                       .set("id", "host" + channel.info.alias)
                                       .set("guestfwd", std::vector{Json{}.set("str", to)})
                                       .text());
    }
    if (channel.target->type != "virtio")
        throw Error{Code::unsupported_configuration,
                    fmt::format("QEMU has no channels of type '{}'", channel.target->type)};
    Json device;
    device.set("driver", "virtserialport");
    if (const auto* at = channel.info.address_as<VirtioSerialAddress>())
        device.set("bus", serial_bus(line, *at)).set("nr", at->port);
    device.set("chardev", id).set("id", channel.info.alias).set_text("name", channel.target->name);
    line.device(device, channel.info.alias);
}

void add_smartcard(Argv& line, const Smartcard& card) {
    Json device;
    if (card.mode == "passthrough") {
        const std::string id = add_chardev(line, card.type.value_or(ChardevType::null), card.backend, card.info.alias);
        device.set("driver", "ccid-card-passthru").set("chardev", id);
    } else {
        if (line.runnable()) return;
        device.set("driver", "ccid-card-emulated")
            .set("backend", card.mode == "host" ? "nss-emulated" : "certificates");
        if (card.mode == "host-certificates" && card.certificates.size() == 3) {
            device.set("cert1", card.certificates[0])
                .set("cert2", card.certificates[1])
                .set("cert3", card.certificates[2]);
            device.set("db", card.database.empty() ? "/etc/pki/nssdb" : card.database.c_str());
        }
    }
    device.set("id", card.info.alias);
    if (const auto* at = card.info.address_as<CcidAddress>())
        device.set("bus", line.bus_of(ControllerType::ccid, at->controller));
    line.device(device, card.info.alias);
}

}  // namespace

std::string add_chardev(Argv& line, ChardevType type, const ChardevBackend& backend, const std::string& alias) {
    const std::string id = "char" + alias;
    KeyValues value = backend_words(line, type, backend, alias, id);
    if (auto* log = line.find("chardev:" + alias + "/log"); log && !line.runnable())
        value.add("logfile", line.fdset(*log)).add("logappend", backend.log && backend.log->append.value_or(true));
    line.arg("-chardev", value);
    return id;
}

void add_character_devices(Argv& line) {
    const Devices& devices = line.config.devices;
    for (const auto& controller : devices.controllers)
        if (controller.type == ControllerType::ccid) {
            Json device;
            device.set("driver", "usb-ccid");
            line.place(device, controller.info);
            line.device(device, controller.info.alias);
        }
    for (const auto& card : devices.smartcards) add_smartcard(line, card);
    for (const auto& serial : devices.serials) add_serial(line, serial);
    for (const auto& parallel : devices.parallels) add_parallel(line, parallel);
    for (const auto& channel : devices.channels) add_channel(line, channel);
    for (const auto& console : devices.consoles) add_console(line, console);
}

void add_redirdevs(Argv& line) {
    const auto& filter = line.config.devices.redirfilter;
    std::string rules;
    if (filter)
        for (const auto& usb : filter->usbdevs) {
            const auto part = [](const std::optional<std::uint32_t>& value, int digits) {
                return value ? fmt::format("0x{:0{}x}", *value, digits) : std::string{"-1"};
            };
            // "1.10" is BCD 0x0110
            std::string version = "-1";
            if (const auto dot = usb.version.find('.'); dot != usb.version.npos)
                version = fmt::format("0x{:0>2}{:0<2}", usb.version.substr(0, dot), usb.version.substr(dot + 1));
            rules += fmt::format("{}{}:{}:{}:{}:{}", rules.empty() ? "" : "|", part(usb.device_class, 2),
                                 part(usb.vendor, 4), part(usb.product, 4), version, usb.allow ? 1 : 0);
        }
    for (const auto& redirdev : line.config.devices.redirdevs) {
        const std::string id = "char" + redirdev.info.alias;
        add_chardev(line, redirdev.type, redirdev.backend, redirdev.info.alias);
        Json device;
        device.set("driver", "usb-redir").set("chardev", id);
        device.set_text("filter", rules);
        line.place(device, redirdev.info);
        device.set("bootindex", redirdev.info.boot_order);
        line.device(device, redirdev.info.alias);
    }
}

}  // namespace virtbus::qemu
