// SPDX-License-Identifier: LGPL-2.1-or-later
// <os>: what the machine is and how it boots.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "virtbus/model/storage_source.hpp"

namespace virtbus {

struct FirmwareFeature {
    bool enabled = false;
    std::string name;  ///< secure-boot, enrolled-keys
    Unknown unknown;
    bool operator==(const FirmwareFeature&) const = default;
};

struct Loader {
    std::optional<bool> readonly, secure;
    std::string type;  ///< rom, pflash; "" = rom
    std::optional<bool> stateless;
    std::string format;  ///< raw, qcow2; "" = raw
    std::string path;
    Unknown unknown;
    bool operator==(const Loader&) const = default;
};

struct Nvram {
    std::optional<StorageType> type;  ///< present when the store is given as <source>
    std::string template_path, template_format;
    std::string format;  ///< raw, qcow2; "" = see the format of the store's template
    std::string path;
    std::optional<StorageSource> source;
    Unknown unknown;
    bool operator==(const Nvram&) const = default;
};

struct BootMenu {
    std::optional<bool> enable;
    std::optional<std::uint32_t> timeout;  ///< milliseconds
    Unknown unknown;
    bool operator==(const BootMenu&) const = default;
};

struct Bios {
    std::optional<bool> useserial;
    std::optional<std::int32_t> reboot_timeout;  ///< milliseconds, -1 = do not reboot
    Unknown unknown;
    bool operator==(const Bios&) const = default;
};

struct AcpiTable {
    std::string type;  ///< slic, msdm, raw, rawset
    std::string path;
    Unknown unknown;
    bool operator==(const AcpiTable&) const = default;
};

struct InitEnv {
    std::string name, value;
    Unknown unknown;
    bool operator==(const InitEnv&) const = default;
};

struct Os {
    std::string type = "hvm";  ///< hvm; exe for containers
    std::string arch;          ///< x86_64, i686 ...; "" = the host's
    std::string machine;       ///< "pc", "q35", or resolved: "pc-q35-7.2"
    std::string firmware;      ///< bios, efi: choose loader and nvram by itself; "" = as said below
    std::vector<FirmwareFeature> firmware_features;
    std::string init;
    std::vector<std::string> initargs;
    std::vector<InitEnv> initenv;
    std::string initdir, inituser, initgroup;
    std::optional<Loader> loader;
    std::optional<Nvram> nvram;
    std::string kernel, initrd, cmdline, dtb, shim;
    std::vector<AcpiTable> acpi_tables;
    std::vector<std::string> boot_devices;  ///< hd, fd, cdrom, network, in order
    std::optional<BootMenu> bootmenu;
    std::string smbios_mode;  ///< emulate, host, sysinfo
    std::optional<Bios> bios;
    Unknown unknown;
    bool operator==(const Os&) const = default;
};

}  // namespace virtbus
