// SPDX-License-Identifier: LGPL-2.1-or-later
// Disks of type 'volume': finds what their pool and volume stand for, in definitions of pools that an administrator
// leaves in a folder. Pools are neither made nor mounted; whether the volume is there is seen when it is opened.
#pragma once

#include <stop_token>
#include <string>

#include "virtbus/model/domain.hpp"
#include "virtbus/model/storage_pool.hpp"
#include "virtbus/ports.hpp"

namespace virtbus {

/// Makes it a disk of the type that the volume is: file, block or network.
/// UnsupportedConfiguration for a volume that the pool cannot have.
void place_volume(Disk& disk, const StoragePool& pool);

struct Context;

class Volumes {
public:
    Volumes(Files& files, std::string folder) : files_{files}, folder_{std::move(folder)} {}
    explicit Volumes(const Context& context);

    /// Every disk of type 'volume' with a source. UnsupportedConfiguration, naming the disk and what to do, when there
    /// is no such pool.
    Task<> resolve(DomainConfig& config, Deadline deadline, std::stop_token stop = {});
    Task<> resolve(Disk& disk, Deadline deadline, std::stop_token stop = {});

private:
    Task<StoragePool> get_pool(std::string name, Deadline deadline, std::stop_token stop);

    Files& files_;
    std::string folder_;
};

}  // namespace virtbus
