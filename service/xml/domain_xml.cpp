// SPDX-License-Identifier: LGPL-2.1-or-later
#include "service/xml/domain_xml.hpp"

#include <fmt/format.h>
#include <libxml/tree.h>

#include <algorithm>

#include "service/xml/binding.hpp"
#include "service/xml/document.hpp"
#include "service/xml/tables.hpp"
#include "service/xml/values.hpp"
#include "virtbus/error.hpp"

namespace virtbus::xml {

namespace {

/// One kind of device: its element, its table, and how to get at it inside a Device.
struct DeviceKind {
    std::string_view name;
    const Table* table;
    void* (*emplace)(Device& device);
    const void* (*get)(const Device& device);
};
template <class T>
constexpr DeviceKind kind(std::string_view name, const Table& table) {
    return {name, &table, [](Device& device) -> void* { return &device.emplace<T>(); },
            [](const Device& device) -> const void* { return std::get_if<T>(&device); }};
}

/// In the order of the variant.
constexpr DeviceKind device_kinds[]{
    kind<Disk>("disk", disk_table),
    kind<Controller>("controller", controller_table),
    kind<Lease>("lease", lease_table),
    kind<Filesystem>("filesystem", filesystem_table),
    kind<Interface>("interface", interface_table),
    kind<Smartcard>("smartcard", smartcard_table),
    kind<Serial>("serial", serial_table),
    kind<Parallel>("parallel", parallel_table),
    kind<Console>("console", console_table),
    kind<Channel>("channel", channel_table),
    kind<Input>("input", input_table),
    kind<Tpm>("tpm", tpm_table),
    kind<Graphics>("graphics", graphics_table),
    kind<Sound>("sound", sound_table),
    kind<Audio>("audio", audio_table),
    kind<Video>("video", video_table),
    kind<Hostdev>("hostdev", hostdev_table),
    kind<Redirdev>("redirdev", redirdev_table),
    kind<Redirfilter>("redirfilter", redirfilter_table),
    kind<Hub>("hub", hub_table),
    kind<Watchdog>("watchdog", watchdog_table),
    kind<Memballoon>("memballoon", memballoon_table),
    kind<Rng>("rng", rng_table),
    kind<NvramDevice>("nvram", nvram_device_table),
    kind<Panic>("panic", panic_table),
    kind<Shmem>("shmem", shmem_table),
    kind<MemoryDevice>("memory", memory_device_table),
    kind<Crypto>("crypto", crypto_table),
    kind<Iommu>("iommu", iommu_table),
    kind<Vsock>("vsock", vsock_table),
    kind<Pstore>("pstore", pstore_table),
};
static_assert(std::size(device_kinds) == std::variant_size_v<AnyDevice>);

bool uses_qemu_namespace(const DomainConfig& config) {
    return config.qemu_commandline || config.qemu_capabilities || config.qemu_override ||
           !config.qemu_deprecation.empty();
}

std::string child_text(xmlNode* root, std::string_view name) {
    for (auto* node = root->children; node; node = node->next) {
        if (node->type != XML_ELEMENT_NODE || qualified_name(node) != name) continue;
        std::string text;
        for (auto* n = node->children; n; n = n->next)
            if (n->content && (n->type == XML_TEXT_NODE || n->type == XML_CDATA_SECTION_NODE))
                text += reinterpret_cast<const char*>(n->content);
        return text;
    }
    return "";
}

}  // namespace

ParsedDomain parse_domain(std::string_view xml) {
    const Document document{xml};
    ParsedDomain parsed;
    read(domain_table, document.require_root("domain"), &parsed.config, parsed.unknown);
    return parsed;
}

void require_known(const std::vector<std::string>& unknown) {
    if (unknown.empty()) return;
    throw Error{Code::invalid_xml, fmt::format("the XML has parts that are not known: {}", fmt::join(unknown, ", "))};
}

std::string format_domain(const DomainConfig& config, FormatOptions options) {
    Writer writer;
    const WriteOptions how{options.secure, uses_qemu_namespace(config) ? &qemu_namespace : nullptr};
    if (options.inactive) {
        const auto definition = without_live(config);
        write(domain_table, "domain", &definition, how, writer);
    } else {
        write(domain_table, "domain", &config, how, writer);
    }
    return writer.take();
}

bool has_secrets(const DomainConfig& config) {
    Writer writer;
    return write(domain_table, "domain", &config, {}, writer);
}

Device parse_device(std::string_view xml, std::vector<std::string>* unknown) {
    const Document document{xml};
    auto* root = document.root();
    const auto name = qualified_name(root);
    const auto* found = std::find_if(std::begin(device_kinds), std::end(device_kinds),
                                     [&](const DeviceKind& known) { return known.name == name; });
    if (found == std::end(device_kinds))
        throw Error{Code::invalid_xml, fmt::format("XML, line {}: <{}> is not a device", line_of(root), name)};
    std::vector<std::string> ignored;
    Device device;
    read(*found->table, root, found->emplace(device), unknown ? *unknown : ignored);
    return device;
}

std::string format_device(const Device& device, FormatOptions options) {
    const auto& known = device_kinds[device.index()];
    Writer writer;
    write(*known.table, known.name, known.get(device), {.secure = options.secure}, writer);
    return writer.take();
}

std::string_view element_name(const Device& device) {
    return device_kinds[device.index()].name;
}

std::optional<std::string> abi_difference(const DomainConfig& before, const DomainConfig& after) {
    return difference(domain_table, &before, &after);
}

std::optional<Identity> peek_identity(std::string_view xml, std::string_view root_name) try {
    const Document document{xml};
    auto* root = document.require_root(root_name);
    Identity identity;
    identity.name = child_text(root, "name");
    identity.title = child_text(root, "title");
    parse_uuid(trim(child_text(root, "uuid")), identity.uuid);
    if (auto* type = xmlGetNoNsProp(root, BAD_CAST "type")) {
        identity.type = reinterpret_cast<const char*>(type);
        xmlFree(type);
    }
    return identity;
} catch (const Error&) {
    return std::nullopt;
}

}  // namespace virtbus::xml
