// SPDX-License-Identifier: LGPL-2.1-or-later
// <launchSecurity> (encrypted guests) and <keywrap>.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "virtbus/model/basics.hpp"

namespace virtbus {

struct LaunchSecurity {
    std::string type = "sev";  ///< sev, sev-snp, s390-pv, tdx
    std::optional<bool> kernel_hashes, author_key, vcek;
    std::optional<std::uint32_t> cbitpos, reduced_phys_bits;
    std::optional<std::uint64_t> policy;  ///< hexadecimal in the XML
    std::string dh_cert, session;
    std::string guest_visible_workarounds, id_block, id_auth, host_data;  ///< sev-snp
    std::string mr_config_id, mr_owner, mr_owner_config;                  ///< tdx
    Unknown unknown;
    bool operator==(const LaunchSecurity&) const = default;
};

struct KeywrapCipher {
    std::string name;
    bool state = false;
    Unknown unknown;
    bool operator==(const KeywrapCipher&) const = default;
};

struct Keywrap {
    std::vector<KeywrapCipher> ciphers;
    Unknown unknown;
    bool operator==(const Keywrap&) const = default;
};

}  // namespace virtbus
