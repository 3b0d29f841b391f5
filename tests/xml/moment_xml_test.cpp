// SPDX-License-Identifier: LGPL-2.1-or-later
// Snapshots, checkpoints and backups as XML: what libvirt writes is read and written back, what breaks a rule is
// refused with a sentence, and nothing that means harm gets further than <domain> lets it.
#include "service/xml/moment_xml.hpp"

#include <fmt/format.h>

#include "service/xml/indentation.hpp"
#include "support.hpp"

namespace virtbus::xml {
namespace {

Refusal snapshot_refusal(const std::string& inside) {
    return refusal([&] { parse_snapshot("<domainsnapshot>" + inside + "</domainsnapshot>"); });
}
Refusal checkpoint_refusal(const std::string& inside) {
    return refusal([&] { parse_checkpoint("<domaincheckpoint>" + inside + "</domaincheckpoint>"); });
}
Refusal backup_refusal(const std::string& text) {
    return refusal([&] { parse_backup(text); });
}
std::string pull(const std::string& inside) {
    return "<domainbackup mode='pull'>" + inside + "</domainbackup>";
}

constexpr const char* full_snapshot = R"(<domainsnapshot>
  <name>before the upgrade</name>
  <description>first line
  second &lt;line&gt;</description>
  <state>running</state>
  <parent>
    <name>fresh</name>
  </parent>
  <creationTime>1700000000</creationTime>
  <memory snapshot='external' file='/var/lib/vm.mem'/>
  <disks>
    <disk name='vda' snapshot='external' type='file'>
      <driver type='qcow2'/>
      <source file='/img/vda.before'/>
    </disk>
    <disk name='vdb' snapshot='external' type='block'>
      <driver type='qcow2'/>
      <source dev='/dev/mapper/x'/>
    </disk>
    <disk name='vdc' snapshot='external' type='network'>
      <driver type='qcow2'/>
      <source protocol='nbd' name='x'>
        <host name='localhost' port='10809'/>
      </source>
    </disk>
    <disk name='/img/data.qcow2' snapshot='no'/>
  </disks>
  <domain type='qemu' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>
    <name>d</name>
    <description>one

