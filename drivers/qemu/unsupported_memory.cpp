// SPDX-License-Identifier: LGPL-2.1-or-later
// What of a definition's memory the emulator or this host cannot do, and what contradicts itself in it.
#include <fmt/format.h>

#include <algorithm>

#include "qemu/chipset.hpp"
#include "qemu/unsupported_parts.hpp"

namespace virtbus::qemu {

namespace {

bool is_plugged(const MemoryDevice& memory) {
    return memory.model != "sgx-epc" && memory.model != "virtio-pmem";
}

void check_placement(const DomainConfig& config, Problems& problems) {
    if (config.vcpu_placement == "auto")
        problems.emplace_back(
            "vcpu placement auto: needs numad, which is not asked; "
            "give a cpuset");
    if (!config.numatune) return;
    const auto& memory = config.numatune->memory;
    if (memory && memory->placement == "auto")
        problems.emplace_back("numatune placement auto: needs numad, which is not asked; give a nodeset");
    const std::size_t cells = config.cpu && config.cpu->numa ? config.cpu->numa->cells.size() : 0;
    for (const auto& node : config.numatune->memnodes) {
        if (node.cellid >= cells)
            problems.push_back(fmt::format("numatune memnode: there is no NUMA cell {}", node.cellid));
        // A unit has one set of nodes for all of the guest's threads.
        if (node.mode == "restrictive" && !(memory && memory->nodeset == node.nodeset))
            problems.push_back(fmt::format(
                "numatune memnode {}: mode restrictive is for all cells at once, with the nodeset of <memory>; "
                "use strict, preferred or interleave for one",
                node.cellid));
        if (node.mode == "preferred" && node.nodeset.numbers.size() > 1)
            problems.push_back(fmt::format("numatune memnode {}: mode preferred takes one node", node.cellid));
    }
    if (memory && memory->mode == "preferred" && memory->nodeset && memory->nodeset->numbers.size() > 1)
        problems.emplace_back("numatune mode preferred: takes one node");
}

void check_pages(const DomainConfig& config, Problems& problems) {
    if (!config.memory_backing || !config.memory_backing->hugepages) return;
    const std::size_t cells = config.cpu && config.cpu->numa ? config.cpu->numa->cells.size() : 0;
    for (const auto& page : config.memory_backing->hugepages->pages)
        if (page.size & (page.size - 1))
            problems.push_back(
                fmt::format("memoryBacking hugepages: pages of {} KiB; their size is a power of two", page.size >> 10));
    for (const auto& page : config.memory_backing->hugepages->pages)
        if (page.nodeset && !page.nodeset->empty() && page.nodeset->numbers.back() >= std::max<std::size_t>(cells, 1))
            problems.push_back(
                fmt::format("memoryBacking hugepages: there is no NUMA cell {}", page.nodeset->numbers.back()));
}

void check_cells(const DomainConfig& config, Problems& problems) {
    if (!config.cpu || !config.cpu->numa) return;
    const auto& cells = config.cpu->numa->cells;
    const auto exists = [&](std::uint32_t id) {
        return std::ranges::any_of(cells, [&](auto& cell) { return cell.id == std::optional{id}; });
    };
    for (const auto& cell : cells)
        for (const auto& distance : cell.distances) {
            if (!exists(distance.id))
                problems.push_back(fmt::format("numa cell {}: it tells the distance to cell {}, which is not there",
                                               cell.id.value_or(0), distance.id));
            if (distance.id == cell.id && distance.value != 10)
                problems.push_back(fmt::format("numa cell {}: its distance to itself is 10", *cell.id));
        }
    for (const auto* list : {&config.cpu->numa->latencies, &config.cpu->numa->bandwidths})
        for (const auto& way : *list)
            if (!exists(way.initiator) || !exists(way.target))
                problems.push_back(fmt::format("numa interconnect from cell {} to {}: there is no such cell",
                                               way.initiator, way.target));
}

void check_device(const DomainConfig& config, const MemoryDevice& memory, const Capabilities& known,
                  Problems& problems) {
    const auto refuse = [&](const std::string& why) {
        problems.push_back(fmt::format("memory device {}: {}", memory.model, why));
    };
    const bool x86 = chipset_of(config).x86();
    const auto& target = memory.target;
    const std::size_t cells = config.cpu && config.cpu->numa ? config.cpu->numa->cells.size() : 0;
    if (target.node && *target.node >= std::max<std::size_t>(cells, 1))
        refuse(fmt::format("there is no NUMA cell {}", *target.node));
    if (cells && !target.node && memory.model != "virtio-pmem" && memory.model != "sgx-epc")
        refuse("it needs a <node> as the machine has NUMA cells");
    if (memory.model == "nvdimm" && !x86 && chipset_of(config).kind != Chipset::Kind::virt &&
        chipset_of(config).kind != Chipset::Kind::pseries)
        refuse("this machine takes none");
    if (memory.model == "nvdimm" && (!memory.source || memory.source->path.empty())) refuse("it needs a <path>");
    if (memory.model == "virtio-pmem" && (!memory.source || memory.source->path.empty())) refuse("it needs a <path>");
    if (target.dynamic_memslots.value_or(false) && known.version < 8002000)
        refuse(fmt::format("dynamic memory slots need QEMU 8.2; {} is older", known.binary));
    if (memory.model == "virtio-mem") {
        const auto block = target.block.value_or(0);
        if (block && (block & (block - 1)) != 0) refuse("its block size is no power of two");
        if (block && target.size % block) refuse("its size is no multiple of its block size");
        if (block && target.requested.value_or(0) % block) refuse("what is requested is no multiple of its block size");
        if (target.requested.value_or(0) > target.size) refuse("more is requested than it has");
    }
    if (memory.model == "sgx-epc" && (!x86 || config.type != "kvm")) refuse("needs an x86 guest of type kvm");
}

}  // namespace

void check_memory(const DomainConfig& config, const Capabilities& known, Problems& problems) {
    check_placement(config, problems);
    check_cells(config, problems);
    check_pages(config, problems);
    for (const auto& memory : config.devices.memories) check_device(config, memory, known, problems);
    const auto slots = static_cast<std::size_t>(std::ranges::count_if(
        config.devices.memories, [](auto& memory) { return memory.model == "dimm" || memory.model == "nvdimm"; }));
    if (slots && config.max_memory && slots > config.max_memory->slots)
        problems.push_back(fmt::format("{} memory devices: <maxMemory> has {} slots", slots, config.max_memory->slots));
    std::uint64_t all = config.memory.value_or(0);
    if (config.max_memory && std::ranges::any_of(config.devices.memories, is_plugged) && all > config.max_memory->size)
        problems.emplace_back("the memory devices have more memory than <maxMemory>");
    if (config.memory_backing && config.memory_backing->source_type == "anonymous" &&
        config.memory_backing->access_mode == "shared")
        problems.emplace_back("memoryBacking: anonymous memory cannot be shared; use source memfd");
    const bool s390 = chipset_of(config).kind == Chipset::Kind::s390;
    if (s390 && std::ranges::any_of(config.devices.memories, [](auto& memory) { return memory.model == "dimm"; }))
        problems.emplace_back("memory device dimm: this machine takes none");
}

}  // namespace virtbus::qemu
