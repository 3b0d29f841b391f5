// SPDX-License-Identifier: LGPL-2.1-or-later
// The checkpoints of one domain, and backups that stand on them, as the faces see them.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "service/snapshots.hpp"

namespace virtbus {

/// The bus properties of the same names are generated from these fields.
struct CheckpointView {
    std::string name, description;
    std::string domain;                 ///< its UUID
    std::string parent;                 ///< a name; "" = none
    std::vector<std::string> children;  ///< names
    bool current = false;
    std::string state = "running";    ///< of the domain then
    std::uint64_t creation_time = 0;  ///< microseconds since the epoch
    bool has_domain_xml = true;

    bool operator==(const CheckpointView&) const = default;
};

struct CheckpointCreateOptions {
    bool redefine = false, validate_bitmaps = false, quiesce = false;
};
struct CheckpointXmlOptions {
    bool secure = false, no_domain = false, size = false;
};

class Checkpoints {
public:
    virtual ~Checkpoints() = default;

    virtual const CheckpointView* find(std::string_view name) const = 0;
    /// NoSuchCheckpoint.
    virtual const CheckpointView& get(std::string_view name) const = 0;
    /// Parents first.
    virtual std::vector<const CheckpointView*> list() const = 0;
    /// `size` asks the running guest what each bitmap has.
    virtual Task<std::string> xml(std::string name, CheckpointXmlOptions options) = 0;
    virtual MomentJob create(std::string xml, CheckpointCreateOptions options, Caller caller) = 0;
    virtual JobPtr remove(std::string name, MomentDeleteOptions options, Caller caller) = 0;
};

struct BackupOptions {
    std::string checkpoint;       ///< XML of a checkpoint to make in the same moment; "" = none
    bool reuse_external = false;  ///< targets and scratch images are there already
};

/// At most one at a time.
class Backups {
public:
    virtual ~Backups() = default;
    /// The job of a push backup ends when all is written. That of a pull backup lasts until end() or its cancellation;
    /// its moment is fixed, and its exports are served, when its phase is "serving".
    virtual JobPtr begin(std::string xml, BackupOptions options, Caller caller) = 0;
    /// Ends a pull backup as done. InvalidState when there is none.
    virtual Task<> end(Caller caller) = 0;
    /// The backup under way as it was completed. InvalidState when there is none.
    virtual std::string xml() const = 0;
};

}  // namespace virtbus
