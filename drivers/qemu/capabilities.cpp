// SPDX-License-Identifier: LGPL-2.1-or-later
#include "qemu/capabilities.hpp"

#include <algorithm>

namespace virtbus::qemu {

const Machine* Capabilities::find_machine(std::string_view name) const {
    const auto found = std::ranges::find_if(machines, [&](const Machine& machine) {
        return name.empty() ? machine.is_default : machine.name == name || machine.alias == name;
    });
    if (found != machines.end()) return &*found;
    // QEMU has no default where boards differ widely; the one made for virtual machines is meant then.
    return name.empty() && find_machine("virt") ? find_machine("virt") : nullptr;
}

const KnownCpu* Capabilities::find_cpu(std::string_view type, std::string_view name) const {
    const auto& models = cpus(type);
    // On POWER QEMU does not mind the case, and libvirt writes "POWER9".
    const bool any_case = arch.starts_with("ppc64");
    const auto same = [&](char a, char b) {
        const auto low = [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; };
        return any_case ? low(a) == low(b) : a == b;
    };
    const auto found =
        std::ranges::find_if(models, [&](const KnownCpu& cpu) { return std::ranges::equal(cpu.name, name, same); });
    return found == models.end() ? nullptr : &*found;
}

bool Capabilities::has_option(std::string_view option, std::string_view parameter) const {
    const auto found = options.find(option);
    return found != options.end() && found->second.contains(parameter);
}

bool Capabilities::has_display(std::string_view type) const {
    if (type == "vnc") return has_command("query-vnc");
    if (type == "spice") return has_command("query-spice");
    if (type == "dbus") return has_object("dbus-display");
    if (type == "sdl") return has_option("display", "sdl");
    return type == "egl-headless" && has_device("virtio-gpu-gl-pci");
}

}  // namespace virtbus::qemu
