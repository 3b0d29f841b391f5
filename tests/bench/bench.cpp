// SPDX-License-Identifier: LGPL-2.1-or-later
// Measures a running daemon from outside, each figure beside its floor taken in the same run: Ping for calls, exec of
// the same QEMU for start, SIGKILL for stop. Prints a table; asserts nothing.
#include <fmt/format.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <systemd/sd-bus.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "tests/bench/bed.hpp"
#include "tests/bench/daemon.hpp"
#include "tests/bench/networks.hpp"
#include "tests/bench/snapshots.hpp"
#include "tests/support/run.hpp"
#include "virtbus/fd.hpp"

namespace {

using virtbus::Fd;
using namespace virtbus::bench;
using virtbus::tests::TemporaryFolder;

/// A modest machine: two disks, one NIC, console, VNC.
std::string modest(int number) {
    return definition(
        number,
        "<disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='/var/lib/images/a.qcow2'/>"
        "<target dev='vda' bus='virtio'/></disk><disk type='file' device='cdrom'><target dev='sda' bus='sata'/>"
        "<readonly/></disk><interface type='user'><model type='virtio'/></interface><console type='pty'/>"
        "<graphics type='vnc' port='-1' autoport='yes'/><video><model type='virtio'/></video>");
}

std::uint64_t pss_kib(pid_t pid) {
    std::ifstream rollup{fmt::format("/proc/{}/smaps_rollup", pid)};
    for (std::string word; rollup >> word;)
        if (word == "Pss:") {
            std::uint64_t value = 0;
            rollup >> value;
            return value;
        }
    return 0;
}

/// exec of the argv to the reply of `cont`, then SIGKILL to the end; both in milliseconds.
std::pair<double, double> qemu_floor(const std::vector<std::string>& stand_alone) {
    int ends[2];
    if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) throw std::runtime_error{"socketpair"};
    const Fd ours{ends[0]};
    Fd theirs{ends[1]};
    std::vector<std::string> argv = stand_alone;
    for (const char* word : {"-S", "-chardev", "socket,id=benchmon,fd=3", "-mon", "chardev=benchmon,mode=control"})
        argv.push_back(word);
    const auto start = Steady::now();
    Process qemu{argv, {}, "/dev/null", theirs.get()};
    theirs = Fd{};
    const std::string commands = "{\"execute\":\"qmp_capabilities\"}{\"execute\":\"cont\",\"id\":1}";
    if (::write(ours.get(), commands.data(), commands.size()) < 0) throw std::runtime_error{"QMP write"};
    std::string answers;
    while (answers.find("\"id\": 1") == std::string::npos) {
        char buffer[4096];
        const auto n = ::read(ours.get(), buffer, sizeof buffer);
        if (n <= 0) throw std::runtime_error{"the QEMU of the floor ended: " + answers};
        answers.append(buffer, static_cast<std::size_t>(n));
    }
    const double started = since(start);
    return {started, timed([&] { qemu.end(SIGKILL); })};
}

std::uint32_t process_id(Client& client, const std::string& path) {
    const auto reply = client.call(path, "org.freedesktop.DBus.Properties", "Get", "ss", domain_interface, "ProcessId");
    std::uint32_t pid = 0;
    require(sd_bus_message_read(reply.get(), "v", "u", &pid), "ProcessId");
    return pid;
}

/// StateChanged to a state without a process.
bool tells_of_death(sd_bus_message* message) {
    const char *old_state = nullptr, *new_state = nullptr;
    if (sd_bus_message_read(message, "ss", &old_state, &new_state) <= 0) return false;
    return std::string_view{new_state} == "shutoff";
}

struct Bench {
    std::string program;
    int domains = 1000;
    int rounds = 9;
    bool qemu = true;
    Table table{};
    TemporaryFolder folder{};
    std::optional<PrivateBus> bus{};
    std::optional<Daemon> daemon{};

    void boot(const char* mode = "--user") {
        daemon.emplace(Daemon::Options{program, mode, bus->address(), folder.path(), {}});
    }

    void calls(Client& client) {
        const auto path = path_of(1);
        const double ping = median(repeated(2000, [&] { client.call(root, "org.freedesktop.DBus.Peer", "Ping", ""); }));
        table.row("Ping, p50", ms(ping), "the floor of a call");
        const double get = median(repeated(2000, [&] {
            client.call(path, "org.freedesktop.DBus.Properties", "Get", "ss", domain_interface, "State");
        }));
        table.row("one property Get, p50", ms(get), fmt::format("{:.2f} pings", get / ping));
        const double xml = median(repeated(2000, [&] { client.call(path, domain_interface, "GetXML", "a{sv}", 0u); }));
        table.row("GetXML, p50", ms(xml), fmt::format("{:.2f} pings", xml / ping));
    }

