// SPDX-License-Identifier: LGPL-2.1-or-later
// FakePciBus: PCI devices as sysfs shows them, real folders and links in a temporary one, and a kernel that does at
// once what is written there: binding, unbinding, probing.
#pragma once

#include <filesystem>
#include <fstream>
#include <map>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "virtbus/error.hpp"

namespace virtbus::tests {

namespace fs = std::filesystem;

class FakePciBus {
public:
    explicit FakePciBus(std::string root) : root_{std::move(root)} {
        fs::create_directories(bus() / "devices");
        fs::create_directories(root_ + "/sys/kernel/iommu_groups");
        add_driver("vfio-pci");
    }

    void add_driver(const std::string& name) { fs::create_directories(bus() / "drivers" / name); }
    /// `likes`: the driver that takes it when nothing else is said; it has it at once. Without a group when that is "".
    void add(const std::string& address, const std::string& likes, const std::string& group,
             const std::string& kind = "0x020000") {
        const auto device = bus() / "devices" / address;
        fs::create_directories(device);
        put(device / "class", kind + "\n");
        put(device / "driver_override", "(null)\n");
        likes_[address] = likes;
        if (!group.empty()) {
            const fs::path folder = root_ + "/sys/kernel/iommu_groups/" + group;
            fs::create_directories(folder / "devices");
            fs::create_directory_symlink(device, folder / "devices" / address);
            fs::create_directory_symlink(folder, device / "iommu_group");
        }
        if (!likes.empty()) {
            add_driver(likes);
            attach(address, likes);
        }
    }
    std::string driver(const std::string& address) const {
        std::error_code error;
        const auto target = fs::read_symlink(bus() / "devices" / address / "driver", error);
        return error ? "" : target.filename().string();
    }
    std::string override_name(const std::string& address) const {
        std::string line;
        std::ifstream file{bus() / "devices" / address / "driver_override"};
        std::getline(file, line);
        return line;
    }
    void unplug(const std::string& address) { fs::remove_all(bus() / "devices" / address); }
    void set_override(const std::string& address, const std::string& name) {
        put(bus() / "devices" / address / "driver_override", name + "\n");
    }
    /// Drivers that refuse what they are given.
    std::set<std::string> broken;
    std::vector<std::string> writes;

    /// What the kernel does when `text` is written to `path`.
    void write(const std::string& path, const std::string& text) {
        const std::lock_guard lock{mutex_};
        const fs::path file{path};
        const auto what = file.filename().string();
        const auto parent = file.parent_path();
        writes.push_back(what + " " + (text == "\n" ? "" : text));
        if (what == "driver_override") {
            put(file, (text == "\n" ? "(null)" : text) + "\n");
        } else if (what == "unbind") {
            if (driver(text).empty()) fail(path, "No such device");
            fs::remove(bus() / "devices" / text / "driver");
        } else if (what == "bind") {
            if (!driver(text).empty()) fail(path, "Device or resource busy");
            attach(text, parent.filename().string());
        } else if (what == "drivers_probe") {
            const auto only = override_name(text);
            const auto name = only == "(null)" ? likes_[text] : only;
            if (driver(text).empty() && fs::exists(bus() / "drivers" / name) && !broken.contains(name))
                attach(text, name);
        } else {
            fail(path, "Permission denied");
        }
    }

private:
    fs::path bus() const { return root_ + "/sys/bus/pci"; }
    static void put(const fs::path& path, const std::string& text) { std::ofstream{path} << text; }
    void attach(const std::string& address, const std::string& driver) {
        fs::create_directory_symlink(bus() / "drivers" / driver, bus() / "devices" / address / "driver");
    }
    [[noreturn]] static void fail(const std::string& path, const char* why) {
        throw Error{Code::hypervisor_failed, "writing to " + path + ": " + why};
    }

    const std::string root_;
    std::map<std::string, std::string> likes_;
    std::mutex mutex_;
};

}  // namespace virtbus::tests
