// SPDX-License-Identifier: LGPL-2.1-or-later
// Where the bytes of a disk, a variable store or a backing file come from.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "virtbus/model/host_address.hpp"
#include "virtbus/model/seclabel.hpp"

namespace virtbus {

enum class StorageType { file, block, dir, network, volume, nvme, vhostuser, vhostvdpa };
template <>
struct Words<StorageType> {
    static constexpr std::array<std::string_view, 8> list{"file",   "block", "dir",       "network",
                                                          "volume", "nvme",  "vhostuser", "vhostvdpa"};
};

/// A reference to a stored secret, by UUID or by usage name. Never the secret itself.
struct SecretRef {
    std::string type;  ///< passphrase, ceph, iscsi, ...
    std::string uuid, usage;
    Unknown unknown;
    bool operator==(const SecretRef&) const = default;
};

struct StorageAuth {
    std::string username;
    std::optional<SecretRef> secret;
    Unknown unknown;
    bool operator==(const StorageAuth&) const = default;
};

struct EncryptionCipher {
    std::string name;
    std::optional<std::uint32_t> size;
    std::string mode, hash;
    Unknown unknown;
    bool operator==(const EncryptionCipher&) const = default;
};

struct EncryptionIvgen {
    std::string name, hash;
    Unknown unknown;
    bool operator==(const EncryptionIvgen&) const = default;
};

struct StorageEncryption {
    std::string format;  ///< default, qcow, luks, luks2, luks-any
    std::string engine;  ///< qemu, librbd
    std::vector<SecretRef> secrets;
    std::optional<EncryptionCipher> cipher;
    std::optional<EncryptionIvgen> ivgen;
    Unknown unknown;
    bool operator==(const StorageEncryption&) const = default;
};

struct StorageHost {
    std::string transport;  ///< tcp, rdma, unix; "" = tcp
    std::string name;
    std::string port;    ///< kept as text: absent means the protocol's default
    std::string socket;  ///< with transport unix
    Unknown unknown;
    bool operator==(const StorageHost&) const = default;
};

struct Reconnect {
    std::optional<bool> enabled;
    std::optional<std::uint32_t> timeout;  ///< seconds
    std::optional<std::uint32_t> delay;    ///< milliseconds
    Unknown unknown;
    bool operator==(const Reconnect&) const = default;
};

struct Reservations {
    std::optional<bool> managed;
    std::string type, path, mode;  ///< of its <source>
    Unknown unknown;
    bool operator==(const Reservations&) const = default;
};

struct StorageSlice {
    std::string type = "storage";
    std::uint64_t offset = 0, size = 0;
    Unknown unknown;
    bool operator==(const StorageSlice&) const = default;
};

struct StorageCookie {
    std::string name, value;
    Unknown unknown;
    bool operator==(const StorageCookie&) const = default;
};

struct StorageSource {
    // file, block, dir
    std::string file, dev, dir;
    std::string fd_group;
    // network
    std::string protocol;  ///< nbd, iscsi, rbd, ceph, http, https, ftp, ftps, tftp, ssh, nfs, gluster, sheepdog, vxhs
    std::string name;
    std::optional<bool> tls;
    std::string tls_hostname;
    std::string query;
    std::string known_hosts, keyfile;
    std::vector<StorageHost> hosts;
    std::string snapshot, config;
    std::string identity_user, identity_group, identity_username, identity_keyfile, identity_agentsock;
    std::string initiator_iqn;
    std::optional<bool> ssl_verify;
    std::vector<StorageCookie> cookies;  ///< secret
    std::optional<std::uint64_t> readahead;
    std::optional<std::uint32_t> timeout;  ///< seconds
    std::optional<Reconnect> reconnect;
    // volume
    std::string pool, volume, mode;
    // nvme
    std::string type;  ///< "pci" for nvme, "unix" for vhostuser
    std::optional<bool> managed;
    std::optional<std::uint32_t> nvme_namespace;
    std::optional<HostPciAddress> address;
    // vhostuser
    std::string path;
    // all
    std::string startup_policy;  ///< mandatory, requisite, optional
    std::optional<std::uint32_t> index;
    std::vector<StorageSlice> slices;
    std::optional<StorageAuth> auth;
    std::optional<StorageEncryption> encryption;
    std::optional<Reservations> reservations;
    std::vector<SourceSecurityLabel> security_labels;
    Unknown unknown;
    bool operator==(const StorageSource&) const = default;
};

struct StorageFormat {
    std::string type;
    std::optional<std::uint64_t> metadata_cache_max_size;  ///< bytes
    Unknown unknown;
    bool operator==(const StorageFormat&) const = default;
};

/// One level of a backing chain. Without a type it is the end of the chain (<backingStore/>).
struct BackingStore {
    std::optional<StorageType> type;
    std::optional<std::uint32_t> index;
    std::optional<StorageFormat> format;
    std::optional<StorageSource> source;
    std::vector<BackingStore> backing_store;  ///< at most one: what lies below
    Unknown unknown;
    bool operator==(const BackingStore&) const = default;
};

}  // namespace virtbus
