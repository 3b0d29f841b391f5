// SPDX-License-Identifier: LGPL-2.1-or-later
// The PciDevices port over the kernel's sysfs: driver_override, unbind, drivers_probe.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "virtbus/ports.hpp"

namespace virtbus::host {

class SysfsPci final : public PciDevices {
public:
    using Write = std::function<void(const std::string& path, const std::string& text)>;
    /// `root` stands for the host's root, and `write` for writing into sysfs; tests have their own.
    explicit SysfsPci(Workers& workers, std::string root = {}, Write write = {});

    Task<PciFacts> look(std::string address, Deadline deadline, std::stop_token stop) override;
    Task<> bind(std::string address, std::string driver, Deadline deadline, std::stop_token stop) override;
    Task<> give_back(std::string address, std::string bound, PciFacts before, Deadline deadline) override;

private:
    /// One thing at a time is done to a device, also when nobody waits for it any more.
    std::shared_ptr<std::mutex> lock_of(const std::string& address);

    Workers& workers_;
    std::map<std::string, std::shared_ptr<std::mutex>> locks_;
    const std::string root_;
    const Write write_;
};

}  // namespace virtbus::host
