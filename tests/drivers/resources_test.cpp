// SPDX-License-Identifier: LGPL-2.1-or-later
// What a start opens: real images made by qemu-img, and what the line says of them.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <cstdlib>

#include "tests/drivers/domain_bed.hpp"
#include "tests/drivers/host_bed.hpp"

namespace virtbus::qemu {
namespace {

using namespace virtbus::test;

/// Opens with the test's own rights and remembers what was asked.
class PlainResources : public Resources {
public:
    Task<Fd> open_file(std::string path, Access access) override {
        opened.push_back((access == Access::read ? "r " : "rw ") + path);
        Fd fd{::open(path.c_str(), (access == Access::read ? O_RDONLY : O_RDWR) | O_CLOEXEC)};
        if (!fd) throw Error{Code::unsupported_configuration, "cannot open " + path};
        co_return fd;
    }
    Task<Fd> create_file(std::string path) override {
        co_return Fd{::open(path.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600)};
    }
    Task<Fd> open_log(std::string path) override {
        co_return Fd{::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600)};
    }
    Task<Link> open_link(LinkRequest request) override {
        requests.push_back(request);
        Link link;
        for (unsigned queue = 0; queue < request.queues; ++queue)
            link.fds.emplace_back(::open("/dev/null", O_RDWR | O_CLOEXEC));
        link.ifname = "vnet7";
        co_return link;
    }
    Task<std::string> secret(SecretRef reference) override {
        secrets.push_back(reference.uuid + reference.usage);
        co_return "opensesame";
    }
    Task<> take_pci(std::vector<PciRequest> wanted) override {
        for (const auto& each : wanted)
            taken.push_back(
                fmt::format("{} {} {} {}", each.address, each.alias, each.managed ? "managed" : "own", each.driver));
        co_return;
    }
    void claim(std::string device, std::string alias) override { claims.push_back(device + " " + alias); }
    std::stop_token stop() const override { return {}; }

    std::vector<std::string> taken, claims;
    std::vector<std::string> secrets;
    std::vector<std::string> opened;
    std::vector<LinkRequest> requests;
};

class Opening : public testing::Test {
protected:
    std::string path(const std::string& name) const { return bed.folder.path + "/" + name; }
    void qemu_img(const std::string& arguments) {
        ASSERT_EQ(std::system(fmt::format("cd {} && qemu-img {} >/dev/null 2>&1", bed.folder.path, arguments).c_str()),
                  0)
            << arguments;
    }
    void write(const std::string& name, const std::string& content) { std::ofstream{path(name)} << content; }

    /// As much of the images as is read here; making real ones takes seconds of key stretching.
    void write_luks(const std::string& name, std::size_t size) {
        constexpr std::size_t payload = 4096;
        std::string image(payload * 512 + size, '\0');
        image.replace(0, 8, std::string{"LUKS\xba\xbe\0\1", 8});
        image.replace(104, 4, std::string{"\0\0\x10\0", 4});
        write(name, image);
    }
    void make_encrypted(const std::string& name) {
        qemu_img("create -f qcow2 " + name + " 1M");
        std::string image = read_text(path(name));
        image[35] = 2;  // the method: LUKS
        write(name, image);
    }

    DomainConfig domain(const std::string& devices, const std::string& os = "") const {
        DomainConfig config =
            whole(fmt::format("<domain type='qemu'><name>n</name><memory>65536</memory><os><type arch='x86_64' "
                              "machine='q35'>hvm</type>{}</os><devices>{}</devices></domain>",
                              os, devices));
        assign_aliases(config);
        return config;
    }
    std::string disk(const std::string& name, const std::string& format, const std::string& more = "") const {
        return fmt::format("<disk><driver name='qemu' type='{}'/><source file='{}'/>{}<target dev='vda'/></disk>",
                           format, path(name), more);
    }
    OpenedResources open(const DomainConfig& config, bool reset_nvram = false) {
        OpenOptions options;
        options.runtime_folder = bed.folder.path;
        options.reset_nvram = reset_nvram;
        return bed.run(open_resources(config, resources, bed.workers, options));
    }
    std::string refusal(const DomainConfig& config) {
        try {
            open(config);
        } catch (const Error& error) {
            return error.what();
        }
        return "";
    }
    std::string line_of(const DomainConfig& config, OpenedResources& opened) {
        command = command_line(config, known_capabilities("x86_64"), opened, MonitorSocket{});
        return one_a_line(command.argv);
    }

