// SPDX-License-Identifier: LGPL-2.1-or-later
// Processors and memory where the answer depends on the host, and what a host is said not to be able to do.
#include <fcntl.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <set>

#include "qemu/files_of.hpp"
#include "qemu/host_model.hpp"
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
              "base,family=6,vendor=GenuineIntel,aes=on,sse4.2=on,vmx=on,vmx=off");
    EXPECT_NE(one_a_line(standalone_command(guest("<cpu mode='host-model'/>"), with_kvm(), false))
                  .find("\n-global driver=base-x86_64-cpu,property=model-id,value=Small,, but here\n"),
              std::string::npos);
    EXPECT_EQ(words_of("<cpu match='minimum'><model>Nehalem</model></cpu>"), words_of("<cpu mode='host-model'/>"));
    EXPECT_EQ(words_of("<cpu mode='host-passthrough'/>"), "host,migratable=on");
    EXPECT_EQ(words_of("<cpu mode='maximum'/>"), "max,migratable=on");
}

TEST(Processor, HostModelIsWrittenOutAtTheStart) {
    const auto known = with_kvm();
    auto config = guest(
        "<cpu mode='host-model'><topology sockets='1' cores='1' threads='1'/><feature policy='disable' "
        "name='vmx'/><feature policy='optional' name='avx2'/></cpu>");
    resolve_host_model(config, known);
    EXPECT_EQ(config.cpu->mode, "custom");
    EXPECT_EQ(config.cpu->model->name, "base");
    EXPECT_TRUE(config.cpu->topology);
    // As it is written and read again, with another emulator on a larger host.
    const auto text = xml::format_domain(config, {.secure = true});
    EXPECT_NE(text.find("<property name='model-id' value='Small, but here'/>"), std::string::npos) << text;
    auto restored = xml::parse_domain(text).config;
    EXPECT_EQ(restored, config);
    auto larger = known;
    larger.kvm_host.features.insert("avx2");
    larger.kvm_host.words["model-id"] = "Large";
    resolve_host_model(restored, larger);
    const auto words = [](const DomainConfig& each, const Capabilities& emulator) {
        auto line = one_a_line(standalone_command(each, emulator, false));
        const auto at = line.find("\n-cpu ") + 6;
        return line.substr(at, line.find('\n', at) - at);
    };
    EXPECT_EQ(words(config, known), "base,vendor=GenuineIntel,family=6,aes=on,sse4.2=on,vmx=off,avx2=off");
    EXPECT_EQ(words(restored, larger), words(config, known));
}

TEST(Processor, AtLeastIsWrittenOutTooAndTheRestLeftAlone) {
    const auto known = with_kvm();
    auto minimum = guest("<cpu match='minimum'><model>Nehalem</model></cpu>");
    resolve_host_model(minimum, known);
    EXPECT_EQ(minimum.cpu->match, "exact");
    EXPECT_EQ(minimum.cpu->model->name, "base");
    for (const auto* cpu : {"<cpu mode='host-passthrough'/>", "<cpu><model>Nehalem</model></cpu>", ""}) {
        const auto before = guest(cpu);
        auto after = before;
        resolve_host_model(after, known);
        EXPECT_EQ(after, before) << cpu;
    }
    auto emulated = guest("<cpu mode='host-model'/>");
    emulated.type = "qemu";
    resolve_host_model(emulated, known);
    EXPECT_EQ(emulated.cpu->mode, "host-model") << "TCG's is named by QEMU at each start";
}

TEST(Processor, AStrictModelIsComparedWithWhatQemuSaysOfIt) {
    const auto known = with_kvm();
    const auto config = guest("<cpu match='strict'><model>Nehalem</model><feature name='vmx'/></cpu>");
    ASSERT_TRUE(is_strict(config));
    EXPECT_FALSE(is_strict(guest("<cpu match='exact'><model>Nehalem</model></cpu>")));
    EXPECT_FALSE(is_strict(guest("<cpu match='strict' check='none'><model>Nehalem</model></cpu>")));
    EXPECT_EQ(strict_question(config).dump(), R"({"model":{"name":"Nehalem"},"type":"static"})");
    const auto answer = [](bool aes) {
        return nlohmann::json{{"model", {{"name", "base"}, {"props", {{"sse4.2", true}, {"aes", aes}}}}}};
    };
    EXPECT_EQ(strict_problem(config, known, answer(true)), "");
    EXPECT_EQ(strict_problem(config, known, answer(false)),
              "cpu match strict: this host's CPU has what the model Nehalem does not: aes; use match exact");
    EXPECT_NE(strict_problem(config, known, nlohmann::json{"rubbish"}), "");
}

