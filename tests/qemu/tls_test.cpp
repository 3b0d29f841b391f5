// SPDX-License-Identifier: LGPL-2.1-or-later
// TLS with certificates of a CA made here: disks of the real qemu-nbd, and the displays and consoles of a real QEMU.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <cstdio>
#include <fstream>

#include "qemu/opening.hpp"
#include "qemu/tls.hpp"
#include "tests/qemu/qemu_bed.hpp"

namespace virtbus {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using tests::Notes;
using tests::QemuBed;

/// Makes certificates with openssl; a CA, and what it has signed for both ends.
void make_certificates(const std::string& folder) {
    std::filesystem::create_directories(folder);
    std::ofstream{folder + "/ends"} << "subjectAltName=DNS:nbd.example.org,IP:127.0.0.1\nbasicConstraints=CA:FALSE\n"
                                       "keyUsage=digitalSignature\nextendedKeyUsage=serverAuth,clientAuth\n";
    std::string script = "cd " + folder +
                         " && exec 2>/dev/null; K='-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes'; "
                         "openssl req -x509 $K -keyout ca-key.pem -out ca-cert.pem -subj /CN=a-ca -days 2 -addext "
                         "keyUsage=critical,keyCertSign";
    for (const char* end : {"server", "client"})
        script += fmt::format(
            " && openssl req -new $K -keyout {0}-key.pem -out {0}.csr -subj /CN={0} && openssl x509 -req -in {0}.csr "
            "-CA "
            "ca-cert.pem -CAkey ca-key.pem -CAcreateserial -days 2 -extfile ends -out {0}-cert.pem",
            end);
    ASSERT_EQ(std::system(script.c_str()), 0);
}

std::string output_of(const std::string& command) {
    std::string said;
    FILE* pipe = ::popen(command.c_str(), "r");
    char buffer[4096];
    while (const auto got = std::fread(buffer, 1, sizeof buffer, pipe)) said.append(buffer, got);
    ::pclose(pipe);
    return said;
}

class TlsTest : public ::testing::Test {
protected:
    std::string path(const std::string& name) const { return bed_.host.folder.path() + name; }
    std::string tls(const std::string& name) const { return bed_.host.ports.folders.config + "/tls" + name; }
    std::string refusal(DomainConfig config) { return bed_.refusal(std::move(config), notes_); }
    DomainConfig with_disk() const {
        auto config = QemuBed::bare("tls");
        Disk disk;
        disk.type = StorageType::network;
        disk.target.dev = "vda";
        disk.target.bus = "virtio";
        disk.driver.emplace().type = "raw";
        auto& source = disk.source.emplace();
        source.protocol = "nbd";
        source.name = "safe";
        source.tls = true;
        source.tls_hostname = "nbd.example.org";
        source.hosts.emplace_back().transport = "unix";
        source.hosts.back().socket = path("/nbd.sock");
        disk.backing_store.emplace_back();
        config.devices.disks.push_back(std::move(disk));
        return config;
    }

    QemuBed bed_;
    Notes notes_;
};

/// Serves a disk until it goes.
class NbdServer {
public:
    explicit NbdServer(const std::string& folder, const std::string& certificates) {
        std::ofstream{folder + "/image"} << std::string(1 << 20, 'x');
        const std::vector<std::string> words{"qemu-nbd",
                                             "--object",
                                             "tls-creds-x509,id=t,endpoint=server,verify-peer=on,dir=" + certificates,
                                             "--tls-creds",
                                             "t",
                                             "-k",
                                             folder + "/nbd.sock",
                                             "-x",
                                             "safe",
                                             "-t",
                                             "-e",
                                             "4",
                                             "-f",
                                             "raw",
                                             "--pid-file",
                                             folder + "/nbd.pid",
                                             "--fork",
                                             folder + "/image"};
        std::string line;
        for (const auto& each : words) line += each + " ";
        EXPECT_EQ(std::system(line.c_str()), 0);  // it returns when the socket is there
        std::ifstream{folder + "/nbd.pid"} >> pid_;
    }
    ~NbdServer() {
        if (pid_ > 1) ::kill(pid_, SIGTERM);
    }

private:
    pid_t pid_ = 0;
};

TEST_F(TlsTest, ADiskOfARealServerIsReachedWithCertificates) {
    make_certificates(tls("/nbd"));
    const NbdServer server{bed_.host.folder.path(), tls("/nbd")};
    auto guest = bed_.start(with_disk(), notes_);
    const auto copies = bed_.host.ports.folders.runtime + "/qemu/1-" + guest->config().uuid + "/tls-nbd-client";
    struct stat facts{};
    ASSERT_EQ(::stat((copies + "/client-key.pem").c_str(), &facts), 0);
    EXPECT_EQ(facts.st_mode & 0777, 0600U);
    EXPECT_NE(::stat((copies + "/server-key.pem").c_str(), &facts), 0) << "a client has no business with that";
    bed_.stop(*guest, notes_);
    bed_.run_until([&] { return !std::filesystem::exists(copies); });

    // The server's name, and who signed its certificate, are looked at.
    auto wrong = with_disk();
    wrong.devices.disks[0].source->tls_hostname = "somebody.else";
    EXPECT_THAT(refusal(wrong), AllOf(HasSubstr("HypervisorFailed"), HasSubstr("somebody.else")));
    std::filesystem::remove_all(tls("/nbd"));
    make_certificates(tls("/nbd"));
    EXPECT_THAT(refusal(with_disk()), HasSubstr("HypervisorFailed"));
}

TEST_F(TlsTest, WhatIsMissingIsSaidBeforeTheStart) {
    EXPECT_THAT(refusal(with_disk()),
                AllOf(HasSubstr("UnsupportedConfiguration"), HasSubstr("disk 'vda': TLS needs the certificate files "
                                                                       "ca-cert.pem in the folder " +
                                                                       tls("/nbd") + " or " + tls("/default"))));
    std::filesystem::create_directories(tls("/default"));
    EXPECT_THAT(refusal(with_disk()),
                HasSubstr("needs the certificate file ca-cert.pem in the folder " + tls("/default")));
    std::ofstream{tls("/default/ca-cert.pem")} << "x";
    std::ofstream{tls("/default/client-cert.pem")} << "x";
    EXPECT_THAT(refusal(with_disk()), HasSubstr("both or neither of client-cert.pem and client-key.pem"));
    const qemu::TlsNeed server{"chardev", true, "serial port 'serial0'"};
    try {
        qemu::find_certificates(tls(""), server);
        ADD_FAILURE() << "there is no key";
    } catch (const Error& error) {
        EXPECT_THAT(error.what(),
                    HasSubstr("serial0': TLS needs the certificate files server-cert.pem, server-key.pem"));
    }
}

/// The peer's certificate is the one that the CA has signed.
std::string handshake(int port, const std::string& folder) {
    return output_of(
        fmt::format("openssl s_client -connect 127.0.0.1:{} -CAfile {}/ca-cert.pem -cert "
                    "{}/client-cert.pem -key {}/client-key.pem -verify_return_error </dev/null 2>&1",
                    port, folder, folder, folder));
}

int free_port() {
    const Fd fd{::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    ::bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), size);
    ::getsockname(fd.get(), reinterpret_cast<sockaddr*>(&address), &size);
    return ntohs(address.sin_port);
}

