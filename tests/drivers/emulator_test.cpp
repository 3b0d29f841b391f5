// SPDX-License-Identifier: LGPL-2.1-or-later
// The real emulator takes the runnable command line of every definition of the corpus: it comes up with its CPUs
// stopped, and quits when told. Emulators that are not installed are passed over; VIRTBUS_EMULATORS names another
// folder in which to look for them.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "qemu/unsupported.hpp"
#include "tests/drivers/domain_bed.hpp"
#include "virtbus/fd.hpp"

namespace virtbus::qemu {
namespace {

using namespace virtbus::tests;

std::string emulator_of(const std::string& arch) {
    const char* folder = std::getenv("VIRTBUS_EMULATORS");
    return fmt::format("{}/qemu-system-{}", folder ? folder : "/usr/bin", arch == "i686" ? "x86_64" : arch);
}

/// What it said on its standard error; "" when it came up and left with 0.
std::string run(std::vector<std::string> argv) {
    argv.insert(argv.end(), {"-qmp", "stdio"});
    const Fd input{::memfd_create("input", 0)}, errors{::memfd_create("errors", 0)};
    constexpr std::string_view talk = R"({"execute":"qmp_capabilities"}{"execute":"quit"})";
    EXPECT_EQ(::pwrite(input.get(), talk.data(), talk.size(), 0), static_cast<ssize_t>(talk.size()));
    std::vector<char*> words;
    for (auto& word : argv) words.push_back(word.data());
    words.push_back(nullptr);
    const pid_t child = ::fork();
    if (child == 0) {
        ::dup2(input.get(), 0);
        ::dup2(::open("/dev/null", O_WRONLY), 1);
        ::dup2(errors.get(), 2);
        ::alarm(60);
        ::execv(words[0], words.data());
        ::_exit(127);
    }
    int status = 0;
    ::waitpid(child, &status, 0);
    std::string said(4096, '\0');
    said.resize(static_cast<std::size_t>(std::max<ssize_t>(0, ::pread(errors.get(), said.data(), said.size(), 0))));
    return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? "" : "status " + std::to_string(status) + ": " + said;
}

/// What QEMU refuses though CheckDomain has nothing against it, each with its reason. An entry that QEMU takes fails
/// the test, and so does one whose definition is gone.
struct NotHere {
    std::string_view name, reason;
};
constexpr std::array not_here{
    NotHere{"units", "QEMU refuses more memory than the CPU model can address"},
};

class Accepted : public testing::TestWithParam<std::string> {};

TEST_P(Accepted, ByTheRealEmulator) {
    const auto folder = data_folder() / "domains";
    // Refused as it stands: command_line_test expects the sentence.
    if (read_text(folder / (GetParam() + ".args")).starts_with("refused, ")) return;
    DomainConfig config = xml::parse_domain(read_text(folder / (GetParam() + ".xml"))).config;
    const std::string arch = config.os.arch.empty() ? "x86_64" : config.os.arch;
    const std::string emulator = emulator_of(arch);
    if (::access(emulator.c_str(), X_OK) != 0) GTEST_SKIP() << emulator << " is not installed";
    config.devices.emulator = emulator;
    config.qemu_commandline.reset();  // words that only a person can know to be right
    // Whether KVM works differs from host to host; the rest of the line must be right anyway.
    config.type = "qemu";
    if (config.cpu && config.cpu->mode == "host-passthrough") config.cpu->mode = "maximum";
    if (config.features) config.features->hyperv.reset();
    config = whole(config);
    auto problems = unsupported(config, known_capabilities(arch));
    // How an interface reaches the outside does not count here.
    std::erase_if(problems, [](auto& problem) { return problem.starts_with("interface '"); });
    if (!problems.empty()) GTEST_SKIP() << "CheckDomain says why not: " << fmt::format("{}", fmt::join(problems, "; "));
    const auto argv = standalone_command(config, known_capabilities(arch), true);
    const std::string said = run(argv);
    const auto known = std::ranges::find(not_here, GetParam(), &NotHere::name);
    if (known == not_here.end())
        EXPECT_EQ(said, "") << one_a_line(argv);
    else
        EXPECT_NE(said, "") << "it can be run here now; this is no longer true: " << known->reason;
}

TEST(Accepted, KnowsOnlyDefinitionsThatAreThere) {
    const auto names = domain_names();
    for (const auto& each : not_here) EXPECT_TRUE(std::ranges::count(names, each.name)) << each.name;
}

INSTANTIATE_TEST_SUITE_P(Domains, Accepted, testing::ValuesIn(domain_names()), [](const auto& each) {
    std::string name = each.param;
    std::replace_if(name.begin(), name.end(), [](unsigned char c) { return !std::isalnum(c); }, '_');
    return name;
});

}  // namespace
}  // namespace virtbus::qemu
