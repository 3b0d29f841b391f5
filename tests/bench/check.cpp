// SPDX-License-Identifier: LGPL-2.1-or-later
// What CheckDomain costs inside the daemon for a definition of forty devices, step by step. Prints a table; asserts
// nothing.
#include <algorithm>
#include <chrono>
#include <functional>

#include "qemu/unsupported.hpp"
#include "tests/drivers/domain_bed.hpp"

namespace {

using namespace virtbus;
using namespace virtbus::tests;

std::string forty_devices() {
    std::string devices;
    for (int i = 0; i < 8; ++i)
        devices += fmt::format(
            "<disk type='file'><driver name='qemu' type='qcow2'/><source file='/srv/{0}.qcow2'/>"
            "<target dev='vd{1}' bus='virtio'/></disk>",
            i, static_cast<char>('a' + i));
    for (int i = 0; i < 8; ++i)
        devices += fmt::format(
            "<interface type='bridge'><mac address='52:54:00:00:00:{:02x}'/><source bridge='br0'/>"
            "<model type='virtio'/></interface>",
            i);
    for (int i = 0; i < 4; ++i) devices += "<serial type='pty'/>";
    for (int i = 0; i < 4; ++i)
        devices += fmt::format("<channel type='unix'><target type='virtio' name='org.example.{}'/></channel>", i);
    for (int i = 0; i < 6; ++i) devices += "<input type='tablet' bus='usb'/>";
    for (int i = 0; i < 4; ++i) devices += "<rng model='virtio'><backend model='builtin'/></rng>";
    devices +=
        "<graphics type='vnc'/><video><model type='virtio'/></video><sound model='ich9'/><tpm model='tpm-crb'>"
        "<backend type='emulator' version='2.0'/></tpm><watchdog model='i6300esb'/><memballoon model='virtio'/>";
    return "<domain type='qemu'><name>forty</name><uuid>00000000-0000-4000-8000-000000000001</uuid><memory "
           "unit='GiB'>4</memory><vcpu>4</vcpu><os><type arch='x86_64' machine='q35'>hvm</type></os><devices>" +
           devices + "</devices></domain>";
}

double median_ms(const std::function<void()>& work) {
    std::vector<double> times;
    for (int i = 0; i < 200; ++i) {
        const auto start = std::chrono::steady_clock::now();
        work();
        times.push_back(std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count());
    }
    std::nth_element(times.begin(), times.begin() + 100, times.end());
    return times[100];
}

}  // namespace

int main() {
    const std::string text = forty_devices();
    const auto& known = known_capabilities("x86_64");
    const DomainConfig parsed = xml::parse_domain(text).config;
    const DomainConfig complete = whole(parsed);
    const auto row = [](const char* what, const std::function<void()>& work) {
        fmt::print("{:<40} {:8.3f} ms\n", what, median_ms(work));
    };
    row("reading", [&] { xml::parse_domain(text); });
    row("completing and addressing", [&] { whole(parsed); });
    row("writing", [&] { xml::format_domain(complete); });
    row("what this host cannot do", [&] { qemu::unsupported(complete, known); });
    row("the command", [&] { qemu::standalone_command(complete, known, false); });
    row("all of it", [&] {
        const DomainConfig config = whole(xml::parse_domain(text).config);
        xml::format_domain(config);
        qemu::unsupported(config, known);
        qemu::standalone_command(config, known, false);
    });
}
