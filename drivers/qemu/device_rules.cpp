// SPDX-License-Identifier: LGPL-2.1-or-later
#include "qemu/device_rules.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cctype>
#include <charconv>
#include <set>

#include "virtbus/error.hpp"

namespace virtbus::qemu {

namespace {

template <class... Args>
[[noreturn]] void refuse(fmt::format_string<Args...> text, Args&&... args) {
    throw Error{Code::unsupported_configuration, fmt::format(text, std::forward<Args>(args)...)};
}

template <class... Args>
[[noreturn]] void incomplete(fmt::format_string<Args...> text, Args&&... args) {
    throw Error{Code::invalid_xml, fmt::format(text, std::forward<Args>(args)...)};
}

// ---- back ends of character devices

/// The attribute of <source> without which a back end reaches nothing.
struct Needed {
    ChardevType type;
    std::string ChardevSource::* member;
    std::string_view attribute;
};
constexpr Needed needed[]{
    {ChardevType::file, &ChardevSource::path, "path"},
    {ChardevType::dev, &ChardevSource::path, "path"},
    {ChardevType::pipe, &ChardevSource::path, "path"},
    {ChardevType::unix_socket, &ChardevSource::path, "path"},
    {ChardevType::tcp, &ChardevSource::host, "host"},
    {ChardevType::tcp, &ChardevSource::service, "service"},
    {ChardevType::udp, &ChardevSource::service, "service"},
    {ChardevType::spiceport, &ChardevSource::channel, "channel"},
    {ChardevType::dbus, &ChardevSource::channel, "channel"},
};

/// Of <source> of a character device or of an interface.
template <class Source>
void require_reconnect(const Source& source, std::string_view listens, const std::string& who) {
    if (!source.reconnect || source.reconnect->enabled != true) return;
    if (source.mode == listens)
        incomplete("{}: <reconnect> is for those that connect; whoever listens (mode='{}') waits anyway", who, listens);
    if (!source.reconnect->timeout) incomplete("{}: <reconnect enabled='yes'> needs a timeout in seconds", who);
}

/// `makes_path`: a socket that listens and names no path gets one.
void require_back_end(ChardevType type, const ChardevBackend& backend, const std::string& who, bool makes_path) {
    static const ChardevSource nothing;
    const ChardevSource* source = type == ChardevType::udp ? backend.find_source("connect") : backend.source();
    if (!source) source = &nothing;
    for (const auto& each : needed) {
        if (each.type != type || !(source->*each.member).empty()) continue;
        if (type == ChardevType::unix_socket && makes_path && source->mode != "connect") continue;
        incomplete("{} of type '{}': <source> needs the attribute '{}'", who, word(type), each.attribute);
    }
    for (const auto& each : backend.sources) require_reconnect(each, "bind", who);
}

// ---- serial and parallel ports

enum class Place { none, isa, usb, pci, spapr };

struct SerialKind {
    std::string_view type;
    std::string_view models;  // "a|b"
    Place place;
};
constexpr SerialKind serial_kinds[]{
    {"isa-serial", "isa-serial", Place::isa},
    {"isa-debug", "isa-debugcon", Place::isa},
    {"usb-serial", "usb-serial", Place::usb},
    {"pci-serial", "pci-serial", Place::pci},
    {"spapr-vio-serial", "spapr-vty", Place::spapr},
    {"system-serial", "pl011|16550a", Place::none},
    {"sclp-serial", "sclpconsole|sclplmconsole", Place::none},
};

bool fits(const DeviceInfo& info, Place place) {
    if (!info.address) return true;
    switch (place) {
        case Place::isa:
            return info.address_as<IsaAddress>();
        case Place::usb:
            return info.address_as<UsbAddress>();
        case Place::pci:
            return info.address_as<PciAddress>();
        case Place::spapr:
            return info.address_as<SpaprVioAddress>();
        case Place::none:
            break;
    }
    return false;
}

/// USB and PCI ports can be anywhere; the others come with the machine's own bus.
bool has_kind(const Chipset& chipset, const SerialKind& kind) {
    if (chipset.kind == Chipset::Kind::other || kind.place == Place::usb || kind.place == Place::pci) return true;
    return kind.place == Place::isa ? chipset.isa : kind.type == chipset.serial;
}

void require_serial(const Serial& serial, const Chipset& chipset, const std::string& machine) {
    const auto& target = *serial.target;
    const auto kind = std::ranges::find(serial_kinds, target.type, &SerialKind::type);
    if (kind == std::end(serial_kinds)) return;
    if (!has_kind(chipset, *kind))
        refuse(
            "a serial port with target type '{}': machine '{}' has none; '{}' is its own, 'usb-serial' and "
            "'pci-serial' can be added",
            target.type, machine, chipset.serial.empty() ? "none" : chipset.serial);
    const auto models = fmt::format("|{}|", kind->models);
    if (!target.model.empty() && models.find("|" + target.model + "|") == models.npos)
        refuse("a serial port with target type '{}' has the model '{}', not '{}'", target.type, kind->models,
               target.model);
    if (!fits(serial.info, kind->place))
        refuse("a serial port with target type '{}': its <address> is of another type", target.type);
}

void require_character_devices(const DomainConfig& config, const Chipset& chipset) {
    const Devices& devices = config.devices;
    for (const auto& each : devices.serials) {
        require_back_end(each.type, each.backend, "a serial port", false);
        require_serial(each, chipset, config.os.machine);
    }
    for (const auto& each : devices.parallels) {
        require_back_end(each.type, each.backend, "a parallel port", false);
        if (!chipset.isa && chipset.kind != Chipset::Kind::other)
            refuse("a parallel port needs an ISA bus; machine '{}' has none", config.os.machine);
    }
    for (const auto& each : devices.consoles) require_back_end(each.type, each.backend, "a console", false);
    for (const auto& each : devices.channels)
        require_back_end(each.type, each.backend, fmt::format("channel '{}'", each.target->name), true);
    for (const auto& each : devices.redirdevs) require_back_end(each.type, each.backend, "a redirdev", false);
    for (const auto& each : devices.smartcards)
        if (each.type) require_back_end(*each.type, each.backend, "a smartcard", false);
    for (const auto& each : devices.interfaces)
        if (each.type == InterfaceType::vhostuser && each.source)
            require_reconnect(*each.source, "server", fmt::format("interface '{}'", each.mac));
    for (const auto& each : devices.rngs)
        if (each.backend.model == "egd" && each.backend.type)
            require_back_end(*each.backend.type, each.backend.chardev, "an rng with the back end egd", false);
}

// ---- what a person sees and touches

void require_displays(const Devices& devices) {
    std::set<GraphicsType> types;
    unsigned windows = 0;
    for (const auto& graphics : devices.graphics) {
        if (!types.insert(graphics.type).second && graphics.type != GraphicsType::vnc)
            refuse("there are two <graphics type='{}'>; of this type QEMU has one", word(graphics.type));
        windows += graphics.type == GraphicsType::dbus || graphics.type == GraphicsType::sdl ||
                   graphics.type == GraphicsType::egl_headless;
    }
    if (windows > 1) refuse("of the displays 'dbus', 'egl-headless' and 'sdl' QEMU has one at a time");
    for (const auto& graphics : devices.graphics)
        if (graphics.type == GraphicsType::spice && graphics.gl && graphics.gl->enable.value_or(false) &&
            types.contains(GraphicsType::egl_headless))
            refuse(
                "graphics spice with gl and graphics egl-headless would both draw with OpenGL; leave one of them out");
    for (const auto& video : devices.videos)
        if (video.model.type == "ramfb" && video.info.address) refuse("video ramfb: is on no bus; it has no <address>");
}

void require_inputs(const DomainConfig& config) {
    for (const auto& input : config.devices.inputs)
        if (input.bus == "ps2" && input.type != "mouse" && input.type != "keyboard")
            refuse("input '{}' is on the bus 'ps2', which has a mouse and a keyboard; use the bus 'usb' or 'virtio'",
                   input.type);
    const auto& features = config.features;
    const auto off = [](const auto& feature) { return feature && !feature->on(); };
    if (features && off(features->ps2) && features->vmport && features->vmport->on())
        refuse("vmport needs the PS/2 controller that <ps2 state='off'/> takes away");
}

// ---- small ones

void require_small_devices(const Devices& devices) {
    for (const auto& shmem : devices.shmems) {
        if (shmem.size && (!std::has_single_bit(*shmem.size) || *shmem.size < (1 << 20)))
            refuse("shmem '{}': its size is a power of two from 1 MiB", shmem.name);
        if (shmem.msi && !shmem.server) refuse("shmem '{}': <msi> needs a <server>", shmem.name);
    }
    for (const auto& panic : devices.panics) {
        const Place place = panic.model == "isa" ? Place::isa : panic.model == "pvpanic" ? Place::pci : Place::none;
        if (!fits(panic.info, place))
            refuse("panic {}: {}", panic.model,
                   place == Place::none ? "is part of the machine and has no <address>"
                                        : "its <address> is of another type");
    }
}

/// "mm/dd/yyyy", or "mm/dd/yy" of the last century.
bool is_smbios_date(std::string_view text) {
    std::array<unsigned, 3> numbers{};
    for (std::size_t i = 0; i < numbers.size(); ++i) {
        const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), numbers[i]);
        if (error != std::errc{}) return false;
        text.remove_prefix(static_cast<std::size_t>(end - text.data()));
        if (i == 2 ? !text.empty() : !text.starts_with('/')) return false;
        if (i < 2) text.remove_prefix(1);
    }
    const auto [month, day, year] = numbers;
    return month >= 1 && month <= 12 && day >= 1 && day <= 31 && (year < 100 || (year >= 1900 && year < 10000));
}

