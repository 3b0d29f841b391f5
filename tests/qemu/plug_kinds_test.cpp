// SPDX-License-Identifier: LGPL-2.1-or-later
// Every kind of device through the whole service and a real QEMU: it comes, is seen, outlives the daemon, is found
// again by less than was said of it, and leaves nothing; or it is refused with a sentence and leaves nothing.
#include <sys/socket.h>
#include <sys/un.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "qemu/json.hpp"
#include "qemu/monitor.hpp"
#include "service/xml/domain_xml.hpp"
#include "tests/qemu/snapshot_bed.hpp"
#include "virtbus/model/device_lists.hpp"

namespace virtbus::tests {
namespace {

using nlohmann::json;

constexpr auto both = ChangeScope::both;

struct Plugged {
    const char* name;
    std::string xml;    ///< "@" stands for the test's folder
    std::string less;   ///< what names it for the detach, "$" stands for its alias; "" = the same
    bool asks = false;  ///< the guest must agree to its going; here it does when it is restarted
};
struct Refused {
    const char* name;
    std::string xml;
    Code code;
    const char* words;
};

class PlugKinds : public QemuSnapshots {
protected:
    PlugKinds() {
        times.unplug = Duration{200};
        boot();
        for (const auto* name : {"raw", "cd"}) write(root + "/" + name, std::string(1 << 20, '\0'));
        for (const auto* name : {"first", "nvdimm"}) write(root + "/" + name, std::string(2 << 20, '\0'));
        listener_ = Fd{::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)};
        sockaddr_un address{};
        address.sun_family = AF_UNIX;
        (root + "/listens").copy(address.sun_path, sizeof address.sun_path - 1);
        ::bind(listener_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address);
        ::listen(listener_.get(), 10);
    }

    /// Shared memory outlives those who share it.
    ~PlugKinds() override {
        for (const auto* end : {"", "-1", "-2", "-3"})
            std::filesystem::remove(std::string{"/dev/shm/virtbus-plug"} + end);
    }

    void start_roomy(const std::string& more = {}) {
        std::string ports;
        for (int i = 1; i <= 10; ++i)
            ports += "<controller type='pci' index='" + std::to_string(i) + "' model='pcie-root-port'/>";
        ports += "<controller type='pci' index='11' model='pcie-to-pci-bridge'/>";
        define("<domain type='qemu'><name>web</name><uuid>" + uuid_of("web") +
               "</uuid><maxMemory slots='4' unit='MiB'>1024</maxMemory><memory unit='MiB'>64</memory><vcpu>1</vcpu>"
               "<memoryBacking><source type='memfd'/><access mode='shared'/></memoryBacking>"
               "<os><type arch='x86_64' machine='q35'>hvm</type></os><features><acpi/></features>"
               "<cpu><numa><cell id='0' cpus='0' memory='64' unit='MiB'/></numa></cpu><devices>"
               "<controller type='scsi' index='0' model='virtio-scsi'/><controller type='virtio-serial' index='0'/>"
               "<controller type='usb' index='0' model='qemu-xhci' ports='15'/>" +
               ports + filled(more) + "<memballoon model='none'/></devices></domain>");
        start(false);
    }
    std::string filled(std::string xml) const {
        for (auto at = xml.find('@'); at != xml.npos; at = xml.find('@')) xml.replace(at, 1, root);
        return xml;
    }
    void attach(const std::string& xml) { finish(web()->attach_device(filled(xml), both, false, caller)); }
    void detach(const std::string& xml) { finish(web()->detach_device(filled(xml), both, false, caller)); }
    std::string live() { return web()->xml({.secure = true}); }
    std::string stored() { return web()->xml({.inactive = true, .secure = true}); }
    DomainConfig live_config() { return xml::parse_domain(live()).config; }

