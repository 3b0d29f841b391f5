// SPDX-License-Identifier: LGPL-2.1-or-later
// A checkpoint on the bus: translates between org.virtbus1.Checkpoint and service/checkpoints, decides nothing.
#pragma once

#include "dbus/checkpoint_interface.hpp"
#include "dbus/server/interface.hpp"
#include "service/domains.hpp"
#include "service/jobs.hpp"

namespace virtbus::dbus {

class CheckpointObject final : public Kind, public CheckpointMethods {
public:
    CheckpointObject(const Domains& domains, Jobs& jobs) : domains_{domains}, jobs_{jobs} {}

    const Interface& interface() const override { return checkpoint_interface; }
    void* handler() override { return static_cast<CheckpointMethods*>(this); }
    const void* find(const Keys& keys) const override;
    void list(const Keys& parents, const std::function<void(std::string_view, const void*)>& each) const override;

    Subject subject(const Call& call) override;
    Task<ObjectPath> delete_(Call& call, CheckpointDeleteOptions options) override;
    Task<std::string> get_xml(Call& call, CheckpointGetXMLOptions options) override;

private:
    const CheckpointView* view(const Keys& keys) const;
    /// The checkpoint's name; UnknownObject when it is gone.
    std::string get(const Call& call) const;

    const Domains& domains_;
    Jobs& jobs_;
};

}  // namespace virtbus::dbus
