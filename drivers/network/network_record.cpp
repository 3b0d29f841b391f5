// SPDX-License-Identifier: LGPL-2.1-or-later
#include "network/network_record.hpp"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "virtbus/error.hpp"

namespace virtbus::network {

using nlohmann::json;

namespace {

constexpr unsigned record_version = 1;

json text_of(const BandwidthLimit& limit) {
    json out = json::object();
    if (limit.average) out["average"] = *limit.average;
    if (limit.peak) out["peak"] = *limit.peak;
    if (limit.floor) out["floor"] = *limit.floor;
    if (limit.burst) out["burst"] = *limit.burst;
    return out;
}

BandwidthLimit limit_of(const json& stored) {
    const auto number = [&](const char* name) -> std::optional<std::uint64_t> {
        if (!stored.contains(name)) return std::nullopt;
        return stored.at(name).get<std::uint64_t>();
    };
    return {number("average"), number("peak"), number("floor"), number("burst"), {}};
}

}  // namespace

std::string encode(const NetworkRecord& record) {
    json classes = json::array();
    for (const auto& port : record.classes)
        classes.push_back({{"id", port.id}, {"mac", port.mac}, {"limit", text_of(port.limit)}});
    return json{
        {"version", record_version},
        {"bridge", record.bridge},
        {"index", record.index},
        {"mac", record.mac},
        {"dnsmasq",
         {{"pid", record.dnsmasq.pid}, {"start-time", record.dnsmasq.start_time}, {"unit", record.dnsmasq.unit}}},
        {"classes", classes}}
        .dump();
}

NetworkRecord decode_network_record(std::string_view text) {
    try {
        const auto stored = json::parse(text);
        if (const auto version = stored.at("version").get<unsigned>(); version != record_version)
            throw Error{Code::internal,
                        fmt::format("the record of the network has version {}; this driver reads version {}", version,
                                    record_version)};
        NetworkRecord record;
        stored.at("bridge").get_to(record.bridge);
        stored.at("index").get_to(record.index);
        stored.at("mac").get_to(record.mac);
        const auto& dnsmasq = stored.at("dnsmasq");
        dnsmasq.at("pid").get_to(record.dnsmasq.pid);
        dnsmasq.at("start-time").get_to(record.dnsmasq.start_time);
        dnsmasq.at("unit").get_to(record.dnsmasq.unit);
        for (const auto& port : stored.at("classes"))
            record.classes.push_back(
                {port.at("id").get<std::uint32_t>(), port.at("mac").get<std::string>(), limit_of(port.at("limit"))});
        return record;
    } catch (const json::exception& error) {
        throw Error{Code::internal, fmt::format("the record of the network cannot be read: {}", error.what())};
    }
}

}  // namespace virtbus::network
