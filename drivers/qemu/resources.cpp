// SPDX-License-Identifier: LGPL-2.1-or-later
// The part of command_line.hpp that opens: images with their chains, copies for what QEMU would open by itself, the
// variable store, outputs, sockets and links.
#include <fcntl.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <set>

#include "common/image_header.hpp"
#include "qemu/command_line.hpp"
#include "qemu/files_of.hpp"
#include "qemu/host_smbios.hpp"
#include "qemu/nvram.hpp"
#include "qemu/opening.hpp"
#include "qemu/pci_devices.hpp"
#include "qemu/tls.hpp"
#include "virtbus/error.hpp"

namespace virtbus::qemu {

namespace {

constexpr std::uint64_t largest_template = 64 << 20;

[[noreturn]] void refuse(const std::string& why) {
    throw Error{Code::unsupported_configuration, why};
}

// ---- copies, stores

/// A sealed copy in memory: nobody can change what was checked, and QEMU may open it by name again.
Fd sealed_copy(const Fd& from, const std::string& path) {
    struct stat status{};
    if (::fstat(from.get(), &status) != 0 || !S_ISREG(status.st_mode))
        refuse(fmt::format("'{}' is no regular file", path));
    Fd copy{::memfd_create("virtbus", MFD_CLOEXEC | MFD_ALLOW_SEALING)};
    off_t at = 0;
    while (copy && at < status.st_size) {
        const ssize_t done = ::sendfile(copy.get(), from.get(), &at, static_cast<std::size_t>(status.st_size - at));
        if (done <= 0) break;
    }
    if (!copy || at != status.st_size ||
        ::fcntl(copy.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL) != 0)
        throw Error{Code::hypervisor_failed, fmt::format("copying '{}' into memory: {}", path, std::strerror(errno))};
    return copy;
}

Task<Fd> open_copy(Opening& opening, std::string path) {
    Fd source = co_await opening.resources.open_file(path, Access::read);
    co_return co_await opening.work(fmt::format("copying '{}' into memory", path),
                                    [fd = std::move(source), path] { return sealed_copy(fd, path); });
}

std::string read_template(const Fd& fd, const std::string& path) {
    struct stat status{};
    if (::fstat(fd.get(), &status) != 0 || !S_ISREG(status.st_mode))
        refuse(fmt::format("template '{}' is no regular file", path));
    if (static_cast<std::uint64_t>(status.st_size) > largest_template)
        refuse(fmt::format("template '{}' is larger than 64 MiB", path));
    std::string content(static_cast<std::size_t>(status.st_size), '\0');
    std::size_t done = 0;
    while (done < content.size()) {
        const ssize_t got = ::pread(fd.get(), content.data() + done, content.size() - done, static_cast<off_t>(done));
        if (got <= 0) throw Error{Code::hypervisor_failed, fmt::format("template '{}' cannot be read whole", path)};
        done += static_cast<std::size_t>(got);
    }
    return content;
}

/// The template's bytes in the store's format.
std::string converted(std::string content, const std::string& path, const std::string& from, const std::string& to) {
    if (from == to) return content;
    try {
        return to == "qcow2" ? qcow2_image(content) : raw_of_qcow2(content);
    } catch (const Error& error) {
        refuse(fmt::format("template '{}' {}; it cannot become a store of the format {}", path, error.what(), to));
    }
}

Task<> make_store(Opening& opening, std::string path, std::string format) {
    const Os& os = opening.config.os;
    const std::string loader = os.loader ? os.loader->path : "";
    if (!os.nvram || os.nvram->template_path.empty())
        refuse(
            fmt::format("the variable store '{}' has to be made, but no template is known for the loader '{}'; give "
                        "<nvram template=>",
                        path, loader));
    const std::string from = os.nvram->template_path;
    std::string from_format = os.nvram->template_format;
    if (from_format.empty()) from_format = from.ends_with(".qcow2") ? "qcow2" : "raw";
    Fd source = co_await opening.resources.open_file(from, Access::read);
    co_await opening.work(fmt::format("making the variable store '{}'", path),
                          [fd = std::move(source), from, path, from_format, format] {
                              write_store(path, converted(read_template(fd, from), from, from_format, format));
                          });
}

enum class StoreKind { missing, file, block, other };

StoreKind kind_of(const std::string& path) {
    struct stat facts{};
    if (::stat(path.c_str(), &facts) != 0) return StoreKind::missing;
    return S_ISREG(facts.st_mode) ? StoreKind::file : S_ISBLK(facts.st_mode) ? StoreKind::block : StoreKind::other;
}

/// What its header names would be opened by QEMU itself.
Task<> require_alone(Opening& opening, const OpenedFile& file) {
    if (file.format != "qcow2") co_return;
    const auto header = co_await opening.work(
        fmt::format("reading the header of '{}'", file.path), [fd = duplicate(file.fd), path = file.path] {
            return common::read_image_header(fd.get(), path, common::ImageFormat::qcow2);
        });
    if (!header.backing_file.empty() || !header.data_file.empty() || header.encrypted)
        refuse(fmt::format("'{}' is encrypted or needs other files; firmware and its variables must be one file each",
                           file.path));
}

Task<> open_store(Opening& opening, NamedFile named) {
    const auto kind = co_await opening.work(fmt::format("looking for '{}'", named.path),
                                            [path = named.path] { return kind_of(path); });
    const bool afresh = kind == StoreKind::missing || opening.options.reset_nvram;
    const bool device = opening.config.os.nvram->type == StorageType::block;
    // A file that is called a device, or the other way round, is a mistake in the definition that QEMU would not name.
    if (kind == StoreKind::other || (kind == StoreKind::block) != device || (device && afresh))
        refuse(fmt::format(
            "the variable store '{}' of the loader '{}' is {}", named.path, opening.config.os.loader->path,
            device ? "a block device, which must be there and cannot be made from a template" : "no regular file"));
    if (afresh) co_await make_store(opening, named.path, named.format);
    OpenedFile& file = opening.opened.files[named.key];
    file.path = named.path;
    file.format = named.format;
    file.fd = co_await opening.resources.open_file(named.path, Access::read_write);
    file.reader = co_await opening.resources.open_file(named.path, Access::read);
    co_await require_alone(opening, file);
}

/// Without a store of its own it has nothing that could be made afresh.
void require_store_for_reset(const DomainConfig& config, const OpenOptions& options) {
    const Os& os = config.os;
    const bool writable = os.loader && os.loader->type == "pflash" && !os.loader->readonly.value_or(true);
    if (options.reset_nvram && writable)
        refuse(fmt::format("the loader '{}' keeps its variables in its own file, for which no template is known",
                           os.loader->path));
}

// ---- outputs, sockets

/// QEMU looks in its sets for exactly the access it wants, and for outputs that is write-only.
Fd write_only(Fd fd, const std::string& path) {
    const int flags = ::fcntl(fd.get(), F_GETFL);
    if ((flags & O_ACCMODE) == O_WRONLY) return fd;
    Fd writer{::open(fmt::format("/proc/self/fd/{}", fd.get()).c_str(), O_WRONLY | O_CLOEXEC | (flags & O_APPEND))};
    if (!writer)
        throw Error{Code::hypervisor_failed, fmt::format("opening '{}' for writing: {}", path, std::strerror(errno))};
    return writer;
}

Fd listen_at(const std::string& path) {
    const auto fail = [&](const char* doing) {
        throw Error{Code::hypervisor_failed, fmt::format("socket '{}': {}: {}", path, doing, std::strerror(errno))};
    };
    const std::filesystem::path whole{path};
    const Fd folder{::open(whole.parent_path().c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC)};
    if (!folder) fail("its folder");
    // Through the folder's descriptor, for the address holds 107 bytes only.
    const std::string name = fmt::format("/proc/self/fd/{}/{}", folder.get(), whole.filename().string());
    struct sockaddr_un address{};
    address.sun_family = AF_UNIX;
    if (name.size() >= sizeof address.sun_path)
        refuse(fmt::format("socket '{}': its name is longer than {} bytes", path, sizeof address.sun_path - 24));
    std::memcpy(address.sun_path, name.data(), name.size());
    struct stat old{};
    if (::lstat(name.c_str(), &old) == 0 && S_ISSOCK(old.st_mode)) ::unlink(name.c_str());
    Fd fd{::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)};
    if (!fd) fail("making it");
    if (::bind(fd.get(), reinterpret_cast<const struct sockaddr*>(&address), sizeof address) != 0) fail("binding");
    if (::listen(fd.get(), 1) != 0) fail("listening");
    return fd;
}

Task<> open_named(Opening& opening, NamedFile named) {
    using Use = NamedFile::Use;
    if (named.use == Use::store) co_return co_await open_store(opening, std::move(named));
    OpenedFile file;
    file.path = named.path;
    file.format = named.format;
    file.read_only = named.access == Access::read;
    if (named.use == Use::copy) file.fd = co_await open_copy(opening, named.path);
    if (named.use == Use::plain) {
        std::exception_ptr missing;
        try {
            file.fd = co_await opening.resources.open_file(named.path, named.access);
        } catch (const Error& error) {
            const bool gone = error.code() != Code::cancelled && error.code() != Code::timeout;
            if (!named.optional || !gone) missing = std::current_exception();
        }
        if (missing) std::rethrow_exception(missing);
        if (!file.fd) co_return;
    }
    if (named.use == Use::log || named.use == Use::output) {
        Fd fd = named.append ? co_await opening.resources.open_log(named.path)
                             : co_await opening.resources.create_file(named.path);
        file.fd = write_only(std::move(fd), named.path);
    }
    if (named.key == "loader") co_await require_alone(opening, file);
    if (named.use == Use::listener)
        file.fd = co_await opening.work(fmt::format("making socket '{}'", named.path),
                                        [path = named.path] { return listen_at(path); });
    opening.opened.files[named.key] = std::move(file);
}

// ---- TPMs that are there already

/// Where a command that the TPM works on is cancelled, for drivers that can do it; what is written elsewhere is lost.
Fd open_cancel(const std::string& device) {
    const auto name = std::filesystem::path{device}.filename().string();
    for (const char* folder : {"/sys/class/tpm/", "/sys/class/misc/"})
        if (Fd fd{::open(fmt::format("{}{}/device/cancel", folder, name).c_str(), O_WRONLY | O_CLOEXEC)}) return fd;
    return Fd{::open("/dev/null", O_WRONLY | O_CLOEXEC)};
}

Task<> open_tpms(Opening& opening) {
    for (const auto& tpm : opening.config.devices.tpms) {
        if (tpm.model == "spapr-tpm-proxy") continue;
        const std::string key = "tpm:" + tpm.info.alias;
        if (tpm.backend.type == "passthrough") {
            const auto path = host_tpm_path(tpm);
            opening.opened.files[key].fd = co_await opening.resources.open_file(path, Access::read_write);
            opening.opened.files[key + "/cancel"].fd = co_await opening.work(
                fmt::format("opening what cancels '{}'", path), [path] { return open_cancel(path); });
        }
        if (tpm.backend.type == "external" && tpm.backend.source)
            opening.opened.files[key].fd =
                co_await opening.work(fmt::format("connecting to '{}'", tpm.backend.source->path),
                                      [path = tpm.backend.source->path] { return connect_to(path); });
    }
}

// ---- vsock

/// VHOST_VSOCK_SET_GUEST_CID; the kernel's own header is no C++.
constexpr unsigned long set_guest_cid = _IOW(0xAF, 0x60, std::uint64_t);

/// Asks the kernel for an address of a guest; false: somebody has it.
std::function<bool(std::uint32_t)> kernel_cids(const Fd& vhost) {
    return [fd = vhost.get()](std::uint32_t wanted) {
        const std::uint64_t cid = wanted;
        if (::ioctl(fd, set_guest_cid, &cid) == 0) return true;
        if (errno == EADDRINUSE) return false;
        throw Error{Code::hypervisor_failed,
                    fmt::format("/dev/vhost-vsock: taking the address {}: {}", wanted, std::strerror(errno))};
    };
}

// ---- certificates

Task<> open_certificates(Opening& opening) {
    const auto& tls = opening.options.tls_folder;
    const auto needs = co_await opening.work("looking for certificates",
                                             [config = opening.config, tls] { return tls_needs_here(config, tls); });
    for (const auto& need : needs) {
        const auto& runtime = opening.options.runtime_folder;
        // Beside it: in there the guest's process could have put something else in the way.
        const auto to = std::filesystem::path{runtime}.parent_path().string() + "/tls-" + need.name();
        co_await opening.work("copying certificates", [tls, need, to, runtime] {
            copy_certificates(find_certificates(tls, need), need, to, runtime);
        });
        opening.opened.files[need.key()].path = to;
    }
}

// ---- displays, links

/// The first port from 5900 on which nobody listens. Somebody may take it before QEMU does; its start fails then.
int free_display_port(const std::set<int>& taken) {
    for (int port = 5900; port < 65536; ++port) {
        if (taken.contains(port)) continue;
        const Fd fd{::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
        const int yes = 1;
        ::setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
        struct sockaddr_in address{};
        address.sin_family = AF_INET;
        address.sin_port = htons(static_cast<std::uint16_t>(port));
        address.sin_addr.s_addr = htonl(INADDR_ANY);
        if (::bind(fd.get(), reinterpret_cast<const struct sockaddr*>(&address), sizeof address) == 0) return port;
    }
    throw Error{Code::limits_exceeded, "no port from 5900 to 65535 is free for a display"};
}

void choose_ports(Opening& opening) {
    const auto& displays = opening.config.devices.graphics;
    std::set<int> taken;
    for (const auto& display : displays) taken.insert(display.port.value_or(-1));
    for (const auto& display : displays) taken.insert(display.tls_port.value_or(-1));
    const auto choose = [&](std::map<std::size_t, int>& ports, std::size_t index) {
        ports[index] = free_display_port(taken);
        taken.insert(ports[index]);
    };
    for (std::size_t i = 0; i < displays.size(); ++i) {
        const auto& display = displays[i];
        if (display.type != GraphicsType::spice || !listens_on_tcp(display)) continue;
        const bool plain = display.port.value_or(-1) > 0, tls = display.tls_port.value_or(-1) > 0;
        const bool automatic = display.autoport.value_or(false) || (!plain && !tls);
        const auto wanted = spice_ports(display);
        if (!automatic) continue;
        if (!plain && wanted.plain) choose(opening.opened.ports, i);
        if (!tls && (wanted.tls || opening.opened.files.contains("tls:spice-server")))
            choose(opening.opened.tls_ports, i);
    }
}

bool needs_link(InterfaceType type) {
    return type == InterfaceType::bridge || type == InterfaceType::network || type == InterfaceType::direct ||
           type == InterfaceType::ethernet || type == InterfaceType::hostdev;
}

using Links = std::map<std::size_t, Link>;

Task<Links> open_links(const DomainConfig& config, Resources& resources) {
    const auto& interfaces = config.devices.interfaces;
    Links links;
    for (std::size_t i = 0; i < interfaces.size(); ++i) {
        if (!needs_link(interfaces[i].type)) continue;
        LinkRequest request;
        request.domain_uuid = config.uuid;
        request.domain_name = config.name;
        request.interface = interfaces[i];
        request.queues = interfaces[i].driver ? std::max(interfaces[i].driver->queues.value_or(1), 1u) : 1;
        request.vnet_header = is_virtio_model(interfaces[i].model);
        links[i] = co_await resources.open_link(std::move(request));
    }
    co_return links;
}

}  // namespace

Fd duplicate(const Fd& fd) {
    Fd copy{::fcntl(fd.get(), F_DUPFD_CLOEXEC, 3)};
    if (!copy) throw Error{Code::limits_exceeded, fmt::format("no descriptor is left: {}", std::strerror(errno))};
    return copy;
}

Fd sealed_memory(std::string_view content) {
    Fd memory{::memfd_create("virtbus", MFD_CLOEXEC | MFD_ALLOW_SEALING)};
    if (!memory || ::write(memory.get(), content.data(), content.size()) != static_cast<ssize_t>(content.size()) ||
        ::fcntl(memory.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL) != 0)
        throw Error{Code::hypervisor_failed, fmt::format("no sealed memory can be had: {}", std::strerror(errno))};
    return memory;
}

Fd connect_to(const std::string& path) {
    const auto fail = [&](const char* doing) {
        throw Error{Code::hypervisor_failed, fmt::format("socket '{}': {}: {}", path, doing, std::strerror(errno))};
    };
    const Fd end{::open(path.c_str(), O_PATH | O_CLOEXEC)};
    if (!end) fail("opening");
    // Through the descriptor, for the address holds 107 bytes only.
    struct sockaddr_un address{};
    address.sun_family = AF_UNIX;
    const std::string name = fmt::format("/proc/self/fd/{}", end.get());
    std::memcpy(address.sun_path, name.data(), name.size());
    Fd fd{::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)};
    if (!fd) fail("making one");
    if (::connect(fd.get(), reinterpret_cast<const struct sockaddr*>(&address), sizeof address) != 0)
        fail("connecting");
    return fd;
}

