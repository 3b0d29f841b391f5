// SPDX-License-Identifier: LGPL-2.1-or-later
#include "test/driver.hpp"

#include <fmt/format.h>

#include "test/behaviour.hpp"
#include "test/guest.hpp"
#include "test/names.hpp"
#include "test/saved_state.hpp"
#include "virtbus/error.hpp"

namespace virtbus::test_driver {

namespace {

constexpr std::string_view test_machine = "test-1.0";

}  // namespace

Task<> TestDriver::complete(DomainConfig& config, const DomainConfig*) {
    constexpr std::uint64_t least_memory = 1u << 20;
    (void)behaviour_of(config);
    if (config.os.arch.empty()) config.os.arch = "x86_64";
    if (config.os.machine.empty() || config.os.machine == "test") config.os.machine = test_machine;
    if (!config.memory) throw Error{Code::invalid_xml, fmt::format("domain '{}' has no <memory>", config.name)};
    if (*config.memory < least_memory)
        throw Error{Code::unsupported_configuration,
                    fmt::format("domain '{}' has {} bytes of memory; at least {} are needed", config.name,
                                *config.memory, least_memory)};
    if (!config.vcpu) config.vcpu = 1;
    for (auto& disk : config.devices.disks) {
        if (disk.target.bus.empty()) disk.target.bus = "virtio";
        if (disk.target.dev.empty())
            throw Error{Code::invalid_xml, fmt::format("domain '{}' has a disk without <target dev=>", config.name)};
    }
    co_return;
}

Task<std::vector<std::string>> TestDriver::unsupported(DomainConfig) {
    co_return std::vector<std::string>{};
}

Task<std::vector<std::string>> TestDriver::command(DomainConfig, bool) {
    co_return std::vector<std::string>{};
}

Task<std::unique_ptr<Guest>> TestDriver::start(StartRequest request) {
    const auto behaviour = behaviour_of(request.config);
    auto config = std::move(request.config);
    config.id = request.id;
    name_devices(config);
    if (behaviour.open_disks)
        for (const auto& disk : config.devices.disks)
            if (disk.source && !disk.source->file.empty())
                (void)co_await request.resources.open_file(disk.source->file,
                                                           disk.readonly ? Access::read : Access::read_write);
    for (auto& interface : config.devices.interfaces) {
        if (!needs_link(interface.type)) continue;
        LinkRequest wanted{.domain_uuid = config.uuid, .domain_name = config.name, .interface = interface};
        const auto link = co_await request.resources.open_link(std::move(wanted));
        if (link.interface) interface = *link.interface;
        if (!interface.target) interface.target.emplace();
        interface.target->dev = link.ifname;
    }
    if (behaviour.take_devices) co_await request.resources.take_pci(pci_devices(config.devices.hostdevs));
    if (behaviour.hang_start) {
        Reply<> never{loop_};
        co_await never.wait(fmt::format("the start of test domain '{}'", config.name), request.deadline, request.stop);
    }
    co_await sleep(loop_, behaviour.start_delay, request.stop);
    if (!behaviour.fail_start.empty())
        throw Error{Code::hypervisor_failed, fmt::format("domain '{}': {}", config.name, behaviour.fail_start)};
    GuestRecord record;
    record.booted_at = clock_.now();
    const bool restored = static_cast<bool>(request.incoming);
    if (restored) {
        record = decode_record(co_await read_state(loop_, std::move(request.incoming), request.stop));
        if (!behaviour.fail_restore.empty())
            throw Error{Code::hypervisor_failed, fmt::format("domain '{}': {}", config.name, behaviour.fail_restore)};
    }
    record.paused = request.paused || restored;
    auto shelf = shelf_.now();
    shelf.forget_tops(config.uuid);
    shelf_.set(std::move(shelf));
    if (behaviour.die_after.count() > 0) {
        record.ends_at = record.booted_at + static_cast<std::uint64_t>(behaviour.die_after.count()) * 1000;
        record.end = {"crashed", "the test domain dies as its definition asks"};
    }
    auto guest = std::make_unique<TestGuest>(loop_, clock_, shelf_, request.events, std::move(config), behaviour,
                                             std::move(record));
    if (restored) guest->expect_resume("restored");
    co_return guest;
}

Task<std::unique_ptr<Guest>> TestDriver::adopt(DomainConfig config, std::string driver_state, GuestEvents& events,
                                               GuestEnd& end) {
    auto record = decode_record(driver_state);
    const auto behaviour = behaviour_of(config);
    if (behaviour.fail_adopt)
        throw Error{Code::hypervisor_failed, fmt::format("test domain '{}' does not answer any more", config.name)};
    if (record.ends_at != 0 && record.ends_at <= clock_.now()) {
        end = record.end;
        co_return nullptr;
    }
    co_return std::make_unique<TestGuest>(loop_, clock_, shelf_, events, std::move(config), behaviour,
                                          std::move(record));
}

Task<std::string> TestDriver::capabilities() {
    co_return fmt::format(
        "<capabilities>\n  <host>\n    <cpu>\n      <arch>x86_64</arch>\n    </cpu>\n  </host>\n  <guest>\n"
        "    <os_type>hvm</os_type>\n    <arch name='x86_64'>\n      <wordsize>64</wordsize>\n"
        "      <machine maxCpus='4096'>{}</machine>\n      <domain type='test'/>\n    </arch>\n  "
        "</guest>\n</capabilities>\n",
        test_machine);
}

Task<std::string> TestDriver::domain_capabilities(std::string, std::string arch, std::string machine, std::string) {
    if (!arch.empty() && arch != "x86_64")
        throw Error{Code::unsupported,
                    fmt::format("the test driver knows no architecture '{}'; it knows x86_64", arch)};
    if (!machine.empty() && machine != test_machine && machine != "test")
        throw Error{Code::unsupported,
                    fmt::format("the test driver knows no machine '{}'; it knows {}", machine, test_machine)};
    co_return fmt::format(
        "<domainCapabilities>\n  <domain>test</domain>\n  <machine>{}</machine>\n  <arch>x86_64</arch>\n"
        "  <vcpu max='4096'/>\n</domainCapabilities>\n",
        test_machine);
}

}  // namespace virtbus::test_driver
