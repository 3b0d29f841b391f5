// SPDX-License-Identifier: LGPL-2.1-or-later
// Strings of a definition that look like options stay strings: each lands whole in one value of one word.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "qemu/command/writer.hpp"
#include "tests/drivers/domain_bed.hpp"

namespace virtbus::qemu {
namespace {

using namespace virtbus::tests;

const std::string evil = "a,b=c,,\"x\\\"}',file=/etc/shadow -device x\n%s${HOME}";

/// The value of a key in a key=value list as QEMU reads it.
std::string value_of(const std::string& list, const std::string& key) {
    std::vector<std::string> parts{""};
    for (std::size_t i = 0; i < list.size(); ++i) {
        if (list[i] != ',')
            parts.back() += list[i];
        else if (i + 1 < list.size() && list[i + 1] == ',')
            parts.back() += list[i++];
        else
            parts.emplace_back();
    }
    std::string found;
    for (const auto& part : parts)
        if (part.starts_with(key + "=")) found += part.substr(key.size() + 1);
    return found;
}

DomainConfig base() {
    return whole(
        "<domain type='qemu'><name>n</name><uuid>00000000-0000-4000-8000-000000000001</uuid><memory>65536</memory>"
        "<os><type arch='x86_64' machine='q35'>hvm</type></os><devices>"
        "<disk><source file='/a'/><target dev='vda'/><serial>s</serial></disk>"
        "<serial type='file'><source path='/p'/></serial>"
        "<channel type='unix'><source mode='bind' path='/s'/><target type='virtio' name='x'/></channel>"
        "<filesystem><source dir='/d'/><target dir='t'/></filesystem>"
        "<graphics type='vnc'><listen type='socket' socket='/v'/></graphics></devices></domain>");
}

std::string word_with(const std::vector<std::string>& argv, std::string_view begin) {
    for (const auto& word : argv)
        if (word.find(begin) != word.npos) return word;
    return "";
}

TEST(HostileStrings, StayValues) {
    DomainConfig config = base();
    config.name = evil;
    config.devices.disks[0].source->file = evil;
    config.devices.disks[0].serial = evil;
    config.devices.serials[0].backend.make_source().path = evil;
    config.devices.consoles[0].backend.make_source().path = evil;
    config.devices.channels[0].backend.make_source().path = evil;
    config.devices.channels[0].target->name = evil;
    config.devices.filesystems[0].source->dir = evil;
    config.devices.filesystems[0].target_dir = evil;
    config.devices.graphics[0].listens[0].socket = evil;
    const auto plain = standalone_command(base(), known_capabilities("x86_64"), false);
    const auto argv = standalone_command(config, known_capabilities("x86_64"), false);
    ASSERT_EQ(argv.size(), plain.size()) << "a string became a word of its own";
    EXPECT_EQ(value_of(word_with(argv, "guest="), "guest"), evil);
    EXPECT_EQ(value_of(word_with(argv, "id=charserial0"), "path"), evil);
    EXPECT_EQ(value_of(word_with(argv, "id=charchannel0"), "path"), evil);
    EXPECT_EQ(value_of(word_with(argv, "id=fsdev-fs0"), "path"), evil);
    using nlohmann::json;
    EXPECT_EQ(json::parse(word_with(argv, "libvirt-1-storage")).at("filename"), evil);
    EXPECT_EQ(json::parse(word_with(argv, "virtio-blk-pci")).at("serial"), evil);
    EXPECT_EQ(json::parse(word_with(argv, "virtserialport")).at("name"), evil);
    EXPECT_EQ(json::parse(word_with(argv, "virtio-9p-pci")).at("mount_tag"), evil);
    const auto vnc = word_with(argv, "unix:");
    EXPECT_EQ(value_of("x=" + vnc, "x"), "unix:" + evil);
}

TEST(HostileStrings, AreRefusedWhereOnlyWordsAreTaken) {
    const auto refuses = [](auto change) {
        DomainConfig config = base();
        change(config);
        EXPECT_THROW(standalone_command(config, known_capabilities("x86_64"), false), Error);
    };
    refuses([](DomainConfig& config) { config.os.machine = "q35,dumpdtb=/etc/x"; });
    refuses([](DomainConfig& config) { config.os.machine = "firmware=/etc/x"; });
    refuses([](DomainConfig& config) { config.cpu->model->name = "qemu64,x=y"; });
    refuses([](DomainConfig& config) { config.cpu->features.push_back({"require", "x=on,y", {}}); });
}

TEST(HostileStrings, SurviveJson) {
    std::string every;
    for (int c = 1; c < 128; ++c) every += static_cast<char>(c);
    EXPECT_EQ(nlohmann::json::parse(json_string(every)).get<std::string>(), every);
    EXPECT_EQ(Json{}.set("a\"b", "c").set("n", 3).set("t", true).text(), "{\"a\\\"b\":\"c\",\"n\":3,\"t\":true}");
}

}  // namespace
}  // namespace virtbus::qemu
