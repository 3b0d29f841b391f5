// SPDX-License-Identifier: LGPL-2.1-or-later
// What holds of the addresses of any definition: made up at random (always the same ones), completed, defined again,
// with devices taken away and put back.
#include <gtest/gtest.h>

#include <random>
#include <set>

#include "qemu/device_list.hpp"
#include "qemu/topology.hpp"
#include "tests/drivers/domain_bed.hpp"

namespace virtbus::qemu {
namespace {

using namespace virtbus::tests;

struct Platform {
    const char* name;
    const char* arch;
    const char* machine;
    bool usb;
};
constexpr Platform platforms[]{{"q35", "x86_64", "q35", true},
                               {"pc", "x86_64", "pc", true},
                               {"arm_virt", "aarch64", "virt", true},
                               {"pseries", "ppc64", "pseries", true},
                               {"s390", "s390x", "s390-ccw-virtio", false},
                               {"riscv_virt", "riscv64", "virt", true}};

/// Devices that differ from each other, so that each can be found again.
std::vector<std::string> some_devices(std::mt19937& random, const Platform& platform) {
    const auto up_to = [&](int most) { return std::uniform_int_distribution<int>{0, most}(random); };
    std::vector<std::string> devices;
    for (int i = up_to(9); i >= 0; --i)
        devices.push_back(fmt::format("<disk><source file='/v{0}'/><target dev='vd{0}' bus='virtio'/></disk>",
                                      static_cast<char>('a' + i)));
    const bool x86 = std::string_view{platform.arch} == "x86_64";
    for (int i = up_to(x86 ? 6 : 9); i >= 0; --i)  // an lsilogic controller takes seven
        devices.push_back(fmt::format("<disk><source file='/s{0}'/><target dev='sd{0}' bus='scsi'/></disk>",
                                      static_cast<char>('a' + i)));
    for (int i = up_to(12); i >= 0; --i)
        devices.push_back(
            fmt::format("<interface type='user'><mac address='52:54:00:00:01:{:02x}'/><model type='{}'/>"
                        "</interface>",
                        i, x86 && i % 3 == 0 ? "e1000" : "virtio"));
    for (int i = up_to(5); i >= 0; --i)
        devices.push_back(
            fmt::format("<channel type='unix'><target type='virtio' name='org.example.{}'/></channel>", i));
    for (int i = up_to(9); platform.usb && i >= 0; --i)
        devices.push_back(
            fmt::format("<hostdev mode='subsystem' type='usb'><source><vendor id='0x1234'/><product "
                        "id='0x{:04x}'/></source></hostdev>",
                        0x1000 + i));
    std::shuffle(devices.begin(), devices.end(), random);
    return devices;
}

DomainConfig define(const Platform& platform, const std::vector<std::string>& devices, const DomainConfig* previous) {
    std::string text;
    for (const auto& device : devices) text += device;
    return whole(fmt::format("<domain type='qemu'><name>n</name><uuid>00000000-0000-4000-8000-000000000001</uuid>"
                             "<memory>65536</memory><os><type arch='{}' machine='{}'>hvm</type></os><devices>{}"
                             "</devices></domain>",
                             platform.arch, platform.machine, text),
                 previous);
}

/// Every place on one line, for comparing; "" for a device that has none.
std::string place_of(const DeviceInfo& info) {
    if (const auto* pci = info.address_as<PciAddress>()) return "pci " + text_of(*pci);
    if (const auto* usb = info.address_as<UsbAddress>()) return fmt::format("usb {}-{}", usb->bus, usb->port);
    if (const auto* ccw = info.address_as<CcwAddress>()) return fmt::format("ccw {}", ccw->devno.value_or(0xffffff));
    if (const auto* vio = info.address_as<SpaprVioAddress>()) return fmt::format("vio {}", vio->reg.value_or(0));
    if (const auto* port = info.address_as<VirtioSerialAddress>())
        return fmt::format("port {}.{}", port->controller, port->port);
    return "";
}

/// Of the devices that have a name of their own.
std::map<std::string, std::string> places(const DomainConfig& config) {
    std::map<std::string, std::string> out;
    for (const auto& disk : config.devices.disks)
        if (const auto* at = disk.info.address_as<DriveAddress>())
            out[disk.target.dev] = fmt::format("drive {}.{}.{}", at->controller, at->bus, at->unit);
        else
            out[disk.target.dev] = place_of(disk.info);
    for (const auto& interface : config.devices.interfaces) out[interface.mac] = place_of(interface.info);
    for (const auto& channel : config.devices.channels) out[channel.target->name] = place_of(channel.info);
    for (const auto& hostdev : config.devices.hostdevs)
        out[fmt::format("usb {:x}", hostdev.source.product_id.value_or(0))] = place_of(hostdev.info);
    for (const auto& controller : config.devices.controllers)
        out[fmt::format("{} {} {}", word(controller.type), controller.index.value_or(0), controller.model)] =
            place_of(controller.info);
    return out;
}

class AnyDefinition : public testing::TestWithParam<Platform> {};

TEST_P(AnyDefinition, HasEveryDeviceInAPlaceOfItsOwn) {
    std::mt19937 random{7};
    for (int round = 0; round < 25; ++round) {
        const auto config = define(GetParam(), some_devices(random, GetParam()), nullptr);
        std::set<std::string> taken;
        for (const auto& [name, place] : places(config)) {
            const bool root = name.starts_with("pci 0 ") || name.starts_with("usb 0 none");
            if (!place.empty()) EXPECT_TRUE(taken.insert(place).second) << name << " at " << place;
            if (!root && !name.starts_with("scsi") && !name.starts_with("pci ")) EXPECT_NE(place, "") << name;
        }
        // Every bus that is used is there, and the line can be written.
        EXPECT_NO_THROW(standalone_command(config, known_capabilities(GetParam().arch), false));
    }
}

TEST_P(AnyDefinition, IsStableWhenDefinedAgain) {
    std::mt19937 random{11};
    for (int round = 0; round < 15; ++round) {
        const auto devices = some_devices(random, GetParam());
        const auto first = define(GetParam(), devices, nullptr);
        EXPECT_EQ(places(define(GetParam(), devices, &first)), places(first));
        EXPECT_EQ(xml::format_domain(whole(first, &first)), xml::format_domain(first));
    }
}

TEST_P(AnyDefinition, KeepsTheOthersWhenOneGoesAndComesBack) {
    std::mt19937 random{13};
    for (int round = 0; round < 15; ++round) {
        auto devices = some_devices(random, GetParam());
        const auto first = define(GetParam(), devices, nullptr);
        const auto before = places(first);
        const auto gone = std::uniform_int_distribution<std::size_t>{0, devices.size() - 1}(random);
        auto fewer = devices;
        fewer.erase(fewer.begin() + static_cast<std::ptrdiff_t>(gone));
        const auto without = define(GetParam(), fewer, &first);
        for (const auto& [name, place] : places(without))
            if (const auto old = before.find(name); old != before.end()) EXPECT_EQ(place, old->second) << name;
        // Put back, at another place of the list: nobody moves, and it has a place of its own.
        fewer.insert(fewer.begin(), devices[gone]);
        const auto again = define(GetParam(), fewer, &without);
        std::set<std::string> taken;
        for (const auto& [name, place] : places(again))
            if (!place.empty()) EXPECT_TRUE(taken.insert(place).second) << name << " at " << place;
        const auto less = places(without);
        const auto more = places(again);
        for (const auto& [name, place] : less)
            if (const auto now = more.find(name); now != more.end()) EXPECT_EQ(now->second, place) << name;
    }
}

INSTANTIATE_TEST_SUITE_P(Platforms, AnyDefinition, testing::ValuesIn(platforms),
                         [](const auto& each) { return std::string{each.param.name}; });

}  // namespace
}  // namespace virtbus::qemu
