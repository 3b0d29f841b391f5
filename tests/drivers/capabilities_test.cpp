// SPDX-License-Identifier: LGPL-2.1-or-later
#include "qemu/capabilities.hpp"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "qemu/capability_cache.hpp"
#include "qemu/probe.hpp"
#include "tests/drivers/host_bed.hpp"

namespace virtbus::qemu {
namespace {

using nlohmann::json;
constexpr auto emulator = "/usr/bin/qemu-system-x86_64";

ProbeAnswers answers() {
    ProbeAnswers result;
    result["version"] = json::parse(R"({"qemu":{"micro":22,"minor":2,"major":7},"package":"Debian"})");
    result["target"] = json::parse(R"({"arch":"i386"})");
    result["kvm"] = json::parse(R"({"enabled":false,"present":true})");
    result["machines"] = json::parse(R"([
        {"name":"pc-q35-7.2","alias":"q35","cpu-max":288,"hotpluggable-cpus":true,"deprecated":false,
         "default-cpu-type":"qemu64-x86_64-cpu"},
        {"name":"pc-i440fx-7.2","alias":"pc","is-default":true,"cpu-max":255,"deprecated":false},
        {"name":"none","cpu-max":1}])");
    result["cpus"] = json::parse(R"([
        {"name":"host","unavailable-features":["kvm"],"typename":"host-x86_64-cpu"},
        {"name":"EPYC","unavailable-features":[],"deprecated":true}, {"name":7}])");
    result["devices"] = json::parse(R"([{"name":"virtio-net-pci"},{"name":"EPYC-x86_64-cpu"}])");
    result["objects"] = json::parse(R"([{"name":"dbus-display"},{"name":"iothread"}])");
    result["chardevs"] = json::parse(R"([{"name":"chardev-pty","parent":"chardev"}])");
    result["accelerators"] = json::parse(R"([{"name":"tcg-accel"},{"name":"kvm-accel"}])");
    result["commands"] = json::parse(R"([{"name":"query-vnc"},{"name":"quit"}])");
    result["options"] = json::parse(R"([{"option":"sandbox","parameters":[{"name":"spawn","type":"string"}]}])");
    result["tpm-models"] = json::parse(R"(["tpm-tis","tpm-crb"])");
    return result;
}

void expect_answers(const Capabilities& known) {
    EXPECT_EQ(known.arch, "i686");
    EXPECT_EQ(known.version, 7002022U);
    EXPECT_TRUE(known.has_tcg);
    EXPECT_FALSE(known.has_kvm);
    ASSERT_TRUE(known.find_machine("q35"));
    EXPECT_EQ(known.find_machine("q35")->name, "pc-q35-7.2");
    EXPECT_EQ(known.find_machine("q35")->max_cpus, 288U);
    EXPECT_EQ(known.find_machine("")->alias, "pc");
    EXPECT_EQ(known.find_machine("none"), nullptr);
    EXPECT_EQ(known.machines.size(), 2U);
    EXPECT_EQ(known.tcg_cpus.size(), 2U);
    EXPECT_TRUE(known.find_cpu("qemu", "EPYC")->usable);
    EXPECT_TRUE(known.find_cpu("qemu", "EPYC")->deprecated);
    EXPECT_EQ(known.find_cpu("qemu", "host")->blockers, std::vector<std::string>{"kvm"});
    EXPECT_EQ(known.find_cpu("kvm", "EPYC"), nullptr);
    EXPECT_TRUE(known.has_device("virtio-net-pci"));
    EXPECT_FALSE(known.has_device("EPYC-x86_64-cpu"));
    EXPECT_TRUE(known.has_chardev("pty"));
    EXPECT_TRUE(known.has_option("sandbox", "spawn"));
    EXPECT_FALSE(known.has_option("sandbox", "x"));
    EXPECT_TRUE(known.has_display("vnc"));
    EXPECT_TRUE(known.has_display("dbus"));
    EXPECT_FALSE(known.has_display("spice"));
    EXPECT_EQ(known.tpm_models, (std::vector<std::string>{"tpm-crb", "tpm-tis"}));
}

TEST(Capabilities, AreReadFromTheAnswers) {
    expect_answers(capabilities_from(emulator, answers(), {}));
}

TEST(Capabilities, SurviveTheCache) {
    const auto stored = to_json(capabilities_from(emulator, answers(), {})).dump();
    expect_answers(capabilities_from_json(json::parse(stored)));
}

TEST(Capabilities, KvmHasCpusOfItsOwn) {
    ProbeAnswers kvm;
    kvm["kvm"] = json::parse(R"({"enabled":true,"present":true})");
    kvm["cpus"] = json::parse(R"([{"name":"host","unavailable-features":[]}])");
    const auto known = capabilities_from(emulator, answers(), kvm);
    EXPECT_TRUE(known.has_kvm);
    EXPECT_TRUE(known.find_cpu("kvm", "host")->usable);
    EXPECT_FALSE(known.find_cpu("qemu", "host")->usable);
}

