// SPDX-License-Identifier: LGPL-2.1-or-later
// What a start opens for disks: real images made by qemu-img, and what the line says of them.
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "tests/drivers/resources_bed.hpp"

namespace virtbus::qemu {
namespace {

using namespace virtbus::tests;
using Opening = ResourcesBed;

TEST_F(Opening, AChainIsOpenedLevelByLevelAndOnlyItsTopIsWritable) {
    qemu_img("create -f raw base.raw 1M");
    qemu_img("create -f qcow2 -b base.raw -F raw middle.qcow2");
    qemu_img("create -f qcow2 -b middle.qcow2 -F qcow2 top.qcow2");
    const auto config = domain(disk("top.qcow2", "qcow2"));
    auto opened = open(config);
    ASSERT_EQ(opened.files.size(), 3u);
    EXPECT_EQ(opened.files.at("disk:vda/1").path, path("middle.qcow2"));
    EXPECT_EQ(opened.files.at("disk:vda/2").format, "raw");
    EXPECT_EQ(opened.files.at("disk:vda").size, 1u << 20);
    EXPECT_EQ(resources.opened, (std::vector<std::string>{"rw " + path("top.qcow2"), "r " + path("top.qcow2"),
                                                          "r " + path("middle.qcow2"), "r " + path("base.raw")}));
    const auto line = line_of(config, opened);
    EXPECT_EQ(line.find(bed.folder.path()), line.npos) << "a path is on the line: " << line;
    EXPECT_NE(line.find(R"("file":"libvirt-1-storage","backing":"libvirt-2-format")"), line.npos) << line;
    EXPECT_NE(line.find(R"("file":"libvirt-3-storage"})"), line.npos) << line;
    EXPECT_EQ(command.fds.size(), 4u);
    for (std::size_t i = 0; i < command.fds.size(); ++i) EXPECT_EQ(command.fds[i].second, 3 + static_cast<int>(i));
}

TEST_F(Opening, TheLastLevelSaysThatNothingIsBelow) {
    qemu_img("create -f qcow2 alone.qcow2 1M");
    const auto config = domain(disk("alone.qcow2", "qcow2"));
    auto opened = open(config);
    EXPECT_NE(line_of(config, opened).find(R"("backing":null)"), std::string::npos);
}

TEST_F(Opening, AGuestsHeaderInARawDiskIsNotBelieved) {
    write("secret", "x");
    qemu_img("create -f qcow2 -b secret -F raw evil.qcow2 1M");
    const auto config = domain(disk("evil.qcow2", "raw"));
    EXPECT_EQ(open(config).files.size(), 1u);
}

TEST_F(Opening, ABackingFileWithoutFormatIsRawOrRefused) {
    qemu_img("create -f qcow2 base.qcow2 1M");
    qemu_img("create -f raw base.raw 1M");
    for (const char* format : {"qcow2", "raw"}) {
        qemu_img(fmt::format("create -f qcow2 -b base.{0} -F {0} top.qcow2", format));
        // As older tools left it: the extension that tells the format becomes one that nobody knows.
        std::string image = read_text(path("top.qcow2"));
        image.replace(image.find("\xE2\x79\x2A\xCA"), 4, "\x01\x02\x03\x04");
        write("top.qcow2", image);
        const auto why = refusal(domain(disk("top.qcow2", "qcow2")));
        if (format == std::string{"raw"})
            EXPECT_EQ(why, "");
        else
            EXPECT_NE(why.find("qemu-img rebase -u -F qcow2"), why.npos) << why;
    }
}

TEST_F(Opening, LoopsAndBottomlessChainsEnd) {
    qemu_img("create -f qcow2 a.qcow2 1M");
    qemu_img("create -f qcow2 -b a.qcow2 -F qcow2 b.qcow2");
    qemu_img("rebase -u -b b.qcow2 -F qcow2 a.qcow2");
    EXPECT_NE(refusal(domain(disk("b.qcow2", "qcow2"))).find("comes back to"), std::string::npos);
    // A link that leads through the same file under ever new names would be a loop too: identity is the file, not its
    // name.
    qemu_img("rebase -u -b ./././a.qcow2 -F qcow2 a.qcow2");
    EXPECT_NE(refusal(domain(disk("b.qcow2", "qcow2"))).find("comes back to"), std::string::npos);
}

TEST_F(Opening, WrittenBackingStoresAreFollowedInsteadOfTheImages) {
    qemu_img("create -f raw base.raw 1M");
    qemu_img("create -f qcow2 -b base.raw -F raw top.qcow2");
    EXPECT_EQ(open(domain(disk("top.qcow2", "qcow2", "<backingStore/>"))).files.size(), 1u);
    qemu_img("create -f raw other.raw 1M");
    const auto chain =
        fmt::format("<backingStore type='file'><format type='raw'/><source file='{}'/><backingStore/></backingStore>",
                    path("other.raw"));
    EXPECT_EQ(open(domain(disk("top.qcow2", "qcow2", chain))).files.at("disk:vda/1").path, path("other.raw"));
}

std::string content_of(const Fd& fd) {
    std::string out(64, '\0');
    const ssize_t got = ::pread(fd.get(), out.data(), out.size(), 0);
    out.resize(got > 0 ? static_cast<std::size_t>(got) : 0);
    return out;
}

constexpr auto with_key =
    "<encryption format='luks'><secret type='passphrase' uuid='6473fd97-f1f6-4d35-bd11-4a1a5f0ea5a4'/></encryption>";

TEST_F(Opening, AnEncryptedImageGetsItsSecretInSealedMemoryAndNowhereElse) {
    write_luks("safe.luks", 1 << 20);
    make_encrypted("safe.qcow2");
    for (const char* format : {"raw", "qcow2"}) {
        const auto config = domain(fmt::format(
            "<disk><driver name='qemu' type='{0}'/><source file='{1}'>{2}</source><target dev='vda'/></disk>", format,
            path(format == std::string{"raw"} ? "safe.luks" : "safe.qcow2"), with_key));
        resources.secrets.clear();
        auto opened = open(config);
        EXPECT_EQ(resources.secrets, std::vector<std::string>{"6473fd97-f1f6-4d35-bd11-4a1a5f0ea5a4"});
        EXPECT_EQ(opened.files.at("disk:vda").size, 1u << 20);
        const Fd& memory = opened.files.at("disk:vda:encryption").fd;
        EXPECT_EQ(content_of(memory), "opensesame");
        EXPECT_LT(::pwrite(memory.get(), "x", 1, 0), 0);
        const auto line = line_of(config, opened);
        EXPECT_EQ(line.find("opensesame"), line.npos) << line;
        EXPECT_NE(line.find(R"("id":"libvirt-1-format-encryption-secret0","file":"/proc/self/fd/)"), line.npos) << line;
        EXPECT_NE(line.find(R"("key-secret":"libvirt-1-format-encryption-secret0")"), line.npos) << line;
    }
}

TEST_F(Opening, AnImageAndItsDefinitionMustAgreeOnEncryption) {
    make_encrypted("safe.qcow2");
    qemu_img("create -f qcow2 plain.qcow2 1M");
    EXPECT_NE(refusal(domain(disk("safe.qcow2", "qcow2"))).find("is encrypted"), std::string::npos);
    const auto keyed = domain(
        fmt::format("<disk><driver name='qemu' type='qcow2'/><source file='{}'>{}</source><target dev='vda'/></disk>",
                    path("plain.qcow2"), with_key));
    EXPECT_NE(refusal(keyed).find("is not encrypted"), std::string::npos);
}

TEST_F(Opening, CookiesAndPasswordsAreNoWords) {
    const auto config = domain(
        "<disk type='network'><driver name='qemu' type='raw'/><source protocol='https' name='a.img'><host name='h'/>"
        "<cookies><cookie name='a'>1</cookie><cookie name='b'>hidden</cookie></cookies><auth username='u'><secret "
        "type='iscsi' usage='y'/></auth></source><target dev='vda'/></disk>");
    auto opened = open(config);
    EXPECT_EQ(content_of(opened.files.at("disk:vda:cookies").fd), "a=1; b=hidden");
    EXPECT_EQ(content_of(opened.files.at("disk:vda:auth").fd), "opensesame");
    const auto line = line_of(config, opened);
    EXPECT_EQ(line.find("hidden"), line.npos);
    EXPECT_EQ(line.find("opensesame"), line.npos);
    EXPECT_NE(line.find(R"("cookie-secret":"libvirt-1-storage-httpcookie-secret0")"), line.npos) << line;
    EXPECT_TRUE(command.needs_network);
}

TEST_F(Opening, ADataFileIsOpenedOnlyBesideItsImage) {
    qemu_img("create -f qcow2 -o data_file=top.data,data_file_raw=on top.qcow2 1M");
    const auto config = domain(disk("top.qcow2", "qcow2"));
    auto opened = open(config);
    EXPECT_EQ(opened.files.at("disk:vda:data").path, path("top.data"));
    EXPECT_FALSE(opened.files.at("disk:vda:data").read_only);
    EXPECT_NE(line_of(config, opened).find(R"("data-file":"libvirt-1-data-storage")"), std::string::npos);
    // An image from somewhere must not choose what the guest may write.
    std::filesystem::create_directory(path("sub"));
    qemu_img(fmt::format("create -f qcow2 -o data_file={},data_file_raw=on sub/evil.qcow2 1M", path("victim")));
    EXPECT_NE(refusal(domain(disk("sub/evil.qcow2", "qcow2"))).find("in the same folder"), std::string::npos);
    qemu_img("create -f qcow2 -o data_file=sub/../victim,data_file_raw=on up.qcow2 1M");
    EXPECT_NE(refusal(domain(disk("up.qcow2", "qcow2"))).find("in the same folder"), std::string::npos);
}

TEST_F(Opening, ATransientDiskLeavesItsImageAndItsFolderAlone) {
    qemu_img("create -f qcow2 base.qcow2 100G");
    const auto before = std::distance(std::filesystem::directory_iterator{bed.folder.path()}, {});
    const auto config = domain(disk("base.qcow2", "qcow2", "<transient/>"));
    auto opened = open(config);
    EXPECT_EQ(resources.opened.front(), "r " + path("base.qcow2"));
    EXPECT_EQ(std::count(resources.opened.begin(), resources.opened.end(), "rw " + path("base.qcow2")), 0);
    EXPECT_EQ(std::distance(std::filesystem::directory_iterator{bed.folder.path()}, {}), before);
    // The nameless overlay is an image of the disk's size.
    const auto overlay = fmt::format("/proc/{}/fd/{}", ::getpid(), opened.files.at("disk:vda").fd.get());
    EXPECT_EQ(std::system(fmt::format("qemu-img check -U -q -f qcow2 {0} && "
                                      "qemu-img info -U -f qcow2 {0} | grep -q '(107374182400 bytes)'",
                                      overlay)
                              .c_str()),
              0);
    const auto line = line_of(config, opened);
    EXPECT_NE(line.find(R"("read-only":true,"driver":"qcow2","file":"libvirt-2-storage","backing":null)"), line.npos)
        << line;
    EXPECT_NE(line.find(R"("file":"libvirt-1-storage","backing":"libvirt-2-format")"), line.npos) << line;
}

TEST_F(Opening, AWrittenChainThatIsCutShortIsAskedOfItsLastImage) {
    qemu_img("create -f raw base.raw 1M");
    qemu_img("create -f qcow2 -b base.raw -F raw written.qcow2");
    qemu_img("create -f qcow2 top.qcow2 1M");
    const auto chain = fmt::format("<backingStore type='file'><format type='qcow2'/><source file='{}'/></backingStore>",
                                   path("written.qcow2"));
    auto opened = open(domain(disk("top.qcow2", "qcow2", chain)));
    EXPECT_EQ(opened.files.at("disk:vda/1").path, path("written.qcow2"));
    EXPECT_EQ(opened.files.at("disk:vda/2").path, path("base.raw"));
}

TEST_F(Opening, SocketsOfServersAreConnectedByTheDaemon) {
    const Fd server{::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)};
    struct sockaddr_un address{};
    address.sun_family = AF_UNIX;
    path("nbd.sock").copy(address.sun_path, sizeof address.sun_path - 1);
    ASSERT_EQ(::bind(server.get(), reinterpret_cast<const struct sockaddr*>(&address), sizeof address), 0);
    ASSERT_EQ(::listen(server.get(), 1), 0);
    const auto nbd = [&](const char* more) {
        return domain(
            fmt::format("<disk type='network'><driver name='qemu' type='raw'/><source protocol='nbd'><host "
                        "transport='unix' socket='{}'/>{}</source><target dev='vda'/></disk>",
                        path("nbd.sock"), more));
    };
    const auto config = nbd("");
    auto opened = open(config);
    const auto line = line_of(config, opened);
    EXPECT_NE(line.find(R"("server":{"type":"fd","str":"3"})"), line.npos) << line;
    // Who may connect again must know where.
    const auto again = nbd("<reconnect delay='5'/>");
    auto none = open(again);
    EXPECT_NE(line_of(again, none).find("nbd.sock"), std::string::npos);
}

TEST_F(Opening, WhatIsMissingIsAnErrorUnlessItIsOptional) {
    EXPECT_NE(refusal(domain(disk("gone", "raw"))), "");
    const auto cdrom = fmt::format(
        "<disk device='cdrom'><source file='{}' startupPolicy='optional'/><target dev='sda' bus='sata'/></disk>",
        path("gone"));
    const auto config = domain(cdrom);
    auto opened = open(config);
    EXPECT_TRUE(opened.files.empty());
    EXPECT_NE(line_of(config, opened).find(R"({"driver":"ide-cd","bus":"ide.0","id")"), std::string::npos);
}

}  // namespace
}  // namespace virtbus::qemu