    void define(Client& client) {
        const int alone = std::min(200, domains / 2);
        int number = 1;
        const double slow = timed([&] {
            for (; number <= alone; ++number)
                client.call(root, manager, "DefineDomain", "sa{sv}", modest(number).c_str(), 0u);
        });
        std::vector<Message> calls;
        for (; number <= domains; ++number)
            calls.push_back(client.prepare(root, manager, "DefineDomain", "sa{sv}", modest(number).c_str(), 0u));
        const auto many = static_cast<double>(calls.size());
        const double fast = timed([&] { client.pipeline(std::move(calls), 16); });
        table.row("define, 16 in flight", fmt::format("{:.0f} /s", many * 1000 / fast));
        table.row("define, one at a time", fmt::format("{:.0f} /s", alone * 1000 / slow));
    }

    void lists(Client& client) {
        const double all = median(repeated(
            rounds, [&] { client.call(root, "org.freedesktop.DBus.ObjectManager", "GetManagedObjects", ""); }));
        table.row(fmt::format("GetManagedObjects, {} domains, all properties", domains), ms(all));
        const double list = median(repeated(rounds, [&] { client.call(root, manager, "ListDomains", "a{sv}", 0u); }));
        table.row(fmt::format("ListDomains, {} domains", domains), ms(list));
        const double stats = median(repeated(rounds, [&] { client.call(root, manager, "GetStats", "a{sv}", 0u); }));
        table.row(fmt::format("GetStats, {} inactive domains", domains), ms(stats));
        table.row("memory of the daemon (PSS)",
                  fmt::format("{:.1f} MiB", static_cast<double>(pss_kib(daemon->pid())) / 1024));
    }

    static std::vector<std::string> command(Client& client, const std::string& xml) {
        const auto reply = client.call(root, manager, "CheckDomain", "sa{sv}", xml.c_str(), 0u);
        std::vector<std::string> argv;
        require(sd_bus_message_enter_container(reply.get(), 'a', "{sv}"), "CheckDomain");
        while (sd_bus_message_enter_container(reply.get(), 'e', "sv") > 0) {
            const char* key = nullptr;
            require(sd_bus_message_read(reply.get(), "s", &key), "key");
            if (std::strcmp(key, "command") == 0) {
                char** words = nullptr;
                require(sd_bus_message_enter_container(reply.get(), 'v', "as"), "command");
                require(sd_bus_message_read_strv(reply.get(), &words), "words");
                for (char** word = words; word && *word; ++word) argv.emplace_back(*word);
                break;
            }
            require(sd_bus_message_skip(reply.get(), "v"), "skip");
            sd_bus_message_exit_container(reply.get());
        }
        return argv;
    }

    /// Eight disks with an image each, four NICs.
    std::string wide(int number) const {
        std::string devices;
        for (char disk = 'a'; disk < 'i'; ++disk) {
            const auto image = fmt::format("{}/vd{}.qcow2", folder.path(), disk);
            Process{{"qemu-img", "create", "-q", "-f", "qcow2", image, "1G"}, {}, "/dev/null"}.wait();
            devices += fmt::format(
                "<disk type='file'><driver name='qemu' type='qcow2'/><source file='{}'/>"
                "<target dev='vd{}' bus='virtio'/></disk>",
                image, disk);
        }
        for (int nic = 0; nic < 4; ++nic) devices += "<interface type='user'><model type='virtio'/></interface>";
        return definition(number, bare_devices + devices);
    }

    void guest(Client& client, const std::string& what, int number, const std::string& xml) {
        const auto path = path_of(number);
        const auto argv = command(client, xml);
        client.call(root, manager, "DefineDomain", "sa{sv}", xml.c_str(), 0u);
        std::vector<double> floor_start, floor_kill, start, stop, death;
        const auto match = fmt::format("type='signal',path='{}',member='StateChanged'", path);
        for (int round = 0; round < rounds; ++round) {
            const auto [floor, kill] = qemu_floor(argv);
            floor_start.push_back(floor);
            floor_kill.push_back(kill);
            start.push_back(timed([&] { client.call(path, domain_interface, "Start", "a{sv}", 0u); }));
            stop.push_back(timed([&] { client.call(path, domain_interface, "Stop", "a{sv}", 0u); }));
            client.call(path, domain_interface, "Start", "a{sv}", 0u);
            const auto pid = static_cast<pid_t>(process_id(client, path));
            Steady::time_point killed;
            client.wait_for_signal(match.c_str(), tells_of_death, [&] {
                killed = Steady::now();
                ::kill(pid, SIGKILL);
            });
            death.push_back(since(killed));
        }
        table.row(
            "start " + what, ms(median(start)),
            fmt::format("{:.2f} x exec to cont ({})", median(start) / median(floor_start), ms(median(floor_start))));
        table.row("stop", ms(median(stop)), fmt::format("SIGKILL and wait: {}", ms(median(floor_kill))));
        table.row("guest killed from outside until StateChanged", ms(median(death)));
        client.call(path, domain_interface, "Undefine", "a{sv}", 0u);
    }

