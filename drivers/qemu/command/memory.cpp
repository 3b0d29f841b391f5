// SPDX-License-Identifier: LGPL-2.1-or-later
// The guest's memory: main memory, NUMA cells, DIMMs. Huge and shared pages come as memfds, so no path is opened.
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>

#include "qemu/command/families.hpp"
#include "qemu/pci_devices.hpp"
#include "virtbus/error.hpp"

namespace virtbus::qemu {

namespace {

constexpr std::uint64_t mib = 1 << 20;

std::uint64_t in_whole(std::uint64_t unit, std::uint64_t bytes) {
    return (bytes + unit - 1) / unit * unit;
}
/// What the machine counts main memory and its maximum in.
std::uint64_t memory_unit(const Argv& line) {
    return line.chipset.kind == Chipset::Kind::pseries ? 256 * mib : mib;
}
/// A DIMM that is none of a whole number of the machine's blocks is made larger, as libvirt does it. What pseries sees
/// of an NVDIMM is made smaller, for its file must have the rest.
std::uint64_t size_of(const Argv& line, const MemoryDevice& memory) {
    if (memory.model != "dimm" && memory.model != "nvdimm") return memory.target.size;
    const std::uint64_t unit = line.chipset.kind == Chipset::Kind::pseries ? 256 * mib : 2 * mib;
    const std::uint64_t label = memory.target.label_size.value_or(0);
    if (memory.model == "nvdimm" && unit > 2 * mib && memory.target.size >= unit + label)
        return (memory.target.size - label) / unit * unit + label;
    return in_whole(unit, memory.target.size);
}

const HugePage* page_for(const DomainConfig& config, std::optional<unsigned> cell) {
    if (!config.memory_backing || !config.memory_backing->hugepages) return nullptr;
    const HugePage* fallback = nullptr;
    for (const auto& page : config.memory_backing->hugepages->pages) {
        if (!page.nodeset || page.nodeset->empty()) fallback = &page;
        if (page.nodeset && page.nodeset->contains(cell.value_or(0))) return &page;  // without cells all is cell 0
    }
    return fallback;
}

bool is_ordinary_page(std::uint64_t bytes) {
    return bytes == static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
}

bool wants_huge(const DomainConfig& config, std::optional<unsigned> cell) {
    if (!config.memory_backing || !config.memory_backing->hugepages) return false;
    if (config.memory_backing->hugepages->pages.empty()) return true;
    const HugePage* page = page_for(config, cell);
    return page && !is_ordinary_page(page->size);
}

/// What a piece of guest memory is to be like: main memory, a cell, or a memory device.
struct Piece {
    std::string id;
    std::uint64_t size = 0;
    std::optional<unsigned> cell;
    std::string access;                  ///< "" = the cell's, or what <memoryBacking> says
    std::optional<std::uint64_t> page;   ///< its own size of pages
    const CpuSet* host_nodes = nullptr;  ///< its own nodes of the host
    bool reserved = true;                ///< room is kept for all of it
    bool plain = false;                  ///< of no page size but the ordinary
};

const NumaCell* find_cell(const DomainConfig& config, std::optional<unsigned> id) {
    if (!id || !config.cpu || !config.cpu->numa) return nullptr;
    unsigned index = 0;
    for (const auto& cell : config.cpu->numa->cells)
        if (cell.id.value_or(index++) == *id) return &cell;
    return nullptr;
}

bool is_shared(const DomainConfig& config, const Piece& piece) {
    const NumaCell* cell = find_cell(config, piece.cell);
    std::string access = piece.access;
    if (access.empty() && cell) access = cell->mem_access;
    if (access.empty() && config.memory_backing) access = config.memory_backing->access_mode;
    return access == "shared";
}

/// All of it is touched before the guest starts.
bool wants_all_at_once(const DomainConfig& config) {
    return config.memory_backing && config.memory_backing->allocation_mode == "immediate";
}

bool has_own_pages(const Piece& piece) {
    return piece.page && !is_ordinary_page(*piece.page);
}

bool is_huge(const Argv& line, const Piece& piece) {
    if (line.runnable() || piece.plain) return false;
    return piece.page ? has_own_pages(piece) : wants_huge(line.config, piece.cell);
}

Json backend(const Argv& line, const Piece& piece) {
    const DomainConfig& config = line.config;
    const MemoryBacking none;
    const MemoryBacking& wish = config.memory_backing ? *config.memory_backing : none;
    const bool shared = is_shared(config, piece), own_pages = has_own_pages(piece), huge = is_huge(line, piece);
    const bool memfd = huge || wish.source_type == "memfd" || wish.source_type == "file" || shared;
    Json object;
    object.set("qom-type", memfd ? "memory-backend-memfd" : "memory-backend-ram").set("id", piece.id);
    if (huge) {
        const HugePage* page = page_for(config, piece.cell);
        object.set("hugetlb", true);
        if (own_pages)
            object.set("hugetlbsize", *piece.page);
        else if (page && page->size)
            object.set("hugetlbsize", page->size);
    }
    if (memfd) object.set("share", shared);
    if (!piece.reserved)
        object.set("reserve", false);
    else if (wants_all_at_once(config) || huge)
        object.set("prealloc", true).set("prealloc-threads", wish.allocation_threads);
    object.set("size", piece.size);
    if (piece.host_nodes && !line.runnable())
        object.set("host-nodes", piece.host_nodes->numbers).set("policy", "bind");
    else
        set_host_nodes(object, line, piece.cell);
    return object;
}

std::uint64_t devices_size(const DomainConfig& config) {
    std::uint64_t sum = 0;
    for (const auto& memory : config.devices.memories) sum += memory.target.size;
    return sum;
}

std::uint64_t main_size(const Argv& line) {
    const DomainConfig& config = line.config;
    const std::uint64_t unit = memory_unit(line);
    if (config.cpu && config.cpu->numa && !config.cpu->numa->cells.empty()) {
        std::uint64_t sum = 0;
        for (const auto& cell : config.cpu->numa->cells) sum += in_whole(unit, cell.memory);
        return sum;
    }
    // <memory> counts the DIMMs too.
    const std::uint64_t all = config.memory.value_or(0), others = devices_size(config);
    return in_whole(unit, all > others ? all - others : all);
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

bool has_hmat(const CpuNuma& numa) {
    return !numa.latencies.empty() || !numa.bandwidths.empty() ||
           std::any_of(numa.cells.begin(), numa.cells.end(), [](auto& cell) { return !cell.caches.empty(); });
}

/// The node whose CPUs are nearest: itself when it has some, else the one that is said to reach it best.
std::optional<unsigned> initiator_of(const CpuNuma& numa, unsigned node) {
    const auto has_cpus = [&](unsigned id) {
        unsigned index = 0;
        for (const auto& cell : numa.cells)
            if (cell.id.value_or(index++) == id) return cell.cpus && !cell.cpus->empty();
        return false;
    };
    if (has_cpus(node)) return node;
    std::optional<unsigned> best;
    std::uint64_t most = 0, least = UINT64_MAX;
    for (const auto& way : numa.bandwidths)
        if (way.target == node && has_cpus(way.initiator) && !way.cache && way.value > most)
            best = way.initiator, most = way.value;
    for (const auto& way : numa.latencies)
        if (!most && way.target == node && has_cpus(way.initiator) && !way.cache && way.value < least)
            best = way.initiator, least = way.value;
    for (unsigned id = 0; !best && id < numa.cells.size(); ++id)
        if (has_cpus(id)) best = id;
    return best;
}

/// QEMU wants all distances or none; what one cell does not tell the other may.
void add_distances(Argv& line, const CpuNuma& numa) {
    constexpr unsigned to_itself = 10, to_others = 20;
    const auto told = [](const NumaCell& from, const NumaCell& to) -> std::optional<unsigned> {
        for (const auto& distance : from.distances)
            if (distance.id == to.id) return distance.value;
        return std::nullopt;
    };
    if (std::ranges::all_of(numa.cells, [](auto& cell) { return cell.distances.empty(); })) return;
    for (const auto& from : numa.cells)
        for (const auto& to : numa.cells) {
            const unsigned usual = from.id == to.id ? to_itself : to_others;
            const unsigned value = told(from, to).value_or(told(to, from).value_or(usual));
            line.arg("-numa", KeyValues{"dist"}.add("src", *from.id).add("dst", *to.id).add("val", value));
        }
}

void add_numa(Argv& line, const CpuNuma& numa) {
    unsigned index = 0;
    for (const auto& cell : numa.cells) {
        const unsigned node = cell.id.value_or(index++);
        const std::string id = cell.memory ? fmt::format("ram-node{}", node) : std::string{};
        if (cell.memory)
            line.object(backend(line, {.id = id, .size = in_whole(memory_unit(line), cell.memory), .cell = node}));
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
        if (has_hmat(numa)) value.add("initiator", initiator_of(numa, node));
        line.arg("-numa", value.add_text("memdev", id));
    }
    add_distances(line, numa);
    add_hmat(line, numa);
}

bool has_cells(const DomainConfig& config) {
    return config.cpu && config.cpu->numa && !config.cpu->numa->cells.empty();
}

Piece piece_of(const Argv& line, const MemoryDevice& memory, const std::string& id) {
    Piece piece{.id = id, .size = size_of(line, memory), .cell = memory.target.node, .access = memory.access};
    if (memory.model == "nvdimm" || memory.model == "virtio-pmem") {
        piece.access = memory.access.empty() ? "shared" : memory.access;
        piece.plain = true;
    }
    if (memory.source) piece.page = memory.source->pagesize;
    if (memory.source && memory.source->nodemask) piece.host_nodes = &*memory.source->nodemask;
    piece.reserved = memory.model != "virtio-mem";
    return piece;
}

/// Where the bytes of a memory device come from.
Json device_backend(const Argv& line, const MemoryDevice& memory, const std::string& id) {
    const bool file = memory.source && !memory.source->path.empty() && !line.runnable();
    if (file) {
        // A cut-out of a file that stays: writes go into it unless it is said to be private.
        Json object;
        object.set("qom-type", "memory-backend-file").set("id", id).set("mem-path", memory.source->path);
        object.set("share", memory.access != "private").set("size", size_of(line, memory));
        object.set("align", memory.source->alignsize).set("discard-data", memory.discard);
        if (memory.source->pmem) object.set("pmem", true);
        if (memory.target.readonly) object.set("readonly", true);
        return object;
    }
    return backend(line, piece_of(line, memory, id));
}

void add_epc(Argv& line, const MemoryDevice& memory, const std::string& id) {
    Json object;
    object.set("qom-type", "memory-backend-epc").set("id", id).set("prealloc", true).set("size", memory.target.size);
    if (memory.source && memory.source->nodemask)
        object.set("host-nodes", memory.source->nodemask->numbers).set("policy", "bind");
    line.object(object);
    for (const char* node : {"/dev/sgx_vepc", "/dev/sgx_provision"}) line.out.devices.emplace_back(node);
}

void add_memory_device(Argv& line, const MemoryDevice& memory) {
    const std::string backend_id = "mem" + memory.info.alias;
    if (memory.model == "sgx-epc") {
        // The machine refers to it; see add_epc_sections.
        if (!line.runnable()) add_epc(line, memory, backend_id);
        return;
    }
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
    if (memory.target.dynamic_memslots.value_or(false)) device.set("dynamic-memslots", true);
    if (memory.model == "nvdimm") device.set_text("uuid", memory.uuid);
    if (memory.model == "nvdimm" && memory.target.readonly) device.set("unarmed", true);
    if (memory.model == "virtio-mem" && (wants_all_at_once(line.config) || is_huge(line, piece_of(line, memory, ""))))
        device.set("prealloc", true);
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

void add_epc_sections(const Argv& line, KeyValues& machine) {
    unsigned section = 0;
    if (line.runnable()) return;
    for (const auto& memory : line.config.devices.memories) {
        if (memory.model != "sgx-epc") continue;
        machine.add(fmt::format("sgx-epc.{}.memdev", section), "mem" + memory.info.alias);
        machine.add(fmt::format("sgx-epc.{}.node", section), memory.target.node);
        ++section;
    }
}

std::string main_memory_backend(const Argv& line) {
    return has_cells(line.config) ? std::string{} : std::string{line.chipset.ram_id};
}

void add_memory(Argv& line) {
    const DomainConfig& config = line.config;
    KeyValues memory{fmt::format("size={}k", main_size(line) >> 10)};
    if (config.max_memory && config.max_memory->slots) memory.add("slots", config.max_memory->slots);
    if (config.max_memory)
        memory.add("maxmem", fmt::format("{}k", in_whole(memory_unit(line), config.max_memory->size) >> 10));
    line.arg("-m", memory);
    if (const std::string id = main_memory_backend(line); !id.empty())
        line.object(backend(line, {.id = id, .size = main_size(line)}));
    const bool locked = config.memory_backing && config.memory_backing->locked && !line.runnable();
    line.arg("-overcommit", KeyValues{}.add("mem-lock", locked));
    add_smp(line);
    if (has_cells(config)) add_numa(line, *config.cpu->numa);
}

void add_memory_devices(Argv& line) {
    // Those that say where they are go first, else QEMU would put the others there.
    const auto is_placed = [](const MemoryDevice& memory) {
        const auto* at = memory.info.address_as<DimmAddress>();
        return (at && at->base) || memory.target.address_base;
    };
    for (const bool placed : {true, false})
        for (const auto& memory : line.config.devices.memories)
            if (is_placed(memory) == placed) add_memory_device(line, memory);
}

}  // namespace virtbus::qemu
