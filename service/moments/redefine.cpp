// SPDX-License-Identifier: LGPL-2.1-or-later
#include "service/moments/redefine.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <limits>

#include "service/moments/entry.hpp"
#include "service/xml/domain_xml.hpp"
#include "service/xml/moment_xml.hpp"
#include "virtbus/error.hpp"

namespace virtbus {

namespace {

constexpr std::uint64_t latest = std::numeric_limits<std::uint64_t>::max() / 1'000'000;

/// Says broken rules of the one it is about.
struct Subject {
    MomentKind kind;
    const std::string& name;
    std::string_view uuid;
    bool validate;

    [[noreturn]] void refuse(std::string_view why) const {
        throw Error{Code::invalid_xml, fmt::format("redefining {} '{}': {}", word(kind), name, why)};
    }
};

template <class Config>
void require_told(const Subject& subject, const Config& config) {
    if (config.name.empty()) subject.refuse("<name> is missing; a redefinition needs the complete XML");
    xml::require_moment_name(word(subject.kind), config.name);
    if (!config.creation_time) subject.refuse("<creationTime> is missing; a redefinition needs the complete XML");
    if (*config.creation_time > latest)
        subject.refuse(
            fmt::format("<creationTime> {} is too late; at most {} is allowed", *config.creation_time, latest));
}

/// The definition inside, which must be this domain's. "" gives nothing.
std::optional<DomainConfig> definition(const Subject& subject, const std::string& text, std::string_view element) {
    if (text.empty()) return std::nullopt;
    xml::ParsedDomain parsed;
    try {
        parsed = xml::parse_domain(text);
    } catch (const Error& e) {
        throw Error{e.code(), fmt::format("redefining {} '{}': its <{}> cannot be read: {}", word(subject.kind),
                                          subject.name, element, e.what())};
    }
    if (subject.validate) xml::require_known(parsed.unknown);
    if (parsed.config.uuid != subject.uuid)
        subject.refuse(fmt::format("its <{}> is of the domain with UUID '{}'; '{}' is needed", element,
                                   parsed.config.uuid, subject.uuid));
    return std::move(parsed.config);
}

bool has_cpus(std::string_view state) {
    return state == "running" || state == "paused";
}

void require_state(const Subject& subject, const SnapshotConfig& config, RedefineOptions options) {
    if (config.state.empty()) subject.refuse("<state> is missing; a redefinition needs the complete XML");
    const bool disk_only = config.state == "disk-snapshot";
    if (options.disk_only && !disk_only)
        throw Error{Code::conflicting_options,
                    fmt::format("'disk-only' is given and the state of snapshot '{}' is '{}'; it must be "
                                "'disk-snapshot'",
                                config.name, config.state)};
    const bool memory = config.memory && (config.memory->place == SnapshotPlace::internal ||
                                          config.memory->place == SnapshotPlace::external);
    if (memory && (disk_only || config.state == "shutoff"))
        subject.refuse(fmt::format("the state '{}' has no memory, and <memory> says it has", config.state));
}

/// The guest that one describes must be the guest that the other describes.
void require_same_guest(const Subject& subject, const Replaced& before, const std::optional<DomainConfig>& now) {
    if (before.domain.empty() || !now) return;
    std::optional<DomainConfig> then;
    try {
        then = xml::parse_domain(before.domain).config;
    } catch (const Error&) {
        return;  // what cannot be read cannot be kept to
    }
    if (const auto difference = xml::abi_difference(*then, *now))
        subject.refuse(fmt::format("its <domain> is another machine than the one recorded: {}", *difference));
}

void require_like(const Subject& subject, const MomentEntry& before, const MomentEntry& now) {
    if ((before.state == "disk-snapshot") != (now.state == "disk-snapshot"))
        subject.refuse(
            fmt::format("the state was '{}' and would become '{}'; what is of the disks only must stay so, "
                        "and what is of the whole machine too",
                        before.state, now.state));
    if (has_cpus(before.state) != has_cpus(now.state))
        subject.refuse(
            fmt::format("the state was '{}' and would become '{}'; running and paused on one side and the "
                        "other states on the other do not mix",
                        before.state, now.state));
}

/// What was known of the disks and the XML does not tell stays known.
void keep_known(const MomentEntry& before, MomentEntry& now) {
    if (now.disks.empty()) now.disks = before.disks;
    for (auto& disk : now.disks) {
        const auto known = std::find_if(before.disks.begin(), before.disks.end(),
                                        [&](const MomentDisk& old) { return old.target == disk.target; });
        if (known == before.disks.end()) continue;
        if (disk.frozen.path.empty()) disk.frozen = known->frozen;
        if (disk.overlay.path.empty() && disk.place == known->place) disk.overlay = known->overlay;
    }
    now.store_kept = before.store_kept;
    now.tpm_kept = before.tpm_kept;
}

Redefinition made(const MomentIndex& index, MomentEntry entry, std::string id) {
    Redefinition result;
    result.entry = std::move(entry);
    result.entry.id = std::move(id);
    if (const auto* before = index.find(result.entry.name)) {
        result.replaces = before->id;
        keep_known(*before, result.entry);
    }
    return result;
}

void put(MomentIndex& index, const MomentEntry& entry) {
    index.find(entry.name) ? index.replace(entry) : index.add(entry);
}

}  // namespace

Redefinition planned(const MomentIndex& index, const SnapshotConfig& config, std::string_view uuid, std::string id,
                     const Replaced& replaced, RedefineOptions options) {
    const Subject subject{MomentKind::snapshot, config.name, uuid, options.validate};
    require_told(subject, config);
    require_state(subject, config, options);
    if (config.domain.empty() && !config.inactive_domain.empty())
        subject.refuse("there is an <inactiveDomain> and no <domain>");
    const auto domain = definition(subject, config.domain, "domain");
    definition(subject, config.inactive_domain, "inactiveDomain");
    auto result = made(index, entry_of(config, domain ? &*domain : nullptr), std::move(id));
    if (const auto* before = index.find(config.name)) {
        require_like(subject, *before, result.entry);
        require_same_guest(subject, replaced, domain);
    }
    if (!domain)
        result.warning = fmt::format(
            "Snapshot '{}' is redefined without its <domain>: reverting to it will need 'force'", config.name);
    return result;
}

Redefinition redefine(MomentIndex& index, const SnapshotConfig& config, std::string_view uuid, std::string id,
                      const Replaced& replaced, RedefineOptions options) {
    auto result = planned(index, config, uuid, std::move(id), replaced, options);
    put(index, result.entry);
    return result;
}

Redefinition redefine(MomentIndex& index, const CheckpointConfig& config, std::string_view uuid, std::string id,
                      const Replaced& replaced, RedefineOptions options) {
    const Subject subject{MomentKind::checkpoint, config.name, uuid, options.validate};
    require_told(subject, config);
    if (config.domain.empty()) subject.refuse("<domain> is missing; without it nobody knows which disks it spoke of");
    const auto domain = definition(subject, config.domain, "domain");
    auto result = made(index, entry_of(config, &*domain), std::move(id));
    if (!result.replaces.empty()) require_same_guest(subject, replaced, domain);
    put(index, result.entry);
    return result;
}

}  // namespace virtbus
