// SPDX-License-Identifier: LGPL-2.1-or-later
// The command line of every definition of the corpus. After a change that is meant:
//   VIRTBUS_REGENERATE=1 build/tests/drivers/command_line_test && git diff tests/data/domains
#include "qemu/command_line.hpp"

#include <gtest/gtest.h>
#include <sys/wait.h>

#include <cstdlib>

#include "tests/drivers/domain_bed.hpp"

namespace virtbus::qemu {
namespace {

using namespace virtbus::tests;

class Corpus : public testing::TestWithParam<std::string> {
protected:
    std::string xml() const { return read_text(data_folder() / "domains" / (GetParam() + ".xml")); }
};

std::string expected_words(const std::string& text) try {
    const DomainConfig config = whole(text);
    return one_a_line(standalone_command(config, known_capabilities(config.os.arch), false));
} catch (const Error& error) {
    return fmt::format("refused, {}: {}\n", word(error.code()), error.what());
}

TEST_P(Corpus, HasTheExpectedCommandLine) {
    const auto path = data_folder() / "domains" / (GetParam() + ".args");
    const std::string line = expected_words(xml());
    if (std::getenv("VIRTBUS_REGENERATE")) std::ofstream{path} << line;
    EXPECT_EQ(line, read_text(path));
}

TEST_P(Corpus, IsWholeAfterOnceAndSurvivesBeingWritten) {
    DomainConfig once;
    try {
        once = whole(xml());
    } catch (const Error&) {
        return;  // its refusal is what the test above expects
    }
    EXPECT_EQ(xml::format_domain(whole(once)), xml::format_domain(once));
    const std::string written = xml::format_domain(once, {.secure = true, .inactive = true});
    EXPECT_EQ(xml::format_domain(whole(written), {.secure = true, .inactive = true}), written);
}

TEST_P(Corpus, KeepsItsAddressesWhenItIsDefinedAgain) {
    DomainConfig before;
    try {
        before = whole(xml());
    } catch (const Error&) {
        return;
    }
    // The same text again, and with a device more in the middle of each list that may have one.
    EXPECT_EQ(xml::format_domain(whole(xml(), &before)), xml::format_domain(before));
    DomainConfig more = xml::parse_domain(xml()).config;
    make_steady(more);
    Interface interface;
    interface.model = before.os.machine == "isapc" ? "ne2k_isa" : "virtio";
    interface.mac = "52:54:00:ff:ff:ff";
    more.devices.interfaces.insert(more.devices.interfaces.begin(), interface);
    more = whole(more, &before);
    for (const auto& disk : before.devices.disks)
        for (const auto& other : more.devices.disks)
            if (disk.target.dev == other.target.dev)
                EXPECT_EQ(disk.info.address, other.info.address) << disk.target.dev;
    for (const auto& old : before.devices.interfaces)
        for (const auto& other : more.devices.interfaces)
            if (old.mac == other.mac && old.model == other.model)
                EXPECT_EQ(old.info.address, other.info.address) << old.mac;
    for (std::size_t i = 0; i < before.devices.videos.size(); ++i)
        EXPECT_EQ(before.devices.videos[i].info.address, more.devices.videos[i].info.address);
}

INSTANTIATE_TEST_SUITE_P(Domains, Corpus, testing::ValuesIn(domain_names()), [](const auto& each) {
    std::string name = each.param;
    std::replace_if(name.begin(), name.end(), [](unsigned char c) { return !std::isalnum(c); }, '_');
    return name;
});

}  // namespace
}  // namespace virtbus::qemu