    void guests(Client& client) {
        const int number = domains + 1;
        guest(client, "a bare guest", number, definition(number, bare_devices));
        guest(client, "one with 8 disks and 4 NICs", number, wide(number));
    }

    void restarts() {
        const int running = 20;
        {
            Client client{bus->address()};
            std::vector<Message> calls;
            for (int i = 0; i < running; ++i) {
                const int number = domains + 100 + i;
                client.call(root, manager, "DefineDomain", "sa{sv}", definition(number, bare_devices).c_str(), 0u);
                calls.push_back(client.prepare(path_of(number), domain_interface, "Start", "a{sv}", 0u));
            }
            if (qemu)
                table.row(fmt::format("start {} at once", running),
                          ms(timed([&] { client.pipeline(std::move(calls), running); })));
        }
        daemon->end(SIGKILL);
        const auto start = Steady::now();
        boot();
        table.row("kill -9 and start again until READY", ms(since(start)),
                  fmt::format("{} running guests", qemu ? running : 0));
        Client client{bus->address()};
        client.call(root, "org.freedesktop.DBus.ObjectManager", "GetManagedObjects", "");
        table.row("... until the first whole list", ms(since(start)), fmt::format("{} domains", domains + running));
        std::vector<Message> calls;
        if (qemu)
            for (int i = 0; i < running; ++i)
                calls.push_back(client.prepare(path_of(domains + 100 + i), domain_interface, "Stop", "a{sv}", 0u));
        client.pipeline(std::move(calls), running);
    }

    void run_snapshots() {
        table.head();
        bus.emplace(folder.path());
        boot();
        Client client{bus->address()};
        measure_snapshots(client, table, folder.path(), 1, rounds);
    }

    void run_networks() {
        enter_network_namespace();
        // The servers of networks are another user, who has to get to his files.
        std::filesystem::permissions(folder.path(), std::filesystem::perms{0711});
        table.head();
        bus.emplace(folder.path());
        boot("--system");
        Client client{bus->address()};
        measure_networks(client, table, folder.path(), rounds);
    }

    /// Against the daemon that runs on the system bus, with its guests as the service manager runs them.
    void run_installed() {
        table.head();
        Client client{""};
        guests(client);
    }

    void run() {
        table.head();
        bus.emplace(folder.path());
        boot();
        {
            Client client{bus->address()};
            define(client);
            calls(client);
            lists(client);
            if (qemu) guests(client);
            if (qemu) measure_snapshots(client, table, folder.path(), domains + 50, rounds);
        }
        restarts();
    }
};

}  // namespace

int main(int argc, char** argv) try {
    std::string program =
        std::filesystem::canonical("/proc/self/exe").parent_path().parent_path().parent_path() / "virtbusd";
    int domains = 1000, rounds = 9;
    bool qemu = true;
    std::string only;
    for (int i = 1; i < argc; ++i) {
        const std::string word = argv[i];
        if (word == "--no-qemu")
            qemu = false;
        else if (word == "--installed" || word == "--snapshots" || word == "--networks")
            only = word;
        else if (word == "--domains" && i + 1 < argc)
            domains = std::stoi(argv[++i]);
        else if (word == "--rounds" && i + 1 < argc)
            rounds = std::stoi(argv[++i]);
        else if (word == "--daemon" && i + 1 < argc)
            program = argv[++i];
        else {
            fmt::print(stderr,
                       "usage: bench [--domains N] [--rounds N] [--no-qemu] [--daemon PATH] [--installed | --snapshots "
                       "| --networks]\n");
            return 2;
        }
    }
    Bench bench{program, domains, rounds, qemu};
    if (only == "--installed")
        bench.run_installed();
    else if (only == "--snapshots")
        bench.run_snapshots();
    else if (only == "--networks")
        bench.run_networks();
    else
        bench.run();
    return 0;
} catch (const std::exception& error) {
    fmt::print(stderr, "bench: {}\n", error.what());
    return 1;
}
