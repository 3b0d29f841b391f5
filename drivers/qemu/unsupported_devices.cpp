// SPDX-License-Identifier: LGPL-2.1-or-later
// What of a definition's interfaces and other devices the emulator or this host cannot do.
#include <arpa/inet.h>
#include <fmt/format.h>
#include <net/if.h>

#include <algorithm>
#include <array>

#include "qemu/chipset.hpp"
#include "qemu/pci_devices.hpp"
#include "qemu/tls.hpp"
#include "qemu/unsupported_parts.hpp"

namespace virtbus::qemu {

namespace {

bool is_tap(const Interface& interface) {
    const auto type = actual_type(interface);
    return type == InterfaceType::bridge || type == InterfaceType::direct || type == InterfaceType::ethernet;
}

bool is_power_of_two(std::uint64_t number) {
    return number && (number & (number - 1)) == 0;
}

bool has_shared_memory(const DomainConfig& config) {
    if (config.memory_backing && config.memory_backing->access_mode == "shared") return true;
    if (!config.cpu || !config.cpu->numa || config.cpu->numa->cells.empty()) return false;
    return std::ranges::all_of(config.cpu->numa->cells, [](auto& cell) { return cell.mem_access == "shared"; });
}

/// One interface, and where its problems go.
struct Checked {
    const DomainConfig& config;
    const Interface& interface;
    Problems& problems;

