// SPDX-License-Identifier: LGPL-2.1-or-later
// Any bytes as a <network>, as the live state of one and as a part that is to be changed: either an Error of the
// allowed codes, or a definition whose written form is a fixed point.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <optional>

#include "service/networking/network_update.hpp"
#include "service/xml/network_status.hpp"
#include "service/xml/network_xml.hpp"
#include "virtbus/error.hpp"

namespace {

using namespace virtbus;

void require(bool holds, const char* what) {
    if (holds) return;
    std::fprintf(stderr, "broken: %s\n", what);
    std::abort();
}

template <class Action>
auto allowed(Action&& action) -> std::optional<decltype(action())> try {
    return action();
} catch (const Error& error) {
    require(error.code() == Code::invalid_xml || error.code() == Code::limits_exceeded, "an error of another code");
    return std::nullopt;
}

void round_trip(const NetworkConfig& config) {
    const auto text = xml::format_network(config);
    const auto again = allowed([&] { return xml::parse_network(text); });
    if (!again) std::fprintf(stderr, "%s", text.c_str());
    require(again.has_value(), "what was written can be read");
    require(xml::format_network(again->config) == text, "what was written is a fixed point");
}

void check_network(std::string_view text) {
    auto parsed = allowed([&] { return xml::parse_network(text); });
    if (!parsed) return;
    round_trip(parsed->config);
    round_trip(xml::without_live(parsed->config));
    const auto completed = allowed([&] {
        xml::complete_network(parsed->config);
        return true;
    });
    if (!completed) return;
    round_trip(parsed->config);
    const auto once = xml::format_network(parsed->config);
    xml::complete_network(parsed->config);
    require(xml::format_network(parsed->config) == once, "what is complete stays as it is");
    for (const auto& ip : parsed->config.ips) net_of(ip);
    for (const auto& route : parsed->config.routes) net_of(route);
}

void check_status(std::string_view text) {
    const auto status = allowed([&] { return xml::parse_network_status(text); });
    if (!status) return;
    const auto written = xml::format_network_status(*status);
    const auto again = allowed([&] { return xml::parse_network_status(written); });
    if (!again) std::fprintf(stderr, "%s", written.c_str());
    require(again.has_value(), "the state that was written can be read");
    require(again->driver_state == status->driver_state && again->ports == status->ports &&
                again->class_ids == status->class_ids,
            "the state that was written is the same");
    require(xml::format_network_status(*again) == written, "the state that was written is a fixed point");
}

void check_update(std::string_view text) {
    static const auto base = [] {
        auto config = xml::parse_network(
                          "<network><name>n</name><forward/><ip address='10.0.0.1' prefix='24'/>"
                          "<ip family='ipv6' address='fd00::1' prefix='64'/></network>")
                          .config;
        xml::complete_network(config);
        return config;
    }();
    for (const auto* section : {"bridge", "domain", "ip", "ip-dhcp-host", "ip-dhcp-range", "forward",
                                "forward-interface", "forward-pf", "portgroup", "dns-host", "dns-txt", "dns-srv"})
        for (const auto* command : {"add-last", "modify", "delete"}) try {
                round_trip(updated(base, {command, section, -1, std::string{text}}));
            } catch (const Error& error) {
                const auto code = error.code();
                require(code == Code::invalid_xml || code == Code::limits_exceeded || code == Code::already_exists ||
                            code == Code::invalid_state || code == Code::unsupported,
                        "an error of another code");
            }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const std::string_view text{reinterpret_cast<const char*>(data), size};
    check_network(text);
    check_status(text);
    if (size < 1024) check_update(text);
    return 0;
}
