// SPDX-License-Identifier: LGPL-2.1-or-later
// Redefining a snapshot or a checkpoint from its complete XML: the rules, and what would be written. Nothing is read or
// written here.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "service/moments/index.hpp"
#include "virtbus/model/domain.hpp"
#include "virtbus/model/moments.hpp"

namespace virtbus {

struct RedefineOptions {
    bool disk_only = false;  ///< the caller says that it is one
    bool validate = false;   ///< what is not known of the definitions inside is an error
};

/// What there is of the one of the same name, as far as the index does not tell.
struct Replaced {
    std::string domain;  ///< as text; "" = none
};

struct Redefinition {
    MomentEntry entry;     ///< with the stores of the one it replaces, which are still to be copied from there
    std::string replaces;  ///< the id of the one it replaces; "" = none
    std::string warning;   ///< for the log; "" = none
};

/// `id`: of the files to come. InvalidXML for what breaks a rule, ConflictingOptions for disk_only and another state.
/// `index` gets the entry; it is left alone on an error.
Redefinition redefine(MomentIndex& index, const SnapshotConfig& config, std::string_view uuid, std::string id,
                      const Replaced& replaced, RedefineOptions options = {});
/// The same for a checkpoint, which must have its definition.
Redefinition redefine(MomentIndex& index, const CheckpointConfig& config, std::string_view uuid, std::string id,
                      const Replaced& replaced, RedefineOptions options = {});

/// The same with the parent left to be settled: for those that are redefined together.
Redefinition planned(const MomentIndex& index, const SnapshotConfig& config, std::string_view uuid, std::string id,
                     const Replaced& replaced, RedefineOptions options);

}  // namespace virtbus
