// SPDX-License-Identifier: LGPL-2.1-or-later
// What a person sees and touches: displays, video cards, input devices.
#include <fmt/format.h>

#include <algorithm>

#include "qemu/command/families.hpp"
#include "qemu/tls.hpp"
#include "virtbus/error.hpp"

namespace virtbus::qemu {

namespace {

constexpr int first_display_port = 5900;

/// The first <listen> of that type, or null.
const GraphicsListen* find_listen(const Graphics& graphics, std::string_view type) {
    for (const auto& listen : graphics.listens)
        if (listen.type == type) return &listen;
    return nullptr;
}

std::string address_of(const Graphics& graphics) {
    const GraphicsListen* listen = find_listen(graphics, "address");
    if (!listen) listen = find_listen(graphics, "network");
    std::string address = listen && !listen->address.empty() ? listen->address : graphics.listen;
    if (address.empty()) address = "127.0.0.1";
    return address;
}

std::string audio_id(const Graphics& graphics, const Argv& line) {
    if (graphics.audio_id) return fmt::format("audio{}", *graphics.audio_id);
    return line.config.devices.audios.empty() ? "" : fmt::format("audio{}", line.config.devices.audios.front().id);
}

void add_vnc(Argv& line, const Graphics& graphics) {
    std::string where = "none";
    bool chosen_by_qemu = false;
    const GraphicsListen* socket = find_listen(graphics, "socket");
    const std::string path = !graphics.socket.empty() ? graphics.socket : socket ? socket->socket : "";
    if (!path.empty()) {
        where = "unix:" + doubled_commas(path);
    } else if (!find_listen(graphics, "none") && !socket) {
        std::string address = doubled_commas(address_of(graphics));
        if (address.find(':') != address.npos) address = "[" + address + "]";
        chosen_by_qemu = graphics.port.value_or(-1) < 0;
        if (!chosen_by_qemu && *graphics.port < first_display_port)
            throw Error{Code::unsupported_configuration,
                        fmt::format("VNC port {} is below {}", *graphics.port, first_display_port)};
        where = fmt::format("{}:{}", address, chosen_by_qemu ? 0 : *graphics.port - first_display_port);
        line.out.needs_network = true;
    }
    if (line.runnable()) where = "none", chosen_by_qemu = false;
    KeyValues vnc{where};
    if (chosen_by_qemu) vnc.add("to", 65535 - first_display_port);
    if (graphics.websocket && where != "none")
        vnc.add("websocket", *graphics.websocket < 0 ? "on" : std::to_string(*graphics.websocket));
    if (graphics.password) vnc.add("password", true);
    if (where != "none" && listens_on_tcp(graphics) && line.find("tls:vnc-server"))
        vnc.add("tls-creds", line.tls("vnc-tls-creds0", "vnc", true));
    vnc.add_text("share", graphics.share_policy);
    vnc.add("power-control", graphics.power_control);
    if (!line.runnable()) vnc.add_text("audiodev", audio_id(graphics, line));
    line.arg("-vnc", vnc);
    if (!graphics.keymap.empty()) line.arg("-k", graphics.keymap);
}

void add_spice_ports(Argv& line, const Graphics& graphics, KeyValues& spice) {
    const auto index = static_cast<std::size_t>(&graphics - line.config.devices.graphics.data());
    const auto add = [&](const char* word, const std::optional<std::int32_t>& said, const auto& chosen, int stand_in) {
        const auto found = chosen.find(index);
        const int port = found != chosen.end() ? found->second : said.value_or(-1) > 0 ? *said : stand_in;
        if (port > 0) spice.add(word, port);
    };
    const auto wanted = spice_ports(graphics);
    const bool open = line.by_path() && graphics.autoport.value_or(false);
    add("port", graphics.port, line.opened.ports, open && wanted.plain ? first_display_port : -1);
    add("tls-port", graphics.tls_port, line.opened.tls_ports, open && wanted.tls ? first_display_port + 1 : -1);
}

void add_spice(Argv& line, const Graphics& graphics) {
    if (line.runnable()) return;
    KeyValues spice;
    if (const GraphicsListen* socket = find_listen(graphics, "socket"); socket && !socket->socket.empty()) {
        spice.add("unix", true).add("addr", socket->socket);
    } else if (find_listen(graphics, "none") || find_listen(graphics, "socket")) {
        spice.add("port", 0);
    } else {
        add_spice_ports(line, graphics, spice);
        // SPICE wants to hear that it has none.
        if (spice.empty()) spice.add("port", 0);
        spice.add("addr", address_of(graphics));
        if (const auto* folder = line.find("tls:spice-server")) {
            spice.add("x509-dir", folder->path);
            if (!line.by_path()) line.out.folders.push_back(folder->path);
        }
        line.out.needs_network = true;
    }
    spice.add("disable-ticketing", !graphics.password.has_value());
    if (graphics.default_mode == "secure") spice.add("tls-channel", "default");
    if (graphics.default_mode == "insecure") spice.add("plaintext-channel", "default");
    for (const auto& channel : graphics.channels)
        if (channel.mode == "secure" || channel.mode == "insecure")
            spice.add(channel.mode == "secure" ? "tls-channel" : "plaintext-channel", channel.name);
    spice.add_text("image-compression", graphics.image_compression)
        .add_text("jpeg-wan-compression", graphics.jpeg_compression);
    spice.add_text("zlib-glz-wan-compression", graphics.zlib_compression)
        .add("playback-compression", graphics.playback_compression);
    spice.add_text("streaming-video", graphics.streaming_mode);
    if (graphics.clipboard_copypaste == std::optional{false}) spice.add("disable-copy-paste", true);
    if (graphics.filetransfer_enable == std::optional{false}) spice.add("disable-agent-file-xfer", true);
    if (graphics.mouse_mode == "client" || graphics.mouse_mode == "server")
        spice.add("agent-mouse", graphics.mouse_mode == "client");
    if (graphics.gl && graphics.gl->enable.value_or(false))
        spice.add("gl", true).add_text("rendernode", graphics.gl->rendernode);
    spice.add("seamless-migration", true);
    line.arg("-spice", spice);
    if (!graphics.keymap.empty()) line.arg("-k", graphics.keymap);
}

void add_dbus(Argv& line, const Graphics& graphics) {
    KeyValues display{"dbus"};
    // Always point to point: clients get their end from the daemon, and no bus needs to be reached.
    display.add("p2p", true);
    if (graphics.gl && graphics.gl->enable.value_or(false) && !line.runnable())
        display.add("gl", true).add_text("rendernode", graphics.gl->rendernode);
    // QEMU wants a back end of its own kind here and nothing else.
    for (const auto& audio : line.config.devices.audios)
        if (audio.id == graphics.audio_id.value_or(audio.id) && audio.type == "dbus" && !line.runnable())
            display.add("audiodev", fmt::format("audio{}", audio.id));
    line.arg("-display", display);
}

/// A window on somebody's X server. The key to it is a copy in memory; the server's socket QEMU connects itself.
void add_sdl(Argv& line, const Graphics& graphics) {
    KeyValues display{"sdl"};
    if (graphics.gl && graphics.gl->enable) display.add("gl", *graphics.gl->enable);
    if (graphics.fullscreen.value_or(false)) display.add("full-screen", true);
    line.arg("-display", display);
    line.out.environment["DISPLAY"] = graphics.display;
    if (auto* file = line.find("xauth")) line.out.environment["XAUTHORITY"] = line.proc_path(*file);
    // SDL asks the session bus not to blank the screen; a bus that it does not find it would start, which ends QEMU.
    line.out.environment["DBUS_SESSION_BUS_ADDRESS"] = "disabled:";
    if (!graphics.display.starts_with(':')) line.out.needs_network = true;
}

// ---- video

std::string video_driver(const Argv& line, const Video& video, bool primary) {
    const std::string& type = video.model.type;
    const bool gl = video.model.acceleration && video.model.acceleration->accel3d.value_or(false) && !line.runnable();
    if (type == "virtio") {
        if (!line.runnable() && video.driver && video.driver->name == "vhostuser")
            return primary && line.chipset.x86() ? "vhost-user-vga" : "vhost-user-gpu-pci";
        if (primary && line.chipset.x86()) return gl ? "virtio-vga-gl" : "virtio-vga";
        return line.virtio_driver(gl ? "virtio-gpu-gl" : "virtio-gpu", "", video.info);
    }
    if (type == "qxl") return primary ? "qxl-vga" : "qxl";
    if (line.chipset.kind == Chipset::Kind::isapc && type == "vga") return "isa-vga";
    if (type == "vga") return primary ? "VGA" : "secondary-vga";
    if (line.chipset.kind == Chipset::Kind::isapc && type == "cirrus") return "isa-cirrus-vga";
    if (type == "cirrus") return "cirrus-vga";
    if (type == "vmvga") return "vmware-svga";
    if (type == "bochs") return "bochs-display";
    if (type == "ramfb") return "ramfb";
    throw Error{Code::unsupported_configuration, fmt::format("QEMU has no video card of type '{}'", type)};
}

/// Of a card that a process beside QEMU draws for.
std::string add_graphics_server(Argv& line, const Video& video) {
    const std::string id = "chr-vu-" + video.info.alias;
    KeyValues chardev{"socket"};
    chardev.add("id", id);
    if (auto* connected = line.find("gpu:" + video.info.alias); connected && connected->fd)
        chardev.add("fd", line.give(std::move(connected->fd)));
    else
        chardev.add("path", video.info.alias + "-gpu.sock");
    line.arg("-chardev", chardev);
    return id;
}

void add_video(Argv& line, const Video& video) {
    const VideoModel& model = video.model;
    if (model.type == "none") return;
    Json device;
    const bool primary = model.primary.value_or(false);
    device.set("driver", video_driver(line, video, primary));
    const bool elsewhere = !line.runnable() && video.driver && video.driver->name == "vhostuser";
    if (elsewhere) device.set("chardev", add_graphics_server(line, video));
    if (model.type == "virtio") {
        set_virtio(device, video.driver);
        device.set("max_outputs", model.heads);
        if (!line.runnable() && !elsewhere) device.set("blob", model.blob);  // needs /dev/udmabuf
        if (model.edid == "on" || model.edid == "off") device.set("edid", model.edid == "on");
    }
    if (model.type == "qxl") {
        device.set("max_outputs", model.heads);
        // KiB in the definition, bytes or MiB here.
        if (model.ram) device.set("ram_size", std::uint64_t{*model.ram} * 1024);
        if (model.vram) device.set("vram_size", std::uint64_t{*model.vram} * 1024);
        if (model.vram64) device.set("vram64_size_mb", *model.vram64 / 1024);
        if (model.vgamem) device.set("vgamem_mb", *model.vgamem / 1024);
    }
    const bool vgamem = model.type == "vga" || model.type == "vmvga";
    if (vgamem && model.vram) device.set("vgamem_mb", *model.vram / 1024);
    if (model.type == "bochs" && model.vram) device.set("vgamem", std::uint64_t{*model.vram} * 1024);
    if (model.resolution) device.set("xres", model.resolution->x).set("yres", model.resolution->y);
    line.place(device, video.info);
    line.device(device, video.info.alias);
}

// ---- input

std::string virtio_input(const Argv& line, const Input& input) {
    const auto base = input.type == "passthrough" ? std::string{"virtio-input-host"} : "virtio-" + input.type;
    if (input.model.ends_with("transitional") && !input.model.ends_with("non-transitional"))
        throw Error{Code::unsupported_configuration, "virtio input devices have no transitional model"};
    return line.virtio_driver(base, input.model == "virtio-non-transitional" ? "" : input.model, input.info);
}

void add_input(Argv& line, const Input& input) {
    if (input.type == "evdev" || input.type == "passthrough") {
        if (line.runnable() || !input.source) return;
        const std::string& node = input.type == "evdev" ? input.source->dev : input.source->evdev;
        line.out.devices.push_back(node);
        if (input.type == "evdev") {
            Json object;
            object.set("qom-type", "input-linux").set("id", input.info.alias).set("evdev", node);
            object.set("repeat", input.source->repeat).set_text("grab-toggle", input.source->grab_toggle);
            if (input.source->grab == "all") object.set("grab_all", true);
            return line.object(object);
        }
    }
    Json device;
    if (input.bus == "virtio") {
        device.set("driver", virtio_input(line, input));
        if (input.type == "passthrough") device.set("evdev", input.source->evdev);
        set_virtio(device, input.driver);
    } else if (input.bus == "usb") {
        device.set("driver", input.type == "keyboard" ? std::string{"usb-kbd"} : "usb-" + input.type);
    } else if (input.bus == "ps2") {
        return;  // the chipset's
    } else {
        throw Error{Code::unsupported_configuration,
                    fmt::format("QEMU has no input devices on the bus '{}'", input.bus)};
    }
    line.place(device, input.info);
    line.device(device, input.info.alias);
}

}  // namespace

void add_graphics(Argv& line) {
    bool display = false;
    for (const auto& graphics : line.config.devices.graphics) {
        switch (graphics.type) {
            case GraphicsType::vnc:
                add_vnc(line, graphics);
                break;
            case GraphicsType::spice:
                add_spice(line, graphics);
                break;
            case GraphicsType::dbus:
                add_dbus(line, graphics);
                display = true;
                break;
            case GraphicsType::egl_headless:
                if (line.runnable()) break;
                line.arg("-display",
                         KeyValues{"egl-headless"}.add_text("rendernode", graphics.gl ? graphics.gl->rendernode : ""));
                display = true;
                break;
            case GraphicsType::sdl:
                if (line.runnable()) break;
                add_sdl(line, graphics);
                display = true;
                break;
            case GraphicsType::headless:
                break;
            default:
                throw Error{
                    Code::unsupported_configuration,
                    fmt::format("QEMU has no displays of type '{}'; use vnc, spice, dbus or sdl", word(graphics.type))};
        }
    }
    if (!display) line.arg("-display", "none");
}

void add_videos(Argv& line) {
    for (const auto& video : line.config.devices.videos) add_video(line, video);
}

void add_inputs(Argv& line) {
    for (const auto& input : line.config.devices.inputs) add_input(line, input);
}

}  // namespace virtbus::qemu
