// SPDX-License-Identifier: LGPL-2.1-or-later
#include "service/host/pci_devices.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "virtbus/error.hpp"

namespace virtbus::host {

namespace {

namespace fs = std::filesystem;

constexpr std::uint32_t bridge_class = 0x0604;

void write_sysfs(const std::string& path, const std::string& text) {
    const Fd file{::open(path.c_str(), O_WRONLY | O_CLOEXEC)};
    if (file && ::write(file.get(), text.data(), text.size()) == static_cast<ssize_t>(text.size())) return;
    const auto code = errno == EACCES || errno == EPERM ? Code::access_denied : Code::hypervisor_failed;
    throw Error{code, fmt::format("writing '{}' to {}: {}", text == "\n" ? "" : text, path, std::strerror(errno))};
}

std::string link_name(const fs::path& link) {
    std::error_code error;
    const auto target = fs::read_symlink(link, error);
    return error ? std::string{} : target.filename().string();
}

std::string first_line(const fs::path& path) {
    std::ifstream file{path};
    std::string line;
    std::getline(file, line);
    return line;
}

bool is_bridge(const fs::path& device) {
    return std::strtoul(first_line(device / "class").c_str(), nullptr, 16) >> 8 == bridge_class;
}

/// One device's place in sysfs, and what can be done there.
struct Place {
    std::string root, address;
    SysfsPci::Write write;

    fs::path bus() const { return root + "/sys/bus/pci"; }
    fs::path device() const { return bus() / "devices" / address; }
    std::string driver() const { return link_name(device() / "driver"); }
    std::string override_name() const {
        const auto name = first_line(device() / "driver_override");
        return name == "(null)" ? std::string{} : name;
    }
    void set_override(const std::string& name) const {
        write(device() / "driver_override", name.empty() ? "\n" : name);
    }
    void unbind() const { write(device() / "driver" / "unbind", address); }
    void probe() const { write(bus() / "drivers_probe", address); }
};

PciFacts facts_of(const Place& place) {
    PciFacts facts;
    const auto device = place.device();
    std::error_code error;
    facts.there = fs::exists(device, error);
    if (!facts.there) return facts;
    facts.driver = place.driver();
    facts.override_name = place.override_name();
    facts.bridge = is_bridge(device);
    facts.group = link_name(device / "iommu_group");
    if (facts.group.empty()) return facts;
    for (const auto& entry : fs::directory_iterator{device / "iommu_group" / "devices", error}) {
        const Place member{place.root, entry.path().filename().string(), {}};
        facts.members.push_back({member.address, member.driver(), is_bridge(member.device())});
    }
    std::ranges::sort(facts.members, {}, &PciFacts::Member::address);
    return facts;
}

void bind_to(const Place& place, const std::string& driver) {
    std::error_code error;
    if (!fs::exists(place.bus() / "drivers" / driver, error))
        throw Error{Code::unsupported_configuration,
                    fmt::format("PCI device {}: this kernel has no driver '{}' at the moment; say 'modprobe {}'",
                                place.address, driver, driver)};
    place.set_override(driver);
    if (!place.driver().empty()) place.unbind();
    place.probe();
    if (const auto now = place.driver(); now != driver)
        throw Error{Code::hypervisor_failed,
                    fmt::format("PCI device {} was given to the driver '{}', which did not take it{}; the kernel's log "
                                "says why",
                                place.address, driver, now.empty() ? "" : " ('" + now + "' has it)")};
}

void restore(const Place& place, const std::string& bound, const PciFacts& before) {
    std::error_code error;
    if (!fs::exists(place.device(), error)) return;
    const auto now = place.driver();
    if (now == before.driver && place.override_name() == before.override_name) return;
    if (!now.empty() && now != bound && now != before.driver) return;  // somebody else has taken it since
    place.set_override(before.override_name);
    if (now == before.driver) return;
    if (!now.empty()) place.unbind();
    if (before.driver.empty()) return;
    place.probe();
    // Another driver than before may be the kernel's first choice.
    if (const auto taken = place.driver(); !taken.empty() && taken != before.driver) place.unbind();
    if (place.driver().empty()) place.write(place.bus() / "drivers" / before.driver / "bind", place.address);
    if (place.driver() != before.driver)
        throw Error{Code::hypervisor_failed, fmt::format("PCI device {} could not be given back to the driver '{}'",
                                                         place.address, before.driver)};
}

}  // namespace

SysfsPci::SysfsPci(Workers& workers, std::string root, Write write)
    : workers_{workers}, root_{std::move(root)}, write_{write ? std::move(write) : Write{write_sysfs}} {}

Task<PciFacts> SysfsPci::look(std::string address, Deadline deadline, std::stop_token stop) {
    return workers_.run(
        "looking at PCI device " + address, [place = Place{root_, address, write_}] { return facts_of(place); },
        deadline, std::move(stop));
}

std::shared_ptr<std::mutex> SysfsPci::lock_of(const std::string& address) {
    auto& lock = locks_[address];
    if (!lock) lock = std::make_shared<std::mutex>();
    return lock;
}

Task<> SysfsPci::bind(std::string address, std::string driver, Deadline deadline, std::stop_token stop) {
    // What is still queued when its caller has given up would come behind the giving back.
    const auto given_up = std::make_shared<std::atomic<bool>>(false);
    const auto work = [place = Place{root_, address, write_}, driver, given_up, lock = lock_of(address)] {
        const std::lock_guard held{*lock};
        if (!*given_up) bind_to(place, driver);
    };
    try {
        co_await workers_.run(fmt::format("giving PCI device {} to {}", address, driver), work, deadline,
                              std::move(stop));
    } catch (...) {
        *given_up = true;
        throw;
    }
}

Task<> SysfsPci::give_back(std::string address, std::string bound, PciFacts before, Deadline deadline) {
    return workers_.run(
        fmt::format("giving PCI device {} back", address),
        [place = Place{root_, address, write_}, bound = std::move(bound), before = std::move(before),
         lock = lock_of(address)] {
            const std::lock_guard held{*lock};
            restore(place, bound, before);
        },
        deadline);
}

}  // namespace virtbus::host
