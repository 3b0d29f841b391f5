// SPDX-License-Identifier: LGPL-2.1-or-later
// Who is there: the callers that have spoken and have not left, over all connections, and who wants to know when one
// leaves. The connections tell it who comes and goes.
#pragma once

#include <memory>
#include <string>
#include <vector>

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

    /// From now until take_expected(), a caller on the bus that has not spoken yet is one of an earlier daemon and
    /// counts as present: a restart must not end what lives as long as he does.
    void expect_earlier_callers() { expecting_ = true; }
    /// The names counted on so far, to be looked up on the bus. Who is not there any more has left().
    std::vector<std::string> take_expected();

    /// A caller that has left already is reported in the next turn of the loop.
    Registration when_gone(const Caller& caller, std::function<void()> gone) override;

private:
    struct Watcher;
    struct Guests;
    Loop& loop_;
    std::unique_ptr<Guests> guests_;
    bool expecting_ = false;
};

}  // namespace virtbus::dbus
