// SPDX-License-Identifier: LGPL-2.1-or-later
// GraphicsServer: the vhost-user-gpu that draws for one video card with <driver name='vhostuser'/>. What QEMU's line
// says of the card is command/display.cpp's.
#pragma once

#include <string>
#include <vector>

#include "qemu/helpers/helper_unit.hpp"

namespace virtbus::qemu {

bool needs_graphics_server(const Video& video);

/// The program of the first descriptor of type 'gpu'. UnsupportedConfiguration, with what to do, when there is none, or
/// when the card is to be accelerated and this host has no node to draw with.
std::string find_graphics_server(Files& files, const std::vector<std::string>& folders, const Video& video);

/// Its words, with its socket as descriptor 3.
std::vector<std::string> graphics_server_words(const std::string& program, const Video& video);

class GraphicsServer final : public HelperUnit {
public:
    using HelperUnit::HelperUnit;

    /// Starts it and waits until it answers as a vhost-user back end does. The result is the connection for QEMU: when
    /// that is closed it ends by itself. A failure leaves nothing; its message has the program's last words.
    Task<Fd> start(HelperOrder order, Video video, std::string program);

private:
    Task<Fd> run_connected(const HelperOrder& order, const Video& video, const std::string& program);
};

}  // namespace virtbus::qemu
