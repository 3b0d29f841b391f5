// SPDX-License-Identifier: LGPL-2.1-or-later
// Processors and memory where the answer depends on the host, and what a host is said not to be able to do.
#include <gtest/gtest.h>

#include "qemu/unsupported.hpp"
#include "tests/drivers/domain_bed.hpp"

namespace virtbus::qemu {
namespace {

using namespace virtbus::test;

/// An emulator with KVM on a host whose CPU is small.
Capabilities with_kvm() {
    Capabilities known = known_capabilities("x86_64");
    known.has_kvm = true;
    known.kvm_cpus = {
        {"Nehalem", true, {}, false}, {"qemu64", true, {}, false}, {"Haswell", false, {"avx2", "pcid"}, false}};
    known.kvm_host.base = "base";
    known.kvm_host.words = {{"family", "6"}, {"model-id", "Small, but here"}, {"vendor", "GenuineIntel"}};
    known.kvm_host.features = {"aes", "sse4.2", "vmx"};
    return known;
}

DomainConfig guest(const std::string& cpu, const std::string& more = "") {
    return whole(
        "<domain type='kvm'><name>n</name><uuid>00000000-0000-4000-8000-000000000001</uuid>"
        "<memory>65536</memory><os><type arch='x86_64' machine='q35'>hvm</type></os>" +
        more + cpu + "<devices/></domain>");
}

std::string words_of(const std::string& cpu) {
    auto line = one_a_line(standalone_command(guest(cpu), with_kvm(), false));
    const auto at = line.find("\n-cpu ") + 6;
    return line.substr(at, line.find('\n', at) - at);
}
std::string problems_of(const std::string& cpu, const std::string& more = "") {
    return fmt::format("{}", fmt::join(unsupported(guest(cpu, more), with_kvm()), "; "));
}

TEST(Processor, HostModelIsWhatQemuSaysOfTheHost) {
    EXPECT_EQ(words_of("<cpu mode='host-model'><feature policy='disable' name='vmx'/></cpu>"),
              "base,family=6,model-id=Small,, but here,vendor=GenuineIntel,aes=on,sse4.2=on,vmx=on,vmx=off");
    EXPECT_EQ(words_of("<cpu match='minimum'><model>Nehalem</model></cpu>"), words_of("<cpu mode='host-model'/>"));
    EXPECT_EQ(words_of("<cpu mode='host-passthrough'/>"), "host,migratable=on");
    EXPECT_EQ(words_of("<cpu mode='maximum'/>"), "max,migratable=on");
}

TEST(Processor, OptionalFeaturesFollowTheHost) {
    EXPECT_EQ(words_of("<cpu><model>Nehalem</model><feature policy='optional' name='vmx'/>"
                       "<feature policy='optional' name='avx2'/><feature policy='force' name='svm'/>"
                       "<feature policy='forbid' name='lahf_lm'/><feature name='cmt'/></cpu>"),
              "Nehalem,vmx=on,avx2=off,svm=on,lahf-lm=off");
}

TEST(Processor, UnderFullCheckTheEmulatorEnforcesIt) {
    EXPECT_EQ(words_of("<cpu check='full'><model>Nehalem</model></cpu>"), "Nehalem,enforce=on");
    EXPECT_EQ(words_of("<cpu check='partial'><model>Nehalem</model></cpu>"), "Nehalem");
}

TEST(Processor, WhatIsMissingIsNamed) {
    const std::string haswell = "<model>Haswell</model>";
    EXPECT_EQ(problems_of("<cpu check='partial'>" + haswell + "</cpu>"),
              "cpu model Haswell: this host's CPU does not have avx2, pcid; check='none' starts without");
    EXPECT_EQ(problems_of("<cpu check='none'>" + haswell + "</cpu>"), "");
    EXPECT_EQ(problems_of("<cpu>" + haswell +
                          "<feature policy='disable' name='avx2'/><feature policy='force' "
                          "name='pcid'/></cpu>"),
              "");
    EXPECT_NE(problems_of("<cpu><model>Nehalem</model><feature name='avx512f'/></cpu>").find("avx512f"),
              std::string::npos);
    EXPECT_NE(problems_of("<cpu><model>Nehalem</model><feature policy='forbid' name='aes'/></cpu>").find("forbidden"),
              std::string::npos);
    EXPECT_NE(problems_of("<cpu><model>Nehalem</model><vendor>AMD</vendor></cpu>").find("GenuineIntel"),
              std::string::npos);
    EXPECT_NE(problems_of("<cpu match='strict'><model>Nehalem</model></cpu>").find("strict"), std::string::npos);
    EXPECT_NE(problems_of("<cpu><model>Unheard</model></cpu>").find("Unheard"), std::string::npos);
    EXPECT_EQ(problems_of("<cpu mode='host-passthrough'/>"), "");
}

TEST(Hypervisor, FeaturesThatNeedOthersSaySo) {
    EXPECT_EQ(problems_of("", "<features><hyperv><synic state='on'/></hyperv></features>"),
              "features hyperv synic: needs vpindex too");
    EXPECT_EQ(problems_of("", "<features><hyperv><vpindex state='on'/><synic state='on'/></hyperv></features>"), "");
    EXPECT_NE(problems_of("<cpu mode='host-model'/>", "<features><kvm><hint-dedicated state='on'/></kvm></features>"),
              "");
}

TEST(Processor, WhatTheProbeLearntSurvivesTheCache) {
    const auto known = with_kvm();
    const auto again = capabilities_from_json(to_json(known));
    EXPECT_EQ(again.kvm_host.words, known.kvm_host.words);
    EXPECT_EQ(again.kvm_host.features, known.kvm_host.features);
    EXPECT_EQ(again.kvm_host.base, "base");
}

}  // namespace
}  // namespace virtbus::qemu
