// SPDX-License-Identifier: LGPL-2.1-or-later
// The one error type of the project and the list of its codes. Foreign errors (errno, GError, QMP, libxml2) become an
// Error in the folder that calls the foreign library; how a code is spelled on the bus is left to dbus/.
#pragma once

#include <array>
#include <cstddef>
#include <stdexcept>
#include <string>
#include <string_view>

namespace virtbus {

enum class Code {
    no_such_domain,
    no_such_network,
    no_such_snapshot,
    no_such_checkpoint,
    no_such_device,
    already_exists,
    invalid_state,
    invalid_xml,
    invalid_option,
    conflicting_options,
    unsupported,
    unsupported_configuration,
    has_managed_save,
    has_snapshots,
    has_checkpoints,
    has_nvram,
    revert_risky,
    checkpoint_inconsistent,
    device_in_use,
    busy,
    timeout,
    cancelled,
    no_space,
    agent_unavailable,
    agent_failed,
    hypervisor_failed,
    network_in_use,
    limits_exceeded,
    internal,
    // Faults that have a standard name on the bus.
    access_denied,
    interactive_authorization_required,
    invalid_args,
    unknown_object,
    unknown_interface,
    unknown_method,
    unknown_property,
    property_read_only,
};

namespace detail {
inline constexpr std::array code_words{
    std::string_view{"NoSuchDomain"},
    std::string_view{"NoSuchNetwork"},
    std::string_view{"NoSuchSnapshot"},
    std::string_view{"NoSuchCheckpoint"},
    std::string_view{"NoSuchDevice"},
    std::string_view{"AlreadyExists"},
    std::string_view{"InvalidState"},
    std::string_view{"InvalidXML"},
    std::string_view{"InvalidOption"},
    std::string_view{"ConflictingOptions"},
    std::string_view{"Unsupported"},
    std::string_view{"UnsupportedConfiguration"},
    std::string_view{"HasManagedSave"},
    std::string_view{"HasSnapshots"},
    std::string_view{"HasCheckpoints"},
    std::string_view{"HasNVRAM"},
    std::string_view{"RevertRisky"},
    std::string_view{"CheckpointInconsistent"},
    std::string_view{"DeviceInUse"},
    std::string_view{"Busy"},
    std::string_view{"Timeout"},
    std::string_view{"Cancelled"},
    std::string_view{"NoSpace"},
    std::string_view{"AgentUnavailable"},
    std::string_view{"AgentFailed"},
    std::string_view{"HypervisorFailed"},
    std::string_view{"NetworkInUse"},
    std::string_view{"LimitsExceeded"},
    std::string_view{"Internal"},
    std::string_view{"AccessDenied"},
    std::string_view{"InteractiveAuthorizationRequired"},
    std::string_view{"InvalidArgs"},
    std::string_view{"UnknownObject"},
    std::string_view{"UnknownInterface"},
    std::string_view{"UnknownMethod"},
    std::string_view{"UnknownProperty"},
    std::string_view{"PropertyReadOnly"},
};
static_assert(code_words.size() == static_cast<std::size_t>(Code::property_read_only) + 1);
}  // namespace detail

/// The last component of the error's name on the bus, e.g. "NoSuchDomain".
constexpr std::string_view word(Code code) {
    return detail::code_words[static_cast<std::size_t>(code)];
}

/// True for the codes whose bus name is org.freedesktop.DBus.Error.*, false for org.virtbus1.Error.*.
constexpr bool is_standard(Code code) {
    return code >= Code::access_denied;
}

/// What went wrong, for a human: which object, what was found, what is allowed, what to do.
class Error : public std::runtime_error {
public:
    Error(Code code, const std::string& message) : std::runtime_error{message}, code_{code} {}
    Code code() const noexcept { return code_; }

private:
    Code code_;
};

}  // namespace virtbus
