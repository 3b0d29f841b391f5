// SPDX-License-Identifier: LGPL-2.1-or-later
#include "tests/bench/networks.hpp"

#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <cerrno>
#include <fstream>

#include "tests/bench/daemon.hpp"
#include "virtbus/fd.hpp"

namespace virtbus::bench {

namespace {

constexpr const char* network_interface = "org.virtbus1.Network";
constexpr int many = 100;

std::string served(int number, const std::string& forward) {
    return fmt::format(
        "<network><name>bench-{0}</name><uuid>00000000-0000-4000-9000-{0:012x}</uuid>{1}<ip address='10.99.{0}.1' "
        "prefix='24'><dhcp><range start='10.99.{0}.100' end='10.99.{0}.200'/></dhcp></ip></network>",
        number, forward);
}

std::string network_path(int number) {
    return fmt::format("{}/network/00000000_0000_4000_9000_{:012x}", root, number);
}

void define(Client& client, const std::string& xml) {
    client.call(root, manager, "DefineNetwork", "sa{sv}", xml.c_str(), 0u);
}

void verb(Client& client, int number, const char* member) {
    client.call(network_path(number), network_interface, member, "a{sv}", 0u);
}

/// From exec until it serves and has gone to the background.
double dnsmasq_floor(const std::string& folder) {
    const std::string pid_file = folder + "/floor.pid";
    const double taken = timed([&] {
        Process dnsmasq{{"dnsmasq", "--conf-file=/dev/null", "--no-resolv", "--no-hosts", "--port=5353",
                         "--listen-address=127.0.0.1", "--bind-interfaces", "--pid-file=" + pid_file,
                         "--dhcp-leasefile=" + folder + "/floor.leases"},
                        {},
                        "/dev/null"};
        if (dnsmasq.wait() != 0) throw std::runtime_error{"dnsmasq did not start"};
    });
    pid_t pid = 0;
    if (!(std::ifstream{pid_file} >> pid) || pid <= 1) throw std::runtime_error{"dnsmasq left no pid file"};
    ::kill(pid, SIGTERM);
    while (::kill(pid, 0) == 0) ::usleep(1000);
    return taken;
}

void one(Client& client, Table& table, const std::string& folder, int rounds, const std::string& what,
         const std::string& forward) {
    define(client, served(0, forward));
    std::vector<double> start, stop, floor;
    for (int round = 0; round < rounds; ++round) {
        floor.push_back(dnsmasq_floor(folder));
        start.push_back(timed([&] { verb(client, 0, "Start"); }));
        stop.push_back(timed([&] { verb(client, 0, "Stop"); }));
    }
    verb(client, 0, "Undefine");
    table.row("start " + what, ms(median(start)),
              fmt::format("{} beyond dnsmasq's own ({})", ms(median(start) - median(floor)), ms(median(floor))));
    table.row("stop " + what, ms(median(stop)));
}

}  // namespace

void enter_network_namespace() {
    if (::unshare(CLONE_NEWNET) != 0)
        throw std::runtime_error{fmt::format("a network namespace: {}", std::strerror(errno))};
    const Fd socket{::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0)};
    ifreq loopback{};
    std::strcpy(loopback.ifr_name, "lo");
    loopback.ifr_flags = IFF_UP;
    if (::ioctl(socket.get(), SIOCSIFFLAGS, &loopback) != 0) throw std::runtime_error{"lo does not come up"};
}

void measure_networks(Client& client, Table& table, const std::string& folder, int rounds) {
    one(client, table, folder, rounds, "a NAT network", "<forward mode='nat'/>");
    one(client, table, folder, rounds, "an isolated network", "");
    std::vector<Message> starts, stops;
    for (int i = 0; i < many; ++i) {
        define(client, served(i, "<forward mode='nat'/>"));
        starts.push_back(client.prepare(network_path(i), network_interface, "Start", "a{sv}", 0u));
        stops.push_back(client.prepare(network_path(i), network_interface, "Stop", "a{sv}", 0u));
    }
    const double floor = dnsmasq_floor(folder);
    const double start = timed([&] { client.pipeline(std::move(starts), many); });
    table.row(fmt::format("start {} NAT networks at once", many), ms(start),
              fmt::format("{} each; dnsmasq's own: {}", ms(start / many), ms(floor)));
    const double list = median(
        repeated(rounds, [&] { client.call(root, "org.freedesktop.DBus.ObjectManager", "GetManagedObjects", ""); }));
    table.row(fmt::format("GetManagedObjects, {} active networks", many), ms(list));
    const double stop = timed([&] { client.pipeline(std::move(stops), many); });
    table.row("stop them at once", ms(stop), fmt::format("{} each", ms(stop / many)));
    for (int i = 0; i < many; ++i) verb(client, i, "Undefine");
}

}  // namespace virtbus::bench
