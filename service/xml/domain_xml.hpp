// SPDX-License-Identifier: LGPL-2.1-or-later
// libvirt's <domain> as text and as model: the one door to service/xml for everybody who has definitions in hand.
// What a hypervisor adds (controllers, addresses, models) is left to its driver.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "virtbus/model/domain.hpp"

namespace virtbus::xml {

struct ParsedDomain {
    DomainConfig config;
    std::vector<std::string>
        unknown;  ///< "/domain/devices/disk[2]/@foo (line 12)"; kept in the config and written back
};

/// InvalidXML (line, element, value found, values allowed) or LimitsExceeded; nothing else.
ParsedDomain parse_domain(std::string_view xml);
/// InvalidXML naming what is not known; for definitions that are to be validated.
void require_known(const std::vector<std::string>& unknown);

struct FormatOptions {
    bool secure = false;    ///< with passwords and cookies
    bool inactive = false;  ///< a definition: without what only a running machine has (see without_live)
};
std::string format_domain(const DomainConfig& config, FormatOptions options = {});
bool has_secrets(const DomainConfig& config);

/// One device's element, e.g. <disk>; for hotplug.
Device parse_device(std::string_view xml, std::vector<std::string>* unknown = nullptr);
std::string format_device(const Device& device, FormatOptions options = {});
/// "disk", "interface" ...: the name of the device's element.
std::string_view element_name(const Device& device);

/// The first thing the guest could see that differs, e.g. "devices/disk[2]/target/@dev: 'vda' became 'vdb'". Host-side
/// settings, names, unknown parts and addresses that one side has not assigned do not count.
std::optional<std::string> abi_difference(const DomainConfig& before, const DomainConfig& after);

/// Fills in what any hypervisor would (UUID, MACs, counts, lifecycle actions, target buses, listen elements ...) and
/// checks the rules that span elements. InvalidXML naming the rule.
void complete_generic(DomainConfig& config);

/// InvalidXML unless it may be a name: 1 to 255 bytes, no '/', no control characters, not "." or "..". `what`:
/// "domain", "network".
void require_name(std::string_view name, std::string_view what = "domain");

/// The definition without a running machine's id, generated aliases, pty paths, chosen ports, tap names, job mirrors.
DomainConfig without_live(DomainConfig config);

/// What can still be told of a definition that does not parse as a whole.
struct Identity {
    std::string type, name, uuid, title;
};
/// Nothing when the text is not even well-formed. `root`: "domain", "network".
std::optional<Identity> peek_identity(std::string_view xml, std::string_view root = "domain");

std::string random_uuid();
/// In QEMU's range, 52:54:00.
std::string random_mac();

}  // namespace virtbus::xml