    two
</description>
    <memory unit='KiB'>1024</memory>
    <os>
      <type>hvm</type>
    </os>
    <qemu:commandline>
      <qemu:arg value='-x'/>
    </qemu:commandline>
  </domain>
  <inactiveDomain type='qemu'>
    <name>d</name>
    <memory unit='KiB'>2048</memory>
    <os>
      <type>hvm</type>
    </os>
  </inactiveDomain>
  <cookie>
    <slirpHelper/>
  </cookie>
  <active>1</active>
</domainsnapshot>
)";

TEST(SnapshotXml, ReadsWhatLibvirtWrites) {
    std::vector<std::string> unknown;
    const auto config = parse_snapshot(full_snapshot, &unknown);
    EXPECT_TRUE(unknown.empty()) << fmt::format("{}", fmt::join(unknown, ", "));
    EXPECT_EQ(config.name, "before the upgrade");
    EXPECT_EQ(config.description, "first line\n  second <line>");
    EXPECT_EQ(config.state, "running");
    EXPECT_EQ(config.parent, "fresh");
    EXPECT_EQ(config.creation_time, 1700000000u);
    EXPECT_EQ(config.memory->place, SnapshotPlace::external);
    EXPECT_EQ(config.memory->file, "/var/lib/vm.mem");
    ASSERT_EQ(config.disks.size(), 4u);
    EXPECT_EQ(config.disks[0].driver->type, "qcow2");
    EXPECT_EQ(config.disks[0].source->file, "/img/vda.before");
    EXPECT_EQ(config.disks[1].type, StorageType::block);
    EXPECT_EQ(config.disks[1].source->dev, "/dev/mapper/x");
    EXPECT_EQ(config.disks[2].source->hosts.at(0).name, "localhost");
    EXPECT_EQ(config.disks[3].place, SnapshotPlace::no);
    EXPECT_EQ(config.active, 1u);
}

TEST(SnapshotXml, WritesItBackAsItWas) {
    EXPECT_EQ(format_snapshot(parse_snapshot(full_snapshot)), full_snapshot);
}

TEST(SnapshotXml, TheDefinitionsInsideCanBeRead) {
    const auto config = parse_snapshot(full_snapshot);
    EXPECT_TRUE(config.domain.starts_with("<domain type='qemu'") || config.domain.starts_with("<domain xmlns:qemu"))
        << config.domain;
    const auto live = parse_domain(config.domain).config;
    EXPECT_EQ(live.description, "one\n\n    two\n") << "what an element says keeps its blanks";
    EXPECT_EQ(live.qemu_commandline->args, std::vector<std::string>{"-x"});
    EXPECT_PRED2(contains, config.domain, "\n  <name>d</name>\n") << "at the left margin";
    EXPECT_TRUE(config.inactive_domain.starts_with("<domain ")) << config.inactive_domain;
    EXPECT_TRUE(config.inactive_domain.ends_with("</domain>")) << config.inactive_domain;
    EXPECT_EQ(parse_domain(config.inactive_domain).config.memory, 2048u * 1024);
}

TEST(SnapshotXml, ANamespaceFromFurtherOutComesAlong) {
    const auto config =
        parse_snapshot("<domainsnapshot xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>" +
                       domain("<qemu:commandline><qemu:arg value='-x'/></qemu:commandline>") + "</domainsnapshot>");
    EXPECT_EQ(parse_domain(config.domain).config.qemu_commandline->args, std::vector<std::string>{"-x"});
}

TEST(SnapshotXml, TheLargeCorpusGoesThroughUnchanged) {
    for (const auto& name : corpus()) {
        SnapshotConfig config;
        config.name = name;
        config.domain = expected(name);
        config.inactive_domain = definition(name);
        const auto text = format_snapshot(parse_snapshot(format_snapshot(config)));
        const auto again = parse_snapshot(text);
        EXPECT_EQ(format_snapshot(again), text) << name;
        EXPECT_EQ(parse_domain(again.domain).config, parse_domain(config.domain).config) << name;
        EXPECT_EQ(format_domain(parse_domain(again.domain).config, {.secure = true}), config.domain) << name;
        EXPECT_EQ(parse_domain(again.inactive_domain).config, parse_domain(config.inactive_domain).config) << name;
    }
}

TEST(SnapshotXml, LettersBeyondAsciiStayAsTheyAre) {
    const auto text =
        "<domainsnapshot>\n  <name>größe 日本</name>\n  <domain type='qemu'>\n    <title "
        "a='é&apos;'>日本&apos;</title>\n  "
        "</domain>\n</domainsnapshot>\n";
    EXPECT_EQ(format_snapshot(parse_snapshot(text)), text);
}

TEST(SnapshotXml, AnEmptyOneIsAllowed) {
    const auto config = parse_snapshot("<domainsnapshot/>");
    EXPECT_EQ(config, SnapshotConfig{});
    EXPECT_EQ(format_snapshot(config), "<domainsnapshot/>\n");
}

TEST(SnapshotXml, Names) {
    const auto named = [](const std::string& name) { return "<name>" + name + "</name>"; };
    EXPECT_EQ(snapshot_refusal(named(std::string(255, 'x'))).message, "");
    EXPECT_EQ(snapshot_refusal(named("a.b c")).message, "");
    EXPECT_REFUSED(snapshot_refusal(named(std::string(256, 'x'))), Code::invalid_xml, "256 bytes; at most 255");
    EXPECT_REFUSED(snapshot_refusal(named("")), Code::invalid_xml, "is empty");
    EXPECT_REFUSED(snapshot_refusal("<name/>"), Code::invalid_xml, "is empty");
    EXPECT_REFUSED(snapshot_refusal(named("a/b")), Code::invalid_xml, "'/'");
    EXPECT_REFUSED(snapshot_refusal(named(".a")), Code::invalid_xml, "begin with '.'");
    EXPECT_REFUSED(snapshot_refusal(named("a\nb")), Code::invalid_xml, "control characters");
    EXPECT_REFUSED(snapshot_refusal(named("a") + named("b")), Code::invalid_xml, "only once");
    EXPECT_REFUSED(checkpoint_refusal(named("a/b")), Code::invalid_xml, "the checkpoint's name");
}

TEST(SnapshotXml, WhereItGoesMakesItExternal) {
    const auto config = parse_snapshot(
        "<domainsnapshot><memory file='/m'/><disks><disk name='a'><source file='/a'/></disk><disk name='b'><driver "
        "type='qcow2'/></disk><disk name='c'/></disks></domainsnapshot>");
    EXPECT_EQ(config.memory->place, SnapshotPlace::external);
    EXPECT_EQ(config.disks[0].place, SnapshotPlace::external);
    EXPECT_EQ(config.disks[1].place, SnapshotPlace::external);
    EXPECT_EQ(config.disks[2].place, SnapshotPlace::unset);
}

TEST(SnapshotXml, RulesOfDisksAndMemory) {
    const auto disk = [](const std::string& text) { return snapshot_refusal("<disks>" + text + "</disks>"); };
    EXPECT_REFUSED(disk("<disk/>"), Code::invalid_xml, "attribute 'name' is missing");
    EXPECT_REFUSED(disk("<disk name=''/>"), Code::invalid_xml, "name=''");
    EXPECT_REFUSED(disk("<disk name='a'/><disk name='b'/><disk name='a'/>"), Code::invalid_xml, "'a' occurs twice");
    EXPECT_REFUSED(disk("<disk name='a' snapshot=''/>"), Code::invalid_xml, "allowed: no, internal, external, manual");
    EXPECT_REFUSED(disk("<disk name='a' snapshot='yes'/>"), Code::invalid_xml, "snapshot='yes'");
    EXPECT_REFUSED(disk("<disk name='a' snapshot='internal'><source file='/x'/></disk>"), Code::invalid_xml,
                   "<source>");
    EXPECT_REFUSED(disk("<disk name='a'><source file='x'/></disk>"), Code::invalid_xml, "not absolute");
    EXPECT_REFUSED(disk("<disk name='a' type='dir'><source dir='/x'/></disk>"), Code::invalid_xml, "type='dir'");
    EXPECT_REFUSED(disk("<disk name='a' type='network'><source name='x'/></disk>"), Code::invalid_xml, "protocol");
    EXPECT_REFUSED(disk("<disk name='a'><driver type='zip'/></disk>"), Code::invalid_xml, "type='zip'");
    EXPECT_REFUSED(snapshot_refusal("<memory snapshot='external'/>"), Code::invalid_xml, "needs attribute 'file'");
    EXPECT_REFUSED(snapshot_refusal("<memory snapshot='no' file='/x'/>"), Code::invalid_xml, "has no file");
    EXPECT_REFUSED(snapshot_refusal("<memory snapshot='manual'/>"), Code::invalid_xml, "manual");
    EXPECT_REFUSED(snapshot_refusal("<memory file='x'/>"), Code::invalid_xml, "not absolute");
    EXPECT_REFUSED(snapshot_refusal("<state>asleep</state>"), Code::invalid_xml, "disk-snapshot");
    EXPECT_REFUSED(snapshot_refusal("<creationTime>soon</creationTime>"), Code::invalid_xml, "'soon'");
    EXPECT_REFUSED(snapshot_refusal("<creationTime>-1</creationTime>"), Code::invalid_xml, "'-1'");
}

TEST(SnapshotXml, TellsWhatItDoesNotKnowAndKeepsIt) {
    const std::string text = "<domainsnapshot>\n  <name>a</name>\n  <mood>good</mood>\n</domainsnapshot>\n";
    std::vector<std::string> unknown;
    const auto config = parse_snapshot(text, &unknown);
    ASSERT_EQ(unknown.size(), 1u);
    EXPECT_PRED2(contains, unknown[0], "/domainsnapshot/mood");
    EXPECT_EQ(format_snapshot(config), text);
}

TEST(SnapshotXml, NoSecretsUnlessWanted) {
    SnapshotConfig config;
    config.domain = domain("<title>t</title>", "<graphics type='vnc' passwd='hidden1'/>");
    config.inactive_domain = domain("<title>u</title>", "<graphics type='vnc' passwd='hidden2'/>");
    auto& source = config.disks.emplace_back().source.emplace();
    config.disks[0].name = "vda", config.disks[0].type = StorageType::network;
    source.protocol = "https", source.cookies.push_back({"c", "hidden3", {}});
    const auto full = format_snapshot(config), open = format_snapshot(config, false);
    for (const auto* secret : {"hidden1", "hidden2", "hidden3"}) {
        EXPECT_TRUE(contains(full, secret)) << secret;
        EXPECT_FALSE(contains(open, secret)) << secret;
    }
    EXPECT_TRUE(contains(open, "<title>t</title>") && contains(open, "<title>u</title>"));
    EXPECT_TRUE(contains(open, "<inactiveDomain "));
    config.domain = "<domain type='qemu'><graphics passwd='hidden1'/></domain>";
    EXPECT_EQ(refusal([&] { format_snapshot(config, false); }).code, Code::invalid_xml) << "rather than by guess";
    CheckpointConfig checkpoint;
    checkpoint.domain = domain("", "<graphics type='vnc' passwd='hidden1'/>");
    EXPECT_TRUE(contains(format_checkpoint(checkpoint), "hidden1"));
    EXPECT_FALSE(contains(format_checkpoint(checkpoint, false), "hidden1"));
}

TEST(SnapshotXml, ADefinitionWithCommentsAround) {
    SnapshotConfig config;
    config.domain = "<?xml version='1.0'?>\n<!-- <domain> -->\n" + domain("<title>t</title>") + "\n<!-- end -->";
    const auto again = parse_snapshot(format_snapshot(config));
    EXPECT_EQ(parse_domain(again.domain).config.title, "t");
}

TEST(SnapshotXml, Hostile) {
    const auto refused = [](const std::string& text) { return refusal([&] { parse_snapshot(text); }); };
    EXPECT_REFUSED(refused("<domain/>"), Code::invalid_xml, "<domainsnapshot>");
    EXPECT_EQ(refused("").code, Code::invalid_xml);
    EXPECT_EQ(refused("<domainsnapshot><domain></domainsnapshot>").code, Code::invalid_xml);
    EXPECT_REFUSED(refused("<!DOCTYPE d [<!ENTITY x SYSTEM 'file:///etc/passwd'>]><domainsnapshot><name>&x;</name>"
                           "</domainsnapshot>"),
                   Code::invalid_xml, "DOCTYPE");
    EXPECT_REFUSED(refused(std::string(largest_moment + 1, ' ')), Code::limits_exceeded, "25165824");
    std::string open, close;
    for (int i = 0; i < 70; ++i) open += "<a>", close += "</a>";
    EXPECT_EQ(snapshot_refusal(open + close).code, Code::limits_exceeded);
    std::string disks;
    for (int i = 0; i < 4097; ++i) disks += fmt::format("<disk name='d{}'/>", i);
    EXPECT_REFUSED(snapshot_refusal("<disks>" + disks + "</disks>"), Code::invalid_xml, "4096");
}

TEST(SnapshotXml, TwoOfTheLargestDefinitionsFit) {
    const auto large = domain("<description>" + std::string(8'300'000, 'x') + "</description>");
    ASSERT_EQ(parse_refusal(large).message, "");
    SnapshotConfig config;
    config.domain = config.inactive_domain = large;
    EXPECT_EQ(parse_snapshot(format_snapshot(config)), config);
}

TEST(CheckpointXml, RoundTrip) {
    constexpr const char* text = R"(<domaincheckpoint>
  <name>monday</name>
  <description>weekly</description>
  <parent>
    <name>sunday</name>
  </parent>
  <creationTime>1700000000</creationTime>
  <disks>
    <disk name='vda' checkpoint='bitmap' bitmap='monday' size='65536'/>
    <disk name='vdb' checkpoint='no'/>
  </disks>
  <domain type='qemu'>
    <name>d</name>
  </domain>
</domaincheckpoint>
)";
    std::vector<std::string> unknown;
    const auto config = parse_checkpoint(text, &unknown);
    EXPECT_TRUE(unknown.empty());
    EXPECT_EQ(config.name, "monday");
    EXPECT_EQ(config.parent, "sunday");
    EXPECT_EQ(config.creation_time, 1700000000u);
    ASSERT_EQ(config.disks.size(), 2u);
    EXPECT_EQ(config.disks[0].bitmap, "monday");
    EXPECT_EQ(config.disks[0].size, 65536u);
    EXPECT_EQ(config.disks[1].checkpoint, "no");
    EXPECT_EQ(config.domain, "<domain type='qemu'>\n  <name>d</name>\n</domain>");
    EXPECT_EQ(format_checkpoint(config), text);
}

