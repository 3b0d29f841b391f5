// SPDX-License-Identifier: LGPL-2.1-or-later
// Finds devices of the host in its sysfs. Reads only; all functions block. `root` is "" or, for tests, a folder that
// stands for the host's root.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace virtbus::qemu {

struct UsbDevice {
    unsigned bus = 0, device = 0;
    bool operator==(const UsbDevice&) const = default;
    std::string node() const;  ///< /dev/bus/usb/003/004
};

/// Those of that vendor and product, where told, and of that bus and device number, where told.
std::vector<UsbDevice> find_usb_devices(const std::string& root, std::optional<std::uint32_t> vendor,
                                        std::optional<std::uint32_t> product, std::optional<std::uint32_t> bus,
                                        std::optional<std::uint32_t> device);

/// "/dev/sg3" for host 0, bus 0, target 0, unit 0; "" when there is none.
std::string find_scsi_generic(const std::string& root, unsigned host, unsigned bus, unsigned target,
                              std::uint64_t unit);

/// "/dev/vfio/12": the group of a device below /sys/bus, e.g. "pci/devices/0000:01:00.0". "" when it has none.
std::string find_vfio_group(const std::string& root, const std::string& device);

}  // namespace virtbus::qemu
