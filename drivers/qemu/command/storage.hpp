// SPDX-License-Identifier: LGPL-2.1-or-later
// The protocol end of block nodes: how QEMU reaches the bytes of one source. Formats, chains and devices are
// disks.cpp's.
#pragma once

#include <string>

#include "qemu/command/argv.hpp"
#include "qemu/image_levels.hpp"

namespace virtbus::qemu {

/// Which source of which device, for resources and for messages.
struct SourcePlace {
    std::string who;   ///< "disk 'vda'"
    std::string key;   ///< of the level in OpenedResources
    std::string node;  ///< the name its node will get; secrets are named after it
};

/// A network source without node name, cache and access; writes the objects it needs before.
Json network_storage(Argv& line, const SourcePlace& place, const StorageSource& source, const StorageAuth* auth);
Json nvme_storage(Argv& line, const SourcePlace& place, const StorageSource& source);

/// QEMU opens the node of the device's IOMMU group itself; it may.
void take_vfio(Argv& line, const std::string& key);

/// For the stand-alone form: which files hold the secrets.
void name_secrets(const DomainConfig& config, OpenedResources& opened);

/// `host:port` of an iSCSI portal and the rest of what QEMU's initiator wants.
Json iscsi_storage(Argv& line, const SourcePlace& place, const std::vector<StorageHost>& hosts, const std::string& name,
                   const std::string& initiator, const StorageAuth* auth);

}  // namespace virtbus::qemu
