// SPDX-License-Identifier: LGPL-2.1-or-later
#include "qemu/command/storage.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>

#include "virtbus/error.hpp"
#include "virtbus/secret_name.hpp"

namespace virtbus::qemu {

namespace {

[[noreturn]] void refuse(const SourcePlace& place, const std::string& why) {
    throw Error{Code::unsupported_configuration, fmt::format("{}: {}", place.who, why)};
}

std::string port_of(const StorageHost& host, const char* fallback) {
    return host.port.empty() ? fallback : host.port;
}

/// The one host of protocols that take one, over TCP.
const StorageHost& tcp_host(const SourcePlace& place, const StorageSource& source) {
    if (source.hosts.size() != 1)
        refuse(place, fmt::format("protocol '{}' takes one <host>, not {}", source.protocol, source.hosts.size()));
    const auto& host = source.hosts.front();
    if (!host.transport.empty() && host.transport != "tcp")
        refuse(place, fmt::format("protocol '{}' is spoken over tcp, not '{}'", source.protocol, host.transport));
    return host;
}

// ---- nbd

Json nbd(Argv& line, const SourcePlace& place, const StorageSource& source, const StorageAuth*) {
    if (source.hosts.size() != 1) refuse(place, "protocol 'nbd' takes one <host>");
    const auto& host = source.hosts.front();
    Json server;
    if (OpenedFile* connected = line.find(place.key + ":socket"); connected && !line.by_path())
        server.set("type", "fd").set("str", std::to_string(line.give(std::move(connected->fd))));
    else if (host.transport == "unix")
        server.set("type", "unix").set("path", host.socket);
    else
        server.set("type", "inet").set("host", host.name).set("port", port_of(host, "10809"));
    Json node;
    node.set("driver", "nbd").set("server", server).set_text("export", source.name);
    if (source.tls.value_or(false)) {
        node.set("tls-creds", line.tls("obj" + place.node + "_tls0", "nbd", false));
        node.set_text("tls-hostname", source.tls_hostname);
    }
    if (source.reconnect) node.set("reconnect-delay", source.reconnect->delay);
    return node;
}

// ---- http, https, ftp, ftps

/// A path as it may stand in a URL.
std::string escaped(const std::string& path) {
    constexpr std::string_view plain = "/;@&=+$,-_.!~*'()";
    std::string out;
    for (const char c : path) {
        const bool word = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
        out += word || plain.find(c) != plain.npos ? std::string{c}
                                                   : fmt::format("%{:02X}", static_cast<unsigned char>(c));
    }
    return out;
}

std::string url_of(const StorageSource& source, const StorageHost& host) {
    const bool v6 = host.name.find(':') != host.name.npos && !host.name.starts_with('[');
    std::string url = fmt::format("{}://{}", source.protocol, v6 ? "[" + host.name + "]" : host.name);
    if (!host.port.empty()) url += ":" + host.port;
    url += (source.name.starts_with('/') ? "" : "/") + escaped(source.name);
    return source.query.empty() ? url : url + "?" + source.query;
}

Json curl(Argv& line, const SourcePlace& place, const StorageSource& source, const StorageAuth* auth) {
    Json node;
    node.set("driver", source.protocol).set("url", url_of(source, tcp_host(place, source)));
    if (auth) {
        node.set("username", auth->username);
        node.set("password-secret", line.secret(place.node + "-auth-secret0", place.key + ":auth"));
    }
    if (!source.cookies.empty())
        node.set("cookie-secret", line.secret(place.node + "-httpcookie-secret0", place.key + ":cookies"));
    if (source.protocol == "https" || source.protocol == "ftps") node.set("sslverify", source.ssl_verify);
    return node.set("readahead", source.readahead).set("timeout", source.timeout);
}

// ---- ssh

Json ssh(Argv& line, const SourcePlace& place, const StorageSource& source, const StorageAuth* auth) {
    const auto& host = tcp_host(place, source);
    if (auth) refuse(place, "QEMU's ssh client takes no passwords; let an agent hold the key (agentsock)");
    if (!source.identity_keyfile.empty() || !source.keyfile.empty())
        refuse(place, "QEMU's ssh client takes no key files; let an agent hold the key (agentsock)");
    if (!source.known_hosts.empty() && source.known_hosts != "/etc/ssh/ssh_known_hosts")
        refuse(place, "QEMU's ssh client knows the hosts of /etc/ssh/ssh_known_hosts only");
    if (!source.identity_agentsock.empty()) line.out.environment["SSH_AUTH_SOCK"] = source.identity_agentsock;
    return Json{}
        .set("driver", "ssh")
        .set("path", source.name.starts_with('/') ? source.name : "/" + source.name)
        .set("server", Json{}.set("host", host.name).set("port", port_of(host, "22")))
        .set_text("user", source.identity_username);
}

// ---- rbd

Json rbd(Argv& line, const SourcePlace& place, const StorageSource& source, const StorageAuth* auth) {
    std::vector<std::string> parts;
    std::size_t begin = 0;
    for (std::size_t slash; (slash = source.name.find('/', begin)) != std::string::npos; begin = slash + 1)
        parts.push_back(source.name.substr(begin, slash - begin));
    parts.push_back(source.name.substr(begin));
    if (parts.size() < 2 || parts.size() > 3 || std::ranges::count(parts, ""))
        refuse(place, fmt::format("'{}' is no image of protocol 'rbd'; it is pool/image or pool/namespace/image",
                                  source.name));
    Json node;
    node.set("driver", "rbd").set("pool", parts.front());
    if (parts.size() == 3) node.set("namespace", parts[1]);
    node.set("image", parts.back()).set_text("snapshot", source.snapshot).set_text("conf", source.config);
    std::vector<Json> servers;
    for (const auto& host : source.hosts) {
        if (!host.transport.empty() && host.transport != "tcp") refuse(place, "protocol 'rbd' is spoken over tcp");
        servers.push_back(Json{}.set("host", host.name).set("port", port_of(host, "6789")));
    }
    if (!servers.empty()) node.set("server", servers);
    if (auth) {
        node.set("user", auth->username).set_array("auth-client-required", {"cephx", "none"});
        node.set("key-secret", line.secret(place.node + "-auth-secret0", place.key + ":auth"));
    }
    if (source.encryption && source.encryption->engine == "librbd") {
        if (source.encryption->format == "luks-any" && line.capabilities.version < 8000000)
            refuse(place, fmt::format("encryption with 'luks-any' needs QEMU 8.0, {} is older; use 'luks' or 'luks2'",
                                      line.capabilities.binary));
        const auto key = line.secret(place.node + "-encryption-secret0", place.key + ":encryption");
        node.set("encrypt", Json{}.set("format", source.encryption->format).set("key-secret", key));
    }
    return node;
}

// ---- gluster, nfs

Json gluster(Argv&, const SourcePlace& place, const StorageSource& source, const StorageAuth*) {
    const auto slash = source.name.find('/');
    if (slash == std::string::npos || slash == 0)
        refuse(place, fmt::format("'{}' is no image of protocol 'gluster'; it is volume/path", source.name));
    std::vector<Json> servers;
    for (const auto& host : source.hosts) {
        if (host.transport == "rdma") refuse(place, "QEMU speaks 'gluster' over tcp and unix sockets only");
        servers.push_back(host.transport == "unix"
                              ? Json{}.set("type", "unix").set("path", host.socket)
                              : Json{}.set("type", "inet").set("host", host.name).set("port", port_of(host, "24007")));
    }
    if (servers.empty()) refuse(place, "protocol 'gluster' needs a <host>");
    return Json{}
        .set("driver", "gluster")
        .set("volume", source.name.substr(0, slash))
        .set("path", source.name.substr(slash + 1))
        .set("server", servers);
}

/// "+100" or "100"; names of users differ from host to host and are not looked up.
void set_id(Json& node, const SourcePlace& place, const char* key, const std::string& id) {
    if (id.empty()) return;
    const char* begin = id.data() + (id.front() == '+');
    std::uint32_t value = 0;
    const auto [end, error] = std::from_chars(begin, id.data() + id.size(), value);
    if (error != std::errc{} || end != id.data() + id.size())
        refuse(place, fmt::format("the {} '{}' of its <identity> is no number; write it as '+1000'", key, id));
    node.set(key, value);
}

Json nfs(Argv&, const SourcePlace& place, const StorageSource& source, const StorageAuth*) {
    Json node;
    node.set("driver", "nfs")
        .set("server", Json{}.set("type", "inet").set("host", tcp_host(place, source).name))
        .set("path", source.name.starts_with('/') ? source.name : "/" + source.name);
    set_id(node, place, "user", source.identity_user);
    set_id(node, place, "group", source.identity_group);
    return node;
}

Json iscsi(Argv& line, const SourcePlace& place, const StorageSource& source, const StorageAuth* auth) {
    return iscsi_storage(line, place, source.hosts, source.name, source.initiator_iqn, auth);
}

struct Protocol {
    std::string_view name;
    Json (*write)(Argv&, const SourcePlace&, const StorageSource&, const StorageAuth*);
    bool auth;  ///< takes <auth>
};
constexpr std::array protocols{
    Protocol{"nbd", nbd, false},    Protocol{"http", curl, true}, Protocol{"https", curl, true},
    Protocol{"ftp", curl, true},    Protocol{"ftps", curl, true}, Protocol{"ssh", ssh, true},
    Protocol{"iscsi", iscsi, true}, Protocol{"rbd", rbd, true},   Protocol{"gluster", gluster, false},
    Protocol{"nfs", nfs, false},
};

}  // namespace

Json iscsi_storage(Argv& line, const SourcePlace& place, const std::vector<StorageHost>& hosts, const std::string& name,
                   const std::string& initiator, const StorageAuth* auth) {
    if (hosts.size() != 1) refuse(place, "protocol 'iscsi' takes one <host>");
    const auto& host = hosts.front();
    if (host.transport == "unix") refuse(place, "protocol 'iscsi' is spoken over tcp or rdma");
    const auto slash = name.find('/');
    const std::string unit = slash == std::string::npos ? "0" : name.substr(slash + 1);
    std::uint32_t lun = 0;
    if (const auto [end, error] = std::from_chars(unit.data(), unit.data() + unit.size(), lun);
        error != std::errc{} || end != unit.data() + unit.size())
        refuse(place, fmt::format("'{}' is no iSCSI unit; the name is target/number", name));
    const bool v6 = host.name.find(':') != host.name.npos && !host.name.starts_with('[');
    Json node;
    node.set("driver", "iscsi")
        .set("portal", fmt::format("{}:{}", v6 ? "[" + host.name + "]" : host.name, port_of(host, "3260")))
        .set("target", name.substr(0, slash))
        .set("lun", lun)
        .set("transport", host.transport == "rdma" ? "iser" : "tcp");
    if (auth)
        node.set("user", auth->username)
            .set("password-secret", line.secret(place.node + "-auth-secret0", place.key + ":auth"));
    return node.set_text("initiator-name", initiator);
}

void name_secrets(const DomainConfig& config, OpenedResources& opened) {
    const auto name = [&](const std::string& key, const SecretRef& reference) {
        opened.files[key].path = "/etc/virtbus/secrets/" + secret_name(reference);
    };
    for (const auto& disk : config.devices.disks) {
        const auto chain = written_levels(disk);
        for (std::size_t i = 0; i < chain.levels.size(); ++i) {
            const auto& level = chain.levels[i];
            const std::string key = level_key(disk, i);
            if (level.encryption && !level.encryption->secrets.empty())
                name(key + ":encryption", level.encryption->secrets.front());
            if (level.auth && level.auth->secret) name(key + ":auth", *level.auth->secret);
            if (level.source && !level.source->cookies.empty())
                opened.files[key + ":cookies"].path = fmt::format("{}.cookies", disk.target.dev);
        }
    }
    for (const auto& hostdev : config.devices.hostdevs)
        if (hostdev.source.auth && hostdev.source.auth->secret)
            name("hostdev:" + hostdev.info.alias + ":auth", *hostdev.source.auth->secret);
}

Json network_storage(Argv& line, const SourcePlace& place, const StorageSource& source, const StorageAuth* auth) {
    const auto protocol =
        std::ranges::find_if(protocols, [&](const Protocol& each) { return each.name == source.protocol; });
    if (protocol == protocols.end())
        refuse(place, fmt::format("QEMU cannot read sources of protocol '{}'", source.protocol));
    if (auth && !protocol->auth) refuse(place, fmt::format("protocol '{}' takes no <auth>", source.protocol));
    if (auth && !auth->secret) refuse(place, "its <auth> names no <secret>");
    if (source.tls.value_or(false) && source.protocol != "nbd")
        refuse(place, fmt::format("tls is a word of protocol 'nbd'; QEMU has none for '{}'", source.protocol));
    line.out.needs_network = true;
    return protocol->write(line, place, source, auth);
}

void take_vfio(Argv& line, const std::string& key) {
    line.out.devices.emplace_back("/dev/vfio/vfio");
    const OpenedFile* group = line.find("vfio:" + key);
    if (!group) return;
    line.out.devices.push_back(group->path);
    line.out.given.push_back(group->path);
}

Json nvme_storage(Argv& line, const SourcePlace& place, const StorageSource& source) {
    if (!source.address) refuse(place, "an NVMe source needs the <address> of its controller");
    const auto& at = *source.address;
    take_vfio(line, place.key);
    return Json{}
        .set("driver", "nvme")
        .set("device", fmt::format("{:04x}:{:02x}:{:02x}.{:x}", at.domain, at.bus, at.slot, at.function))
        .set("namespace", source.nvme_namespace.value_or(1));
}

}  // namespace virtbus::qemu
