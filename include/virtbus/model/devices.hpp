// SPDX-License-Identifier: LGPL-2.1-or-later
// <devices>: everything that is plugged into the machine, one list per kind in the order it is written.
#pragma once

#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "virtbus/model/chardev.hpp"
#include "virtbus/model/controller.hpp"
#include "virtbus/model/disk.hpp"
#include "virtbus/model/filesystem.hpp"
#include "virtbus/model/graphics.hpp"
#include "virtbus/model/hostdev.hpp"
#include "virtbus/model/input.hpp"
#include "virtbus/model/interface.hpp"
#include "virtbus/model/memory_device.hpp"
#include "virtbus/model/redirdev.hpp"
#include "virtbus/model/rng.hpp"
#include "virtbus/model/small_devices.hpp"
#include "virtbus/model/smartcard.hpp"
#include "virtbus/model/sound.hpp"
#include "virtbus/model/tpm.hpp"
#include "virtbus/model/video.hpp"

namespace virtbus {

struct Devices {
    std::string emulator;
    std::vector<Disk> disks;
    std::vector<Controller> controllers;
    std::vector<Lease> leases;
    std::vector<Filesystem> filesystems;
    std::vector<Interface> interfaces;
    std::vector<Smartcard> smartcards;
    std::vector<Serial> serials;
    std::vector<Parallel> parallels;
    std::vector<Console> consoles;
    std::vector<Channel> channels;
    std::vector<Input> inputs;
    std::vector<Tpm> tpms;
    std::vector<Graphics> graphics;
    std::vector<Sound> sounds;
    std::vector<Audio> audios;
    std::vector<Video> videos;
    std::vector<Hostdev> hostdevs;
    std::vector<Redirdev> redirdevs;
    std::optional<Redirfilter> redirfilter;
    std::vector<Hub> hubs;
    std::vector<Watchdog> watchdogs;
    std::optional<Memballoon> memballoon;
    std::vector<Rng> rngs;
    std::optional<NvramDevice> nvram;
    std::vector<Panic> panics;
    std::vector<Shmem> shmems;
    std::vector<MemoryDevice> memories;
    std::vector<Crypto> cryptos;
    std::vector<Iommu> iommus;
    std::optional<Vsock> vsock;
    std::optional<Pstore> pstore;
    Unknown unknown;

    Devices();  // these are compiled once, in devices.cpp
    Devices(const Devices&);
    Devices(Devices&&) noexcept;
    Devices& operator=(const Devices&);
    Devices& operator=(Devices&&) noexcept;
    ~Devices();
    bool operator==(const Devices&) const;
};

using AnyDevice =
    std::variant<Disk, Controller, Lease, Filesystem, Interface, Smartcard, Serial, Parallel, Console, Channel, Input,
                 Tpm, Graphics, Sound, Audio, Video, Hostdev, Redirdev, Redirfilter, Hub, Watchdog, Memballoon, Rng,
                 NvramDevice, Panic, Shmem, MemoryDevice, Crypto, Iommu, Vsock, Pstore>;

/// One device on its own, as given to AttachDevice and the like.
struct Device : AnyDevice {
    using AnyDevice::AnyDevice;
    using AnyDevice::operator=;

    Device();  // compiled once, in device.cpp
    Device(const Device&);
    Device(Device&&) noexcept;
    Device& operator=(const Device&);
    Device& operator=(Device&&) noexcept;
    ~Device();
    bool operator==(const Device&) const;
};

}  // namespace virtbus