Task<> open_secret(Opening& opening, std::string key, SecretRef reference) {
    const std::string value = co_await opening.resources.secret(std::move(reference));
    opening.opened.files[key].fd = sealed_memory(value);
}

std::uint32_t take_cid(const std::optional<VsockCid>& wish, const std::function<bool(std::uint32_t)>& take) {
    constexpr std::uint32_t first = 3, most_tries = 65536;
    // What an earlier run was given is tried first, so that a guest keeps its address where it can.
    const auto said = wish ? wish->address : std::nullopt;
    const bool fixed = said && !wish->automatic.value_or(false);
    if (said && take(*said)) return *said;
    if (fixed)
        throw Error{Code::device_in_use,
                    fmt::format("vsock address {} belongs to another guest; choose another, or auto='yes'", *said)};
    for (std::uint32_t cid = first; cid < first + most_tries; ++cid)
        if (take(cid)) return cid;
    throw Error{Code::limits_exceeded, "no vsock address is free"};
}

Task<OpenedResources> open_resources(const DomainConfig& config, Resources& resources, Workers& workers,
                                     OpenOptions options) {
    require_store_for_reset(config, options);
    // First, as a network may say that an interface is a PCI device, which is then taken with the others.
    OpenedResources opened;
    opened.links = co_await open_links(config, resources);
    auto live = config;
    fill_links(live, opened);
    Opening opening{live, resources, workers, options, std::move(opened)};
    for (auto& file : files_of(live, options.runtime_folder)) co_await open_named(opening, std::move(file));
    if (const auto& security = config.launch_security; security && security->type == "sev") {
        // In base64, as QEMU reads them.
        if (!security->dh_cert.empty()) opening.opened.files["sev-dh-cert"].fd = sealed_memory(security->dh_cert);
        if (!security->session.empty()) opening.opened.files["sev-session"].fd = sealed_memory(security->session);
    }
    co_await open_disks(opening);
    co_await open_hostdevs(opening);
    co_await open_tpms(opening);
    if (config.os.smbios_mode == "host")
        opening.opened.host_smbios = co_await opening.work(
            "reading the host's SMBIOS tables", [root = opening.options.host_root] { return read_host_smbios(root); });
    if (config.devices.vsock)
        opening.opened.vsock_cid = take_cid(config.devices.vsock->cid, kernel_cids(opening.opened.files["vsock"].fd));
    co_await open_certificates(opening);
    choose_ports(opening);
    co_return std::move(opening.opened);
}

}  // namespace virtbus::qemu
