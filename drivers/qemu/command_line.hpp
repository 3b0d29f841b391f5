// SPDX-License-Identifier: LGPL-2.1-or-later
// The emulator's command line as a pure function of the definition, what the binary can do and what was opened, and
// the opening that goes before it. Starting the process and talking to its monitor are guest.hpp's work.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "qemu/capabilities.hpp"
#include "qemu/file_names.hpp"
#include "virtbus/driver.hpp"
#include "virtbus/fd.hpp"
#include "virtbus/task.hpp"

namespace virtbus::qemu {

/// The lowest image of a chain that the definition leaves open and nobody but QEMU reads: whether it stands alone is
/// to be asked before the guest runs (unread_images.hpp).
struct UnreadImage {
    std::string disk;  ///< "vda"
    std::string node;  ///< QEMU was told that nothing lies below it
};

/// What the process gets: descriptors are numbered from 3 up, in the order the line mentions them.
struct CommandLine {
    std::vector<std::string> argv;  ///< argv[0] is the emulator's absolute path
    std::map<std::string, std::string> environment;
    std::vector<std::pair<int, int>> fds;     ///< descriptor here, number there
    std::vector<Fd> owned;                    ///< keeps `fds` open until the process has them
    std::map<std::string, ImageFile> images;  ///< local ones, by the names of their nodes
    FileNames files;
    bool needs_network = false;        ///< opens AF_INET sockets itself (user networking, VNC on TCP, tcp consoles)
    std::vector<std::string> devices;  ///< device nodes it opens itself, e.g. /dev/kvm
    std::vector<UnreadImage> unread;
    std::vector<std::string> given;    ///< those of them that nobody else uses: they become its user's
    std::vector<std::string> folders;  ///< made for it alone; they become its user's
};

/// One file the guest uses, and what opening it taught.
struct OpenedFile {
    Fd fd;      ///< not open in by-path form
    Fd reader;  ///< the same file read-only, where QEMU may reopen it so
    std::string path;
    std::string format;        ///< of an image: "raw", "qcow2" ...
    std::string backing_file;  ///< where it lies; empty: none
    std::uint64_t size = 0;    ///< bytes, of an image what the guest sees
    bool read_only = false;
    bool block_device = false;  ///< no regular file
};

/// Everything a start has opened, by a stable key:
///   "disk:vda", "disk:vda/1" (first backing image), and behind these ":data" (the data of a qcow2 image), ":socket"
///   (to its server), ":encryption", ":auth", ":cookies" (secrets); "usb:<alias>", "scsi:<alias>",
///   "vhost-scsi:<alias>", "vfio:<alias>" and "vfio:disk:vda" (the group's node, not open), "hostdev:<alias>:auth" of
///   host devices; "kernel", "initrd", "dtb", "acpi:<n>", "fwcfg:<n>", "loader", "nvram", "chardev:<alias>" (file back
///   end, or the listening socket of a unix one), "chardev:<alias>/log", "vhost:<n>", "vdpa:<n>" (of interface n),
///   "rom:<alias>", "rng:<alias>", "vsock", "tpm:<alias>" (the control socket of an emulator, or the host's device) and
///   "tpm:<alias>/cancel"; "sev-dh-cert", "sev-session"; "passt:<alias>"; "pr-helper" (a socket's path, not open);
///   "tls:nbd-client" and the like (folders with certificates, not open); links by the interface's index.
struct OpenedResources {
    bool by_path = false;   ///< the stand-alone form: paths and interface names stand where descriptors would
    bool runnable = false;  ///< with by_path: back ends that need the outside become null or user ones
    unsigned first_node = 0, first_set = 0;  ///< block nodes and descriptor sets are numbered behind these
    std::map<std::string, OpenedFile, std::less<>> files;
    std::map<std::size_t, Link> links;
    std::optional<std::uint32_t> vsock_cid;
    std::optional<Sysinfo> host_smbios;           ///< for a guest that shows its host's
    std::map<std::size_t, int> ports, tls_ports;  ///< of SPICE displays that leave them to us; by the display's index
};

/// Where the monitor listens: a socket made by the driver.
struct MonitorSocket {
    int fd = -1;       ///< listening; -1 in by-path form
    std::string path;  ///< in by-path form; empty: no monitor on the line
};

/// Names the devices of a complete definition that is about to run ("virtio-disk0", "net0", "serial0"), keeping the
/// user's own "ua-" aliases. The driver relies on: chardev ids are "char" + alias, netdev ids "host" + alias, block
/// nodes "libvirt-<n>-format"/"-storage" as libvirt writes them.
void assign_aliases(DomainConfig& config);

struct OpenOptions {
    bool reset_nvram = false;
    std::string nvram_folder;    ///< for a definition that names no variable store
    std::string runtime_folder;  ///< of this run, for sockets; the guest's process may write there
    std::string tls_folder;      ///< of the host's certificates; copies are made beside the runtime folder
    std::string host_root;       ///< where devices of the host are looked for; "" = the host's own root
};

/// Opens images with their backing chains, kernel, firmware, variable store, logs and links.
/// `config` must outlive the task.
Task<OpenedResources> open_resources(const DomainConfig& config, Resources& resources, Workers& workers,
                                     OpenOptions options);

/// The host's device behind a passed-through TPM.
std::string host_tpm_path(const Tpm& tpm);

/// An address for the vsock device: the one wished for, or with auto='yes' the first that `take` (true: it is ours)
/// gives. DeviceInUse when the one wished for is another guest's.
std::uint32_t take_cid(const std::optional<VsockCid>& wish, const std::function<bool(std::uint32_t)>& take);

/// What the links have shown: names of taps, and what the interfaces of networks have become.
void fill_links(DomainConfig& config, const OpenedResources& opened);
/// Writes what opening has shown into the live definition: that of links, paths of sockets.
void fill_opened(DomainConfig& config, const OpenedResources& opened);

/// Pure. The process starts with its CPUs stopped (-S) and its QMP monitor on `monitor`; what happens at shutdown,
/// reboot and panic is set over QMP (set-action). Moves descriptors out of `opened` into the result.
CommandLine command_line(const DomainConfig& config, const Capabilities& capabilities, OpenedResources& opened,
                         const MonitorSocket& monitor);

/// The stand-alone form for people to read or run; with `runnable` back ends that need the outside become null or
/// user ones.
std::vector<std::string> standalone_command(const DomainConfig& config, const Capabilities& capabilities,
                                            bool runnable);

}  // namespace virtbus::qemu
