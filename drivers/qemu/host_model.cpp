// SPDX-License-Identifier: LGPL-2.1-or-later
#include "qemu/host_model.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "qemu/cpu_features.hpp"
#include "qemu/json.hpp"

namespace virtbus::qemu {

using nlohmann::json;

namespace {

bool is_on(const CpuFeature& feature) {
    return feature.policy.empty() || feature.policy == "require" || feature.policy == "force";
}

/// What the definition itself says of a feature, by QEMU's name; nullptr when it says nothing.
const CpuFeature* find_said(const std::vector<CpuFeature>& said, const std::string& name) {
    for (const auto& feature : said)
        if (feature_name(feature.name) == name) return &feature;
    return nullptr;
}

}  // namespace

void resolve_host_model(DomainConfig& config, const Capabilities& known) {
    const CpuExpansion& host = known.host_cpu(config.type);
    if (!config.cpu || config.type != "kvm" || !host.known()) return;
    Cpu& cpu = *config.cpu;
    const bool at_least = (cpu.mode.empty() || cpu.mode == "custom") && cpu.match == "minimum";
    if (cpu.mode != "host-model" && !at_least) return;
    cpu.mode = "custom";
    cpu.match = "exact";
    cpu.check = "partial";
    const std::string vendor_id = cpu.model ? cpu.model->vendor_id : "";
    cpu.model.emplace().name = host.base;
    cpu.model->fallback = "forbid";
    cpu.model->vendor_id = vendor_id;
    cpu.vendor.clear();
    cpu.properties.clear();
    for (const auto& [name, value] : host.words)
        if (name != "vendor") cpu.properties.push_back({name, value, {}});
    if (const auto vendor = host.words.find("vendor"); vendor != host.words.end() && vendor_id.empty())
        cpu.model->vendor_id = vendor->second;
    const auto said = std::exchange(cpu.features, {});
    for (const auto& name : host.features)
        if (!find_said(said, name)) cpu.features.push_back({"require", name, {}});
    for (auto feature : said) {
        if (feature.policy == "optional" && tells_of_host(feature_name(feature.name)))
            feature.policy = host.has(feature_name(feature.name)) ? "require" : "disable";
        cpu.features.push_back(std::move(feature));
    }
}

bool is_strict(const DomainConfig& config) {
    return config.cpu && config.cpu->model && config.cpu->match == "strict" && config.cpu->check != "none" &&
           (config.cpu->mode.empty() || config.cpu->mode == "custom");
}

json strict_question(const DomainConfig& config) {
    return json{{"type", "static"}, {"model", {{"name", config.cpu->model->name}}}};
}

std::string strict_problem(const DomainConfig& config, const Capabilities& known, const json& answer) {
    const auto& properties = member(member(answer, "model"), "props");
    std::vector<std::string> more;
    for (const auto& name : known.host_cpu(config.type).features) {
        const CpuFeature* said = find_said(config.cpu->features, name);
        const bool given = said ? is_on(*said) || said->policy == "optional" : flag(properties, name.c_str());
        if (!given) more.push_back(name);
    }
    if (more.empty()) return {};
    return fmt::format("cpu match strict: {} has what the model {} does not: {}; use match exact",
                       config.type == "kvm" ? "this host's CPU" : "TCG", config.cpu->model->name,
                       fmt::join(more, ", "));
}

}  // namespace virtbus::qemu
