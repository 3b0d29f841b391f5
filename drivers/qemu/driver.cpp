// SPDX-License-Identifier: LGPL-2.1-or-later
#include "qemu/driver.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <sys/stat.h>

#include <cstdlib>

#include "qemu/capabilities_xml.hpp"
#include "qemu/command_line.hpp"
#include "qemu/complete.hpp"
#include "qemu/host_model.hpp"
#include "qemu/host_smbios.hpp"
#include "qemu/json.hpp"
#include "qemu/starter.hpp"
#include "qemu/tls.hpp"
#include "qemu/unsupported.hpp"

namespace virtbus::qemu {

QemuDriver::QemuDriver(Ports& ports, GuestTimes times, HelperPrograms programs)
    : ports_{ports},
      times_{times},
      programs_{std::make_shared<const HelperPrograms>(std::move(programs))},
      cache_{ports},
      images_{ports, {}} {}

Task<QemuDriver::Known> QemuDriver::capabilities_for(std::string emulator, std::string arch) {
    co_return co_await cache_.get(cache_.choose(emulator, arch));
}

Task<> QemuDriver::complete(DomainConfig& config, const DomainConfig* previous) {
    const auto known = co_await capabilities_for(config.devices.emulator, config.os.arch);
    qemu::complete(config, previous, *known, surroundings());
}

std::vector<std::string> QemuDriver::firmware_folders() const {
    std::vector<std::string> folders{"/usr/share/qemu/firmware", "/etc/qemu/firmware"};
    const char* xdg = std::getenv("XDG_CONFIG_HOME");
    const char* home = std::getenv("HOME");
    if (!ports_.system_mode && xdg && *xdg == '/') folders.push_back(std::string{xdg} + "/qemu/firmware");
    if (!ports_.system_mode && !(xdg && *xdg == '/') && home)
        folders.push_back(std::string{home} + "/.config/qemu/firmware");
    folders.push_back(ports_.folders.config + "/qemu/firmware");
    return folders;
}

const Surroundings& QemuDriver::surroundings() {
    const auto folders = firmware_folders();
    std::string signature;
    for (const auto& folder : folders) {
        struct stat info{};
        if (::stat(folder.c_str(), &info) == 0)
            signature += fmt::format("{}.{};", info.st_mtim.tv_sec, info.st_mtim.tv_nsec);
        signature += '|';
    }
    if (signature != firmware_signature_) {
        std::vector<std::string> problems;
        surroundings_.firmwares = load_firmwares(ports_.files, folders, problems);
        surroundings_.nvram_folder = ports_.folders.state + "/nvram";
        firmware_signature_ = std::move(signature);
        for (const auto& problem : problems)
            ports_.log.warning(fmt::format("a firmware descriptor is left out: {}", excerpt(problem, 500)));
    }
    return surroundings_;
}

std::vector<std::string> QemuDriver::problems_of(const DomainConfig& config, const Capabilities& known) {
    auto problems = qemu::unsupported(config, known);
    const auto& firmwares = surroundings().firmwares;
    const Os& os = config.os;
    const Features* features = config.features ? &*config.features : nullptr;
    // A loader with its type was found when the definition was completed; its descriptor may have gone since.
    const bool found = os.loader && !os.loader->path.empty() && !os.loader->type.empty();
    if (os.firmware == "efi" && !found) problems.push_back(explain_no_firmware(firmwares, os, features));
    if (os.smbios_mode == "host" && !read_host_smbios(""))
        problems.emplace_back("smbios mode host: this host has no SMBIOS tables to show; use mode sysinfo");
    for (const auto& need : tls_needs_here(config, ports_.folders.config + "/tls")) {
        try {
            find_certificates(ports_.folders.config + "/tls", need);
        } catch (const Error& error) {
            problems.emplace_back(error.what());
        }
    }
    for (auto& problem : helper_problems(config, *programs_, ports_.files)) problems.push_back(std::move(problem));
    return problems;
}

Task<std::vector<std::string>> QemuDriver::unsupported(DomainConfig config) {
    Known known;
    std::vector<std::string> problems;
    try {
        known = co_await capabilities_for(config.devices.emulator, config.os.arch);
        problems = problems_of(config, *known);
    } catch (const Error& error) {
        problems.emplace_back(error.what());
    }
    co_return problems;
}

std::vector<std::string> QemuDriver::ignored(const DomainConfig& config) {
    return without_effect(config);
}

Task<std::vector<std::string>> QemuDriver::command(DomainConfig config, bool runnable) {
    const auto known = co_await capabilities_for(config.devices.emulator, config.os.arch);
    assign_aliases(config);
    co_return standalone_command(config, *known, runnable);
}

CapabilitiesOf QemuDriver::knowledge() {
    return [this](const DomainConfig& config) { return capabilities_for(config.devices.emulator, config.os.arch); };
}

Task<std::unique_ptr<Guest>> QemuDriver::start(StartRequest request) {
    auto known = co_await capabilities_for(request.config.devices.emulator, request.config.os.arch);
    if (const auto problems = problems_of(request.config, *known); !problems.empty())
        throw Error{Code::unsupported_configuration, fmt::format("domain '{}' cannot be started here: {}",
                                                                 request.config.name, fmt::join(problems, "; "))};
    for (const auto& note : ignored(request.config))
        ports_.log.info(fmt::format("domain '{}': no effect: {}", request.config.name, excerpt(note, 500)),
                        {{"DOMAIN", request.config.name}, {"DOMAIN_UUID", request.config.uuid}});
    resolve_host_model(request.config, *known);
    auto core = co_await start_guest(ports_, scope_, times_, std::move(known), programs_, std::move(request));
    co_return make_guest(std::move(core), knowledge());
}

Task<std::unique_ptr<Guest>> QemuDriver::adopt(DomainConfig config, std::string driver_state, GuestEvents& events,
                                               GuestEnd& end) {
    auto record = GuestRecord::from_text(driver_state);
    auto core =
        co_await adopt_guest(ports_, scope_, times_, programs_, std::move(config), std::move(record), events, end);
    if (!core) co_return std::unique_ptr<Guest>{};
    co_return make_guest(std::move(core), knowledge());
}

Task<std::vector<QemuDriver::Known>> QemuDriver::all_capabilities() {
    std::vector<Known> all;
    for (const auto& emulator : cache_.emulators()) {
        try {
            all.push_back(co_await cache_.get(emulator));
        } catch (const Error& error) {
            ports_.log.warning(error.what());
        }
    }
    co_return all;
}

Task<std::string> QemuDriver::capabilities() {
    co_return capabilities_xml(co_await all_capabilities());
}

Task<std::string> QemuDriver::domain_capabilities(std::string emulator, std::string arch, std::string machine,
                                                  std::string type) {
    const auto known = co_await capabilities_for(std::move(emulator), std::move(arch));
    co_return domain_capabilities_xml(*known, machine, type, surroundings().firmwares);
}

}  // namespace virtbus::qemu
