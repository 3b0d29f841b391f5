// SPDX-License-Identifier: LGPL-2.1-or-later
// The line while it is written: its words, the descriptors that go with it, and what the device families ask of the
// definition as a whole (addresses, boot order, overrides). What a device looks like is its family's knowledge.
#pragma once

#include <map>
#include <string>
#include <string_view>

#include "qemu/chipset.hpp"
#include "qemu/command/writer.hpp"
#include "qemu/command_line.hpp"

namespace virtbus::qemu {

class Argv {
public:
    Argv(const DomainConfig& config, const Capabilities& capabilities, OpenedResources& opened);

    const DomainConfig& config;
    const Capabilities& capabilities;
    const Chipset& chipset;
    OpenedResources& opened;
    CommandLine out;

    bool by_path() const { return opened.by_path; }
    bool runnable() const { return opened.runnable; }

    void arg(std::string word) { out.argv.push_back(std::move(word)); }
    void arg(const char* option, std::string value) {
        out.argv.emplace_back(option);
        out.argv.push_back(std::move(value));
    }
    void arg(const char* option, const KeyValues& value) { arg(option, value.text()); }
    void object(const Json& object) { arg("-object", object.text()); }
    void blockdev(const Json& node) { arg("-blockdev", node.text()); }
    /// With the overrides that the definition has for that alias.
    void device(Json device, const std::string& alias);

    /// The descriptor's number in the process.
    int give(Fd fd);
    int lend(int fd);
    /// A name by which QEMU opens the file that was opened under the key, read-write and read-only.
    std::string fdset(OpenedFile& file);
    /// For files that QEMU opens with fopen(): the descriptor's name under /proc.
    std::string proc_path(OpenedFile& file);
    /// Writes the object that holds the secret that was opened under the key; returns its id.
    std::string secret(const std::string& id, const std::string& key);
    /// Writes the object that holds the certificates of that use (tls.hpp); returns its id.
    std::string tls(const std::string& id, const std::string& use, bool server);
    /// Null when nothing was opened under the key.
    OpenedFile* find(const std::string& key);

    /// "virtio-blk" with the transport's suffix for this device.
    std::string virtio_driver(std::string_view base, std::string_view model, const DeviceInfo& info) const;
    /// id, bus and place of the device, ROM and ACPI index.
    void place(Json& device, const DeviceInfo& info);
    /// Bus and place of a device on a SCSI controller.
    void place_scsi(Json& device, const DriveAddress& at) const;
    /// The name of a controller's bus.
    std::string bus_of(ControllerType type, unsigned index) const;

    /// The device's turn in the boot order: its own, or the first of its kind in <os><boot>. "hd", "cdrom", "fd",
    /// "network"; "" = only its own.
    std::optional<unsigned> boot_index(const DeviceInfo& info, std::string_view kind);

private:
    void place_pci(Json& device, const PciAddress& address);
    std::map<std::string, unsigned, std::less<>> boot_;  // kinds not given yet
    unsigned sets_;
};

/// Each device says what the firmware of s390x is to load from it; before, the machine said it for the first one.
bool has_own_loadparm(const Capabilities& known);
void set_virtio(Json& device, const VirtioOptions& options);
template <class Driver>
void set_virtio(Json& device, const std::optional<Driver>& driver) {
    if (driver) set_virtio(device, driver->virtio);
}

}  // namespace virtbus::qemu
