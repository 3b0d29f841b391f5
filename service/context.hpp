// SPDX-License-Identifier: LGPL-2.1-or-later
// What a machine and the list of machines work with, bundled for handing on. Owns nothing.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "service/audience.hpp"
#include "service/drivers.hpp"
#include "service/jobs.hpp"
#include "service/moments/other_users.hpp"
#include "service/store.hpp"
#include "virtbus/caller.hpp"
#include "virtbus/driver.hpp"
#include "virtbus/ports.hpp"

namespace virtbus {

class Machine;

/// What a machine asks of the list it is in.
class Directory {
public:
    virtual ~Directory() = default;
    virtual std::uint32_t next_id() = 0;
    /// AlreadyExists when another has the name; until the rename has ended nobody else can take it.
    virtual void reserve_name(const std::string& name, Machine& machine) = 0;
    virtual void release_name(const std::string& name, Machine& machine) = 0;
    /// Busy when somebody is deleting that variable store.
    virtual void require_store_stays(const std::string& path) = 0;
    /// The name of another domain that has that device of the host; "" = nobody.
    virtual std::string holder_of(const std::string& device, const Machine& but) = 0;
    /// The name of another domain that uses the image, or whose snapshots need it; "" when there is none.
    virtual std::string user_of_image(const std::string& path, const Machine& but) const = 0;
    /// The local images that the disks of other domains name.
    virtual std::vector<ImageUse> images_of_others(const Machine& but) const = 0;
    /// It is gone: found by nobody any more.
    virtual void remove(Machine& machine) = 0;
};

/// How long the service waits for what is not its own.
struct Patience {
    Duration start{120'000};    ///< opening everything and bringing the guest to its first instruction
    Duration kill{15'000};      ///< from SIGKILL to the end of the process
    Duration graceful{30'000};  ///< the same after a polite request
    Duration verb{30'000};      ///< a verb that reaches into the guest
    Duration sample{1'000};     ///< statistics
    Duration adopt{10'000};     ///< how long loading waits for guests of an earlier daemon
};

struct Context {
    Ports& ports;
    Store& store;
    Jobs& jobs;
    Audience& audience;
    Callers& callers;
    Drivers& drivers;
    LinkProvider* links;  ///< may be null
    Directory& directory;
    Scope& scope;  ///< for work without a job
    Patience patience{};
};

}  // namespace virtbus