    json ask(qemu::Monitor& monitor, const char* command, const json& arguments = {}) {
        return run(monitor.execute(command, arguments, in(Duration{5000})));
    }
    /// What QEMU has, asked while no daemon is connected; then a later daemon takes the guest up.
    std::string inventory() {
        room.reset();
        json all;
        for (const auto& entry : std::filesystem::directory_iterator{root + "/run/qemu"}) {
            qemu::Monitor monitor{
                host.loop, qemu::connect_socket(entry.path().string() + "/monitor.sock"), "the test", {}};
            for (const auto* command :
                 {"query-block", "query-named-block-nodes", "query-chardev", "query-fdsets", "query-memory-devices"})
                all[command] = ask(monitor, command);
            for (const auto* path : {"/machine/peripheral", "/objects", "/chardevs"})
                all[path] = ask(monitor, "qom-list", json{{"path", path}});
            for (const auto& file : std::filesystem::recursive_directory_iterator{entry.path()})
                all["files"].push_back(file.path().filename().string());
        }
        for (const auto& file : std::filesystem::directory_iterator{root})
            if (file.is_socket()) all["files"].push_back(file.path().filename().string());
        boot();
        for (auto& chardev : all["query-chardev"])
            if (chardev["label"] == "charmonitor") chardev["filename"] = "";
        // QEMU forgets the number of a log's duplicate without a word to the set; the set is empty all the same.
        auto& sets = all["query-fdsets"];
        for (auto set = sets.begin(); set != sets.end();) set = (*set)["fds"].empty() ? sets.erase(set) : set + 1;
        for (auto& list : all)
            std::sort(list.begin(), list.end(), [](const json& a, const json& b) { return a.dump() < b.dump(); });
        return all.dump(1);
    }
    std::string last_added() {
        std::string alias;
        const auto config = live_config();
        for (const auto place : all_devices(config.devices)) {
            const auto device = device_at(config.devices, place.kind, place.number);
            if (const auto* info = find_info(device); info && !before_.contains(info->alias)) alias = info->alias;
        }
        return alias;
    }
    std::set<std::string> aliases() {
        std::set<std::string> all;
        const auto config = live_config();
        for (const auto place : all_devices(config.devices)) {
            const auto device = device_at(config.devices, place.kind, place.number);
            if (const auto* info = find_info(device)) all.insert(info->alias);
        }
        return all;
    }

    void comes_and_goes(const Plugged& row) {
        SCOPED_TRACE(row.name);
        before_ = aliases();
        const auto was_live = live(), was_stored = stored();
        const auto before = inventory();
        const auto device = xml::parse_device(filled(row.xml));
        try {
            attach(row.xml);
        } catch (const Error& error) {
            FAIL() << error.what();
        }
        EXPECT_TRUE(audience.heard("event web 1")) << "DeviceAdded";
        const auto alias = last_added();
        ASSERT_FALSE(alias.empty()) << live();
        const auto kind = device.index();
        const auto now = live_config(), kept = xml::parse_domain(stored()).config;
        ASSERT_TRUE(find_alias(now.devices, alias));
        EXPECT_EQ(find_alias(now.devices, alias)->kind, kind);
        EXPECT_EQ(count_devices(kept.devices, kind), count_devices(now.devices, kind)) << stored();
        // What runs is what the definition says, when somebody asks what it would become.
        const auto checked = run(room->domains().check(live(), false));
        EXPECT_EQ(checked.xml, web()->xml({.migratable = true}));
        EXPECT_TRUE(checked.unsupported.empty()) << checked.unsupported.front();
        const auto during = inventory();  // and another daemon
        const auto has = [&](const std::string& name) {
            return during.find("\"name\": \"" + name + "\"") != during.npos;
        };
        EXPECT_TRUE(has(alias) || has("char" + alias)) << during;
        auto less = row.less.empty() ? row.xml : row.less;
        if (const auto at = less.find('$'); at != less.npos) less.replace(at, 1, alias);
        goes(row, less, alias);
        EXPECT_EQ(inventory(), before);
        EXPECT_EQ(live(), was_live);
        EXPECT_EQ(stored(), was_stored);
    }
    void goes(const Plugged& row, const std::string& less, const std::string& alias) {
        try {
            detach(less);
            EXPECT_FALSE(row.asks) << "it went by itself";
        } catch (const Error& error) {
            EXPECT_TRUE(row.asks) << error.what();
            EXPECT_EQ(word(error.code()), word(Code::timeout)) << error.what();
            finish(web()->reset(caller));
        }
        EXPECT_TRUE(until([&] { return !find_alias(live_config().devices, alias); })) << alias;
        EXPECT_TRUE(until([&] { return audience.heard("event web 2"); })) << "DeviceRemoved";
    }
    void is_refused(const Refused& row) {
        SCOPED_TRACE(row.name);
        const auto was_live = live(), was_stored = stored();
        const auto before = inventory();
        EXPECT_REFUSED(attach(row.xml), row.code, row.words);
        EXPECT_EQ(inventory(), before);
        EXPECT_EQ(live(), was_live);
        EXPECT_EQ(stored(), was_stored);
    }

