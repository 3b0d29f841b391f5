// SPDX-License-Identifier: LGPL-2.1-or-later
// The QEMU driver as service/ sees it: machines of type qemu and kvm.
#pragma once

#include <memory>

#include "qemu/capability_cache.hpp"
#include "qemu/complete.hpp"
#include "qemu/guest.hpp"
#include "qemu/helpers/helpers.hpp"
#include "qemu/images/images.hpp"
#include "virtbus/driver.hpp"

namespace virtbus::qemu {

/// Must outlive its guests.
class QemuDriver final : public HypervisorDriver {
public:
    explicit QemuDriver(Ports& ports, GuestTimes times = {}, HelperPrograms programs = {});

    std::string name() const override { return "qemu"; }
    std::vector<std::string> types() const override { return {"qemu", "kvm"}; }

    Images* images() override { return &images_; }

    Task<> complete(DomainConfig& config, const DomainConfig* previous) override;
    Task<std::vector<std::string>> unsupported(DomainConfig config) override;
    std::vector<std::string> ignored(const DomainConfig& config) override;
    Task<std::vector<std::string>> command(DomainConfig config, bool runnable) override;
    Task<std::unique_ptr<Guest>> start(StartRequest request) override;
    Task<std::unique_ptr<Guest>> adopt(DomainConfig config, std::string driver_state, GuestEvents& events,
                                       GuestEnd& end) override;
    Task<std::string> capabilities() override;
    Task<std::string> domain_capabilities(std::string emulator, std::string arch, std::string machine,
                                          std::string type) override;

private:
    using Known = std::shared_ptr<const Capabilities>;
    Task<Known> capabilities_for(std::string emulator, std::string arch);
    Task<std::vector<Known>> all_capabilities();
    /// What this host cannot do of it, the programs it needs included.
    std::vector<std::string> problems_of(const DomainConfig& config, const Capabilities& known);
    /// The weaker before the stronger.
    std::vector<std::string> firmware_folders() const;
    CapabilitiesOf knowledge();
    /// The firmware descriptors, read again when their folders change.
    const Surroundings& surroundings();

    Ports& ports_;
    GuestTimes times_;
    std::shared_ptr<const HelperPrograms> programs_;
    CapabilityCache cache_;
    QemuImages images_;
    Surroundings surroundings_;
    std::string firmware_signature_;
    Scope scope_;
};

}  // namespace virtbus::qemu