void require_sysinfo(const DomainConfig& config) {
    for (const auto& info : config.sysinfos) {
        if (info.bios)
            for (const auto& entry : info.bios->entries)
                if (entry.name == "date" && !entry.value.empty() && !is_smbios_date(entry.value))
                    incomplete("<sysinfo>: the BIOS date '{}' is not of the form mm/dd/yyyy", entry.value);
        if (info.base_boards.size() > 1) refuse("<sysinfo> has {} base boards; QEMU has one", info.base_boards.size());
        if (!info.system) continue;
        for (const auto& entry : info.system->entries) {
            const auto same = [](unsigned char a, unsigned char b) { return std::tolower(a) == std::tolower(b); };
            const auto bare = [](std::string text) {
                std::erase(text, '-');
                return text;
            };
            if (entry.name == "uuid" && !entry.value.empty() &&
                !std::ranges::equal(bare(entry.value), bare(config.uuid), same))
                incomplete("<sysinfo>: the system's uuid {} is not the domain's {}; leave it out", entry.value,
                           config.uuid);
        }
    }
}

}  // namespace

void require_sound_devices(const DomainConfig& config, const Chipset& chipset) {
    require_character_devices(config, chipset);
    require_displays(config.devices);
    require_inputs(config);
    require_small_devices(config.devices);
    require_sysinfo(config);
}

}  // namespace virtbus::qemu