    /// Those of that program that were told of this test's folder, without the children of others.
    std::size_t helpers(const std::string& program) const {
        std::map<std::string, std::string> parents;
        for (const auto& entry : std::filesystem::directory_iterator{"/proc"}) {
            const auto line = read(entry.path() / "cmdline");
            if (!line.substr(0, line.find('\0')).ends_with("/" + program) || line.find(root) == line.npos) continue;
            const auto status = read(entry.path() / "status");
            const auto at = status.find("PPid:\t") + 6;
            parents[entry.path().filename()] = status.substr(at, status.find('\n', at) - at);
        }
        return static_cast<std::size_t>(
            std::ranges::count_if(parents, [&](const auto& each) { return !parents.contains(each.second); }));
    }

    std::set<std::string> before_;
    Fd listener_;
};

// ---- character devices

TEST_F(PlugKinds, CharacterDevices) {
    start_roomy();
    const auto channel = [](const std::string& type, const std::string& source) {
        return "<channel type='" + type + "'>" + source + "<target type='virtio' name='org.test'/></channel>";
    };
    const std::string by_name = "<channel type='null'><target type='virtio' name='org.test'/></channel>";
    for (const auto& row : std::vector<Plugged>{
             {"pty", channel("pty", ""), {}},
             {"listening", channel("unix", "<source mode='bind' path='@/made'/>"), {}},
             {"listening anywhere", channel("unix", "<source mode='bind'/>"), {}},
             {"connecting", channel("unix", "<source mode='connect' path='@/listens'/>"), {}},
             {"tcp", channel("tcp", "<source mode='bind' host='127.0.0.1' service='0'/><protocol type='raw'/>"), {}},
             {"udp",
              channel("udp",
                      "<source mode='bind' host='127.0.0.1' service='0'/>"
                      "<source mode='connect' host='127.0.0.1' service='9'/>"),
              {}},
             {"file", channel("file", "<source path='@/said'/>"), {}},
             {"null", channel("null", ""), by_name},
             {"with a log", channel("null", "<log file='@/log' append='on'/>"), {}},
             {"forwarded from the guest's network",
              "<channel type='unix'><source mode='bind' path='@/forwards'/>"
              "<target type='guestfwd' address='10.0.2.100' port='4600'/></channel>",
              "<channel type='unix'><target type='guestfwd' address='10.0.2.100' port='4600'/></channel>"},
             {"virtio console", "<console type='pty'><target type='virtio' port='1'/></console>",
              "<console type='pty'><target type='virtio'/><alias name='$'/></console>"},
             {"USB serial port", "<serial type='null'><target type='usb-serial' port='0'/></serial>", {}},
             {"PCI serial port", "<serial type='null'><target type='pci-serial' port='0'/></serial>", {}, true},
             {"redirected USB",
              "<redirdev bus='usb' type='tcp'><source mode='bind' host='127.0.0.1' service='0'/>"
              "<protocol type='raw'/></redirdev>",
              {}},
         })
        comes_and_goes(row);
    for (const auto& row : std::vector<Refused>{
             {"ISA serial port", "<serial type='null'><target type='isa-serial' port='0'/></serial>", Code::unsupported,
              "usb-serial"},
             {"parallel port", "<parallel type='null'/>", Code::unsupported, "parallel ports"},
             {"nobody listens", channel("unix", "<source mode='connect' path='@/nobody'/>"), Code::hypervisor_failed,
              "nobody"},
             {"no folder", channel("unix", "<source mode='bind' path='@/none/such'/>"), Code::hypervisor_failed,
              "none"},
             {"no folder for a file", channel("file", "<source path='@/none/such'/>"), Code::unsupported_configuration,
              "none"},
             {"a port that is not there",
              "<channel type='null'><target type='virtio' name='org.test'/>"
              "<address type='virtio-serial' controller='0' port='31'/></channel>",
              Code::unsupported_configuration, "31"},
         })
        is_refused(row);
}

// ---- small ones

TEST_F(PlugKinds, SmallDevices) {
    start_roomy();
    for (const auto& row : std::vector<Plugged>{
             {"randomness", "<rng model='virtio'><backend model='random'>/dev/urandom</backend></rng>", {}, true},
             {"QEMU's own randomness", "<rng model='virtio'><backend model='builtin'/></rng>", {}, true},
             {"watchdog", "<watchdog model='i6300esb' action='pause'/>", {}, true},
             {"USB tablet", "<input type='tablet' bus='usb'/>", {}},
             {"virtio keyboard", "<input type='keyboard' bus='virtio'/>", {}, true},
             {"shared memory",
              "<shmem name='virtbus-plug'><model type='ivshmem-plain'/><size unit='M'>4</size></shmem>",
              {},
              true},
             {"SCSI controller", "<controller type='scsi' index='3' model='virtio-scsi'/>",
              "<controller type='scsi' index='3'/>", true},
             {"serial controller", "<controller type='virtio-serial' index='3'/>", {}, true},
             {"virtio crypto",
              "<crypto model='virtio' type='qemu'><backend model='builtin' queues='1'/></crypto>",
              {},
              true},
         })
        comes_and_goes(row);
    for (const auto& row : std::vector<Refused>{
             {"sound", "<sound model='ich9'/>", Code::unsupported, "sound cards"},
             {"TPM", "<tpm model='tpm-crb'><backend type='emulator' version='2.0'/></tpm>", Code::unsupported, "TPMs"},
             {"hub", "<hub type='usb'/>", Code::unsupported, "hubs"},
             {"panic device", "<panic model='pvpanic'/>", Code::unsupported, "panic devices"},
             {"balloon", "<memballoon model='virtio'/>", Code::already_exists, "balloon"},
             {"video card", "<video><model type='virtio'/></video>", Code::unsupported, "video cards"},
             {"display", "<graphics type='vnc'/>", Code::unsupported, "displays"},
             {"IOMMU", "<iommu model='intel'/>", Code::unsupported, "IOMMUs"},
             {"lease", "<lease><lockspace>a</lockspace><key>b</key><target path='@/lease'/></lease>", Code::unsupported,
              "leases"},
             {"other watchdog", "<watchdog model='ib700' action='reset'/>", Code::unsupported, "i6300esb"},
             {"PS/2 keyboard", "<input type='keyboard' bus='ps2'/>", Code::unsupported, "ps2"},
             {"doorbell without a server",
              "<shmem name='nobody'><model type='ivshmem-doorbell'/>"
              "<server path='@/nobody'/></shmem>",
              Code::hypervisor_failed, "nobody"},
             {"vsock without the kernel's part", "<vsock model='virtio'><cid auto='yes'/></vsock>",
              Code::unsupported_configuration, "/dev/vhost-vsock"},
             {"SATA controller", "<controller type='sata' index='3'/>", Code::unsupported, "sata"},
         })
        is_refused(row);
}

// ---- what hangs on a controller keeps it

TEST_F(PlugKinds, AControllerInUseStays) {
    start_roomy();
    attach("<controller type='scsi' index='1' model='virtio-scsi'/>");
    attach(
        "<disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='@/raw'/>"
        "<target dev='sda' bus='scsi'/><address type='drive' controller='1' bus='0' target='0' unit='0'/></disk>");
    EXPECT_REFUSED(detach("<controller type='scsi' index='1'/>"), Code::device_in_use, "scsi1-0-0-0");
    attach("<channel type='null'><target type='virtio' name='a'/></channel>");
    EXPECT_REFUSED(detach("<controller type='virtio-serial' index='0'/>"), Code::device_in_use, "channel0");
    attach("<input type='tablet' bus='usb'/>");
    EXPECT_REFUSED(detach("<controller type='usb' index='0'/>"), Code::unsupported, "usb controllers");
    attach("<controller type='usb' index='3' model='qemu-xhci'/>");
    EXPECT_NE(live().find("type='usb' index='3'"), std::string::npos);
    EXPECT_NE(stored().find("type='scsi' index='1'"), std::string::npos);
}

// ---- memory

/// Memory goes only when a guest's system lets it.
TEST_F(PlugKinds, Memory) {
    start_roomy(
        "<memory model='nvdimm'><source><path>@/first</path></source>"
        "<target><size unit='MiB'>2</size><node>0</node></target></memory>");
    const auto of_slot = [&](unsigned slot) -> const MemoryDevice {
        for (const auto& memory : live_config().devices.memories)
            if (const auto* at = memory.info.address_as<DimmAddress>(); at && at->slot == slot) return memory;
        return {};
    };
    attach("<memory model='dimm'><target><size unit='MiB'>128</size><node>0</node></target></memory>");
    attach(
        "<memory model='nvdimm'><source><path>@/nvdimm</path></source>"
        "<target><size unit='MiB'>2</size><node>0</node></target></memory>");
    EXPECT_EQ(of_slot(1).info.alias, "dimm1");
    EXPECT_EQ(of_slot(2).info.alias, "nvdimm2");
    // Where the guest sees it is a part of it from now on.
    EXPECT_NE(of_slot(1).info.address_as<DimmAddress>()->base, std::nullopt);
    EXPECT_NE(of_slot(2).info.address_as<DimmAddress>()->base, std::nullopt);
    attach(
        "<memory model='virtio-mem'><target><size unit='MiB'>256</size><node>0</node><block unit='MiB'>2</block>"
        "<requested unit='KiB'>0</requested></target></memory>");
    const auto elastic = [&](const char* mib) {
        return "<memory model='virtio-mem'><target><size unit='MiB'>256</size><node>0</node><block unit='MiB'>2</block>"
               "<requested unit='MiB'>" +
               std::string{mib} + "</requested></target></memory>";
    };
    finish(web()->update_device(elastic("64"), both, false, caller));
    EXPECT_NE(live().find("<requested unit='KiB'>65536</requested>"), std::string::npos) << live();
    EXPECT_NE(stored().find("<requested unit='KiB'>65536</requested>"), std::string::npos) << stored();
    EXPECT_REFUSED(finish(web()->update_device(elastic("63"), both, false, caller)), Code::hypervisor_failed,
                   "block-size");
    EXPECT_NE(live().find("<requested unit='KiB'>65536</requested>"), std::string::npos) << "as it was";
    EXPECT_REFUSED(detach(elastic("64")), Code::unsupported, "virtio-mem");
    EXPECT_REFUSED(detach("<memory model='dimm'><target><size unit='MiB'>128</size><node>0</node></target></memory>"),
                   Code::timeout, "dimm1");
    EXPECT_NE(of_slot(1).info.alias, "") << "nobody is there to give it back";
    is_refused({"no room", "<memory model='dimm'><target><size unit='GiB'>1</size><node>0</node></target></memory>",
                Code::invalid_xml, "maxMemory"});
    const auto before = inventory();
    EXPECT_NE(before.find("\"id\": \"dimm1\""), before.npos);
}

// ---- folders

TEST_F(PlugKinds, Folders) {
    start_roomy();
    if (::access("/usr/lib/qemu/virtiofsd", X_OK) == 0 && ::geteuid() == 0) {
        const auto by_tag = "<filesystem type='mount'><driver type='virtiofs'/><source dir='@'/><target dir='tag'/>";
        comes_and_goes({"virtiofs", std::string{by_tag} + "</filesystem>", {}, true});
        EXPECT_EQ(helpers("virtiofsd"), 0U);
        attach(std::string{by_tag} + "<binary xattr='on'><cache mode='always'/></binary></filesystem>");
        attach("<filesystem type='mount'><driver type='virtiofs'/><source dir='@'/><target dir='other'/></filesystem>");
        EXPECT_EQ(helpers("virtiofsd"), 2U);
        boot();
        EXPECT_EQ(helpers("virtiofsd"), 2U) << "they are the next daemon's now";
        EXPECT_REFUSED(detach("<filesystem type='mount'><target dir='tag'/></filesystem>"), Code::timeout, "fs0");
        finish(web()->reset(caller));
        EXPECT_TRUE(until([&] { return helpers("virtiofsd") == 1 && !aliases().contains("fs0"); }));
        is_refused({"a folder that is not there",
                    "<filesystem type='mount'><driver type='virtiofs'/><source dir='@/none'/><target dir='tag'/>"
                    "</filesystem>",
                    Code::unsupported_configuration, "cannot be shared"});
        is_refused({"a server that nobody describes",
                    "<filesystem type='mount'><driver type='virtiofs'/><source dir='@'/><target dir='tag'/>"
                    "<binary path='/bin/true'/></filesystem>",
                    Code::unsupported_configuration, "descriptor"});
        EXPECT_EQ(helpers("virtiofsd"), 1U);
    }
    is_refused({"9p", "<filesystem type='mount'><source dir='@'/><target dir='tag'/></filesystem>", Code::unsupported,
                "virtiofs"});
    is_refused({"nobody serves",
                "<filesystem type='mount'><driver type='virtiofs'/><source socket='@/nobody'/>"
                "<target dir='tag'/></filesystem>",
                Code::hypervisor_failed, "nobody"});
}

// ---- interfaces

TEST_F(PlugKinds, Interfaces) {
    start_roomy();
    const std::string mac = "<mac address='52:54:00:00:00:01'/>";
    const auto by_mac = "<interface type='user'>" + mac + "</interface>";
    for (const auto& row : std::vector<Plugged>{
             {"user", "<interface type='user'>" + mac + "<model type='virtio'/></interface>", by_mac, true},
             {"user, e1000e", "<interface type='user'>" + mac + "<model type='e1000e'/></interface>", {}, true},
         })
        comes_and_goes(row);
}

// ---- disks

TEST_F(PlugKinds, Disks) {
    start_roomy();
    const auto disk = [](const std::string& target, const std::string& bus, const std::string& device = "disk") {
        return "<disk type='file' device='" + device +
               "'><driver name='qemu' type='raw'/><source file='@/raw'/>"
               "<target dev='" +
               target + "' bus='" + bus + "'/>" + (device == "cdrom" ? "<readonly/>" : "") + "</disk>";
    };
    for (const auto& row : std::vector<Plugged>{
             {"virtio", disk("vda", "virtio"), "<disk><target dev='vda'/></disk>", true},
             {"SCSI", disk("sda", "scsi"),
              "<disk><target dev='sda'/><address type='drive' controller='0' bus='0' target='0' unit='0'/></disk>"},
             {"USB", disk("sdb", "usb"), {}},
             {"SCSI CD-ROM", disk("sdc", "scsi", "cdrom"), {}},
             {"USB CD-ROM", disk("sdd", "usb", "cdrom"), {}},
         })
        comes_and_goes(row);
    for (const auto& row : std::vector<Refused>{
             {"SATA", disk("sde", "sata"), Code::unsupported, "sata"},
             {"IDE", disk("hda", "ide"), Code::unsupported_configuration, "ide"},
             {"floppy", disk("fda", "fdc", "floppy"), Code::unsupported, "fdc"},
             {"SD card", disk("sdf", "sd"), Code::unsupported, "sd"},
         })
        is_refused(row);
}

/// One helper for all of them: it comes with the first and goes with the last.
TEST_F(PlugKinds, DisksWithManagedReservations) {
    if (::access("/usr/bin/qemu-pr-helper", X_OK) != 0 || ::geteuid() != 0) GTEST_SKIP() << "no qemu-pr-helper";
    start_roomy();
    const auto disk = [](const std::string& target, const std::string& path) {
        return "<disk type='block' device='disk'><driver name='qemu' type='raw'/><source dev='@/" + path +
               "'><reservations managed='yes'/></source><target dev='" + target + "' bus='scsi'/></disk>";
    };
    const auto program = "qemu-pr-helper";
    comes_and_goes({"the first", disk("sda", "raw"), "<disk><target dev='sda'/></disk>"});
    EXPECT_EQ(helpers(program), 0U);
    is_refused({"not there", disk("sda", "none"), Code::unsupported_configuration, "none"});
    // What QEMU refuses when the helper runs already.
    is_refused(
        {"blocks that cannot be",
         disk("sda", "raw")
             .insert(disk("sda", "raw").size() - 7, "<blockio logical_block_size='4096' physical_block_size='512'/>"),
         Code::hypervisor_failed, "block_size"});
    EXPECT_EQ(helpers(program), 0U);
    attach(disk("sda", "raw"));
    attach(disk("sdb", "cd"));
    EXPECT_EQ(helpers(program), 1U);
    boot();
    detach("<disk><target dev='sda'/></disk>");
    EXPECT_EQ(helpers(program), 1U) << "the other disk needs it";
    detach("<disk><target dev='sdb'/></disk>");
    EXPECT_EQ(helpers(program), 0U);
}

// ---- what goes on in another process is the same machine

class KeptIdentity : public PlugKinds {
protected:
    /// Several of each numbered kind that a state speaks of by name or place; the first of each goes again.
    void plug_and_unplug() {
        for (const auto* name : {"/disk1", "/disk2", "/disk3"})
            ASSERT_EQ(shell("qemu-img create -f qcow2 " + root + name + " 1M"), 0);
        start_roomy();
        for (const auto* number : {"1", "2", "3"}) {
            const std::string n{number};
            attach("<channel type='null'><target type='virtio' name='c" + n + "'/></channel>");
            attach("<input type='tablet' bus='usb'><address type='usb' bus='0' port='" + n + "'/></input>");
            attach("<shmem name='virtbus-plug-" + n +
                   "' role='master'><model type='ivshmem-plain'/><size unit='M'>4</size></shmem>");
            attach("<disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='@/disk" + n +
                   "'/><target dev='sd" + std::string(1, static_cast<char>('`' + number[0] - '0')) +
                   "' bus='scsi'/></disk>");
            attach(rng(n == "1"));
        }
        attach("<memory model='dimm'><target><size unit='MiB'>128</size><node>0</node></target></memory>");
        for (int i = 0; i < 2; ++i)
            attach(
                "<memory model='virtio-mem'><target><size unit='MiB'>128</size><node>0</node><block "
                "unit='MiB'>2</block>"
                "<requested unit='KiB'>0</requested></target></memory>");
        detach("<channel type='null'><target type='virtio' name='c1'/></channel>");
        detach("<input type='tablet' bus='usb'><address type='usb' bus='0' port='1'/></input>");
        detach("<disk><target dev='sda'/></disk>");
        for (const auto& pending : {std::string{"<shmem name='virtbus-plug-1'/>"}, rng(true)})
            EXPECT_REFUSED(detach(pending), Code::timeout, "the request stands");
        finish(web()->reset(caller));
        EXPECT_TRUE(until([&] { return !aliases().contains("shmem0") && !aliases().contains("rng0"); }));
    }
    static std::string rng(bool first) {
        return std::string{"<rng model='virtio'><backend model='"} +
               (first ? "random'>/dev/urandom</backend></rng>" : "builtin'/></rng>");
    }
    static DomainConfig without_id(DomainConfig config) {
        config.id.reset();
        for (auto& channel : config.devices.channels) channel.target->state.clear();
        return config;
    }
};

TEST_F(KeptIdentity, AManagedSaveIsTakenUp) {
    plug_and_unplug();
    const auto before = without_id(live_config());
    EXPECT_FALSE(web()->view().updated);
    finish(web()->managed_save({}, caller));
    start(false);
    EXPECT_EQ(xml::format_domain(without_id(live_config())), xml::format_domain(before));
    EXPECT_FALSE(web()->view().updated);
    // What comes next has a name of its own.
    attach("<rng model='virtio'><backend model='builtin'/></rng>");
    stop();
    start(false);
    EXPECT_TRUE(aliases().contains("rng0")) << "a cold start names them anew";
}

TEST_F(KeptIdentity, ASnapshotIsTakenUpByAnotherProcess) {
    plug_and_unplug();
    take("one");
    const auto before = without_id(live_config());
    stop();
    revert("one");
    EXPECT_EQ(xml::format_domain(without_id(live_config())), xml::format_domain(before));
    // The next one knows them by the same names, too.
    take("two");
    stop();
    revert("two");
    EXPECT_EQ(xml::format_domain(without_id(live_config())), xml::format_domain(before));
}

// ---- what may be missing, and when

class StartupPolicy : public PlugKinds {
protected:
    enum class At { boot, restore };
    DomainPtr define_with(const std::string& device, const std::string& bus, const std::string& policy) {
        write(medium(), std::string(1 << 20, '\0'));
        const auto says = policy.empty() ? "" : " startupPolicy='" + policy + "'";
        return define("<domain type='qemu'><name>web</name><uuid>" + uuid_of("web") +
                      "</uuid><memory unit='MiB'>64</memory><os><type arch='x86_64' machine='pc'>hvm</type></os>"
                      "<devices><disk type='file' device='" +
                      device + "'><driver name='qemu' type='raw'/><source file='" + medium() + "'" + says +
                      "/><target dev='" +
                      (bus == "fdc"   ? "fda"
                       : bus == "ide" ? "hda"
                                      : "vda") +
                      "' bus='" + bus + "'/></disk><memballoon model='none'/></devices></domain>");
    }
    std::string medium() const { return root + "/medium"; }
    void run_without(const std::string& device, const std::string& bus, const std::string& policy, At at, bool goes) {
        SCOPED_TRACE(device + " " + policy + (at == At::boot ? " boot" : " restore"));
        const auto domain = define_with(device, bus, policy);
        if (at == At::restore) {
            start(false);
            EXPECT_NE(live().find(medium()), std::string::npos);
            finish(web()->managed_save({}, caller));
        }
        std::filesystem::remove(medium());
        if (goes) {
            start(false);
            EXPECT_EQ(live().find(medium()), std::string::npos) << live();
            EXPECT_EQ(live_config().devices.disks.size(), device == "disk" ? 0u : 1u);
            EXPECT_NE(stored().find(medium()), std::string::npos) << "the next start looks again";
            EXPECT_TRUE(log.says(medium()));
            stop();
        } else {
            EXPECT_REFUSED(start(false), Code::unsupported_configuration, medium());
            EXPECT_EQ(web()->view().has_managed_save, at == At::restore);
        }
        undefine("web", {.managed_save = true});
    }
};

TEST_F(StartupPolicy, AtABootAndWhenAStateIsTakenUp) {
    for (const auto& [device, bus] : {std::pair{"cdrom", "ide"}, {"floppy", "fdc"}}) {
        run_without(device, bus, "", At::boot, false);
        run_without(device, bus, "mandatory", At::boot, false);
        run_without(device, bus, "requisite", At::boot, false);
        run_without(device, bus, "optional", At::boot, true);
        run_without(device, bus, "mandatory", At::restore, false);
        run_without(device, bus, "requisite", At::restore, true);
        run_without(device, bus, "optional", At::restore, true);
    }
    run_without("disk", "virtio", "mandatory", At::boot, false);
    run_without("disk", "virtio", "optional", At::boot, true);
    run_without("disk", "virtio", "requisite", At::boot, false);
    run_without("disk", "virtio", "requisite", At::restore, false);
}

TEST_F(StartupPolicy, AMediumThatIsAskedForMustBeThere) {
    define_with("cdrom", "ide", "requisite");
    start();  // firmware that looks for something to boot closes trays
    const auto drive = [&](const std::string& path, const std::string& policy) {
        return "<disk type='file' device='cdrom'><driver name='qemu' type='raw'/><source file='" + path +
               "' startupPolicy='" + policy + "'/><target dev='hda' bus='ide'/><readonly/></disk>";
    };
    const auto change = [&](const std::string& path, const std::string& policy) {
        finish(web()->update_device(drive(path, policy), both, false, caller));
    };
    const auto was = live();
    for (const auto* policy : {"mandatory", "requisite", "optional"})
        EXPECT_REFUSED(change(root + "/gone", policy), Code::unsupported_configuration, "gone");
    EXPECT_EQ(live(), was);
    change(root + "/cd", "optional");
    EXPECT_NE(live().find(root + "/cd' startupPolicy='optional'"), std::string::npos) << live();
}

TEST_F(StartupPolicy, AMediumThatIsAttachedGoesIntoTheDrive) {
    define_with("cdrom", "ide", "");
    start();
    const auto put = [&](const std::string& file) {
        finish(web()->attach_device("<disk type='file' device='cdrom'>" + file + "<target dev='hda' bus='ide'/></disk>",
                                    ChangeScope::live, false, caller));
    };
    put("<source file='" + root + "/cd'/>");
    EXPECT_NE(live().find("<source file='" + root + "/cd'/>"), std::string::npos) << live();
    EXPECT_NE(inventory().find("\"inserted\""), std::string::npos);
    put("");
    EXPECT_EQ(inventory().find("\"inserted\""), std::string::npos);
    EXPECT_EQ(live().find("<source"), std::string::npos) << live();
    EXPECT_EQ(live_config().devices.disks.size(), 1U);
    EXPECT_NE(stored().find(medium()), std::string::npos);
    EXPECT_REFUSED(put("<source file='" + root + "/gone'/>"), Code::unsupported_configuration, "gone");
}

TEST_F(StartupPolicy, ADiskThatIsPluggedMustBeThere) {
    start_roomy();
    is_refused({"optional",
                "<disk type='file' device='disk'><driver name='qemu' type='raw'/>"
                "<source file='@/gone' startupPolicy='optional'/><target dev='sda' bus='scsi'/></disk>",
                Code::unsupported_configuration, "gone"});
}

}  // namespace
}  // namespace virtbus::tests
