// SPDX-License-Identifier: LGPL-2.1-or-later
#include "tests/bench/snapshots.hpp"

#include "tests/bench/daemon.hpp"

namespace virtbus::bench {

namespace {

constexpr int many = 200;
constexpr int at_each_end = 9;

void qemu_img(std::vector<std::string> argv) {
    argv.insert(argv.begin(), "qemu-img");
    if (Process{std::move(argv), {}, "/dev/null"}.wait() != 0) throw std::runtime_error{"qemu-img failed"};
}

std::string make_image(const std::string& path) {
    qemu_img({"create", "-q", "-f", "qcow2", path, "1G"});
    return path;
}

void snapshot(Client& client, const std::string& path, const std::string& name) {
    const std::string xml = "<domainsnapshot><name>" + name + "</name></domainsnapshot>";
    client.call(path, domain_interface, "CreateSnapshot", "sa{sv}", xml.c_str(), 0u);
}

double first(const std::vector<double>& all) {
    return median({all.begin(), all.begin() + at_each_end});
}
double last(const std::vector<double>& all) {
    return median({all.end() - at_each_end, all.end()});
}

std::string with_disk(int number, const std::string& image) {
    return definition(number, bare_devices + "<disk type='file'><driver name='qemu' type='qcow2'/><source file='" +
                                  image + "'/><target dev='vda' bus='virtio'/></disk>");
}

void undefine(Client& client, const std::string& path) {
    client.call(path, domain_interface, "Undefine", "a{sv}", 1u, "snapshots-metadata", "b", 1);
}

void measure_at_rest(Client& client, Table& table, const std::string& folder, int number, int rounds) {
    const std::string bare = make_image(folder + "/bare.qcow2"), image = make_image(folder + "/snapshots.qcow2");
    client.call(root, manager, "DefineDomain", "sa{sv}", with_disk(number, image).c_str(), 0u);
    const std::string path = path_of(number);
    std::vector<double> ours, floor;
    for (int i = 0; i < many; ++i) {
        floor.push_back(timed([&] { qemu_img({"snapshot", "-c", std::to_string(i), bare}); }));
        ours.push_back(timed([&] { snapshot(client, path, std::to_string(i)); }));
    }
    const auto beside = [](double mine, double theirs) {
        return fmt::format("{:.2f} x qemu-img snapshot -c ({})", mine / theirs, ms(theirs));
    };
    table.row("internal snapshot of an inactive domain, the first", ms(first(ours)), beside(first(ours), first(floor)));
    table.row(fmt::format("... the {}th", many), ms(last(ours)), beside(last(ours), last(floor)));
    table.row("... against the first", fmt::format("{:.2f} x", last(ours) / first(ours)),
              fmt::format("qemu-img's own: {:.2f} x", last(floor) / first(floor)));
    const double list = median(
        repeated(rounds, [&] { client.call(path, "org.freedesktop.DBus.ObjectManager", "GetManagedObjects", ""); }));
    table.row(fmt::format("list {} snapshots with all properties", many), ms(list));
    undefine(client, path);
}

void measure_running(Client& client, Table& table, const std::string& folder, int number, int rounds) {
    const std::string image = make_image(folder + "/running.qcow2"), path = path_of(number);
    client.call(root, manager, "DefineDomain", "sa{sv}", with_disk(number, image).c_str(), 0u);
    client.call(path, domain_interface, "Start", "a{sv}", 0u);
    std::vector<double> running;
    for (int i = 0; i < rounds; ++i) running.push_back(timed([&] { snapshot(client, path, std::to_string(i)); }));
    table.row("internal snapshot of a bare running guest", ms(median(running)));
    client.call(path, domain_interface, "Stop", "a{sv}", 0u);
    undefine(client, path);
}

}  // namespace

void measure_snapshots(Client& client, Table& table, const std::string& folder, int number, int rounds) {
    measure_at_rest(client, table, folder, number, rounds);
    measure_running(client, table, folder, number, rounds);
}

}  // namespace virtbus::bench