TEST_F(TlsTest, ConsolesAndDisplaysShowTheirCertificates) {
    make_certificates(tls("/default"));
    auto config = QemuBed::bare("tls");
    auto& serial = config.devices.serials.emplace_back();
    serial.type = ChardevType::tcp;
    auto& source = serial.backend.make_source();
    source.mode = "bind";
    source.host = "127.0.0.1";
    source.service = std::to_string(free_port());
    source.tls = true;
    auto& display = config.devices.graphics.emplace_back();
    display.type = GraphicsType::spice;
    display.autoport = true;
    display.default_mode = "secure";
    const auto guest = bed_.start(config, notes_);
    const auto& shown = guest->config().devices.graphics[0];
    EXPECT_LE(shown.port.value_or(-1), 0);
    ASSERT_GT(shown.tls_port.value_or(-1), 0);
    EXPECT_THAT(handshake(*shown.tls_port, tls("/default")), HasSubstr("Verify return code: 0 (ok)"));
    EXPECT_THAT(handshake(std::stoi(source.service), tls("/default")), HasSubstr("Verify return code: 0 (ok)"));
    bed_.stop(*guest, notes_);
}

TEST_F(TlsTest, VncSpeaksItWhereTheHostHasCertificatesForIt) {
    auto config = QemuBed::bare("tls");
    config.devices.graphics.emplace_back().type = GraphicsType::vnc;
    EXPECT_TRUE(qemu::tls_needs_here(config, tls("")).empty());
    make_certificates(tls("/vnc"));
    ASSERT_EQ(qemu::tls_needs_here(config, tls("")).size(), 1U);
    const auto guest = bed_.start(config, notes_);
    const auto copies = bed_.host.ports.folders.runtime + "/qemu/1-" + guest->config().uuid + "/tls-vnc-server";
    EXPECT_TRUE(std::filesystem::exists(copies + "/server-key.pem"));
    bed_.stop(*guest, notes_);
    config.devices.graphics[0].socket = "/run/somewhere.sock";
    EXPECT_TRUE(qemu::tls_needs_here(config, tls("")).empty());
}

TEST_F(TlsTest, CopiesAreMadeOnceAndNothingIsFollowed) {
    make_certificates(tls("/nbd"));
    const qemu::TlsNeed need{"nbd", false, "disk 'vda'"};
    const auto to = path("/copies");
    qemu::copy_certificates(tls("/nbd"), need, to, bed_.host.folder.path());
    std::ofstream{to + "/ca-cert.pem"} << "the guest's own now";
    qemu::copy_certificates(tls("/nbd"), need, to, bed_.host.folder.path());
    EXPECT_EQ(std::filesystem::file_size(to + "/ca-cert.pem"), 19U);
    std::filesystem::remove(tls("/nbd/ca-cert.pem"));
    std::filesystem::create_directory(tls("/nbd/ca-cert.pem"));
    EXPECT_THROW(qemu::copy_certificates(tls("/nbd"), need, path("/other"), bed_.host.folder.path()), Error);
}

}  // namespace
}  // namespace virtbus
