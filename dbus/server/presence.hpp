// SPDX-License-Identifier: LGPL-2.1-or-later
// Who is there: the callers that have spoken and have not left, over all connections, and who wants to know when one
// leaves. The connections tell it who comes and goes.
#pragma once

#include <memory>
#include <string>

#include "virtbus/caller.hpp"
#include "virtbus/loop.hpp"

namespace virtbus::dbus {

class Presence final : public Callers {
public:
    explicit Presence(Loop& loop);
    ~Presence() override;

    void arrived(const std::string& name);
    void left(const std::string& name);
    bool empty() const;
    bool present(const std::string& name) const;

    /// A caller that has left already is reported in the next turn of the loop.
    Registration when_gone(const Caller& caller, std::function<void()> gone) override;

private:
    struct Watcher;
    struct Guests;
    Loop& loop_;
    std::unique_ptr<Guests> guests_;
};

}  // namespace virtbus::dbus
