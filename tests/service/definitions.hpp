// SPDX-License-Identifier: LGPL-2.1-or-later
// Definitions: a world whose stored files are looked at.
#pragma once

#include "world.hpp"

namespace virtbus::tests {

class Definitions : public World {
protected:
    std::string state(const std::string& folder, const std::string& name, const std::string& rest) const {
        return root + "/state/" + folder + '/' + uuid_of(name) + rest;
    }
    static std::string with_uuid(std::string text, const std::string& from, const std::string& to) {
        const auto place = text.find(from);
        return text.replace(place, from.size(), to);
    }
};

}  // namespace virtbus::tests
