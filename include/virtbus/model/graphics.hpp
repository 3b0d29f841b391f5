// SPDX-License-Identifier: LGPL-2.1-or-later
// <graphics>: how a person sees the guest's screen.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "virtbus/model/basics.hpp"

namespace virtbus {

enum class GraphicsType { vnc, spice, dbus, egl_headless, sdl, rdp, desktop, headless };
template <>
struct Words<GraphicsType> {
    static constexpr std::array<std::string_view, 8> list{"vnc", "spice", "dbus",    "egl-headless",
                                                          "sdl", "rdp",   "desktop", "headless"};
};

struct GraphicsListen {
    std::string type;  ///< address, network, socket, none
    std::string address, network, socket;
    Unknown unknown;
    bool operator==(const GraphicsListen&) const = default;
};

struct SpiceChannel {
    std::string name, mode;
    Unknown unknown;
    bool operator==(const SpiceChannel&) const = default;
};

struct GraphicsGl {
    std::optional<bool> enable;
    std::string rendernode;
    Unknown unknown;
    bool operator==(const GraphicsGl&) const = default;
};

struct Graphics {
    GraphicsType type = GraphicsType::vnc;
    // vnc, spice, rdp
    std::optional<std::int32_t> port;  ///< -1 or absent with autoport: chosen at start
    std::optional<std::int32_t> tls_port;
    std::optional<bool> autoport;
    std::optional<std::int32_t> websocket;
    std::string listen;  ///< old spelling of the first <listen>'s address; written beside it
    std::string socket;  ///< vnc: old spelling of a socket listen
    std::string keymap;
    std::string default_mode;             ///< spice: any, secure, insecure
    std::optional<std::string> password;  ///< secret (passwd)
    std::string password_valid_to;        ///< UTC, "2030-01-01T00:00:00"
    std::string connected;                ///< fail, disconnect, keep
    std::string share_policy;             ///< vnc
    std::optional<bool> power_control;
    std::string username;  ///< rdp
    std::optional<bool> replace_user, multi_user;
    // sdl, desktop
    std::string display, xauth;
    std::optional<bool> fullscreen;
    // dbus
    std::string address;
    std::optional<bool> p2p;
    std::vector<GraphicsListen> listens;
    // spice
    std::vector<SpiceChannel> channels;
    std::string image_compression, jpeg_compression, zlib_compression;
    std::optional<bool> playback_compression;
    std::string streaming_mode;
    std::optional<bool> clipboard_copypaste;
    std::string mouse_mode;
    std::optional<bool> filetransfer_enable;
    std::optional<GraphicsGl> gl;
    std::optional<std::uint32_t> audio_id;
    Unknown unknown;
    bool operator==(const Graphics&) const = default;
};

}  // namespace virtbus
