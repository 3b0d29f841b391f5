// SPDX-License-Identifier: LGPL-2.1-or-later
// libvirt's <domainsnapshot>, <domaincheckpoint> and <domainbackup> as text and as model. The definitions inside are
// neither read nor checked here; what the documents mean for a domain's disks and records is service/moments'
// knowledge.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "virtbus/model/moments.hpp"

namespace virtbus::xml {

/// Of a document about a moment: two definitions of the largest size, moved to the right, fit.
inline constexpr std::size_t largest_moment = 24UL << 20;

/// InvalidXML (line, element, what is wrong) or LimitsExceeded; nothing else. A name is not required, nor anything that
/// only a redefinition needs. `unknown` gets what is not known, as with parse_domain.
SnapshotConfig parse_snapshot(std::string_view xml, std::vector<std::string>* unknown = nullptr);
CheckpointConfig parse_checkpoint(std::string_view xml, std::vector<std::string>* unknown = nullptr);
BackupConfig parse_backup(std::string_view xml, std::vector<std::string>* unknown = nullptr);

/// The definitions inside are written as they are. Without `secure` they and the disks have no passwords and cookies,
/// and a definition that cannot be read is InvalidXML.
std::string format_snapshot(const SnapshotConfig& config, bool secure = true);
std::string format_checkpoint(const CheckpointConfig& config, bool secure = true);
std::string format_backup(const BackupConfig& config, bool secure = true);

/// A whole <domain> without passwords and cookies; the same text when it has none.
std::string without_secrets(std::string domain);

/// InvalidXML unless it may be the name of a snapshot or checkpoint: 1 to 255 bytes, no '/', no leading '.', no control
/// characters. `what`: "snapshot", "checkpoint".
void require_moment_name(std::string_view what, std::string_view name);

}  // namespace virtbus::xml