TEST(Labels, AConfinementThatIsNotGivenIsRefusedAndTheRestNoted) {
    const auto label = [](const std::string& text) { return problems_of("", text); };
    EXPECT_NE(label("<seclabel type='dynamic' model='selinux'/>").find("less confined"), std::string::npos);
    EXPECT_NE(label("<seclabel type='dynamic' model='apparmor' relabel='yes'/>").find("apparmor"), std::string::npos);
    EXPECT_NE(label("<seclabel type='static' model='dac'><label>+0:+0</label></seclabel>").find("'+0:+0'"),
              std::string::npos);
    EXPECT_EQ(label("<seclabel type='none' model='selinux'/>"), "");
    EXPECT_EQ(label("<seclabel type='none'/>"), "");
    EXPECT_EQ(label("<seclabel type='dynamic' model='dac' relabel='yes'/>"), "");
    const auto notes = [](const std::string& text, const std::string& features = "") {
        return fmt::format("{}", fmt::join(without_effect(guest("", text + features)), "; "));
    };
    EXPECT_NE(notes("<seclabel type='dynamic' model='dac' relabel='yes'/>").find("owners"), std::string::npos);
    EXPECT_EQ(notes("<perf><event name='cmt' enabled='yes'/><event name='mbmt' enabled='no'/></perf>"),
              "perf event cmt: is not counted");
    EXPECT_EQ(notes("<features><xen><e820_host state='on'/></xen></features>"),
              "features xen: is Xen's; QEMU does nothing about it");
    EXPECT_EQ(notes("<features><acpi/></features>"), "");
}

TEST(Labels, OfSourcesAreNotedUnlessTheyAskForWhatIsDone) {
    const auto notes = [](const char* label) {
        return without_effect(
            whole(fmt::format("<domain type='qemu'><name>n</name><memory>65536</memory><os><type arch='x86_64' "
                              "machine='q35'>hvm</type></os><devices><disk><source file='/a'>{}</source><target "
                              "dev='vda'/></disk></devices></domain>",
                              label)));
    };
    EXPECT_TRUE(notes("<seclabel model='dac' relabel='no'/>").empty());
    ASSERT_EQ(notes("<seclabel model='dac'><label>107:107</label></seclabel>").size(), 1u);
    EXPECT_NE(notes("<seclabel model='dac'><label>107:107</label></seclabel>")[0].find("'vda'"), std::string::npos);
}

TEST(Clock, APaceOfCatchingUpIsNotPromised) {
    const std::string paced =
        "<clock offset='utc'><timer name='rtc' tickpolicy='catchup'><catchup threshold='123' slew='120' "
        "limit='10000'/></timer></clock>";
    EXPECT_EQ(problems_of("", paced), "");
    ASSERT_EQ(without_effect(guest("", paced)).size(), 1u);
    EXPECT_NE(without_effect(guest("", paced)).front().find("pace"), std::string::npos);
    EXPECT_TRUE(
        without_effect(guest("", "<clock offset='utc'><timer name='rtc' tickpolicy='catchup'/></clock>")).empty());
}

TEST(Memory, OneSetOfNodesForAllCells) {
    const auto tune = [](const char* nodes) {
        return problems_of("<cpu><numa><cell id='0' memory='65536' cpus='0'/></numa></cpu>",
                           fmt::format("<numatune><memory mode='restrictive' nodeset='0-1'/><memnode cellid='0' "
                                       "mode='restrictive' nodeset='{}'/></numatune>",
                                       nodes));
    };
    EXPECT_EQ(tune("0-1"), "");
    EXPECT_NE(tune("0").find("for all cells at once"), std::string::npos);
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
    EXPECT_EQ(problems_of("<cpu match='strict'><model>Nehalem</model></cpu>"), "") << "it is judged at the start";
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
    for (const char* path : {"/dev/vhost-vdpa-3", "/dev/ttyS0", "/dev/hwrng", "/dev/vhost"})
        EXPECT_EQ(line.find(path), line.npos) << path << "\n" << line;
    EXPECT_NE(line.find(R"("type":"vhost-vdpa","vhostdev":"/dev/fdset/)"), line.npos) << line;
    EXPECT_NE(line.find(R"("vhost":true,"vhostfd":")"), line.npos) << line;
    EXPECT_NE(line.find(R"("guest-cid":17,"vhostfd":")"), line.npos) << line;
    EXPECT_NE(line.find(R"("filename":"/dev/fdset/)"), line.npos) << line;
    EXPECT_NE(line.find("serial,id=charserial0,path=/dev/fdset/"), line.npos) << line;
    // A chardev on a descriptor passes none to its peer, which vhost-user needs.
    EXPECT_NE(line.find("socket,id=charnet1,path=/run/v.sock,server=on"), line.npos) << line;
}

}  // namespace
}  // namespace virtbus::qemu
