// SPDX-License-Identifier: LGPL-2.1-or-later
// A snapshot on the bus: translates between org.virtbus1.Snapshot and service/snapshots, decides nothing.
#pragma once

#include "dbus/server/interface.hpp"
#include "dbus/snapshot_interface.hpp"
#include "service/domains.hpp"
#include "service/jobs.hpp"

namespace virtbus::dbus {

class SnapshotObject final : public Kind, public SnapshotMethods {
public:
    SnapshotObject(const Domains& domains, Jobs& jobs) : domains_{domains}, jobs_{jobs} {}

    const Interface& interface() const override { return snapshot_interface; }
    void* handler() override { return static_cast<SnapshotMethods*>(this); }
    const void* find(const Keys& keys) const override;
    void list(const Keys& parents, const std::function<void(std::string_view, const void*)>& each) const override;

    Subject subject(const Call& call) override;
    Task<ObjectPath> revert(Call& call, SnapshotRevertOptions options) override;
    Task<ObjectPath> delete_(Call& call, SnapshotDeleteOptions options) override;
    Task<std::string> get_xml(Call& call, SnapshotGetXMLOptions options) override;

private:
    const SnapshotView* view(const Keys& keys) const;
    /// The snapshot's name; UnknownObject when it is gone.
    std::string get(const Call& call) const;

    const Domains& domains_;
    Jobs& jobs_;
};

}  // namespace virtbus::dbus
