// SPDX-License-Identifier: LGPL-2.1-or-later
// A <pool>: where the volumes lie that disks of type 'volume' name. What is needed to find them, and no more.
#pragma once

#include <string>
#include <vector>

#include "virtbus/model/storage_source.hpp"

namespace virtbus {

struct StoragePool {
    std::string type;  ///< dir, fs, netfs, logical, disk, iscsi, iscsi-direct, rbd, gluster ...
    std::string name, uuid;
    std::string target;  ///< the folder of its volumes on this host
    // <source>
    std::vector<StorageHost> hosts;
    std::vector<std::string> devices;
    std::string source_name, source_folder;
    std::optional<StorageAuth> auth;
    std::string auth_type;  ///< ceph, chap
    std::string initiator_iqn;
    Unknown unknown;
    bool operator==(const StoragePool&) const = default;
};

}  // namespace virtbus