    HostBed bed;
    PlainResources resources;
    CommandLine command;
};

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
    EXPECT_EQ(line.find(bed.folder.path), line.npos) << "a path is on the line: " << line;
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
        "type='x' usage='y'/></auth></source><target dev='vda'/></disk>");
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
    const auto before = std::distance(std::filesystem::directory_iterator{bed.folder.path}, {});
    const auto config = domain(disk("base.qcow2", "qcow2", "<transient/>"));
    auto opened = open(config);
    EXPECT_EQ(resources.opened.front(), "r " + path("base.qcow2"));
    EXPECT_EQ(std::count(resources.opened.begin(), resources.opened.end(), "rw " + path("base.qcow2")), 0);
    EXPECT_EQ(std::distance(std::filesystem::directory_iterator{bed.folder.path}, {}), before);
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

TEST_F(Opening, UsbDevicesAreFoundAndOpened) {
    const auto plug = [&](const char* name, const char* vendor, const char* product, int number) {
        const std::string folder = fmt::format("host/sys/bus/usb/devices/{}", name);
        std::filesystem::create_directories(path(folder));
        write(folder + "/idVendor", vendor);
        write(folder + "/idProduct", product);
        write(folder + "/busnum", "3");
        write(folder + "/devnum", std::to_string(number));
        std::filesystem::create_directories(path("host/dev/bus/usb/003"));
        write(fmt::format("host/dev/bus/usb/003/{:03}", number), "");
    };
    const auto config = domain(
        "<hostdev mode='subsystem' type='usb'><source startupPolicy='optional'><vendor "
        "id='0x046d'/><product id='0xc52b'/></source></hostdev>");
    const auto open_here = [&] {
        OpenOptions options;
        options.host_root = path("host");
        return bed.run(open_resources(config, resources, bed.workers, options));
    };
    DomainConfig live = config;
    auto missing = open_here();
    fill_opened(live, missing);
    EXPECT_TRUE(live.devices.hostdevs.empty());
    plug("3-1", "046d\n", "c52b\n", 7);
    plug("3-2", "046d\n", "ffff\n", 8);
    auto found = open_here();
    EXPECT_EQ(resources.opened.back(), "rw " + path("host/dev/bus/usb/003/007"));
    EXPECT_EQ(resources.claims, (std::vector<std::string>{"usb:003/007 hostdev0"}));
    EXPECT_NE(line_of(config, found).find(R"("driver":"usb-host","hostdevice":"/dev/fdset/1")"), std::string::npos);
    plug("3-4", "046d\n", "c52b\n", 9);
    EXPECT_THROW(open_here(), Error) << "two fit, and none was chosen";
}

