// SPDX-License-Identifier: LGPL-2.1-or-later
// Character devices: <serial>, <parallel>, <console>, <channel>, and the back ends they share with <smartcard>, <rng>
// and <redirdev>.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "virtbus/model/device_info.hpp"
#include "virtbus/model/seclabel.hpp"
#include "virtbus/model/storage_source.hpp"

namespace virtbus {

enum class ChardevType {
    pty,
    file,
    dev,
    pipe,
    tcp,
    udp,
    unix_socket,
    vc,
    null,
    stdio,
    spicevmc,
    spiceport,
    nmdm,
    qemu_vdagent,
    dbus
};
template <>
struct Words<ChardevType> {
    static constexpr std::array<std::string_view, 15> list{"pty",      "file",      "dev",  "pipe",         "tcp",
                                                           "udp",      "unix",      "vc",   "null",         "stdio",
                                                           "spicevmc", "spiceport", "nmdm", "qemu-vdagent", "dbus"};
};

struct ChardevSource {
    std::string mode;  ///< unix, tcp, udp: bind, connect; "" = connect
    std::string path;  ///< pty (live only), file, dev, pipe, unix
    std::optional<bool> append;
    std::string host, service;  ///< tcp, udp
    std::optional<bool> tls;
    std::string channel;                      ///< spiceport, dbus
    std::string master, slave;                ///< nmdm
    std::optional<bool> clipboard_copypaste;  ///< qemu-vdagent
    std::string mouse_mode;                   ///< qemu-vdagent: client, server
    std::optional<Reconnect> reconnect;
    std::vector<SourceSecurityLabel> security_labels;
    Unknown unknown;
    bool operator==(const ChardevSource&) const = default;
};

struct ChardevLog {
    std::string file;
    std::optional<bool> append;
    Unknown unknown;
    bool operator==(const ChardevLog&) const = default;
};

/// How a character device reaches the host; its `type` is an attribute of the device's own element.
struct ChardevBackend {
    std::vector<ChardevSource> sources;  ///< one, but for udp (connect and bind); none for vc, null, stdio, spicevmc
    std::string protocol;                ///< tcp: raw, telnet, telnets, tls; "" = raw
    std::optional<ChardevLog> log;
    bool operator==(const ChardevBackend&) const = default;

    const ChardevSource* source() const { return sources.empty() ? nullptr : &sources.front(); }
    /// The first source, made when there is none.
    ChardevSource& make_source() { return sources.empty() ? sources.emplace_back() : sources.front(); }
    /// The source of that mode ("" counts as connect).
    const ChardevSource* find_source(std::string_view mode) const {
        for (const auto& source : sources)
            if (source.mode == mode || (source.mode.empty() && mode == "connect")) return &source;
        return nullptr;
    }
};

struct SerialTarget {
    std::string type;  ///< isa-serial, usb-serial, pci-serial, isa-debug, system-serial ...; "" = default
    std::optional<std::uint32_t> port;
    std::string model;  ///< isa-serial, usb-serial, pci-serial, isa-debugcon, pl011, 16550a ...
    Unknown unknown;
    bool operator==(const SerialTarget&) const = default;
};

struct Serial {
    ChardevType type = ChardevType::pty;
    ChardevBackend backend;
    std::optional<SerialTarget> target;
    DeviceInfo info;
    Unknown unknown;
    bool operator==(const Serial&) const = default;
};

struct ParallelTarget {
    std::string type;
    std::optional<std::uint32_t> port;
    Unknown unknown;
    bool operator==(const ParallelTarget&) const = default;
};

struct Parallel {
    ChardevType type = ChardevType::pty;
    ChardevBackend backend;
    std::optional<ParallelTarget> target;
    DeviceInfo info;
    Unknown unknown;
    bool operator==(const Parallel&) const = default;
};

struct ConsoleTarget {
    std::string type;  ///< serial, virtio, xen, sclp ...; "" = serial
    std::optional<std::uint32_t> port;
    Unknown unknown;
    bool operator==(const ConsoleTarget&) const = default;
};

struct Console {
    ChardevType type = ChardevType::pty;
    std::string tty;  ///< live only, the old spelling of the pty's path
    ChardevBackend backend;
    std::optional<ConsoleTarget> target;
    DeviceInfo info;
    Unknown unknown;
    bool operator==(const Console&) const = default;
};

struct ChannelTarget {
    std::string type = "virtio";  ///< virtio, guestfwd, xen
    std::string name;             ///< virtio: org.qemu.guest_agent.0, com.redhat.spice.0 ...
    std::string state;            ///< live only: connected, disconnected
    std::string address;          ///< guestfwd
    std::optional<std::uint32_t> port;
    Unknown unknown;
    bool operator==(const ChannelTarget&) const = default;
};

struct Channel {
    ChardevType type = ChardevType::unix_socket;
    ChardevBackend backend;
    std::optional<ChannelTarget> target;
    DeviceInfo info;
    Unknown unknown;
    bool operator==(const Channel&) const = default;
};

}  // namespace virtbus