TEST(CheckpointXml, Rules) {
    const auto disk = [](const std::string& text) { return checkpoint_refusal("<disks>" + text + "</disks>"); };
    EXPECT_REFUSED(disk("<disk/>"), Code::invalid_xml, "'name' is missing");
    EXPECT_REFUSED(disk("<disk name='a'/><disk name='a'/>"), Code::invalid_xml, "occurs twice");
    EXPECT_REFUSED(disk("<disk name='a' checkpoint='yes'/>"), Code::invalid_xml, "bitmap");
    EXPECT_REFUSED(disk("<disk name='a' checkpoint='no' bitmap='b'/>"), Code::invalid_xml, "has no bitmap");
    EXPECT_REFUSED(refusal([] { parse_checkpoint("<domainsnapshot/>"); }), Code::invalid_xml, "<domaincheckpoint>");
}

TEST(BackupXml, Push) {
    constexpr const char* text = R"(<domainbackup mode='push'>
  <incremental>sunday</incremental>
  <disks>
    <disk name='vda' backup='yes' type='file' backupmode='incremental' incremental='saturday' index='3'>
      <driver type='qcow2'/>
      <target file='/backup/vda.qcow2'/>
    </disk>
    <disk name='vdb' backup='yes' type='block' backupmode='full'>
      <driver type='raw'/>
      <target dev='/dev/sdx'/>
    </disk>
    <disk name='vdc' backup='no'/>
  </disks>
</domainbackup>
)";
    std::vector<std::string> unknown;
    const auto config = parse_backup(text, &unknown);
    EXPECT_TRUE(unknown.empty());
    EXPECT_EQ(config.mode, "push");
    EXPECT_EQ(config.incremental, "sunday");
    ASSERT_EQ(config.disks.size(), 3u);
    EXPECT_EQ(config.disks[0].incremental, "saturday");
    EXPECT_EQ(config.disks[0].index, 3u);
    EXPECT_EQ(config.disks[0].target->file, "/backup/vda.qcow2");
    EXPECT_EQ(config.disks[1].type, StorageType::block);
    EXPECT_EQ(config.disks[2].backup, false);
    EXPECT_EQ(format_backup(config), text);
}

