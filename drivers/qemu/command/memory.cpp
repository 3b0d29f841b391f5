// SPDX-License-Identifier: LGPL-2.1-or-later
// The guest's memory: main memory, NUMA cells, DIMMs. Huge and shared pages come as memfds, so no path is opened.
#include <fmt/format.h>

#include <algorithm>

#include "qemu/command/families.hpp"
#include "qemu/pci_devices.hpp"
#include "virtbus/error.hpp"

namespace virtbus::qemu {

namespace {

constexpr std::uint64_t mib = 1 << 20;

std::uint64_t in_whole_mib(std::uint64_t bytes) {
    return (bytes + mib - 1) / mib * mib;
}

const HugePage* page_for(const DomainConfig& config, std::optional<unsigned> cell) {
    if (!config.memory_backing || !config.memory_backing->hugepages) return nullptr;
    const HugePage* fallback = nullptr;
    for (const auto& page : config.memory_backing->hugepages->pages) {
        if (!page.nodeset || page.nodeset->empty()) fallback = &page;
        if (page.nodeset && cell && page.nodeset->contains(*cell)) return &page;
    }
    return fallback;
}

bool wants_huge(const DomainConfig& config, std::optional<unsigned> cell) {
    return config.memory_backing && config.memory_backing->hugepages &&
           (config.memory_backing->hugepages->pages.empty() || page_for(config, cell));
}

/// A back end of that size for main memory or one cell.
Json backend(const Argv& line, const std::string& id, std::uint64_t size, std::optional<unsigned> cell,
             const std::string& access) {
    const DomainConfig& config = line.config;
    const MemoryBacking none;
    const MemoryBacking& wish = config.memory_backing ? *config.memory_backing : none;
    const bool shared = (access.empty() ? wish.access_mode : access) == "shared";
    const bool huge = wants_huge(config, cell) && !line.runnable();
    const bool memfd = huge || wish.source_type == "memfd" || wish.source_type == "file" || shared;
    Json object;
    object.set("qom-type", memfd ? "memory-backend-memfd" : "memory-backend-ram").set("id", id);
    if (huge) {
        object.set("hugetlb", true);
        if (const HugePage* page = page_for(config, cell); page && page->size) object.set("hugetlbsize", page->size);
    }
    if (memfd) object.set("share", shared);
    if (wish.allocation_mode == "immediate" || huge) object.set("prealloc", true);
    object.set("prealloc-threads", wish.allocation_threads);
    object.set("size", size);
    set_host_nodes(object, line, cell);
    return object;
}

std::uint64_t devices_size(const DomainConfig& config) {
    std::uint64_t sum = 0;
    for (const auto& memory : config.devices.memories) sum += memory.target.size;
    return sum;
}

std::uint64_t main_size(const DomainConfig& config) {
    if (config.cpu && config.cpu->numa && !config.cpu->numa->cells.empty()) {
        std::uint64_t sum = 0;
        for (const auto& cell : config.cpu->numa->cells) sum += in_whole_mib(cell.memory);
        return sum;
    }
    // <memory> counts the DIMMs too.
    const std::uint64_t all = config.memory.value_or(0), others = devices_size(config);
    return in_whole_mib(all > others ? all - others : all);
}

void add_hmat(Argv& line, const CpuNuma& numa) {
    const auto add = [&](const std::vector<NumaInterconnect>& list, const char* kind, const char* value_name,
                         bool kib) {
        for (const auto& each : list)
            line.arg("-numa",
                     KeyValues{"hmat-lb"}
                         .add("initiator", each.initiator)
                         .add("target", each.target)
                         .add("hierarchy", each.cache ? fmt::format("{}-level", *each.cache == 1   ? "first"
                                                                                : *each.cache == 2 ? "second"
                                                                                                   : "third")
                                                      : std::string{"memory"})
                         .add("data-type", each.type + kind)
                         .add(value_name, kib ? fmt::format("{}K", each.value >> 10) : std::to_string(each.value)));
    };
    add(numa.latencies, "-latency", "latency", false);
    add(numa.bandwidths, "-bandwidth", "bandwidth", true);
    unsigned index = 0;
    for (const auto& cell : numa.cells) {
        const unsigned node = cell.id.value_or(index++);
        for (const auto& cache : cell.caches)
            line.arg("-numa", KeyValues{"hmat-cache"}
                                  .add("node-id", node)
                                  .add("size", fmt::format("{}K", cache.size >> 10))
                                  .add("level", cache.level)
                                  .add("associativity", cache.associativity == "full" ? "complex" : cache.associativity)
                                  .add("policy", cache.policy == "writethrough" ? "write-through"
                                                 : cache.policy == "writeback"  ? "write-back"
                                                                                : cache.policy)
                                  .add("line", cache.line));
    }
}

void add_numa(Argv& line, const CpuNuma& numa) {
    unsigned index = 0;
    for (const auto& cell : numa.cells) {
        const unsigned node = cell.id.value_or(index++);
        const std::string id = fmt::format("ram-node{}", node);
        line.object(backend(line, id, in_whole_mib(cell.memory), node, cell.mem_access));
        KeyValues value{"node"};
        value.add("nodeid", node);
        if (cell.cpus)
            for (std::size_t at = 0; at < cell.cpus->numbers.size();) {
                std::size_t end = at;
                const auto& cpus = cell.cpus->numbers;
                while (end + 1 < cpus.size() && cpus[end + 1] == cpus[end] + 1) ++end;
                value.add("cpus", end == at ? std::to_string(cpus[at]) : fmt::format("{}-{}", cpus[at], cpus[end]));
                at = end + 1;
            }
        line.arg("-numa", value.add("memdev", id));
    }
    index = 0;
    for (const auto& cell : numa.cells) {
        const unsigned node = cell.id.value_or(index++);
        for (const auto& distance : cell.distances)
            line.arg("-numa", KeyValues{"dist"}.add("src", node).add("dst", distance.id).add("val", distance.value));
    }
    add_hmat(line, numa);
}

bool has_cells(const DomainConfig& config) {
    return config.cpu && config.cpu->numa && !config.cpu->numa->cells.empty();
}

/// Where the bytes of a memory device come from.
Json device_backend(const Argv& line, const MemoryDevice& memory, const std::string& id) {
    const bool file = memory.source && !memory.source->path.empty() && !line.runnable();
    Json object;
    if (file) {
        object.set("qom-type", "memory-backend-file").set("id", id).set("mem-path", memory.source->path);
        object.set("share", memory.access != "private").set("size", memory.target.size);
        object.set("align", memory.source->alignsize);
        if (memory.source->pmem) object.set("pmem", true);
        if (memory.target.readonly) object.set("readonly", true);
        return object;
    }
    const bool pages = memory.source && memory.source->pagesize && !line.runnable();
    const bool memfd = pages || memory.access == "shared";
    object.set("qom-type", memfd ? "memory-backend-memfd" : "memory-backend-ram").set("id", id);
    if (pages) object.set("hugetlb", true).set("hugetlbsize", *memory.source->pagesize);
    if (memfd) object.set("share", memory.access == "shared");
    if (memory.model == "virtio-mem") object.set("reserve", false);
    object.set("size", memory.target.size);
    if (memory.source && memory.source->nodemask)
        object.set("host-nodes", memory.source->nodemask->numbers).set("policy", "bind");
    return object;
}

void add_memory_device(Argv& line, const MemoryDevice& memory) {
    if (memory.model == "sgx-epc")
        throw Error{Code::unsupported_configuration, "memory devices of model 'sgx-epc' are not supported yet"};
    const std::string backend_id = "mem" + memory.info.alias;
    line.object(device_backend(line, memory, backend_id));
    Json device;
    const bool virtio = is_virtio_model(memory.model);
    device.set("driver", virtio                     ? line.virtio_driver(memory.model, "", memory.info)
                         : memory.model == "nvdimm" ? std::string{"nvdimm"}
                                                    : std::string{"pc-dimm"});
    if (memory.model != "virtio-pmem") device.set("node", memory.target.node);
    device.set("label-size", memory.target.label_size);
    device.set("block-size", memory.target.block);
    device.set("requested-size", memory.target.requested);
    if (memory.model == "nvdimm") device.set_text("uuid", memory.uuid);
    device.set("memdev", backend_id);
    if (virtio) device.set("memaddr", memory.target.address_base);
    line.place(device, memory.info);
    line.device(device, memory.info.alias);
}

}  // namespace

void set_host_nodes(Json& object, const Argv& line, std::optional<unsigned> cell) {
    if (!line.config.numatune || line.runnable()) return;
    const auto apply = [&](const std::string& mode, const CpuSet& nodes) {
        const char* policy = mode == "preferred" ? "preferred" : mode == "interleave" ? "interleave" : "bind";
        if (mode == "restrictive" || nodes.empty()) return;
        object.set("host-nodes", nodes.numbers).set("policy", policy);
    };
    for (const auto& node : line.config.numatune->memnodes)
        if (cell && node.cellid == *cell) return apply(node.mode, node.nodeset);
    const auto& memory = line.config.numatune->memory;
    if (memory && memory->nodeset) apply(memory->mode, *memory->nodeset);
}

std::string main_memory_backend(const Argv& line) {
    return has_cells(line.config) ? std::string{} : std::string{line.chipset.ram_id};
}

void add_memory(Argv& line) {
    const DomainConfig& config = line.config;
    KeyValues memory{fmt::format("size={}k", main_size(config) >> 10)};
    if (config.max_memory)
        memory.add("slots", config.max_memory->slots).add("maxmem", fmt::format("{}k", config.max_memory->size >> 10));
    line.arg("-m", memory);
    if (const std::string id = main_memory_backend(line); !id.empty())
        line.object(backend(line, id, main_size(config), std::nullopt, ""));
    const bool locked = config.memory_backing && config.memory_backing->locked && !line.runnable();
    line.arg("-overcommit", KeyValues{}.add("mem-lock", locked));
    add_smp(line);
    if (has_cells(config)) add_numa(line, *config.cpu->numa);
}

void add_memory_devices(Argv& line) {
    for (const auto& memory : line.config.devices.memories) add_memory_device(line, memory);
}

}  // namespace virtbus::qemu
