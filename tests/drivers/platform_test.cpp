// SPDX-License-Identifier: LGPL-2.1-or-later
// Processors and memory where the answer depends on the host, and what a host is said not to be able to do.
#include <fcntl.h>
#include <gtest/gtest.h>

#include <set>

#include "qemu/files_of.hpp"
#include "qemu/unsupported.hpp"
#include "tests/drivers/domain_bed.hpp"

namespace virtbus::qemu {
namespace {

using namespace virtbus::tests;

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
    EXPECT_EQ(problems_of("<cpu><model>Nehalem</model><feature name='invtsc'/><feature name='topoext'/></cpu>"), "")
        << "of these QEMU does not tell";
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

TEST(Vsock, TakesTheAddressWishedForOrTheFirstFreeOne) {
    std::vector<std::uint32_t> asked;
    const auto kernel = [&](std::set<std::uint32_t> others) {
        return [&asked, others](std::uint32_t cid) {
            asked.push_back(cid);
            return !others.contains(cid);
        };
    };
    VsockCid any;
    any.automatic = true;
    EXPECT_EQ(take_cid(any, kernel({3, 4})), 5u);
    EXPECT_EQ(take_cid(std::nullopt, kernel({})), 3u);
    EXPECT_EQ(asked, (std::vector<std::uint32_t>{3, 4, 5, 3}));
    any.address = 9;
    EXPECT_EQ(take_cid(any, kernel({})), 9u) << "what it had before";
    EXPECT_EQ(take_cid(any, kernel({9})), 3u);
    VsockCid fixed;
    fixed.address = 7;
    EXPECT_EQ(take_cid(fixed, kernel({})), 7u);
    EXPECT_THROW(take_cid(fixed, kernel({7})), Error);
}

/// The line of a start, with a descriptor behind every file that it asks for.
std::string started(const std::string& devices) {
    auto config = whole(
        "<domain type='kvm'><name>n</name><uuid>00000000-0000-4000-8000-000000000001</uuid>"
        "<memory>65536</memory><os><type arch='x86_64' machine='q35'>hvm</type></os><devices>" +
        devices + "</devices></domain>");
    assign_aliases(config);
    OpenedResources opened;
    for (const auto& file : files_of(config, "/run/x")) {
        OpenedFile& entry = opened.files[file.key];
        entry.path = file.path;
        entry.fd = Fd{::open("/dev/null", O_RDWR)};
    }
    opened.vsock_cid = 17;
    return one_a_line(command_line(config, with_kvm(), opened, {}).argv);
}

TEST(Descriptors, StandWhereQemuTakesThem) {
    const auto line = started(
        "<interface type='vdpa'><source dev='/dev/vhost-vdpa-3'/><model type='virtio'/></interface>"
        "<interface type='vhostuser'><source type='unix' path='/run/v.sock' mode='server'/><model type='virtio'/>"
        "</interface>"
        "<interface type='bridge'><source bridge='br0'/><model type='virtio'/></interface>"
        "<serial type='dev'><source path='/dev/ttyS0'/></serial>"
        "<rng model='virtio'><backend model='random'>/dev/hwrng</backend></rng>"
        "<vsock model='virtio'><cid auto='yes'/></vsock>");
    for (const char* path : {"/dev/vhost-vdpa-3", "/run/v.sock", "/dev/ttyS0", "/dev/hwrng", "/dev/vhost"})
        EXPECT_EQ(line.find(path), line.npos) << path << "\n" << line;
    EXPECT_NE(line.find(R"("type":"vhost-vdpa","vhostdev":"/dev/fdset/)"), line.npos) << line;
    EXPECT_NE(line.find(R"("vhost":true,"vhostfd":")"), line.npos) << line;
    EXPECT_NE(line.find(R"("guest-cid":17,"vhostfd":")"), line.npos) << line;
    EXPECT_NE(line.find(R"("filename":"/dev/fdset/)"), line.npos) << line;
    EXPECT_NE(line.find("serial,id=charserial0,path=/dev/fdset/"), line.npos) << line;
    EXPECT_NE(line.find("socket,id=charnet1,fd="), line.npos) << line;
}

}  // namespace
}  // namespace virtbus::qemu
