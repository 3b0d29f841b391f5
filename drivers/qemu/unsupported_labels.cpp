// SPDX-License-Identifier: LGPL-2.1-or-later
// Security labels, and what of a definition is understood and does nothing here.
#include <fmt/format.h>

#include <algorithm>

#include "qemu/unsupported.hpp"
#include "qemu/unsupported_parts.hpp"

namespace virtbus::qemu {

namespace {

bool confines(const std::string& model) {
    return !model.empty() && model != "none" && model != "dac";
}

void note_label(const SourceSecurityLabel& label, const std::string& who, Problems& notes) {
    // relabel='no' asks for what is done anyway.
    if (label.relabel == false) return;
    notes.push_back(fmt::format(
        "seclabel {} of {}: files keep their owners and labels; QEMU gets them open and needs no right of its own",
        label.model.empty() ? "without a model" : label.model, who));
}

template <class Devices>
void note_chardevs(const Devices& devices, Problems& notes) {
    for (const auto& device : devices)
        if (const auto* source = device.backend.source())
            for (const auto& label : source->security_labels) note_label(label, device.info.alias, notes);
}

void note_xen(const Features& features, Problems& notes) {
    const std::pair<const char*, bool> of_xen[]{{"xen", features.xen.has_value()},
                                                {"hap", features.hap && features.hap->on()},
                                                {"viridian", features.viridian && features.viridian->on()}};
    for (const auto& [name, asked] : of_xen)
        if (asked) notes.push_back(fmt::format("features {}: is Xen's; QEMU does nothing about it", name));
    if (features.privnet && features.privnet->on())
        notes.emplace_back("features privnet: is for containers; QEMU does nothing about it");
}

}  // namespace

/// As libvirt on a host without SELinux and AppArmor, a definition that wants to be confined by one does not run
/// unconfined. Guests run as the service's own user and files keep their owners, so a label of 'dac' has no use; one
/// that is fixed would let a definition choose whose files its guest may open.
void check_labels(const DomainConfig& config, const Capabilities&, Problems& problems) {
    for (const auto& label : config.security_labels) {
        if (label.type == "none") continue;
        if (confines(label.model))
            problems.push_back(
                fmt::format("seclabel {}: guests are confined by their units here and by no such security driver; "
                            "without it this one "
                            "would be less confined than asked. Say type='none', or take the <seclabel> out",
                            label.model));
        if (label.model == "dac" && (label.type == "static" || !label.label.empty()))
            problems.push_back(
                fmt::format("seclabel dac: guests run as the service's own user, not as '{}'; take the <seclabel> out",
                            label.label));
    }
}

std::vector<std::string> without_effect(const DomainConfig& config) {
    Problems notes;
    if (config.features) note_xen(*config.features, notes);
    if (config.features && config.features->hyperv && config.type != "kvm")
        notes.emplace_back("features hyperv: are KVM's; a guest of type qemu does not see them");
    if (config.clock)
        for (const auto& timer : config.clock->timers)
            if (timer.catchup && (timer.catchup->threshold || timer.catchup->slew || timer.catchup->limit))
                notes.push_back(
                    fmt::format("timer {}: QEMU catches up at a pace of its own, whatever threshold, slew "
                                "and limit its <catchup> names",
                                timer.name));
    for (const auto& interface : config.devices.interfaces)
        if (interface.driver && interface.driver->name == "vhost" && interface.type == InterfaceType::user)
            notes.push_back(fmt::format("interface '{}': user networking has no driver vhost", interface.mac));
    for (const auto& graphics : config.devices.graphics)
        for (const auto& listen : graphics.listens)
            if (listen.type == "socket" && listen.socket.empty() && graphics.socket.empty())
                notes.push_back(
                    fmt::format("graphics {}: no socket is made where none is named; OpenDisplay connects "
                                "to it all the same",
                                word(graphics.type)));
    for (const auto& event : config.perf)
        if (event.enabled) notes.push_back(fmt::format("perf event {}: is not counted", event.name));
    for (const auto& label : config.security_labels)
        if (label.model == "dac" && label.type != "none" && label.relabel.value_or(true))
            notes.emplace_back("seclabel dac: files keep their owners; QEMU gets them open");
    for (const auto& disk : config.devices.disks)
        if (disk.source)
            for (const auto& label : disk.source->security_labels)
                note_label(label, fmt::format("disk '{}'", disk.target.dev), notes);
    note_chardevs(config.devices.serials, notes);
    note_chardevs(config.devices.parallels, notes);
    note_chardevs(config.devices.channels, notes);
    std::ranges::sort(notes);
    notes.erase(std::unique(notes.begin(), notes.end()), notes.end());
    return notes;
}

}  // namespace virtbus::qemu
