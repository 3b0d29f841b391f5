// SPDX-License-Identifier: LGPL-2.1-or-later
// The Seal port: HMAC-SHA-256 with a key that is made at its first use and only the daemon can read.
#pragma once

#include <string>

#include "virtbus/ports.hpp"

namespace virtbus::host {

class KeySeal final : public Seal {
public:
    KeySeal(Files& files, std::string key_path) : files_{files}, path_{std::move(key_path)} {}
    std::string of(std::string_view text) override;

private:
    void load_key();
    Files& files_;
    std::string path_, key_;
};

}  // namespace virtbus::host