TEST(Capabilities, AnswersOfAnotherShapeAreLeftOut) {
    auto odd = answers();
    for (auto& [name, answer] : odd) answer = json::parse(R"({"qemu":[1],"arch":7,"x":{"name":null}})");
    const auto known = capabilities_from(emulator, odd, odd);
    EXPECT_TRUE(known.machines.empty());
    EXPECT_EQ(known.version, 0U);
}

TEST(CapabilityCache, RunsOnlyListedEmulators) {
    tests::HostBed bed;
    CapabilityCache cache{bed.ports};
    EXPECT_EQ(cache.choose(emulator, ""), emulator);
    EXPECT_EQ(cache.choose("", "x86_64"), emulator);
    for (const auto* path : {"/bin/sh", "/usr/bin/qemu-system-x86_64/../sh", "/usr/bin/qemu-system-nothing", "sh"}) {
        try {
            cache.choose(path, "");
            FAIL() << path;
        } catch (const Error& error) {
            EXPECT_EQ(error.code(), Code::unsupported_configuration);
            EXPECT_NE(std::string{error.what()}.find(emulator), std::string::npos) << error.what();
        }
    }
    EXPECT_THROW(cache.choose("", "nothing"), Error);
}

TEST(CapabilityCache, TakesAListThatOnlyItsOwnerWrites) {
    tests::HostBed bed;
    CapabilityCache cache{bed.ports};
    const auto list = bed.ports.folders.config + "/qemu/emulators";
    bed.files.make_folder(bed.ports.folders.config + "/qemu", 0700);
    bed.files.write_volatile(list, "# tests\n/usr/bin/env\n", 0644);
    EXPECT_EQ(cache.choose("/usr/bin/env", ""), "/usr/bin/env");
    ::chmod(list.c_str(), 0666);
    EXPECT_THROW(cache.choose("/usr/bin/env", ""), Error);
}

TEST(CapabilityCache, SaysWhatABrokenEmulatorSaid) {
    tests::HostBed bed;
    CapabilityCache cache{bed.ports};
    try {
        bed.run(cache.get("/usr/bin/env"));
        FAIL();
    } catch (const Error& error) {
        EXPECT_EQ(error.code(), Code::hypervisor_failed);
        EXPECT_NE(std::string{error.what()}.find("env --help"), std::string::npos) << error.what();
    }
}

TEST(CapabilityCache, ProbesOnceAndKeepsIt) {
    tests::HostBed bed;
    const auto file = bed.ports.folders.cache + "/qemu/usr_bin_qemu-system-x86_64.json";
    {
        CapabilityCache cache{bed.ports};
        const auto known = bed.run(cache.get(emulator));
        EXPECT_EQ(known->arch, "x86_64");
        EXPECT_GT(known->version, 6000000U);
        EXPECT_TRUE(known->find_machine("q35"));
        EXPECT_TRUE(known->has_device("virtio-blk-pci"));
        EXPECT_TRUE(known->has_object("memory-backend-memfd"));
        EXPECT_TRUE(known->has_command("set-action"));
        EXPECT_TRUE(known->has_option("display", "none"));
        EXPECT_FALSE(known->has_option("display", "Available"));
        EXPECT_GT(known->tcg_cpus.size(), 20U);
        EXPECT_EQ(bed.run(cache.get(emulator)), known);
    }
    // A mark in the file shows that the second object reads it.
    auto stored = json::parse(*bed.files.read(file, 1U << 24));
    stored["capabilities"]["package"] = "marked";
    bed.files.write_volatile(file, stored.dump(), 0600);
    {
        CapabilityCache cache{bed.ports};
        EXPECT_EQ(bed.run(cache.get(emulator))->package, "marked");
    }
    stored["signature"] = "of another binary";
    bed.files.write_volatile(file, stored.dump(), 0600);
    CapabilityCache cache{bed.ports};
    EXPECT_NE(bed.run(cache.get(emulator))->package, "marked");
}

Task<> note(CapabilityCache& cache, std::vector<std::shared_ptr<const Capabilities>>& got) {
    got.push_back(co_await cache.get(emulator));
}

TEST(CapabilityCache, SharesTheProbeThatRuns) {
    tests::HostBed bed;
    CapabilityCache cache{bed.ports};
    std::vector<std::shared_ptr<const Capabilities>> got;
    Scope scope;
    for (int i = 0; i < 3; ++i) scope.spawn(note(cache, got));
    bed.run_until([&] { return got.size() == 3; });
    EXPECT_EQ(got[0], got[1]);
    EXPECT_EQ(got[0], got[2]);
}

}  // namespace
}  // namespace virtbus::qemu
