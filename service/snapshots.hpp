// SPDX-License-Identifier: LGPL-2.1-or-later
// The snapshots of one domain as the faces see them: what is there, and the verbs. What each verb means, and in which
// order it touches disks and records, is service/moments' knowledge.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "service/jobs.hpp"
#include "virtbus/caller.hpp"
#include "virtbus/task.hpp"

namespace virtbus {

enum class SnapshotKind { internal, external, disk_only };
constexpr std::string_view word(SnapshotKind kind) {
    constexpr std::array<std::string_view, 3> words{"internal", "external", "disk-only"};
    return words[static_cast<std::size_t>(kind)];
}

/// The bus properties of the same names are generated from these fields.
struct SnapshotView {
    std::string name, description;
    std::string domain;                 ///< its UUID
    std::string parent;                 ///< a name; "" = none
    std::vector<std::string> children;  ///< names, in order of creation
    bool current = false;
    std::string state;  ///< a word of State, or disk-snapshot
    SnapshotKind kind = SnapshotKind::internal;
    std::uint64_t creation_time = 0;  ///< microseconds since the epoch
    bool has_domain_xml = false;

    bool operator==(const SnapshotView&) const = default;
};

struct SnapshotCreateOptions {
    bool redefine = false, current = false, no_metadata = false, halt = false, disk_only = false;
    bool reuse_external = false, quiesce = false, atomic = false, live = false, validate = false;
};
struct RevertOptions {
    bool running = false, paused = false, force = false, reset_nvram = false, no_undo = false;
};
struct MomentDeleteOptions {
    bool children = false, children_only = false, metadata_only = false;
};

/// A moment whose making has begun: its name is settled, whatever becomes of the job.
struct MomentJob {
    std::string name;
    JobPtr job;
};

class Snapshots {
public:
    virtual ~Snapshots() = default;

    virtual const SnapshotView* find(std::string_view name) const = 0;
    /// NoSuchSnapshot.
    virtual const SnapshotView& get(std::string_view name) const = 0;
    /// Parents first.
    virtual std::vector<const SnapshotView*> list() const = 0;
    /// Its complete XML; without `secure` no passwords. Read from disk.
    virtual Task<std::string> xml(std::string name, bool secure) = 0;

    /// What needs no state of the domain is checked before the job begins.
    virtual MomentJob create(std::string xml, SnapshotCreateOptions options, Caller caller) = 0;
    virtual JobPtr revert(std::string name, RevertOptions options, Caller caller) = 0;
    virtual JobPtr remove(std::string name, MomentDeleteOptions options, Caller caller) = 0;

    /// Every snapshot's complete XML with secrets, parents first, as the elements of one <domainsnapshots>.
    virtual Task<std::string> export_all() = 0;
    /// Redefines all of such a document, or none; the names, parents first.
    virtual Task<std::vector<std::string>> import_all(std::string document, Caller caller) = 0;
};

}  // namespace virtbus
