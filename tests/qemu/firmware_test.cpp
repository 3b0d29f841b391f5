// SPDX-License-Identifier: LGPL-2.1-or-later
// Real UEFI firmware with a Linux that writes variables: they stay from run to run and are gone after a reset.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <fstream>

#include "tests/qemu/linux_bed.hpp"

namespace virtbus::tests {
namespace {

using testing::HasSubstr;

class FirmwareTest : public LinuxBed {
protected:
    void SetUp() override {
        LinuxBed::SetUp();
        if (::access("/usr/share/OVMF/OVMF_CODE_4M.fd", R_OK) != 0) GTEST_SKIP() << "no OVMF (package ovmf)";
    }
    std::string store(const std::string& suffix) const {
        return bed_.host.ports.folders.state + "/nvram/" + QemuBed::bare().uuid + "_VARS." + suffix;
    }
    DomainConfig uefi(bool secure_boot = false) const {
        auto config = linux_config();
        config.memory = config.current_memory = 256ULL << 20;
        config.os.firmware = "efi";
        config.os.firmware_features = {{.enabled = secure_boot, .name = "secure-boot", .unknown = {}},
                                       {.enabled = false, .name = "enrolled-keys", .unknown = {}}};
        return config;
    }
    /// Boots it, types a line and gives what the guest says between "<" and ">" after it.
    std::string ask(DomainConfig config, const std::string& line) {
        notes_ = {};
        const auto guest = boot(std::move(config));
        auto& terminal = *terminal_;
        terminal.said.clear();
        terminal.type("cd /sys/firmware/efi/efivars; S=; " + line + "; echo \"$S<$A>\"\r");
        bed_.run_until([&] {
            return terminal.has("\n<") && terminal.said.find('>', terminal.said.find("\n<")) != terminal.said.npos;
        });
        const auto begin = terminal.said.find("\n<") + 2;
        bed_.stop(*guest, notes_);
        return terminal.said.substr(begin, terminal.said.find('>', begin) - begin);
    }
    std::string refusal(DomainConfig config) {
        try {
            const auto guest = bed_.start(std::move(config), notes_, true);
            bed_.stop(*guest, notes_);
        } catch (const Error& error) {
            return fmt::format("{}: {}", word(error.code()), error.what());
        }
        return "it started";
    }

    static constexpr auto write = "printf '\\007\\000\\000\\000hello' > Try-12345678-1234-1234-1234-123456789abc; A=$?";
    static constexpr auto read = "A=$(tail -c +5 Try-12345678-1234-1234-1234-123456789abc 2>&1)";
};

TEST_F(FirmwareTest, VariablesStayUntilTheyAreReset) {
    EXPECT_EQ(ask(uefi(), write), "0");
    struct stat facts{};
    ASSERT_EQ(::stat(store("qcow2").c_str(), &facts), 0);
    EXPECT_EQ(facts.st_mode & 0777, 0600U);
    EXPECT_EQ(ask(uefi(), read), "hello");
    bed_.reset_nvram = true;
    EXPECT_THAT(ask(uefi(), read), HasSubstr("No such file"));
    EXPECT_FALSE(std::filesystem::exists(store("qcow2") + ".new"));
}

TEST_F(FirmwareTest, SecureBootFirmwareKeepsItsVariablesBehindSmm) {
    // Without keys it is in set-up mode: secure boot is there and off.
    EXPECT_EQ(ask(uefi(true), "A=$(od -An -tx1 SetupMode-8be4df61-93ca-11d2-aa0d-00e098032b8c)"), " 06 00 00 00 01");
}

TEST_F(FirmwareTest, ARefusedResetChangesNothing) {
    auto config = QemuBed::bare("uefi");
    config.features.emplace().acpi.emplace();
    auto& loader = config.os.loader.emplace();
    loader.readonly = true;
    loader.type = "pflash";
    loader.path = bed_.host.folder.path() + "/CODE.fd";
    std::filesystem::copy_file("/usr/share/OVMF/OVMF_CODE_4M.fd", loader.path);
    config.os.nvram.emplace().path = bed_.host.folder.path() + "/store";
    config.os.nvram->format = "raw";
    EXPECT_THAT(refusal(config), HasSubstr("UnsupportedConfiguration"));
    std::filesystem::copy_file("/usr/share/OVMF/OVMF_VARS_4M.fd", config.os.nvram->path);
    const auto before = std::filesystem::last_write_time(config.os.nvram->path);
    bed_.reset_nvram = true;
    EXPECT_THAT(refusal(config), HasSubstr(loader.path));
    EXPECT_EQ(std::filesystem::last_write_time(config.os.nvram->path), before);
    EXPECT_EQ(refusal(config), "it started") << "with its store there is nothing to make";
}

TEST_F(FirmwareTest, WhatDoesNotFitIsToldWithTheClosest) {
    auto config = uefi();
    config.os.firmware_features = {{.enabled = true, .name = "secure-boot", .unknown = {}}};
    config.os.machine = "pc";
    const auto why = refusal(config);
    EXPECT_THAT(why, HasSubstr("UnsupportedConfiguration"));
    EXPECT_THAT(why, HasSubstr("secure-boot"));
    EXPECT_THAT(why, HasSubstr("lacks secure-boot"));
    EXPECT_THAT(why, HasSubstr(".json"));
}

TEST_F(FirmwareTest, DescriptorsThatAreRubbishAreLeftOut) {
    const auto folder = bed_.host.ports.folders.config + "/qemu/firmware";
    std::filesystem::create_directories(folder);
    const auto put = [&](const char* name, const std::string& text) { std::ofstream{folder + "/" + name} << text; };
    put("10-garbage.json", "{\"mapping\": nonsense");
    put("11-deep.json", std::string(50000, '['));
    put("12-types.json", R"({"interface-types":{"uefi":1},"mapping":["flash"],"targets":"all","features":7})");
    put("13-outside.json", R"({"interface-types":["uefi"],"mapping":{"device":"flash","executable":{"filename":
        "/usr/share/../../etc/shadow","format":"raw"},"nvram-template":{"filename":"/a","format":"raw"}},
        "targets":[{"architecture":"x86_64","machines":["pc-*"]}],"features":[]})");
    {
        std::ofstream big{folder + "/14-big.json"};
        big << "{";
        big.seekp(100 << 20);
        big << "}";
    }
    ASSERT_EQ(::mkfifo((folder + "/15-fifo.json").c_str(), 0600), 0);
    std::filesystem::create_symlink("16-loop.json", folder + "/16-loop.json");
    auto config = uefi();
    config.os.kernel.clear();
    config.os.initrd.clear();
    config.os.cmdline.clear();
    const auto guest = bed_.start(config, notes_, true);
    EXPECT_EQ(guest->config().os.loader->path, "/usr/share/OVMF/OVMF_CODE_4M.fd");
    bed_.stop(*guest, notes_);
    // One that masks: the same name in a stronger folder, empty.
    put("60-edk2-x86_64.json", "");
    EXPECT_THAT(refusal(config), HasSubstr("no descriptor"));
}

}  // namespace
}  // namespace virtbus::tests
