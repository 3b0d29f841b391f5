// SPDX-License-Identifier: LGPL-2.1-or-later
#include "service/xml/network_status.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <set>

#include "service/xml/binding.hpp"
#include "service/xml/document.hpp"
#include "service/xml/network_xml.hpp"
#include "service/xml/tables.hpp"
#include "service/xml/values.hpp"
#include "virtbus/error.hpp"

namespace virtbus::xml {

namespace {

constexpr std::uint32_t first_class = 3, last_class = 65535;  ///< of guests; tc's numbers have 16 bits
constexpr std::uint64_t most_floor = 1ULL << 52U;

template <class... T>
[[noreturn]] void broken(fmt::format_string<T...> format, T&&... values) {
    throw Error{Code::invalid_xml, "the state of a network: " + fmt::format(format, std::forward<T>(values)...)};
}

// ---- how it is laid out

struct PortElement {
    NetworkPort port;
    std::optional<std::uint32_t> class_id;
    Unknown unknown;
};
struct OwnElement {
    std::string version, boot_id, driver_state;  ///< the last in hexadecimal digits
    std::optional<bool> started;
    std::vector<PortElement> ports;
    Unknown unknown;
};
struct StatusElement {
    std::string class_ids;
    std::optional<std::uint64_t> floor_sum;
    std::optional<OwnElement> own;
    NetworkConfig config;
    Unknown unknown;
};

constexpr Row port_fields[]{
    attribute<&NetworkPort::id>("id").uuid(),
    attribute<&NetworkPort::domain_uuid>("domain").uuid(),
    attribute<&NetworkPort::domain_name>("name"),
    attribute<&NetworkPort::mac>("mac").mac(),
    attribute<&NetworkPort::port_group>("portgroup"),
    attribute<&NetworkPort::device>("device"),
    element<&NetworkPort::inbound>("inbound", bandwidth_limit_table).always(),
};
constinit const Table port_fields_table = inner_table(port_fields);
constexpr Row port_rows[]{
    inlined<&PortElement::port>(port_fields_table),
    attribute<&PortElement::class_id>("class").range(first_class, last_class),
};
std::string check_port(const void* object) {
    return static_cast<const PortElement*>(object)->port.id.empty() ? "attribute 'id' is missing" : "";
}
constinit const Table port_table = table<PortElement>(port_rows, check_port);
constexpr Row own_rows[]{
    attribute<&OwnElement::version>("version").one_of("1").required(),
    attribute<&OwnElement::boot_id>("boot"),
    attribute<&OwnElement::started>("started").yes_no().required(),
    leaf<&OwnElement::driver_state>("driver"),
    element<&OwnElement::ports>("port", port_table),
};
constinit const Table own_table = table<OwnElement>(own_rows);
constexpr Row status_rows[]{
    leaf<&StatusElement::class_ids>("class_id", "bitmap"),
    leaf<&StatusElement::floor_sum>("floor", "sum").range(0, most_floor),
    element<&StatusElement::own>("virtbus", own_table),
    element<&StatusElement::config>("network", network_table).required(),
};
constinit const Table status_table = table<StatusElement>(status_rows);

// ---- sets of class ids: "0-2,7"

/// A number up to last_class; takes it off the text.
std::uint32_t take_class(std::string_view& text, std::string_view whole) {
    std::uint32_t number = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
    if (error != std::errc{} || number > last_class)
        broken("<class_id bitmap='{}'> is not a list of numbers up to {} such as 0-2,7", whole.substr(0, 80),
               last_class);
    text.remove_prefix(static_cast<std::size_t>(end - text.data()));
    return number;
}

std::set<std::uint32_t> parse_classes(std::string_view text) {
    const auto whole = text;
    std::set<std::uint32_t> classes;
    while (!text.empty()) {
        const auto low = take_class(text, whole);
        auto high = low;
        if (text.starts_with('-')) {
            text.remove_prefix(1);
            high = take_class(text, whole);
        }
        for (auto id = low; id <= high; ++id) classes.insert(id);
        const bool more = text.starts_with(',') && text.size() > 1;
        if (more) text.remove_prefix(1);
        if (high < low || (!more && !text.empty()))
            broken("<class_id bitmap='{}'> is not a list of numbers such as 0-2,7", whole.substr(0, 80));
    }
    return classes;
}

std::string format_classes(const std::set<std::uint32_t>& classes) {
    std::string text;
    for (auto at = classes.begin(); at != classes.end();) {
        const auto low = *at;
        auto high = low;
        while (++at != classes.end() && *at == high + 1) ++high;
        text += fmt::format("{}{}", text.empty() ? "" : ",", low);
        if (high > low) text += fmt::format("-{}", high);
    }
    return text;
}

// ---- bytes as text

std::string to_hex(std::string_view bytes) {
    std::string text;
    text.reserve(2 * bytes.size());
    for (const char c : bytes) {
        const auto byte = static_cast<unsigned char>(c);
        text += "0123456789abcdef"[byte >> 4U];
        text += "0123456789abcdef"[byte & 15U];
    }
    return text;
}

unsigned hex_digit(char c) {
    if (c >= '0' && c <= '9') return static_cast<unsigned>(c - '0');
    if (c >= 'a' && c <= 'f') return static_cast<unsigned>(c - 'a') + 10;
    broken("<driver> has other characters than hexadecimal digits");
}

std::string from_hex(std::string_view text) {
    if (text.size() % 2) broken("<driver> has an odd number of hexadecimal digits");
    std::string bytes;
    bytes.reserve(text.size() / 2);
    for (std::size_t i = 0; i < text.size(); i += 2)
        bytes += static_cast<char>(hex_digit(text[i]) << 4U | hex_digit(text[i + 1]));
    return bytes;
}

// ---- from one to the other

void take_own(OwnElement& own, std::set<std::uint32_t>& classes, NetworkStatus& status) {
    status.boot_id = own.boot_id;
    status.started = *own.started;
    status.driver_state = from_hex(own.driver_state);
    std::set<std::string> ids;
    std::set<std::uint32_t> of_ports;
    for (auto& element : own.ports) {
        auto& port = status.ports.emplace_back(std::move(element.port));
        port.class_id = element.class_id.value_or(0);
        if (!ids.insert(port.id).second) broken("two ports have the id '{}'", port.id);
        if (port.class_id && !of_ports.insert(port.class_id).second)
            broken("two ports have the class {}", port.class_id);
        classes.erase(port.class_id);
    }
}

}  // namespace

std::string format_network_status(const NetworkStatus& status) {
    StatusElement element;
    auto& own = element.own.emplace();
    own.version = "1";
    own.boot_id = status.boot_id;
    own.started = status.started;
    own.driver_state = to_hex(status.driver_state);
    std::set<std::uint32_t> classes{0, 1, 2};
    classes.insert(status.class_ids.begin(), status.class_ids.end());
    for (const auto& port : status.ports) {
        own.ports.push_back({port, {}, {}});
        if (!port.class_id) continue;
        own.ports.back().class_id = port.class_id;
        classes.insert(port.class_id);
    }
    element.class_ids = format_classes(classes);
    element.floor_sum = status.floor_sum;
    element.config = status.config;
    Writer writer;
    const WriteOptions how{.declared = status.config.dnsmasq_options.empty() ? nullptr : &dnsmasq_namespace};
    write(status_table, "networkstatus", &element, how, writer);
    return writer.take();
}

NetworkStatus parse_network_status(std::string_view xml) {
    const Document document{xml};
    std::vector<std::string> unknown;
    NetworkStatus status;
    status.started = true;
    if (qualified_name(document.root()) == "network") {
        read(network_table, document.require_root("network"), &status.config, unknown);
        settle_forward(status.config);
        return status;
    }
    StatusElement element;
    read(status_table, document.require_root("networkstatus"), &element, unknown);
    auto classes = parse_classes(trim(element.class_ids));
    for (std::uint32_t own = 0; own < first_class; ++own) classes.erase(own);
    if (element.own) take_own(*element.own, classes, status);
    status.class_ids.assign(classes.begin(), classes.end());
    status.floor_sum = element.floor_sum.value_or(0);
    status.config = std::move(element.config);
    settle_forward(status.config);
    return status;
}

}  // namespace virtbus::xml
