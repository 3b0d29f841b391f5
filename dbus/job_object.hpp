// SPDX-License-Identifier: LGPL-2.1-or-later
// A job on the bus: translates between org.virtbus1.Job and service/jobs, decides nothing.
#pragma once

#include "dbus/job_interface.hpp"
#include "dbus/server/interface.hpp"
#include "service/domains.hpp"
#include "service/jobs.hpp"
#include "service/networks.hpp"

namespace virtbus::dbus {

class JobObject final : public Kind, public JobMethods {
public:
    JobObject(Jobs& jobs, const Domains& domains, const Networks& networks)
        : jobs_{jobs}, domains_{domains}, networks_{networks} {}

    const Interface& interface() const override { return job_interface; }
    void* handler() override { return static_cast<JobMethods*>(this); }
    const void* find(const Keys& keys) const override;
    void list(const Keys& parents, const std::function<void(std::string_view, const void*)>& each) const override;

    Subject subject(const Call& call) override;
    std::string action_of_object(const Call& call) override;
    Task<> cancel(Call& call) override;

private:
    JobPtr find_job(const Keys& keys) const;
    JobPtr get(const Call& call) const;

    Jobs& jobs_;
    const Domains& domains_;
    const Networks& networks_;
};

}  // namespace virtbus::dbus
