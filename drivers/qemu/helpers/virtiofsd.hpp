// SPDX-License-Identifier: LGPL-2.1-or-later
// FileServer: the virtiofsd of one shared folder. What QEMU's line says of it is command/filesystems.cpp's.
#pragma once

#include <string>
#include <vector>

#include "qemu/helpers/helper_unit.hpp"

namespace virtbus::qemu {

/// A virtiofs share that no server of somebody else's (<source socket=>) serves.
bool needs_file_server(const Filesystem& filesystem);

/// The program for it: the one its <binary> names, which must be in a descriptor of type 'fs', else that of the first
/// descriptor, by file name. The same name in a later folder wins, an empty file masks. UnsupportedConfiguration, with
/// what to do, when there is none.
std::string find_virtiofsd(Files& files, const std::vector<std::string>& folders, const Filesystem& filesystem);

/// Its words, with its listening socket as descriptor 3.
std::vector<std::string> virtiofsd_words(const std::string& program, const Filesystem& filesystem);

class FileServer final : public HelperUnit {
public:
    using HelperUnit::HelperUnit;

    /// Starts it and waits until it answers as a vhost-user back end does. The result is the connection for QEMU: when
    /// that is closed it ends by itself. A failure leaves nothing; its message has the program's last words.
    Task<Fd> start(HelperOrder order, Filesystem filesystem, std::string program);

private:
    Task<Fd> connect_and_run(const HelperOrder& order, const Filesystem& filesystem, const std::string& program);
};

}  // namespace virtbus::qemu
