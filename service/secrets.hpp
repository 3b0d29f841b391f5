// SPDX-License-Identifier: LGPL-2.1-or-later
// Secrets: finds what a definition's <secret> refers to, in files that only the daemon's owner may read. Writing them
// is the administrator's work, handing them to a guest without showing them is the driver's.
#pragma once

#include <stop_token>
#include <string>

#include "virtbus/model/storage_source.hpp"
#include "virtbus/ports.hpp"

namespace virtbus {

class Secrets {
public:
    Secrets(Files& files, std::string folder) : files_{files}, folder_{std::move(folder)} {}

    /// Where the secret lies: <folder>/<uuid>, or <folder>/<type>/<usage> with each byte of the usage outside
    /// [A-Za-z0-9_-] and inner dots as %XX. UnsupportedConfiguration for a reference that refers to nothing.
    std::string path_of(const SecretRef& reference) const;
    /// The file's bytes as they are, 1 MiB at most. UnsupportedConfiguration, telling what to do, when it is missing or
    /// others than its owner may read it.
    Task<std::string> get(SecretRef reference, Deadline deadline, std::stop_token stop = {});

private:
    Files& files_;
    std::string folder_;
};

}  // namespace virtbus
