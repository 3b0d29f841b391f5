// SPDX-License-Identifier: LGPL-2.1-or-later
// Security labels of the whole machine and of single sources.
#pragma once

#include <optional>
#include <string>

#include "virtbus/model/basics.hpp"

namespace virtbus {

struct SecurityLabel {
    std::string type;   ///< dynamic, static, none; "" = the model's default
    std::string model;  ///< selinux, apparmor, dac; "" = the host's first
    std::optional<bool> relabel;
    std::string label, image_label, base_label;
    Unknown unknown;
    bool operator==(const SecurityLabel&) const = default;
};

struct SourceSecurityLabel {
    std::string model;
    std::optional<bool> relabel, label_skip;
    std::string label;
    Unknown unknown;
    bool operator==(const SourceSecurityLabel&) const = default;
};

}  // namespace virtbus
