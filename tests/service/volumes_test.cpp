// SPDX-License-Identifier: LGPL-2.1-or-later
// Disks of type 'volume': what pools say they are, for which files they are believed, and what a machine sees of it.
#include "service/volumes.hpp"

#include <sys/stat.h>

#include "service/xml/domain_xml.hpp"
#include "service/xml/pool_xml.hpp"
#include "world.hpp"

namespace virtbus::tests {
namespace {

using testing::Test;

std::string source(const std::string& rest) {
    return "<source>" + rest + "</source>";
}
std::string pool(const std::string& type, const std::string& rest, const std::string& name = "p") {
    return "<!-- by hand -->\n<pool type='" + type + "'><name>" + name +
           "</name><uuid>6473fd97-f1f6-4d35-bd11-4a1a5f0ea5a4</uuid><capacity unit='bytes'>1</capacity>" + rest +
           "</pool>";
}
std::string target(const std::string& path) {
    return "<target><path>" + path + "</path><permissions><mode>0711</mode></permissions></target>";
}

Disk disk(const std::string& volume, const std::string& mode = {}) {
    auto device = xml::parse_device("<disk type='volume'><source pool='p' volume='v'/><target dev='vda'/></disk>");
    auto out = std::get<Disk>(device);
    out.source->volume = volume;
    out.source->mode = mode;
    return out;
}

Disk placed(const std::string& text, const std::string& volume, const std::string& mode = {}) {
    auto out = disk(volume, mode);
    place_volume(out, xml::parse_pool(text));
    return out;
}

std::string refusal(const std::string& text, const std::string& volume, const std::string& mode = {}) try {
    placed(text, volume, mode);
    return "";
} catch (const Error& error) {
    return error.what();
}

TEST(Volume, OfAFolderIsAFileInIt) {
    for (const auto* type : {"dir", "fs", "netfs"}) {
        const auto out = placed(pool(type, target("/srv/images/")), "a b.qcow2");
        EXPECT_EQ(out.type, StorageType::file) << type;
        EXPECT_EQ(out.source->file, "/srv/images/a b.qcow2");
        EXPECT_EQ(out.source->pool + out.source->volume, "");
        EXPECT_EQ(out.driver->type, "raw") << "never probed";
    }
}

TEST(Volume, OfDevicesIsADevice) {
    const auto device = [](const std::string& text, const std::string& volume) {
        const auto out = placed(text, volume);
        EXPECT_EQ(out.type, StorageType::block);
        return out.source->dev;
    };
    EXPECT_EQ(device(pool("logical", target("/dev/vg0")), "root"), "/dev/vg0/root");
    EXPECT_EQ(
        device(pool("logical", source("<device path='/dev/sda3'/><name>vg1</name><format type='lvm2'/>")), "root"),
        "/dev/vg1/root");
    EXPECT_EQ(device(pool("disk", source("<device path='/dev/sdb'/>") + target("/dev")), "sdb1"), "/dev/sdb1");
    EXPECT_EQ(device(pool("zfs", source("<name>tank</name>")), "v"), "/dev/zvol/tank/v");
    EXPECT_EQ(device(pool("mpath", ""), "mpatha"), "/dev/mapper/mpatha");
    const auto iscsi = source("<host name='10.0.0.1'/><device path='iqn.2013-07.com.example:t'/>");
    EXPECT_EQ(device(pool("iscsi", iscsi + target("/dev/disk/by-path")), "unit:0:0:4"),
              "/dev/disk/by-path/ip-10.0.0.1:3260-iscsi-iqn.2013-07.com.example:t-lun-4");
}

TEST(Volume, OfAServerIsReachedOverTheNetwork) {
    const auto target_of = source(
        "<host name='h' port='3261'/><device path='iqn.x:t'/><initiator><iqn name='iqn.x:me'/></initiator>"
        "<auth type='chap' username='u'><secret usage='s'/></auth>");
    for (const auto& out : {placed(pool("iscsi", target_of), "unit:0:0:2", "direct"),
                            placed(pool("iscsi-direct", target_of), "unit:0:0:2")}) {
        EXPECT_EQ(out.type, StorageType::network);
        EXPECT_EQ(out.source->protocol, "iscsi");
        EXPECT_EQ(out.source->name, "iqn.x:t/2");
        EXPECT_EQ(out.source->hosts.front().port, "3261");
        EXPECT_EQ(out.source->initiator_iqn, "iqn.x:me");
        EXPECT_EQ(out.source->auth->username, "u");
        EXPECT_EQ(out.source->auth->secret->type, "iscsi");
        EXPECT_EQ(out.source->auth->secret->usage, "s");
    }
    const auto rbd = placed(pool("rbd", source("<name>images</name><host name='m1' port='6789'/><host name='m2'/>"
                                               "<auth type='ceph' username='admin'><secret "
                                               "uuid='6473fd97-f1f6-4d35-bd11-4a1a5f0ea5a4'/></auth>")),
                            "vm1");
    EXPECT_EQ(rbd.source->protocol, "rbd");
    EXPECT_EQ(rbd.source->name, "images/vm1");
    EXPECT_EQ(rbd.source->hosts.size(), 2u);
    EXPECT_EQ(rbd.source->auth->secret->type, "ceph");
    const auto gluster = placed(pool("gluster", source("<host name='g'/><dir path='/a/b/'/><name>vol</name>")), "i");
    EXPECT_EQ(gluster.source->name, "vol/a/b/i");
}

TEST(Volume, CannotLeaveItsPool) {
    for (const auto* name : {"", ".", "..", "../shadow", "/etc/shadow", "a/../../b", "a\nb"})
        EXPECT_NE(refusal(pool("dir", target("/srv")), name), "") << name;
    EXPECT_NE(refusal(pool("dir", target("/srv")), std::string(256, 'x')), "");
    for (const auto* path : {"srv", "", "/srv/../etc", "/s\nrv"})
        EXPECT_NE(refusal(pool("dir", target(path)), "v"), "") << path;
    EXPECT_NE(refusal(pool("logical", source("<name>../sda</name>")), "v"), "");
    EXPECT_NE(refusal(pool("iscsi", source("<host name='h'/><device path='t'/>")), "unit:0:0:../x"), "");
}

TEST(Volume, WhatThePoolCannotHaveIsRefused) {
    EXPECT_NE(refusal(pool("scsi", target("/dev")), "v").find("'scsi'"), std::string::npos);
    EXPECT_NE(refusal(pool("dir", target("/srv")), "v", "direct").find("mode='direct'"), std::string::npos);
    EXPECT_NE(refusal(pool("iscsi-direct", source("<host name='h'/><device path='t'/>")), "unit:0:0:1", "host"), "");
    EXPECT_NE(refusal(pool("rbd", ""), "v").find("<name>"), std::string::npos);
    EXPECT_NE(refusal(pool("iscsi", ""), "unit:0:0:1").find("<host>"), std::string::npos);
}

class VolumesTest : public World {
protected:
    void put(const std::string& text, const std::string& name = "p", unsigned mode = 0644) {
        const auto path = root + "/config/storage/" + name + ".xml";
        write(path, text);
        ASSERT_EQ(::chmod(path.c_str(), mode), 0);
    }
    std::string refusal(const std::string& pool_name = "p") {
        auto wanted = disk("v");
        wanted.source->pool = pool_name;
        Volumes volumes{files, root + "/config/storage"};
        try {
            run(volumes.resolve(wanted, in(Duration{5000})));
        } catch (const Error& error) {
            EXPECT_EQ(error.code(), Code::unsupported_configuration);
            return error.what();
        }
        return "";
    }
    static std::string device(const std::string& volume, const std::string& dev) {
        return "<disk type='volume' device='disk'><driver name='qemu' type='qcow2'/><source pool='p' volume='" +
               volume + "'/><target dev='" + dev + "' bus='virtio'/></disk>";
    }
};

TEST_F(VolumesTest, AMissingPoolIsNamedWithTheCure) {
    EXPECT_NE(refusal().find("there is no pool 'p'"), std::string::npos);
    EXPECT_NE(refusal().find(root + "/config/storage/p.xml"), std::string::npos);
    EXPECT_NE(refusal().find("disk 'vda'"), std::string::npos);
    put(pool("dir", target("/srv")));
    EXPECT_EQ(refusal(), "");
}

TEST_F(VolumesTest, OnlyTheAdministratorsFilesAreBelieved) {
    put(pool("dir", target("/srv")), "p", 0664);
    EXPECT_NE(refusal().find("chmod go-w"), std::string::npos);
    put(pool("dir", target("/srv"), "q"));
    EXPECT_NE(refusal().find("defines the pool 'q'"), std::string::npos);
    put("<pool");
    EXPECT_NE(refusal().find("line 1"), std::string::npos);
    put("<domain/>");
    EXPECT_NE(refusal().find("<pool>"), std::string::npos);
    put("");
    EXPECT_NE(refusal().find("is empty"), std::string::npos);
    put(pool("dir", target("/srv")) + std::string((1 << 20) + 1, ' '));
    EXPECT_NE(refusal().find("longer than 1 MiB"), std::string::npos);
    put("<!DOCTYPE pool [<!ENTITY a 'b'>]>" + pool("dir", target("&a;")));
    EXPECT_NE(refusal(), "");
    std::filesystem::remove(root + "/config/storage/p.xml");
    put(pool("dir", target("/srv")), "other");
    std::filesystem::create_symlink("other.xml", root + "/config/storage/p.xml");
    EXPECT_NE(refusal(), "") << "a link was followed";
    std::filesystem::remove(root + "/config/storage/p.xml");
    ASSERT_EQ(::mkfifo((root + "/config/storage/p.xml").c_str(), 0600), 0);
    EXPECT_NE(refusal().find("is no file"), std::string::npos);
    for (const auto* name : {"../p", "..", "a/b", "."}) EXPECT_NE(refusal(name), "") << name;
}

TEST_F(VolumesTest, ARunningMachineSaysWhereItIsAndTheStoredOneWhatItIsCalled) {
    boot();
    auto web = define(xml("web", {}, {}, device("v.qcow2", "vda")));
    EXPECT_THROW(finish(web->start({}, caller)), Error) << "there is no pool yet";
    EXPECT_EQ(web->view().state, State::shutoff);
    put(pool("dir", target("/srv")));
    finish(web->start({}, caller));
    ASSERT_EQ(web->view().state, State::running);
    EXPECT_NE(web->xml({}).find("<source file='/srv/v.qcow2'"), std::string::npos) << web->xml({});
    EXPECT_NE(web->xml({.inactive = true}).find("<disk type='volume'"), std::string::npos);
    EXPECT_EQ(web->xml({.inactive = true}).find("/srv"), std::string::npos);
    EXPECT_FALSE(web->view().updated);

    finish(web->attach_device(device("w.qcow2", "vdb"), ChangeScope::both, false, caller));
    EXPECT_NE(web->xml({}).find("/srv/w.qcow2"), std::string::npos);
    EXPECT_EQ(web->xml({.inactive = true}).find("/srv"), std::string::npos);
    EXPECT_NE(web->xml({.inactive = true}).find("volume='w.qcow2'"), std::string::npos);
}

TEST_F(VolumesTest, AnOverlayOnAVolumeIsFollowedByWhatIsStored) {
    boot();
    write(root + "/img/v.qcow2", "");
    put(pool("dir", target(root + "/img")));
    auto web = define(xml("web", {}, {}, device("v.qcow2", "vda")));
    const auto take = [&](const std::string& name, SnapshotCreateOptions options) {
        finish(
            web->snapshots().create("<domainsnapshot><name>" + name + "</name></domainsnapshot>", options, caller).job);
    };
    take("inside", {});
    EXPECT_NE(web->xml({}).find("<source pool='p' volume='v.qcow2'/>"), std::string::npos) << web->xml({});
    finish(web->start({}, caller));
    take("over", {.disk_only = true});
    const auto overlay = "<source file='" + root + "/img/v.over'";
    EXPECT_NE(web->xml({}).find(overlay), std::string::npos) << web->xml({});
    EXPECT_NE(web->xml({.inactive = true}).find(overlay), std::string::npos) << web->xml({.inactive = true});
    finish(web->stop({}, caller));
    EXPECT_NE(web->xml({}).find(overlay), std::string::npos);
}

TEST_F(VolumesTest, ACheckShowsTheImageOrWhatIsMissing) {
    boot();
    const auto check = [&] { return run(room->domains().check(xml("web", {}, {}, device("v", "vda")), false)); };
    ASSERT_EQ(check().unsupported.size(), 1u);
    EXPECT_NE(check().unsupported.front().find("there is no pool 'p'"), std::string::npos);
    put(pool("dir", target("/srv")));
    EXPECT_TRUE(check().unsupported.empty());
    EXPECT_NE(check().xml.find("<disk type='volume'"), std::string::npos);
}

}  // namespace
}  // namespace virtbus::tests
