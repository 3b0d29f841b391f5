// SPDX-License-Identifier: LGPL-2.1-or-later
// Which emulators may be run, and what they can do: probed on first need, once for all who ask, and kept on disk until
// the binary changes.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "qemu/capabilities.hpp"
#include "virtbus/ports.hpp"

namespace virtbus::qemu {

class CapabilityCache {
public:
    /// Besides /usr/bin/qemu-system-* and the like, `<config>/qemu/emulators` may list absolute paths, one a line.
    explicit CapabilityCache(Ports& ports);
    ~CapabilityCache();
    CapabilityCache(const CapabilityCache&) = delete;
    CapabilityCache& operator=(const CapabilityCache&) = delete;

    /// The emulators that are there and may be run, the distribution's names first.
    std::vector<std::string> emulators() const;
    /// The binary for a definition: the one it names, or the one of its architecture ("" = the host's).
    /// UnsupportedConfiguration, naming what is allowed.
    std::string choose(const std::string& emulator, const std::string& arch) const;

    Task<std::shared_ptr<const Capabilities>> get(std::string binary);

private:
    struct Entry;
    static Task<> fill(CapabilityCache& cache, std::string binary, std::string signature);
    Task<Capabilities> load_or_probe(std::string binary, std::string signature);
    std::string file_of(const std::string& binary) const;
    std::vector<std::string> configured() const;
    bool may_run(const std::string& path) const;

    Ports& ports_;
    std::map<std::string, std::unique_ptr<Entry>, std::less<>> entries_;
    Scope scope_;
};

/// The architecture this daemon was built for, in libvirt's words.
std::string host_arch();

}  // namespace virtbus::qemu
