// SPDX-License-Identifier: LGPL-2.1-or-later
#include "service/device_edit.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <map>

#include "service/xml/domain_xml.hpp"
#include "virtbus/error.hpp"

namespace virtbus {

namespace {

/// What tells devices of one kind apart, as words with their values. What is empty is not said.
using Keys = std::vector<std::pair<std::string, std::string>>;

template <class T>
std::string text(const std::optional<T>& value) {
    return value ? fmt::format("{}", *value) : std::string{};
}

std::string text(const HostAddress& address) {
    struct Visitor {
        std::string operator()(const HostPciAddress& a) const {
            return fmt::format("{:04x}:{:02x}:{:02x}.{:x}", a.domain, a.bus, a.slot, a.function);
        }
        std::string operator()(const HostUsbAddress& a) const {
            if (!a.port.empty()) return fmt::format("{}-{}", a.bus.value_or(0), a.port);
            return a.bus || a.device ? fmt::format("{}.{}", a.bus.value_or(0), a.device.value_or(0)) : "";
        }
        std::string operator()(const HostScsiAddress& a) const {
            return fmt::format("{}:{}:{}", a.bus, a.target, a.unit);
        }
        std::string operator()(const HostMdevAddress& a) const { return a.uuid; }
    };
    return std::visit(Visitor{}, address);
}

void add_backend(Keys& keys, const ChardevBackend& backend) {
    for (const auto& source : backend.sources) {
        keys.emplace_back("path", source.path);
        keys.emplace_back("host", source.host);
        keys.emplace_back("service", source.service);
    }
}

Keys keys_of(const Disk& disk) {
    return {{"target", disk.target.dev}};
}
Keys keys_of(const Controller& controller) {
    return {
        {"type", std::string{word(controller.type)}}, {"index", text(controller.index)}, {"model", controller.model}};
}
Keys keys_of(const Lease& lease) {
    return {{"lockspace", lease.lockspace}, {"key", lease.key}};
}
Keys keys_of(const Filesystem& filesystem) {
    return {{"target", filesystem.target_dir}};
}
Keys keys_of(const Interface& interface) {
    if (!interface.mac.empty()) return {{"mac", interface.mac}};
    Keys keys{{"type", std::string{word(interface.type)}}, {"model", interface.model}};
    if (const auto& source = interface.source) {
        keys.emplace_back("network", source->network);
        keys.emplace_back("bridge", source->bridge);
        keys.emplace_back("dev", source->dev);
    }
    return keys;
}
Keys keys_of(const Smartcard& card) {
    return {{"mode", card.mode}};
}
template <class T>
Keys keys_of_port(const T& device) {
    Keys keys{{"type", std::string{word(device.type)}}};
    add_backend(keys, device.backend);
    if (device.target) {
        keys.emplace_back("target type", device.target->type);
        keys.emplace_back("target port", text(device.target->port));
    }
    return keys;
}
Keys keys_of(const Serial& serial) {
    return keys_of_port(serial);
}
Keys keys_of(const Parallel& parallel) {
    return keys_of_port(parallel);
}
Keys keys_of(const Console& console) {
    return keys_of_port(console);
}
Keys keys_of(const Channel& channel) {
    auto keys = keys_of_port(channel);
    if (channel.target) keys.emplace_back("target name", channel.target->name);
    if (channel.target) keys.emplace_back("target address", channel.target->address);
    return keys;
}
Keys keys_of(const Input& input) {
    Keys keys{{"type", input.type}, {"bus", input.bus}, {"model", input.model}};
    if (input.source) keys.emplace_back("source", input.source->evdev + input.source->dev);
    return keys;
}
Keys keys_of(const Tpm& tpm) {
    return {{"model", tpm.model}};
}
Keys keys_of(const Graphics& graphics) {
    return {{"type", std::string{word(graphics.type)}}};
}
Keys keys_of(const Sound& sound) {
    return {{"model", sound.model}};
}
Keys keys_of(const Audio& audio) {
    return {{"id", fmt::format("{}", audio.id)}};
}
Keys keys_of(const Video& video) {
    return {{"model", video.model.type}};
}
Keys keys_of(const Hostdev& hostdev) {
    Keys keys{{"mode", hostdev.mode}, {"type", std::string{word(hostdev.type)}}};
    const auto& source = hostdev.source;
    if (source.address) keys.emplace_back("source", text(*source.address));
    keys.emplace_back("vendor", text(source.vendor_id));
    keys.emplace_back("product", text(source.product_id));
    keys.emplace_back("adapter", source.adapter);
    keys.emplace_back("name", source.name + source.wwpn);
    return keys;
}
Keys keys_of(const Redirdev& redirdev) {
    Keys keys{{"bus", redirdev.bus}, {"type", std::string{word(redirdev.type)}}};
    add_backend(keys, redirdev.backend);
    return keys;
}
Keys keys_of(const Hub& hub) {
    return {{"type", hub.type}};
}
Keys keys_of(const Watchdog& watchdog) {
    return {{"model", watchdog.model}, {"action", watchdog.action}};
}
Keys keys_of(const Rng& rng) {
    return {{"model", rng.model}, {"backend", rng.backend.model}, {"path", rng.backend.path}};
}
Keys keys_of(const Panic& panic) {
    return {{"model", panic.model}};
}
Keys keys_of(const Shmem& shmem) {
    return {{"name", shmem.name}};
}
Keys keys_of(const MemoryDevice& memory) {
    return {{"model", memory.model},
            {"size", fmt::format("{}", memory.target.size)},
            {"node", text(memory.target.node)},
            {"path", memory.source ? memory.source->path : ""},
            {"uuid", memory.uuid}};
}
Keys keys_of(const Crypto& crypto) {
    return {{"model", crypto.model}, {"backend", crypto.backend.model}};
}
Keys keys_of(const Iommu& iommu) {
    return {{"model", iommu.model}};
}
// There is one of these at most.
Keys keys_of(const Redirfilter&) {
    return {};
}
Keys keys_of(const Memballoon&) {
    return {};
}
Keys keys_of(const NvramDevice&) {
    return {};
}
Keys keys_of(const Vsock&) {
    return {};
}
Keys keys_of(const Pstore&) {
    return {};
}

Keys keys_of(const Device& device) {
    auto keys = std::visit([](const auto& each) { return keys_of(each); }, device);
    std::erase_if(keys, [](const auto& key) { return key.second.empty(); });
    return keys;
}

std::string words_of(const Keys& keys, std::string_view element) {
    if (keys.size() == 1) return fmt::format("{} '{}'", element, keys.front().second);
    std::string out{element};
    for (const auto& [name, value] : keys) out += fmt::format(" {}='{}'", name, value);
    return out;
}

bool is_chosen(const std::optional<Address>& address) {
    if (!address) return false;
    if (const auto* pci = std::get_if<PciAddress>(&*address)) return pci->assigned();
    if (const auto* usb = std::get_if<UsbAddress>(&*address)) return !usb->port.empty();
    if (const auto* port = std::get_if<VirtioSerialAddress>(&*address)) return port->port != 0;
    if (const auto* dimm = std::get_if<DimmAddress>(&*address)) return dimm->slot.has_value();
    return true;
}

/// Whether they are one place, for addresses that name a place among all devices of the domain.
bool same_place(const Address& a, const Address& b) {
    if (const auto *p = std::get_if<PciAddress>(&a), *q = std::get_if<PciAddress>(&b); p && q)
        return p->domain == q->domain && p->bus == q->bus && p->slot == q->slot && p->function == q->function;
    if (const auto *p = std::get_if<UsbAddress>(&a), *q = std::get_if<UsbAddress>(&b); p && q)
        return p->bus == q->bus && p->port == q->port;
    if (const auto *p = std::get_if<VirtioSerialAddress>(&a), *q = std::get_if<VirtioSerialAddress>(&b); p && q)
        return p->controller == q->controller && p->port == q->port;
    if (const auto *p = std::get_if<CcwAddress>(&a), *q = std::get_if<CcwAddress>(&b); p && q)
        return p->devno == q->devno && p->ssid == q->ssid;
    if (const auto *p = std::get_if<DimmAddress>(&a), *q = std::get_if<DimmAddress>(&b); p && q)
        return p->slot == q->slot;
    if (const auto *p = std::get_if<DriveAddress>(&a), *q = std::get_if<DriveAddress>(&b); p && q)
        return p->controller == q->controller && p->bus == q->bus && p->target == q->target && p->unit == q->unit;
    return false;
}

const DeviceInfo& info_of(const Device& device) {
    static const DeviceInfo none;
    const auto* info = find_info(device);
    return info ? *info : none;
}

/// Everything that `wanted` says of itself holds of the candidate.
bool fits(const Device& candidate, const Device& wanted) {
    const auto &asked = info_of(wanted), &has = info_of(candidate);
    if (!asked.alias.empty() && !has.alias.empty()) {
        if (asked.alias != has.alias) return false;
        // What is said beside it may be a default that nobody said; only the strongest words may contradict it.
        if (candidate.index() != kind_of<Disk> && candidate.index() != kind_of<Interface>) return true;
    } else if (asked.alias.starts_with("ua-")) {
        return false;
    }
    if (is_chosen(asked.address) && is_chosen(has.address) && !same_place(*asked.address, *has.address)) return false;
    auto theirs = keys_of(candidate);
    if (const auto *asks = std::get_if<Interface>(&wanted), *other = std::get_if<Interface>(&candidate);
        asks && other && asks->mac.empty()) {
        auto without_mac = *other;
        without_mac.mac.clear();
        theirs = keys_of(Device{std::move(without_mac)});
    }
    for (const auto& key : keys_of(wanted))
        if (std::find(theirs.begin(), theirs.end(), key) == theirs.end()) return false;
    return true;
}

std::string choice_words(const Device& device) {
    const auto& info = info_of(device);
    auto out = words_of(device);
    if (!info.alias.empty()) return fmt::format("{} ({})", out, info.alias);
    const auto* pci = info.address_as<PciAddress>();
    return pci ? fmt::format("{} at PCI {:02x}:{:02x}.{:x}", out, pci->bus, pci->slot, pci->function) : out;
}

std::string no_such(const DomainConfig& config, const Device& wanted) {
    const auto& alias = info_of(wanted).alias;
    return fmt::format("domain '{}' has no {}{}", config.name, words_of(wanted),
                       alias.empty() ? "" : fmt::format(" with the alias '{}'", alias));
}

// ---- adding

/// What of a kind may be there only once.
Keys unique_of(const Device& device) {
    if (const auto* interface = std::get_if<Interface>(&device)) return {{"mac", interface->mac}};
    if (const auto* controller = std::get_if<Controller>(&device)) {
        const bool companion = controller->model.starts_with("ich9-");
        if (!controller->index) return {};
        return {{"index", fmt::format("{} {} {}", word(controller->type), *controller->index,
                                      companion ? controller->model : "")}};
    }
    if (const auto* hostdev = std::get_if<Hostdev>(&device)) {
        if (hostdev->source.address) {
            const auto source = text(*hostdev->source.address);
            if (!source.empty()) return {{"source", fmt::format("{} {}", word(hostdev->type), source)}};
        }
        return {};
    }
    if (const auto* channel = std::get_if<Channel>(&device))
        return {{"name", channel->target ? channel->target->name : ""}};
    const bool keyed = std::holds_alternative<Disk>(device) || std::holds_alternative<Lease>(device) ||
                       std::holds_alternative<Filesystem>(device) || std::holds_alternative<Shmem>(device) ||
                       std::holds_alternative<Audio>(device);
    return keyed ? keys_of(device) : Keys{};
}

bool single(DeviceKind kind) {
    return kind == kind_of<Memballoon> || kind == kind_of<Vsock> || kind == kind_of<NvramDevice> ||
           kind == kind_of<Pstore> || kind == kind_of<Redirfilter>;
}

void require_not_there(const DomainConfig& config, const Device& device) {
    auto unique = unique_of(device);
    std::erase_if(unique, [](const auto& key) { return key.second.empty(); });
    const auto alias = info_of(device).alias;
    const auto refuse = [&](const Device& there) {
        throw Error{Code::already_exists, fmt::format("domain '{}' has {} already", config.name, choice_words(there))};
    };
    for (const auto place : all_devices(config.devices)) {
        const auto there = device_at(config.devices, place.kind, place.number);
        if (alias.starts_with("ua-") && info_of(there).alias == alias)
            throw Error{Code::already_exists, fmt::format("domain '{}' has a device with the alias '{}' already: {}",
                                                          config.name, alias, words_of(there))};
        if (place.kind != device.index()) continue;
        if (single(place.kind)) refuse(there);
        if (!unique.empty() && unique_of(there) == unique) refuse(there);
    }
}

/// Disks of different buses may have the same numbers.
bool comparable(const Device& a, const Device& b) {
    const auto *first = std::get_if<Disk>(&a), *second = std::get_if<Disk>(&b);
    if (info_of(a).address_as<DriveAddress>())
        return first && second ? first->target.bus == second->target.bus : a.index() == b.index();
    return true;
}

void require_free_address(const DomainConfig& config, const Device& device) {
    const auto& address = info_of(device).address;
    if (!is_chosen(address)) return;
    for (const auto place : all_devices(config.devices)) {
        const auto there = device_at(config.devices, place.kind, place.number);
        const auto& taken = info_of(there).address;
        if (is_chosen(taken) && same_place(*taken, *address) && comparable(there, device))
            throw Error{Code::unsupported_configuration,
                        fmt::format("domain '{}': {} is at the address that {} is to have; leave it out, or choose "
                                    "another",
                                    config.name, choice_words(there), words_of(device))};
    }
}

// ---- following

std::map<std::string, Device> by_alias(const Devices& devices) {
    std::map<std::string, Device> all;
    for (const auto place : all_devices(devices)) {
        auto device = device_at(devices, place.kind, place.number);
        const auto* info = find_info(device);
        // A console that is a second name of a serial port follows it.
        if (info && !info->alias.empty()) all.try_emplace(fmt::format("{} {}", place.kind, info->alias), device);
    }
    return all;
}

/// As it would be stored, so that what only the run knows makes no difference.
Device stored_form(const Device& device) {
    DomainConfig solo;
    (void)add_device(solo, device);
    return device_at(xml::without_live(solo).devices, device.index(), 0);
}

std::optional<std::size_t> find_like(const DomainConfig& config, const Device& wanted) {
    const auto form = stored_form(wanted);
    std::optional<std::size_t> like;
    for (std::size_t i = 0; i < count_devices(config.devices, form.index()); ++i) {
        const auto candidate = device_at(config.devices, form.index(), i);
        if (candidate == form) return i;
        if (!like && fits(candidate, form)) like = i;
    }
    return like;
}

}  // namespace

std::string words_of(const Device& device) {
    return words_of(keys_of(device), xml::element_name(device));
}

DevicePlace find_device(const DomainConfig& config, const Device& wanted) {
    const auto kind = wanted.index();
    std::vector<std::size_t> found;
    std::vector<std::string> choices;
    const auto& asked = info_of(wanted);
    // A name alone says enough, whatever else was left at its default.
    if (const auto place = find_alias(config.devices, asked.alias);
        place && place->kind == kind && fits(device_at(config.devices, kind, place->number), wanted))
        return *place;
    if (const auto* disk = std::get_if<Disk>(&wanted); disk && disk->target.dev.empty() && !is_chosen(asked.address))
        throw Error{Code::invalid_xml, "which disk is meant? Give its <target dev=> or its <alias name=>"};
    for (std::size_t i = 0; i < count_devices(config.devices, kind); ++i) {
        const auto candidate = device_at(config.devices, kind, i);
        if (!fits(candidate, wanted)) continue;
        found.push_back(i);
        choices.push_back(choice_words(candidate));
    }
    if (found.empty()) throw Error{Code::no_such_device, no_such(config, wanted)};
    if (found.size() > 1)
        throw Error{
            Code::invalid_args,
            fmt::format("domain '{}' has {} devices that fit {}: {}; say which by its <alias name=> or <address>",
                        config.name, found.size(), words_of(wanted), fmt::join(choices, ", "))};
    return {kind, found.front()};
}

std::size_t insert_device(DomainConfig& config, Device device) {
    require_not_there(config, device);
    require_free_address(config, device);
    return add_device(config, std::move(device));
}

bool follow_devices(DomainConfig& config, const Devices& before, const Devices& now) {
    const auto old = by_alias(before), fresh = by_alias(now);
    bool all = true;
    for (const auto& [alias, device] : old) {
        const auto still = fresh.find(alias);
        if (still != fresh.end() && (still->second == device || stored_form(still->second) == stored_form(device)))
            continue;
        const auto place = find_like(config, device);
        if (!place)
            all = false;
        else if (still == fresh.end())
            remove_device(config, device.index(), *place);
        else
            replace_device(config.devices, *place, stored_form(still->second));
    }
    for (const auto& [alias, device] : fresh)
        if (!old.contains(alias)) (void)add_device(config, stored_form(device));
    return all;
}

}  // namespace virtbus