TEST(BackupXml, Pull) {
    constexpr const char* text = R"(<domainbackup mode='pull'>
  <server transport='unix' socket='/run/x' tls='no'/>
  <disks>
    <disk name='vda' type='file' exportname='disk' exportbitmap='changes'>
      <scratch file='/scratch'/>
    </disk>
  </disks>
</domainbackup>
)";
    const auto config = parse_backup(text);
    EXPECT_EQ(config.server->socket, "/run/x");
    EXPECT_EQ(config.server->tls, false);
    EXPECT_EQ(config.disks.at(0).exportbitmap, "changes");
    EXPECT_EQ(format_backup(config), text);
    EXPECT_EQ(parse_backup(pull("<server name='localhost' port='10809'/>")).server->port, "10809");
}

TEST(BackupXml, Rules) {
    const auto push = [](const std::string& disk) {
        return backup_refusal("<domainbackup><disks>" + disk + "</disks></domainbackup>");
    };
    const auto pulled = [](const std::string& disk) { return backup_refusal(pull("<disks>" + disk + "</disks>")); };
    EXPECT_REFUSED(backup_refusal("<domainbackup mode='shove'/>"), Code::invalid_xml, "push, pull");
    EXPECT_REFUSED(backup_refusal("<domainbackup><server name='x'/></domainbackup>"), Code::invalid_xml, "mode='pull'");
    EXPECT_REFUSED(backup_refusal(pull("<server transport='unix'/>")), Code::invalid_xml, "'socket'");
    EXPECT_REFUSED(backup_refusal(pull("<server transport='unix' socket='x'/>")), Code::invalid_xml, "not absolute");
    EXPECT_REFUSED(backup_refusal(pull("<server socket='/x'/>")), Code::invalid_xml, "transport='unix'");
    EXPECT_REFUSED(backup_refusal(pull("<server transport='rdma' name='x'/>")), Code::invalid_xml, "rdma");
    EXPECT_REFUSED(push("<disk/>"), Code::invalid_xml, "'name' is missing");
    EXPECT_REFUSED(push("<disk name='a'/><disk name='a'/>"), Code::invalid_xml, "occurs twice");
    EXPECT_REFUSED(push("<disk name='a'><scratch file='/x'/></disk>"), Code::invalid_xml, "<target>");
    EXPECT_REFUSED(pulled("<disk name='a'><target file='/x'/></disk>"), Code::invalid_xml, "<scratch>");
    EXPECT_REFUSED(push("<disk name='a' exportname='x'/>"), Code::invalid_xml, "mode='pull'");
    EXPECT_REFUSED(push("<disk name='a' backupmode='incremental'/>"), Code::invalid_xml, "needs a checkpoint");
    EXPECT_REFUSED(push("<disk name='a' backupmode='full' incremental='c'/>"), Code::invalid_xml, "contradict");
    EXPECT_REFUSED(push("<disk name='a' type='network'><target protocol='nbd'/></disk>"), Code::invalid_xml,
                   "file, block");
    EXPECT_REFUSED(push("<disk name='a'><target file='x'/></disk>"), Code::invalid_xml, "not absolute");
}

TEST(Indentation, OnlyBetweenTags) {
    constexpr const char* left =
        "<a>\n  <b> x\n  y </b>\n  <c>\n  </c>\n  <!-- \n  z -->\n  <d e='>\n  '/>"
        "<![CDATA[\n  ]]>\n</a>";
    constexpr const char* right =
        "<a>\n>>  <b> x\n  y </b>\n>>  <c>\n  </c>\n>>  <!-- \n  z -->\n>>  <d e='>\n  '/>"
        "<![CDATA[\n  ]]>\n</a>";
    EXPECT_EQ(indented(left, ">>"), right);
    EXPECT_EQ(without_indentation(indented(left, "  "), "  "), left);
}

}  // namespace
}  // namespace virtbus::xml