    void refuse(const std::string& why) const {
        problems.push_back(fmt::format("interface '{}': {}", interface.mac, why));
    }
};

/// What no link of that kind has. Whether a network brings more than its interface says is for the start to see.
void check_switch(const Checked& it) {
    const Interface& interface = it.interface;
    const std::string port = interface.virtual_port ? interface.virtual_port->type : "";
    const bool tagged = interface.vlan && !interface.vlan->tags.empty();
    if (port.starts_with("802.1Q") || port == "midonet")
        it.refuse(fmt::format("virtual ports of type '{}' are not served; 'openvswitch' is", port));
    if (interface.type == InterfaceType::ethernet && interface.virtual_port)
        it.refuse("a virtual port is for interfaces that name a bridge or a network");
    if (interface.type == InterfaceType::ethernet && tagged)
        it.refuse("a VLAN tag is for interfaces that name a bridge or a network");
    if (interface.type != InterfaceType::direct) return;
    if (port == "openvswitch") it.refuse("a virtual port of Open vSwitch needs type 'bridge'");
    if (tagged) it.refuse("a macvtap device has no VLAN tags; name a VLAN device in <source dev=>");
}

/// What the filter says is the link provider's affair.
void check_filter(const Checked& it) {
    const auto type = it.interface.type;
    if (it.interface.filterref && type != InterfaceType::network && type != InterfaceType::bridge &&
        type != InterfaceType::ethernet)
        it.refuse(
            fmt::format("a network filter ('{}') is for interfaces of type network, bridge and ethernet, not '{}'",
                        it.interface.filterref->filter, word(type)));
}

/// Links that nobody makes; the words are those of the link provider.
void check_link(const Checked& it) {
    const Interface& interface = it.interface;
    if (interface.type == InterfaceType::vds)
        it.refuse("links of type 'vds' are not served; 'network', 'bridge', 'direct', 'ethernet' and 'user' are");
    if (interface.type == InterfaceType::hostdev) {
        if (interface.virtual_port) it.refuse("virtual ports (802.1Qbh) are not served");
        if (interface.bandwidth) it.refuse("bandwidth is not limited on a device that the guest drives itself");
        if (interface.vlan && (interface.vlan->tags.size() > 1 || interface.vlan->trunk.value_or(false)))
            it.refuse("a virtual function takes one VLAN tag");
    }
    check_filter(it);
    if (!is_tap(interface)) return;
    if (!interface.script.empty() || !interface.downscript.empty())
        it.refuse("scripts are not run; prepare the device beforehand and name it with <target dev=... managed='no'/>");
    if (interface.source && !interface.source->ips.empty())
        it.refuse("addresses on the host's side are not set; give them to the bridge");
    check_switch(it);
    if (interface.backend && !interface.backend->tap.empty() && interface.backend->tap != "/dev/net/tun")
        it.refuse("taps come from /dev/net/tun; another <backend tap=> is not served");
    if (interface.coalesce_rx_frames_max.value_or(0) > 64)
        it.refuse("a tap device gathers at most 64 frames (<coalesce>)");
    if (interface.trust_guest_rx_filters.value_or(false) && actual_type(interface) == InterfaceType::direct)
        it.refuse("trusting the guest's receive filters is not served yet");
}

bool is_passt(const Interface& interface) {
    return interface.backend && interface.backend->type == "passt";
}

bool is_address(const std::string& text) {
    std::array<unsigned char, sizeof(in6_addr)> bytes{};
    return ::inet_pton(text.find(':') == text.npos ? AF_INET : AF_INET6, text.c_str(), bytes.data()) == 1;
}

/// As the kernel has it, and with no sign that separates words of passt's.
bool is_device_name(const std::string& text) {
    return !text.empty() && text.size() < IFNAMSIZ && text.find_first_of("/%,~: \t\n") == text.npos && text[0] != '-';
}

/// passt says less of what is wrong with its words.
void check_passt(const Checked& it) {
    const Interface& interface = it.interface;
    if (!interface.backend->hostname.empty() || !interface.backend->fqdn.empty())
        it.refuse("its <backend> cannot give the guest a hostname; passt learned that later");
    if (interface.source && !interface.source->dev.empty() && !is_device_name(interface.source->dev))
        it.refuse(fmt::format("'{}' in its <source> is no name of a network device", interface.source->dev));
    for (const auto& ip : interface.ips) {
        if (!is_address(ip.address)) it.refuse(fmt::format("'{}' is no address", ip.address));
        const bool six = ip.address.find(':') != ip.address.npos;
        if (ip.prefix && (six ? *ip.prefix != 64 : *ip.prefix < 1 || *ip.prefix > 32))
            it.refuse(fmt::format("passt takes no prefix of {} for '{}'; {}", *ip.prefix, ip.address,
                                  six ? "that of an IPv6 address is 64" : "from 1 to 32"));
    }
    for (const auto& forward : interface.port_forwards) {
        if (!forward.address.empty() && !is_address(forward.address))
            it.refuse(fmt::format("'{}' in a <portForward> is no address", forward.address));
        if (!forward.dev.empty() && !is_device_name(forward.dev))
            it.refuse(fmt::format("'{}' in a <portForward> is no name of a network device", forward.dev));
        for (const auto& range : forward.ranges) {
            const auto end = range.end.value_or(range.start);
            if (end < range.start || range.to.value_or(0) + (end - range.start) > 65535)
                it.refuse(fmt::format("a <portForward> has no ports from {} to {}", range.start, end));
        }
    }
}

void check_user(const Checked& it) {
    const Interface& interface = it.interface;
    unsigned v4 = 0, v6 = 0;
    for (const auto& ip : interface.ips) {
        const bool six = ip.family == "ipv6" || ip.address.find(':') != ip.address.npos;
        if (++(six ? v6 : v4) == 2) it.refuse(fmt::format("it may have one {} address", six ? "IPv6" : "IPv4"));
        if (!ip.peer.empty()) it.refuse("user networking knows no peer address");
        if (!six && !is_passt(interface) && ip.prefix && (*ip.prefix < 4 || *ip.prefix > 27))
            it.refuse("the prefix of an IPv4 address is from 4 to 27");
    }
    if (!interface.routes.empty()) it.refuse("user networking takes no routes");
    if (is_passt(interface)) return check_passt(it);
    for (const auto& forward : interface.port_forwards) {
        if (!forward.dev.empty()) it.refuse("forwarding from one device of the host needs <backend type='passt'/>");
        if (forward.address.find(':') != forward.address.npos)
            it.refuse("forwarding from an IPv6 address needs <backend type='passt'/>");
    }
    if (interface.backend && !interface.backend->log_file.empty()) it.refuse("only the backend passt writes a log");
}

void check_endpoint(const Checked& it) {
    const Interface& interface = it.interface;
    const InterfaceSource none;
    const InterfaceSource& source = interface.source ? *interface.source : none;
    const bool socket = interface.type == InterfaceType::mcast || interface.type == InterfaceType::client ||
                        interface.type == InterfaceType::server || interface.type == InterfaceType::udp;
    if (socket && !source.port) it.refuse("its <source> names no port");
    if (socket && source.address.empty() && interface.type != InterfaceType::server)
        it.refuse("its <source> names no address");
    if (interface.type == InterfaceType::direct && source.dev.empty())
        it.refuse("its <source> names no network device");
    if (interface.type == InterfaceType::network && source.network.empty()) it.refuse("its <source> names no network");
    if (interface.type == InterfaceType::udp && (source.local_address.empty() || !source.local_port))
        it.refuse("its <source> needs a <local> address and port");
    if (interface.type == InterfaceType::vdpa && source.dev.empty()) it.refuse("its <source> names no device");
    if (interface.type == InterfaceType::vhostuser) {
        if (is_passt(interface))
            it.refuse("passt with vhost-user takes a newer one than is served; type 'user' is how to have passt");
        if (source.path.empty()) it.refuse("its <source> names no socket");
        if (!is_virtio_model(interface.model)) it.refuse("type 'vhostuser' needs the model virtio");
        if (!has_shared_memory(it.config))
            it.refuse("type 'vhostuser' needs memory that is shared: <memoryBacking><access mode='shared'/>");
    }
    if (interface.type == InterfaceType::vdpa && !is_virtio_model(interface.model))
        it.refuse("type 'vdpa' needs the model virtio");
}

void check_front(const Checked& it) {
    const Interface& interface = it.interface;
    const bool virtio = is_virtio_model(interface.model);
    if (interface.mtu && !virtio && interface.type != InterfaceType::hostdev && !is_tap(interface))
        it.refuse(fmt::format("a model {} cannot be told an mtu", interface.model));
    if (interface.teaming && !virtio && interface.teaming->type == "persistent")
        it.refuse("the persistent one of a team needs the model virtio");
    if (!interface.driver) return;
    const InterfaceDriver& driver = *interface.driver;
    const bool queues = driver.queues.value_or(1) > 1;
    if (queues && !virtio) it.refuse(fmt::format("a model {} has one queue", interface.model));
    const bool many = is_tap(interface) || interface.type == InterfaceType::vhostuser ||
                      interface.type == InterfaceType::vdpa || interface.type == InterfaceType::hostdev;
    if (queues && !many) it.refuse(fmt::format("type '{}' has one queue", word(interface.type)));
    for (const auto& [name, size] :
         {std::pair{"rx_queue_size", driver.rx_queue_size}, {"tx_queue_size", driver.tx_queue_size}})
        if (size && (!is_power_of_two(*size) || *size < 256 || *size > 1024))
            it.refuse(fmt::format("{} is a power of two from 256 to 1024", name));
    if (driver.name == "vhost" && !is_tap(interface) && interface.type != InterfaceType::user)
        it.refuse("driver 'vhost' is for links, e.g. type 'bridge'");
    if (driver.rss_hash_report.value_or(false) && !driver.rss.value_or(false))
        it.refuse("rss_hash_report needs rss='on'");
}

bool draws_with_opengl(const Graphics& graphics) {
    return graphics.type == GraphicsType::egl_headless || (graphics.gl && graphics.gl->enable.value_or(false));
}

void check_displays_in_detail(const DomainConfig& config, const Capabilities& known, Problems& problems) {
    const Devices& devices = config.devices;
    for (const auto& graphics : devices.graphics) {
        const bool spice = graphics.type == GraphicsType::spice;
        const bool automatic = graphics.autoport.value_or(false);
        const auto ports = spice_ports(graphics);
        if (spice && ports.tls && !listens_on_tcp(graphics))
            problems.emplace_back("graphics spice: secure channels are for displays that listen on TCP");
        else if (spice && ports.tls && !automatic && graphics.tls_port.value_or(-1) <= 0)
            problems.emplace_back("graphics spice: secure channels need a tlsPort or autoport='yes'");
        if (spice && graphics.default_mode == "insecure" && !automatic && graphics.port.value_or(-1) <= 0 &&
            graphics.tls_port.value_or(-1) > 0)
            problems.emplace_back("graphics spice: insecure channels need a port or autoport='yes'");
        for (const auto& listen : graphics.listens)
            if (listen.type == "network" && listen.address.empty())
                problems.push_back(
                    fmt::format("graphics {}: the address of network '{}' is not known yet; name an address",
                                word(graphics.type), listen.network));
        if (graphics.type == GraphicsType::vnc && graphics.websocket && graphics.websocket > 0 &&
            graphics.port.value_or(-1) == *graphics.websocket)
            problems.emplace_back("graphics vnc: port and websocket are the same");
    }
    for (const auto& video : devices.videos) {
        if (video.driver && video.driver->name == "vhostuser") {
            if (video.model.type != "virtio") problems.emplace_back("video with driver vhostuser: is for model virtio");
            if (config.type != "kvm" && known.version < 8002000)
                problems.emplace_back("video with driver vhostuser: needs type kvm, or QEMU 8.2");
            if (!has_shared_memory(config))
                problems.emplace_back(
                    "video with driver vhostuser: needs memory that is shared: <memoryBacking><source "
                    "type='memfd'/><access mode='shared'/>");
        }
        const auto& model = video.model;
        if (model.blob.value_or(false) && model.type != "virtio")
            problems.push_back(fmt::format("video {}: blob is for model virtio", model.type));
        const bool accelerated = model.acceleration && model.acceleration->accel3d.value_or(false);
        if (accelerated && model.type != "virtio")
            problems.push_back(fmt::format("video {}: accel3d is for model virtio", model.type));
        if (accelerated && model.type == "virtio" && std::ranges::none_of(devices.graphics, draws_with_opengl))
            problems.emplace_back(
                "video virtio with accel3d: needs a display that draws with OpenGL: <graphics type='egl-headless'/>, "
                "or spice or dbus with <gl enable='yes'/>");
        const bool heads = model.type == "virtio" || model.type == "qxl";
        if (model.heads.value_or(1) > 1 && !heads)
            problems.push_back(fmt::format("video {}: has one head", model.type));
    }
}

void check_chardevs(const Devices& devices, Problems& problems) {
    const auto has = [&](GraphicsType type) {
        return std::ranges::any_of(devices.graphics, [&](auto& graphics) { return graphics.type == type; });
    };
    const auto check = [&](ChardevType type, const char* what) {
        const bool spice = type == ChardevType::spicevmc || type == ChardevType::spiceport;
        if (spice && !has(GraphicsType::spice))
            problems.push_back(fmt::format("{} of type {}: needs <graphics type='spice'>", what, word(type)));
        if (type == ChardevType::dbus && !has(GraphicsType::dbus))
            problems.push_back(fmt::format("{} of type dbus: needs <graphics type='dbus'>", what));
    };
    for (const auto& each : devices.serials) check(each.type, "serial port");
    for (const auto& each : devices.parallels) check(each.type, "parallel port");
    for (const auto& each : devices.channels) check(each.type, "channel");
    for (const auto& each : devices.redirdevs) check(each.type, "redirdev");
}

void check_sound(const DomainConfig& config, const Capabilities& known, Problems& problems) {
    const auto& audios = config.devices.audios;
    for (const auto& audio : audios) {
        if (audio.type == "coreaudio") problems.emplace_back("audio coreaudio: is macOS's");
        if (audio.type == "pipewire" && known.version < 8001000)
            problems.emplace_back("audio pipewire: needs QEMU 8.1");
        if (std::ranges::count(audios, audio.id, &Audio::id) > 1)
            problems.push_back(fmt::format("audio {}: there are two with this id", audio.id));
    }
    for (const auto& sound : config.devices.sounds)
        if (sound.audio_id && std::ranges::find(audios, *sound.audio_id, &Audio::id) == audios.end())
            problems.push_back(fmt::format("sound {}: there is no <audio id='{}'>", sound.model, *sound.audio_id));
}

void check_rest(const DomainConfig& config, const Capabilities& known, Problems& problems) {
    const Devices& devices = config.devices;
    const auto& chipset = chipset_of(config);
    for (const auto& watchdog : devices.watchdogs) {
        if (watchdog.model == "itco" && chipset.kind != Chipset::Kind::q35)
            problems.emplace_back("watchdog itco: is part of the machine q35");
        if (watchdog.model == "ib700" && !chipset.isa) problems.emplace_back("watchdog ib700: this machine has no ISA");
        if (watchdog.model == "diag288" && chipset.kind != Chipset::Kind::s390)
            problems.emplace_back("watchdog diag288: is for s390x");
    }
    if (std::ranges::any_of(devices.watchdogs, [&](auto& w) { return w.action != devices.watchdogs.front().action; }))
        problems.emplace_back("the watchdogs have different actions; QEMU takes one action for all");
    if (!devices.leases.empty())
        problems.emplace_back("lease: there is no lock manager here, so nothing would be locked; take the <lease> out");
    if (devices.nvram && chipset.kind != Chipset::Kind::pseries)
        problems.emplace_back("nvram: is a device of the machine pseries; the firmware's variables are in <os><nvram>");
    for (const auto& shmem : devices.shmems)
        if (shmem.model == "ivshmem-doorbell" && !shmem.server)
            problems.push_back(fmt::format("shmem '{}': model ivshmem-doorbell needs a <server>", shmem.name));
    for (const auto& panic : devices.panics) {
        if (panic.model == "isa" && !chipset.isa) problems.emplace_back("panic isa: this machine has no ISA");
        if (panic.model == "hyperv" && config.type != "kvm") problems.emplace_back("panic hyperv: needs type kvm");
    }
    for (const auto& crypto : devices.cryptos)
        if (crypto.backend.model == "builtin" && crypto.backend.queues.value_or(1) > 1)
            problems.emplace_back("crypto backend builtin: has one queue");
    for (const auto& filesystem : devices.filesystems)
        if (filesystem.driver && filesystem.driver->type == "virtiofs" && filesystem.info.boot_order &&
            filesystem.info.address_as<CcwAddress>())
            problems.push_back(
                fmt::format("filesystem '{}': a shared folder on CCW cannot be booted from", filesystem.target_dir));
    const bool acpi = config.features && config.features->acpi && config.features->acpi->on();
    if (devices.iommus.size() > 1) problems.emplace_back("iommu: QEMU's machines have one");
    for (const auto& iommu : devices.iommus) {
        if ((iommu.model == "intel" || iommu.model == "amd") && chipset.kind != Chipset::Kind::q35)
            problems.push_back(fmt::format("iommu {}: needs the machine q35", iommu.model));
        if (iommu.model == "smmuv3" && (chipset.kind != Chipset::Kind::virt || config.os.arch == "riscv64"))
            problems.emplace_back("iommu smmuv3: needs the machine virt of ARM");
        if (iommu.model == "virtio" && chipset.kind != Chipset::Kind::q35 &&
            (chipset.kind != Chipset::Kind::virt || config.os.arch == "riscv64"))
            problems.emplace_back("iommu virtio: needs the machine q35, or virt of ARM");
        const auto* at = iommu.info.address_as<PciAddress>();
        if (iommu.model == "virtio" && at && at->bus != 0)
            problems.emplace_back("iommu virtio: it is on the root bus (bus 0)");
        const bool words = iommu.driver && (iommu.driver->caching_mode || iommu.driver->eim || iommu.driver->aw_bits ||
                                            iommu.driver->dma_translation);
        if (words && iommu.model != "intel")
            problems.push_back(fmt::format(
                "iommu {}: caching_mode, eim, aw_bits and dma_translation are for model intel", iommu.model));
        if (iommu.model == "virtio" && chipset.x86() && !acpi)
            problems.emplace_back("iommu virtio: needs <features><acpi/>");
        if (iommu.driver && iommu.driver->xtsup && known.version < 9002000)
            problems.push_back(fmt::format("iommu with xtsup: needs QEMU 9.2; {} is older", known.binary));
        if (iommu.driver && !iommu.driver->granule.empty() && known.version < 9000000)
            problems.push_back(fmt::format("iommu with a granule: needs QEMU 9.0; {} is older", known.binary));
    }
    if (config.idmap) problems.emplace_back("idmap: is for containers");
    if (config.os.smbios_mode == "sysinfo" &&
        std::ranges::none_of(config.sysinfos, [](auto& info) { return info.type == "smbios"; }))
        problems.emplace_back("smbios mode sysinfo: there is no <sysinfo type='smbios'>");
    if (config.launch_security && config.launch_security->type != "s390-pv" && (config.type != "kvm" || !chipset.x86()))
        problems.push_back(
            fmt::format("launchSecurity {}: needs an x86 guest of type kvm", config.launch_security->type));
    if (config.launch_security && config.launch_security->type == "s390-pv" && chipset.kind != Chipset::Kind::s390)
        problems.emplace_back("launchSecurity s390-pv: is for s390x");
}

}  // namespace

void check_interfaces(const DomainConfig& config, const Capabilities&, Problems& problems) {
    for (const auto& interface : config.devices.interfaces) {
        const Checked it{config, interface, problems};
        check_link(it);
        check_endpoint(it);
        check_front(it);
        if (interface.type == InterfaceType::user) check_user(it);
    }
}

void check_small_devices(const DomainConfig& config, const Capabilities& known, Problems& problems) {
    check_displays_in_detail(config, known, problems);
    check_chardevs(config.devices, problems);
    check_sound(config, known, problems);
    check_rest(config, known, problems);
}

}  // namespace virtbus::qemu
