// SPDX-License-Identifier: LGPL-2.1-or-later
// ResourcesBed: what a start opens, with images made by qemu-img and what the line says of them.
#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>

#include "tests/drivers/domain_bed.hpp"
#include "tests/drivers/host_bed.hpp"

namespace virtbus::tests {

/// Opens with the test's own rights and remembers what was asked.
class NotedResources : public Resources {
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
        if (const auto found = networks.find(request.interface.source ? request.interface.source->network : "");
            found != networks.end()) {
            link.interface = request.interface;
            link.interface->info.alias = "somebody else's";
            found->second(*link.interface);
            if (link.interface->source->host_address) link = {{}, {}, "key", std::move(link.interface)};
        }
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
    std::map<std::string, std::function<void(Interface&)>> networks;  ///< what they make of an interface
};

class ResourcesBed : public ::testing::Test {
protected:
    std::string path(const std::string& name) const { return bed.folder.path() + "/" + name; }
    void qemu_img(const std::string& arguments) {
        ASSERT_EQ(
            std::system(fmt::format("cd {} && qemu-img {} >/dev/null 2>&1", bed.folder.path(), arguments).c_str()), 0)
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
        qemu::assign_aliases(config);
        return config;
    }
    std::string disk(const std::string& name, const std::string& format, const std::string& more = "") const {
        return fmt::format("<disk><driver name='qemu' type='{}'/><source file='{}'/>{}<target dev='vda'/></disk>",
                           format, path(name), more);
    }
    qemu::OpenedResources open(const DomainConfig& config, bool reset_nvram = false) {
        qemu::OpenOptions options;
        options.runtime_folder = bed.folder.path();
        options.reset_nvram = reset_nvram;
        return bed.run(qemu::open_resources(config, resources, bed.workers, options));
    }
    std::string refusal(const DomainConfig& config) {
        try {
            open(config);
        } catch (const Error& error) {
            return error.what();
        }
        return "";
    }
    std::string line_of(const DomainConfig& config, qemu::OpenedResources& opened) {
        command = qemu::command_line(config, known_capabilities("x86_64"), opened, qemu::MonitorSocket{});
        return one_a_line(command.argv);
    }

    HostBed bed;
    NotedResources resources;
    qemu::CommandLine command;
};

}  // namespace virtbus::tests
