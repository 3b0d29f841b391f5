// SPDX-License-Identifier: LGPL-2.1-or-later
// What one emulator binary can do, as plain data with look-ups. Learning it from the binary is probe.hpp's work, the
// XML texts are capabilities_xml.hpp's.
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace virtbus::qemu {

struct Machine {
    std::string name;              ///< "pc-q35-7.2"
    std::string alias;             ///< "q35"; empty when it has none
    std::string default_cpu_type;  ///< QOM type
    unsigned max_cpus = 1;
    bool is_default = false;
    bool hotpluggable_cpus = false;
    bool deprecated = false;
};

struct KnownCpu {
    std::string name;
    bool usable = false;                ///< with the accelerator it is listed under
    std::vector<std::string> blockers;  ///< features it would need that are missing
    bool deprecated = false;
};

/// The most that guests can get here under one accelerator, as QEMU's static expansion of it: a model that never
/// changes and what differs from it.
struct CpuExpansion {
    std::string base;                                       ///< "base"; empty: this emulator does not tell
    std::map<std::string, std::string, std::less<>> words;  ///< "family", "model-id", "vendor" ...
    std::set<std::string, std::less<>> features;            ///< those that are on, in QEMU's spelling

    bool known() const { return !base.empty(); }
    bool has(std::string_view feature) const { return features.contains(feature); }
};

struct Capabilities {
    using Names = std::set<std::string, std::less<>>;

    std::string binary;    ///< absolute path
    std::string arch;      ///< QEMU's and libvirt's name agree: "x86_64", "aarch64", "i386" is mapped to "i686"
    unsigned version = 0;  ///< 7002022 for 7.2.22
    std::string package;   ///< the packager's addition to the version
    bool has_tcg = true;   ///< emulates CPUs itself
    bool has_kvm = false;  ///< built in and /dev/kvm answers
    std::vector<Machine> machines;
    std::vector<KnownCpu> tcg_cpus, kvm_cpus;  ///< kvm_cpus is empty without KVM
    CpuExpansion tcg_host, kvm_host;
    Names devices;   ///< creatable with -device, and internal ones; CPU models left out
    Names objects;   ///< creatable with -object
    Names chardevs;  ///< back ends: "pty", "socket", "dbus" ...
    Names commands;  ///< QMP
    std::map<std::string, Names, std::less<>> options;  ///< command line option -> its parameters
    std::vector<std::string> tpm_models, tpm_types;

    /// By name or alias; nullptr when there is none. "" finds the default.
    const Machine* find_machine(std::string_view name) const;
    /// `type` is the domain's: "kvm" or "qemu".
    const std::vector<KnownCpu>& cpus(std::string_view type) const { return type == "kvm" ? kvm_cpus : tcg_cpus; }
    const CpuExpansion& host_cpu(std::string_view type) const { return type == "kvm" ? kvm_host : tcg_host; }
    const KnownCpu* find_cpu(std::string_view type, std::string_view name) const;

    bool has_device(std::string_view name) const { return devices.contains(name); }
    bool has_object(std::string_view name) const { return objects.contains(name); }
    bool has_chardev(std::string_view name) const { return chardevs.contains(name); }
    bool has_command(std::string_view name) const { return commands.contains(name); }
    /// A command line option, or one of its parameters.
    bool has_option(std::string_view option) const { return options.contains(option); }
    bool has_option(std::string_view option, std::string_view parameter) const;
    bool has_display(std::string_view type) const;  ///< "vnc", "spice", "dbus", "egl-headless"
};

}  // namespace virtbus::qemu
