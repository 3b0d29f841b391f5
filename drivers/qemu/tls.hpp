// SPDX-License-Identifier: LGPL-2.1-or-later
// Which certificates a definition needs, where the host keeps them, and the copies that its QEMU reads. Each use has a
// folder below <config>/tls/ ("nbd", "chardev", "spice", "vnc"); "default" stands in for one that is not there.
#pragma once

#include <string>
#include <vector>

#include "virtbus/model/domain.hpp"

namespace virtbus::qemu {

struct TlsNeed {
    std::string use;
    bool server = false;
    std::string who;  ///< "disk 'vda'"

    /// In OpenedResources: "tls:nbd-client".
    std::string key() const { return "tls:" + name(); }
    std::string name() const { return use + (server ? "-server" : "-client"); }
};

/// What cannot do without, once each.
std::vector<TlsNeed> tls_needs(const DomainConfig& config);
/// Those, and the displays that speak TLS because the host has certificates for them. Looks at folders.
std::vector<TlsNeed> tls_needs_here(const DomainConfig& config, const std::string& tls_folder);

/// UnsupportedConfiguration, naming the files that were looked for. Looks at files.
std::string find_certificates(const std::string& tls_folder, const TlsNeed& need);
/// Copies them to a folder of the guest's, which gets the owner that `like` has. A folder that is there already is left
/// as it is: it is the guest's own.
void copy_certificates(const std::string& from, const TlsNeed& need, const std::string& to, const std::string& like);

/// What a SPICE display asks for in the modes of its channels.
struct SpicePorts {
    bool plain = false, tls = false;
};
SpicePorts spice_ports(const Graphics& graphics);
/// It listens for TCP connections.
bool listens_on_tcp(const Graphics& graphics);

}  // namespace virtbus::qemu
