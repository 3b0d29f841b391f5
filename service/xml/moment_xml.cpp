// SPDX-License-Identifier: LGPL-2.1-or-later
#include "service/xml/moment_xml.hpp"

#include <fmt/format.h>
#include <libxml/tree.h>

#include <algorithm>

#include "service/xml/binding.hpp"
#include "service/xml/document.hpp"
#include "service/xml/domain_xml.hpp"
#include "service/xml/tables.hpp"
#include "service/xml/values.hpp"
#include "virtbus/error.hpp"

namespace virtbus::xml {

namespace {

constexpr std::size_t longest_name = 255;
constexpr Bounds moment_bounds{
    .bytes = largest_moment, .depth = deepest_element + 1, .elements = 9 * most_elements / 4};

/// The same model comes of no name and an empty one, but only one of them is meant.
void require_named(const xmlNode* root, std::string_view what, const std::string& name) {
    for (auto* node = root->children; node; node = node->next)
        if (node->type == XML_ELEMENT_NODE && qualified_name(node) == "name") return require_moment_name(what, name);
}

template <class Config>
Config parse(std::string_view xml, std::string_view root_name, const Table& table, std::vector<std::string>* unknown,
             std::string_view named = {}) {
    const Document document{xml, moment_bounds};
    auto* root = document.require_root(root_name);
    Config config;
    std::vector<std::string> ignored;
    read(table, root, &config, unknown ? *unknown : ignored);
    if constexpr (requires { config.name; }) require_named(root, named, config.name);
    return config;
}

std::string format(std::string_view root_name, const Table& table, const void* config, bool secure) {
    Writer writer;
    write(table, root_name, config, {.secure = secure}, writer);
    return writer.take();
}

bool says_where(const StorageSource& source) {
    return !source.file.empty() || !source.dev.empty() || !source.protocol.empty();
}

/// As libvirt: who says where it goes wants it external.
void complete(SnapshotConfig& config) {
    if (config.memory && config.memory->place == SnapshotPlace::unset && !config.memory->file.empty())
        config.memory->place = SnapshotPlace::external;
    for (auto& disk : config.disks)
        if (disk.place == SnapshotPlace::unset && (disk.driver || (disk.source && says_where(*disk.source))))
            disk.place = SnapshotPlace::external;
}

/// A definition somebody has written may have comments around it.
bool is_element(std::string_view domain) {
    const auto text = trim(domain);
    return text.empty() || (text.starts_with("<domain") && (text.ends_with("</domain>") || text.ends_with("/>")));
}

std::string element(std::string domain, bool secure) {
    if (!is_element(domain)) domain = format_domain(parse_domain(domain).config, {.secure = true});
    return secure ? domain : without_secrets(std::move(domain));
}

}  // namespace

SnapshotConfig parse_snapshot(std::string_view xml, std::vector<std::string>* unknown) {
    auto config = parse<SnapshotConfig>(xml, "domainsnapshot", snapshot_table, unknown, "snapshot");
    complete(config);
    return config;
}

CheckpointConfig parse_checkpoint(std::string_view xml, std::vector<std::string>* unknown) {
    return parse<CheckpointConfig>(xml, "domaincheckpoint", checkpoint_table, unknown, "checkpoint");
}

BackupConfig parse_backup(std::string_view xml, std::vector<std::string>* unknown) {
    return parse<BackupConfig>(xml, "domainbackup", backup_table, unknown);
}

std::string format_snapshot(const SnapshotConfig& config, bool secure) {
    if (secure && is_element(config.domain) && is_element(config.inactive_domain))
        return format("domainsnapshot", snapshot_table, &config, true);
    auto shown = config;
    shown.domain = element(std::move(shown.domain), secure);
    shown.inactive_domain = element(std::move(shown.inactive_domain), secure);
    return format("domainsnapshot", snapshot_table, &shown, secure);
}

std::string format_checkpoint(const CheckpointConfig& config, bool secure) {
    if (secure && is_element(config.domain)) return format("domaincheckpoint", checkpoint_table, &config, true);
    auto shown = config;
    shown.domain = element(std::move(shown.domain), secure);
    return format("domaincheckpoint", checkpoint_table, &shown, secure);
}

std::string format_backup(const BackupConfig& config, bool secure) {
    return format("domainbackup", backup_table, &config, secure);
}

std::string without_secrets(std::string domain) {
    if (domain.empty()) return domain;
    const auto config = parse_domain(domain).config;
    return has_secrets(config) ? format_domain(config) : domain;
}

void require_moment_name(std::string_view what, std::string_view name) {
    const auto refuse = [&](std::string_view why) {
        throw Error{Code::invalid_xml, fmt::format("the {}'s name {}", what, why)};
    };
    if (name.empty()) refuse("is empty; without <name> one is made");
    if (name.size() > longest_name)
        refuse(fmt::format("has {} bytes; at most {} are allowed", name.size(), longest_name));
    if (name.starts_with('.')) refuse(fmt::format("'{}' must not begin with '.'", name));
    if (name.find('/') != name.npos) refuse(fmt::format("'{}' must not contain '/'", name));
    if (std::any_of(name.begin(), name.end(), [](unsigned char c) { return c < 0x20 || c == 0x7f; }))
        refuse("must not contain control characters or line breaks");
}

}  // namespace virtbus::xml
