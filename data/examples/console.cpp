// SPDX-License-Identifier: LGPL-2.1-or-later
// console DOMAIN [--until TEXT]: copies a domain's first console to standard output, until the text has been seen or
// the console ends. Shows how a C++ program calls virtbus with sdbus-c++ and gets a file descriptor back.
#include <sdbus-c++/sdbus-c++.h>
#include <unistd.h>

#include <cstring>
#include <iostream>
#include <map>
#include <string>

int main(int argc, char** argv) try {
    if (argc != 2 && !(argc == 4 && std::strcmp(argv[2], "--until") == 0)) {
        std::cerr << "usage: console DOMAIN [--until TEXT]\n";
        return 2;
    }
    const std::string wanted = argc == 4 ? argv[3] : "";
    const std::map<std::string, sdbus::Variant> no_options;

    auto bus = sdbus::createSessionBusConnection();
    auto manager = sdbus::createProxy(*bus, "org.virtbus1", "/org/virtbus1");
    sdbus::ObjectPath path;
    manager->callMethod("GetDomain")
        .onInterface("org.virtbus1.Manager")
        .withArguments(std::string{argv[1]})
        .storeResultsTo(path);

    auto domain = sdbus::createProxy(*bus, "org.virtbus1", path);
    sdbus::UnixFd console;
    domain->callMethod("OpenConsole")
        .onInterface("org.virtbus1.Domain")
        .withArguments(std::string{}, no_options)
        .storeResultsTo(console);

    std::string seen;
    char buffer[4096];
    for (ssize_t n = 0; (n = ::read(console.get(), buffer, sizeof buffer)) > 0;) {
        std::cout.write(buffer, n).flush();
        if (wanted.empty()) continue;
        seen.append(buffer, static_cast<std::size_t>(n));
        if (seen.find(wanted) != std::string::npos) return 0;
        if (seen.size() > 65536) seen.erase(0, seen.size() - wanted.size());
    }
    return wanted.empty() ? 0 : 1;
} catch (const sdbus::Error& error) {
    std::cerr << error.getName() << ": " << error.getMessage() << '\n';
    return 1;
}