TEST_F(Opening, PciDevicesAreTakenTogetherAndTheirGroupsAllowed) {
    for (const auto& [address, group] :
         {std::pair{"0000:01:00.0", "12"}, {"0000:02:00.0", "13"}, {"0000:03:10.1", "14"}}) {
        std::filesystem::create_directories(path(fmt::format("host/sys/kernel/iommu_groups/{}", group)));
        std::filesystem::create_directories(path(fmt::format("host/sys/bus/pci/devices/{}", address)));
        std::filesystem::create_directory_symlink(
            path(fmt::format("host/sys/kernel/iommu_groups/{}", group)),
            path(fmt::format("host/sys/bus/pci/devices/{}/iommu_group", address)));
    }
    const auto config = domain(
        "<hostdev mode='subsystem' type='pci' managed='yes'><driver name='vfio' "
        "model='mlx5_vfio_pci'/><source><address "
        "domain='0' bus='1' slot='0' function='0'/></source></hostdev>"
        "<disk type='nvme'><driver name='qemu' type='raw'/><source type='pci' managed='yes' namespace='1'><address "
        "domain='0' bus='2' slot='0' function='0'/></source><target dev='vda'/></disk>"
        "<interface type='hostdev'><mac address='52:54:00:aa:bb:cc'/><source><address type='pci' domain='0' bus='3' "
        "slot='0x10' function='1'/></source></interface>");
    OpenOptions options;
    options.host_root = path("host");
    auto opened = bed.run(open_resources(config, resources, bed.workers, options));
    EXPECT_EQ(resources.taken,
              (std::vector<std::string>{"0000:01:00.0 hostdev0 managed mlx5_vfio_pci", "0000:03:10.1 net0 own vfio-pci",
                                        "0000:02:00.0 virtio-disk0 managed vfio-pci"}));
    line_of(config, opened);
    EXPECT_EQ(command.given, (std::vector<std::string>{"/dev/vfio/13", "/dev/vfio/12", "/dev/vfio/14"}));
    for (const auto& node : command.given)
        EXPECT_NE(std::ranges::find(command.devices, node), command.devices.end()) << node;
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

TEST_F(Opening, KernelsBecomeSealedCopies) {
    write("vmlinuz", "kernel bytes");
    const auto config = domain("", fmt::format("<kernel>{}</kernel><cmdline>a=b, -c</cmdline>", path("vmlinuz")));
    auto opened = open(config);
    const int fd = opened.files.at("kernel").fd.get();
    char bytes[32] = {};
    EXPECT_EQ(::pread(fd, bytes, sizeof bytes, 0), 12);
    EXPECT_STREQ(bytes, "kernel bytes");
    EXPECT_LT(::pwrite(fd, "x", 1, 0), 0);
    const auto line = line_of(config, opened);
    EXPECT_NE(line.find("-kernel /proc/self/fd/3\n"), line.npos) << line;
    EXPECT_NE(line.find("-append a=b, -c\n"), line.npos);
}

std::string pflash(const std::string& folder, const std::string& format) {
    return fmt::format(
        "<loader readonly='yes' type='pflash'>{0}/CODE.fd</loader><nvram template='{0}/VARS.fd' "
        "format='{1}'>{0}/new/store</nvram>",
        folder, format);
}

TEST_F(Opening, AVariableStoreIsMadeOnceFromItsTemplate) {
    write("CODE.fd", std::string(4096, 'c'));
    const std::string variables = "begin" + std::string(200000, '\0') + "end" + std::string(1024, 'v');
    for (const char* format : {"raw", "qcow2"}) {
        write("VARS.fd", variables);
        std::filesystem::remove_all(path("new"));
        const auto config = domain("", pflash(bed.folder.path, format));
        open(config);
        EXPECT_EQ(std::filesystem::status(path("new/store")).permissions(), std::filesystem::perms{0600});
        qemu_img(fmt::format("convert -f {} -O raw new/store back.raw", format));
        qemu_img(fmt::format("info -f {} new/store", format));
        if (format == std::string{"qcow2"}) qemu_img("check -f qcow2 new/store");
        EXPECT_EQ(read_text(path("back.raw")).substr(0, variables.size()), variables);
        // Kept when it is there; made afresh when told so.
        write("VARS.fd", std::string(512, 'n'));
        const auto before = read_text(path("new/store"));
        open(config);
        EXPECT_EQ(read_text(path("new/store")), before);
        open(config, true);
        EXPECT_NE(read_text(path("new/store")), before);
        EXPECT_FALSE(std::filesystem::exists(path("new/store.new")));
    }
}

TEST_F(Opening, StoresOfEitherFormatComeFromTemplatesOfEither) {
    write("CODE.fd", std::string(4096, 'c'));
    const std::string variables = "begin" + std::string(200000, '\0') + "end" + std::string(507, 'v') + "last";
    write("VARS.fd", variables);
    qemu_img("convert -f raw -O qcow2 -o cluster_size=4096 VARS.fd VARS.qcow2");
    for (const char* format : {"raw", "qcow2"}) {
        std::filesystem::remove_all(path("new"));
        open(domain("", fmt::format("<loader readonly='yes' type='pflash'>{0}/CODE.fd</loader><nvram "
                                    "template='{0}/VARS.qcow2' format='{1}'>{0}/new/store</nvram>",
                                    bed.folder.path, format)));
        qemu_img(fmt::format("convert -f {} -O raw new/store back.raw", format));
        EXPECT_EQ(read_text(path("back.raw")).substr(0, variables.size()), variables) << format;
    }
    // What such a template may not be.
    write("secret", "x");
    const auto from = [&](const char* format) {
        std::filesystem::remove_all(path("new"));
        return refusal(domain("", fmt::format("<loader readonly='yes' type='pflash'>{0}/CODE.fd</loader><nvram "
                                              "template='{0}/bad' templateFormat='qcow2' format='{1}'>{0}/new/store"
                                              "</nvram>",
                                              bed.folder.path, format)));
    };
    qemu_img("create -f qcow2 -b secret -F raw bad 1M");
    EXPECT_NE(from("raw").find("backing file"), std::string::npos);
    EXPECT_NE(from("qcow2").find("needs other files"), std::string::npos);
    qemu_img("convert -c -f raw -O qcow2 VARS.fd bad");
    EXPECT_NE(from("raw").find("compressed"), std::string::npos);
    const auto whole = read_text(path("VARS.qcow2"));
    for (const std::size_t size :
         {std::size_t{0}, std::size_t{3}, std::size_t{71}, std::size_t{104}, whole.size() / 4}) {
        write("bad", whole.substr(0, size));
        EXPECT_NE(from("raw"), "") << size;
        EXPECT_FALSE(std::filesystem::exists(path("new/store"))) << size;
    }
}

TEST_F(Opening, AResetIsRefusedBeforeAnythingIsChanged) {
    write("CODE.fd", "c");
    const auto combined =
        domain(fmt::format("<serial type='file'><source path='{0}/out'/></serial>", bed.folder.path),
               fmt::format("<loader readonly='no' type='pflash'>{0}/CODE.fd</loader>", bed.folder.path));
    EXPECT_TRUE(open(combined).files.contains("loader"));
    std::filesystem::remove(path("out"));
    try {
        open(combined, true);
        ADD_FAILURE();
    } catch (const Error& error) {
        EXPECT_EQ(error.code(), Code::unsupported_configuration);
        EXPECT_NE(std::string_view{error.what()}.find("CODE.fd"), std::string_view::npos);
    }
    EXPECT_FALSE(std::filesystem::exists(path("out")));
    std::filesystem::create_directory(path("folder"));
    EXPECT_NE(refusal(domain("", fmt::format("<loader readonly='yes' type='pflash'>{0}/CODE.fd</loader><nvram "
                                             "template='{0}/CODE.fd'>{0}/folder</nvram>",
                                             bed.folder.path)))
                  .find("no regular file"),
              std::string::npos);
}

TEST_F(Opening, TheHostsTpmComesAsDescriptors) {
    write("tpm7", "");
    const auto config =
        domain(fmt::format("<tpm model='tpm-tis'><backend type='passthrough'><device path='{}'/>"
                           "</backend></tpm>",
                           path("tpm7")));
    auto opened = open(config);
    EXPECT_EQ(::fcntl(opened.files.at("tpm:tpm0/cancel").fd.get(), F_GETFL) & O_ACCMODE, O_WRONLY);
    const auto line = line_of(config, opened);
    EXPECT_NE(line.find("-tpmdev passthrough,id=tpm-tpm0,path=/dev/fdset/1,cancel-path=/dev/fdset/2"), line.npos)
        << line;
    EXPECT_EQ(line.find(bed.folder.path), line.npos);
}

TEST_F(Opening, AStoreWithoutTemplateNamesTheLoader) {
    write("CODE.fd", "c");
    const auto config =
        domain("", fmt::format("<loader readonly='yes' type='pflash'>{0}/CODE.fd</loader><nvram>{0}/store</nvram>",
                               bed.folder.path));
    EXPECT_NE(refusal(config).find("CODE.fd"), std::string::npos);
}

TEST_F(Opening, OutputsAreWriteOnlyAndListenersListen) {
    const auto config =
        domain(fmt::format("<serial type='file'><source path='{0}/out'/><log file='{0}/log' append='on'/></serial>"
                           "<channel type='unix'><target type='virtio' name='a.b'/></channel>",
                           bed.folder.path));
    auto opened = open(config);
    EXPECT_EQ(::fcntl(opened.files.at("chardev:serial0").fd.get(), F_GETFL) & O_ACCMODE, O_WRONLY);
    EXPECT_EQ(::fcntl(opened.files.at("chardev:serial0/log").fd.get(), F_GETFL) & O_ACCMODE, O_WRONLY);
    const auto& channel = opened.files.at("chardev:channel0");
    int listening = 0;
    socklen_t length = sizeof listening;
    ASSERT_EQ(::getsockopt(channel.fd.get(), SOL_SOCKET, SO_ACCEPTCONN, &listening, &length), 0);
    EXPECT_EQ(listening, 1);
    DomainConfig live = config;
    fill_opened(live, opened);
    EXPECT_EQ(live.devices.channels[0].backend.source()->path, channel.path);
    open(config);  // a stale socket is in nobody's way
    const auto line = line_of(config, opened);
    EXPECT_NE(line.find("id=charserial0,path=/dev/fdset/1,append=off,logfile=/dev/fdset/2,logappend=on"), line.npos)
        << line;
    EXPECT_NE(line.find("id=charchannel0,fd=5,server=on,wait=off"), line.npos) << line;
}

TEST_F(Opening, LinksAreAskedForWithTheirQueues) {
    const auto config = domain(
        "<interface type='bridge'><source bridge='br0'/><mac address='52:54:00:01:02:03'/><model type='virtio'/>"
        "<driver queues='3'/></interface><interface type='user'><mac address='52:54:00:01:02:04'/></interface>"
        "<interface type='ethernet'><mac address='52:54:00:01:02:05'/><model type='e1000'/></interface>");
    auto opened = open(config);
    ASSERT_EQ(resources.requests.size(), 2u);
    EXPECT_EQ(resources.requests[0].queues, 3u);
    EXPECT_TRUE(resources.requests[0].vnet_header);
    EXPECT_FALSE(resources.requests[1].vnet_header);
    DomainConfig live = config;
    fill_opened(live, opened);
    EXPECT_EQ(live.devices.interfaces[2].target->dev, "vnet7");
    const auto line = line_of(config, opened);
    EXPECT_NE(line.find(R"({"type":"tap","fds":"3:4:5","id":"hostnet0"})"), line.npos) << line;
    EXPECT_NE(line.find(R"("mq":true,"vectors":8)"), line.npos) << line;
    EXPECT_NE(line.find(R"({"type":"tap","fd":"6","id":"hostnet2"})"), line.npos) << line;
}

}  // namespace
}  // namespace virtbus::qemu
