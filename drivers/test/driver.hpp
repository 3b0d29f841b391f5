// SPDX-License-Identifier: LGPL-2.1-or-later
// TestDriver: a hypervisor driver that runs nothing and behaves like one, with time passing, so that everything above a
// driver can be tried anywhere. What a guest does is guest.hpp's.
#pragma once

#include "test/image_shelf.hpp"
#include "virtbus/driver.hpp"

namespace virtbus::test_driver {

class TestDriver final : public HypervisorDriver {
public:
    explicit TestDriver(const Ports& ports) : loop_{ports.loop}, clock_{ports.clock}, shelf_{ports} {}

    std::string name() const override { return "test"; }
    std::vector<std::string> types() const override { return {"test"}; }
    Images* images() override { return &images_; }

    Task<> complete(DomainConfig& config, const DomainConfig* previous) override;
    Task<std::vector<std::string>> unsupported(DomainConfig config) override;
    /// Always empty: there is no process.
    Task<std::vector<std::string>> command(DomainConfig config, bool runnable) override;
    Task<std::unique_ptr<Guest>> start(StartRequest request) override;
    Task<std::unique_ptr<Guest>> adopt(DomainConfig config, std::string driver_state, GuestEvents& events,
                                       GuestEnd& end) override;
    Task<std::string> capabilities() override;
    Task<std::string> domain_capabilities(std::string emulator, std::string arch, std::string machine,
                                          std::string type) override;

private:
    Loop& loop_;
    Clock& clock_;
    ImageShelf shelf_;
    TestImages images_{shelf_};
};

}  // namespace virtbus::test_driver
