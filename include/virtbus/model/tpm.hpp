// SPDX-License-Identifier: LGPL-2.1-or-later
// <tpm>: trusted platform modules.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "virtbus/model/device_info.hpp"

namespace virtbus {

struct TpmProfile {
    std::string source, name;
    std::string remove_disabled;
    Unknown unknown;
    bool operator==(const TpmProfile&) const = default;
};

struct TpmSource {
    std::string type, mode, path;
    Unknown unknown;
    bool operator==(const TpmSource&) const = default;
};

struct TpmBackend {
    std::string type = "emulator";  ///< passthrough, emulator, external
    std::string version;            ///< 1.2, 2.0; "" = default
    std::optional<bool> persistent_state;
    std::optional<std::uint32_t> debug;
    std::string device_path;          ///< passthrough
    std::string encryption_secret;    ///< emulator: UUID of a stored secret
    std::optional<TpmSource> source;  ///< external, or where the emulator keeps its state
    // emulator: the PCR banks made active; none = the default
    bool sha1 = false, sha256 = false, sha384 = false, sha512 = false;
    std::optional<TpmProfile> profile;
    Unknown unknown;
    bool operator==(const TpmBackend&) const = default;
};

struct Tpm {
    std::string model;  ///< tpm-tis, tpm-crb, tpm-spapr, spapr-tpm-proxy; "" = default
    TpmBackend backend;
    DeviceInfo info;
    Unknown unknown;
    bool operator==(const Tpm&) const = default;
};

}  // namespace virtbus
