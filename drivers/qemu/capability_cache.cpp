// SPDX-License-Identifier: LGPL-2.1-or-later
#include "qemu/capability_cache.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "qemu/json.hpp"
#include "qemu/probe.hpp"

namespace virtbus::qemu {

using nlohmann::json;

namespace {

constexpr unsigned format = 3;
constexpr std::size_t cache_limit = 8U << 20;
constexpr Duration probe_time{30000};
constexpr std::string_view binaries = "/usr/bin";
constexpr std::string_view prefix = "qemu-system-";
constexpr std::string_view other_names[] = {"/usr/bin/qemu-kvm", "/usr/libexec/qemu-kvm", "/usr/bin/kvm"};

/// Only its owner, who is root or ourselves, may have put it there.
bool is_trusted(const std::string& path, mode_t wanted) {
    struct stat info{};
    if (::stat(path.c_str(), &info) != 0 || !S_ISREG(info.st_mode)) return false;
    return (info.st_uid == 0 || info.st_uid == ::geteuid()) && !(info.st_mode & (S_IWGRP | S_IWOTH)) &&
           (info.st_mode & wanted) == wanted;
}

bool is_emulator(const std::string& path) {
    return is_trusted(path, S_IXUSR);
}

std::string kernel_release() {
    utsname names{};
    ::uname(&names);
    return names.release;
}

bool kvm_answers() {
    return ::access("/dev/kvm", R_OK | W_OK) == 0;
}

/// Displays and devices come with modules, in packages that come and go on their own.
std::string signature_of_modules() {
    std::string out;
    for (const auto& folder : {fmt::format("/usr/lib/{}-linux-gnu/qemu", host_arch()), std::string{"/usr/lib64/qemu"},
                               std::string{"/usr/lib64/qemu-kvm"}, std::string{"/usr/lib/qemu"}}) {
        struct stat info{};
        if (::stat(folder.c_str(), &info) == 0) out += fmt::format("/{}.{}", info.st_mtim.tv_sec, info.st_mtim.tv_nsec);
    }
    return out;
}

/// Changes whenever an old answer may be wrong.
std::string signature_of(const std::string& binary) {
    struct stat info{};
    if (::stat(binary.c_str(), &info) != 0)
        throw Error{Code::unsupported_configuration, fmt::format("emulator {} is not there", binary)};
    return fmt::format("{}/{}/{}/{}.{}/{}.{}/{}/{}/{}{}", VIRTBUS_VERSION, format, info.st_ino, info.st_mtim.tv_sec,
                       info.st_mtim.tv_nsec, info.st_ctim.tv_sec, info.st_ctim.tv_nsec, info.st_size, kernel_release(),
                       kvm_answers(), signature_of_modules());
}

}  // namespace

std::string host_arch() {
    utsname names{};
    ::uname(&names);
    return names.machine;
}

struct CapabilityCache::Entry {
    std::string signature;
    std::shared_ptr<const Capabilities> known;
    std::vector<Reply<std::shared_ptr<const Capabilities>>::Promise> waiting;  ///< not empty while a probe runs
};

CapabilityCache::CapabilityCache(Ports& ports) : ports_{ports} {}
CapabilityCache::~CapabilityCache() = default;

std::vector<std::string> CapabilityCache::configured() const {
    const auto path = ports_.folders.config + "/qemu/emulators";
    if (!is_trusted(path, 0)) return {};
    std::vector<std::string> result;
    const auto content = ports_.files.read(path, 1U << 16).value_or("");
    for (std::size_t start = 0; start < content.size();) {
        const auto end = std::min(content.find('\n', start), content.size());
        if (content[start] == '/') result.push_back(content.substr(start, end - start));
        start = end + 1;
    }
    return result;
}

std::vector<std::string> CapabilityCache::emulators() const {
    std::vector<std::string> result;
    for (const auto& name : ports_.files.list(std::string{binaries}))
        if (name.starts_with(prefix)) result.push_back(fmt::format("{}/{}", binaries, name));
    for (const auto name : other_names) result.emplace_back(name);
    for (auto& path : configured()) result.push_back(std::move(path));
    std::erase_if(result, [](const std::string& path) { return !is_emulator(path); });
    return result;
}

bool CapabilityCache::may_run(const std::string& path) const {
    const auto is_packaged = [&] {
        const auto folder = std::string{binaries} + '/';
        return path.starts_with(folder + std::string{prefix}) && path.find('/', folder.size()) == std::string::npos;
    };
    const auto is_listed = [&](const auto& list) { return std::ranges::find(list, path) != std::end(list); };
    return (is_packaged() || is_listed(other_names) || is_listed(configured())) && is_emulator(path);
}

std::string CapabilityCache::choose(const std::string& emulator, const std::string& arch) const {
    if (!emulator.empty()) {
        if (may_run(emulator)) return emulator;
        const auto allowed = emulators();
        throw Error{
            Code::unsupported_configuration,
            fmt::format("emulator {} is not one that may be run; allowed are {} and what {}/qemu/emulators lists",
                        emulator, allowed.empty() ? "none found" : fmt::format("{}", fmt::join(allowed, ", ")),
                        ports_.folders.config)};
    }
    const auto wanted = arch.empty() ? host_arch() : arch;
    for (const auto& target : {target_of_arch(wanted), std::string{wanted == "i686" ? "x86_64" : wanted}})
        if (const auto path = fmt::format("{}/{}{}", binaries, prefix, target); may_run(path)) return path;
    if (wanted == host_arch())
        for (const auto name : other_names)
            if (may_run(std::string{name})) return std::string{name};
    const auto allowed = emulators();
    throw Error{Code::unsupported_configuration,
                fmt::format("no emulator for architecture {}; there are {}", wanted,
                            allowed.empty() ? "none" : fmt::format("{}", fmt::join(allowed, ", ")))};
}

Task<std::shared_ptr<const Capabilities>> CapabilityCache::get(std::string binary) {
    auto signature = signature_of(binary);
    auto& entry = entries_[binary];
    if (!entry) entry = std::make_unique<Entry>();
    if (entry->known && entry->signature == signature) co_return entry->known;
    Reply<std::shared_ptr<const Capabilities>> reply{ports_.loop};
    entry->waiting.push_back(reply.promise());
    if (entry->waiting.size() == 1) scope_.spawn(fill(*this, binary, std::move(signature)));
    co_return co_await reply.wait("the probe of " + binary, in(probe_time + Duration{1000}));
}

Task<> CapabilityCache::fill(CapabilityCache& cache, std::string binary, std::string signature) {
    std::shared_ptr<const Capabilities> known;
    std::exception_ptr error;
    try {
        known = std::make_shared<const Capabilities>(co_await cache.load_or_probe(binary, signature));
    } catch (...) {
        error = std::current_exception();
    }
    auto& entry = *cache.entries_.at(binary);
    entry.known = known;
    entry.signature = std::move(signature);
    for (const auto& waiting : std::exchange(entry.waiting, {})) error ? waiting.fail(error) : waiting.set(known);
}

std::string CapabilityCache::file_of(const std::string& binary) const {
    auto name = binary.substr(1);
    std::ranges::replace(name, '/', '_');
    return fmt::format("{}/qemu/{}.json", ports_.folders.cache, name);
}

Task<Capabilities> CapabilityCache::load_or_probe(std::string binary, std::string signature) {
    const auto file = file_of(binary);
    try {
        if (const auto content = ports_.files.read(file, cache_limit)) {
            const auto stored = parse_json(*content);
            if (text(stored, "signature") == signature)
                co_return capabilities_from_json(member(stored, "capabilities"));
        }
    } catch (const Error& error) {
        ports_.log.warning(fmt::format("the cached capabilities in {} are of no use: {}", file, error.what()));
    }
    auto result = co_await probe(binary, kvm_answers(), ports_.loop, ports_.spawner, in(probe_time));
    try {
        ports_.files.make_folder(ports_.folders.cache + "/qemu");
        ports_.files.write_volatile(file, json{{"signature", signature}, {"capabilities", to_json(result)}}.dump());
    } catch (const Error& error) {
        ports_.log.warning(fmt::format("the capabilities of {} could not be cached: {}", binary, error.what()));
    }
    co_return result;
}

}  // namespace virtbus::qemu
