// SPDX-License-Identifier: LGPL-2.1-or-later
// What a start opens beside the disks: host devices, kernels, variable stores, streams, links.
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "tests/drivers/resources_bed.hpp"

namespace virtbus::qemu {
namespace {

using namespace virtbus::tests;
using Opening = ResourcesBed;

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

TEST_F(Opening, TheHostsSmbiosIsShownWithoutItsUuid) {
    const auto config = domain("", "<smbios mode='host'/>");
    const auto line_here = [&] {
        OpenOptions options;
        options.host_root = path("host");
        auto opened = bed.run(open_resources(config, resources, bed.workers, options));
        return line_of(config, opened);
    };
    std::filesystem::create_directories(path("host/sys/class/dmi/id"));
    EXPECT_EQ(line_here().find("-smbios"), std::string::npos) << "nothing is said of a host that says nothing";
    for (const auto& [file, content] : {std::pair{"bios_vendor", "Example, Inc.\n"},
                                        {"bios_date", "01/02/2020\n"},
                                        {"sys_vendor", "ACME\n"},
                                        {"product_serial", "X\t1\n"},
                                        {"product_uuid", "9a0c1cf0-0000-4000-8000-123456789abc\n"},
                                        {"board_name", "Board\n"},
                                        {"board_version", "  \n"},
                                        {"chassis_asset_tag", "7\n"}})
        write(fmt::format("host/sys/class/dmi/id/{}", file), content);
    const auto line = line_here();
    for (const char* words : {"type=0,vendor=Example,, Inc.,date=01/02/2020", "type=1,manufacturer=ACME,serial=X1",
                              "type=2,product=Board", "type=3,asset=7"})
        EXPECT_NE(line.find(words), line.npos) << words << " in " << line;
    EXPECT_EQ(line.find("9a0c1cf0"), line.npos);
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

TEST_F(Opening, ANetworkSaysWhatAnInterfaceIs) {
    std::filesystem::create_directories(path("host/sys/kernel/iommu_groups/14"));
    std::filesystem::create_directories(path("host/sys/bus/pci/devices/0000:03:10.1"));
    std::filesystem::create_directory_symlink(path("host/sys/kernel/iommu_groups/14"),
                                              path("host/sys/bus/pci/devices/0000:03:10.1/iommu_group"));
    resources.networks["pool"] = [](Interface& interface) {
        interface.source->host_address = HostPciAddress{.domain = 0, .bus = 3, .slot = 16, .function = 1};
        interface.managed = true;
    };
    resources.networks["default"] = [](Interface& interface) {
        interface.source->bridge = "virbr0";
        interface.mtu = 1400;
    };
    resources.networks["macvtaps"] = [](Interface& interface) {
        interface.source->dev = "eth0";
        interface.source->mode = "bridge";
    };
    const auto card = [](const char* network, const char* mac) {
        return fmt::format(
            "<interface type='network'><mac address='52:54:00:aa:bb:{}'/><source network='{}'/>"
            "<model type='virtio'/></interface>",
            mac, network);
    };
    const auto config = domain(card("pool", "01") + card("default", "02") + card("macvtaps", "03"));
    OpenOptions options;
    options.host_root = path("host");
    auto opened = bed.run(open_resources(config, resources, bed.workers, options));
    EXPECT_EQ(resources.taken, (std::vector<std::string>{"0000:03:10.1 net0 managed vfio-pci"}));
    auto live = config;
    fill_opened(live, opened);
    EXPECT_EQ(actual_type(live.devices.interfaces[0]), InterfaceType::hostdev);
    EXPECT_EQ(live.devices.interfaces[0].info.alias, "net0");
    EXPECT_FALSE(live.devices.interfaces[0].target) << "it has no device of the host's";
    EXPECT_EQ(live.devices.interfaces[1].target->dev, "vnet7");
    EXPECT_EQ(actual_type(live.devices.interfaces[2]), InterfaceType::direct);
    const auto line = line_of(live, opened);
    EXPECT_NE(line.find(R"({"driver":"vfio-pci","host":"0000:03:10.1","id":"net0")"), line.npos) << line;
    EXPECT_EQ(line.find("hostnet0"), line.npos) << line;
    EXPECT_NE(line.find(R"("host_mtu":1400)"), line.npos) << line;
    EXPECT_NE(line.find(R"({"type":"tap","fd":")"), line.npos) << line;
    EXPECT_NE(line.find("hostnet2"), line.npos) << line;
}

TEST_F(Opening, WhatOnlyQemuReadsIsToldToStandAloneAndAskedFor) {
    const auto remote = [&](const char* more) {
        return domain(
            fmt::format("<disk type='network'><driver name='qemu' type='qcow2'/><source protocol='http' "
                        "name='a.qcow2'><host name='h' port='80'/></source>{}<target dev='vda'/></disk>",
                        more));
    };
    const auto open_chain = remote("");
    auto opened = open(open_chain);
    EXPECT_NE(line_of(open_chain, opened).find("\"backing\":null"), std::string::npos);
    ASSERT_EQ(command.unread.size(), 1u);
    EXPECT_EQ(command.unread[0].disk, "vda");
    EXPECT_EQ(command.unread[0].node, "libvirt-1-format");
    const auto closed = remote("<backingStore/>");
    opened = open(closed);
    line_of(closed, opened);
    EXPECT_TRUE(command.unread.empty()) << "the definition says it";
}

TEST_F(Opening, TheCertificateAndTheSessionOfSevAreSealedCopies) {
    auto config = domain("");
    auto& security = config.launch_security.emplace();
    security.cbitpos = 47;
    security.dh_cert = "QUFBQQ==";
    security.session = "QkJCQg==";
    auto opened = open(config);
    const auto read = [](const Fd& fd) {
        char text[16] = "";
        const auto got = ::pread(fd.get(), text, sizeof text, 0);
        return std::string(text, got > 0 ? static_cast<std::size_t>(got) : 0);
    };
    EXPECT_EQ(read(opened.files.at("sev-dh-cert").fd), "QUFBQQ==");
    EXPECT_EQ(read(opened.files.at("sev-session").fd), "QkJCQg==");
    const auto line = line_of(config, opened);
    EXPECT_NE(line.find("\"dh-cert-file\":\"/proc/self/fd/"), std::string::npos) << line;
    EXPECT_NE(line.find("\"session-file\":\"/proc/self/fd/"), std::string::npos) << line;
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
        const auto config = domain("", pflash(bed.folder.path(), format));
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
                                    bed.folder.path(), format)));
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
                                              bed.folder.path(), format)));
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
        domain(fmt::format("<serial type='file'><source path='{0}/out'/></serial>", bed.folder.path()),
               fmt::format("<loader readonly='no' type='pflash'>{0}/CODE.fd</loader>", bed.folder.path()));
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
                                             bed.folder.path())))
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
    EXPECT_EQ(line.find(bed.folder.path()), line.npos);
}

TEST_F(Opening, AStoreWithoutTemplateNamesTheLoader) {
    write("CODE.fd", "c");
    const auto config =
        domain("", fmt::format("<loader readonly='yes' type='pflash'>{0}/CODE.fd</loader><nvram>{0}/store</nvram>",
                               bed.folder.path()));
    EXPECT_NE(refusal(config).find("CODE.fd"), std::string::npos);
}

TEST_F(Opening, OutputsAreWriteOnlyAndListenersListen) {
    const auto config =
        domain(fmt::format("<serial type='file'><source path='{0}/out'/><log file='{0}/log' append='on'/></serial>"
                           "<channel type='unix'><target type='virtio' name='a.b'/></channel>",
                           bed.folder.path()));
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
