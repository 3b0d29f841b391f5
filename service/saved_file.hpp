// SPDX-License-Identifier: LGPL-2.1-or-later
// Save images as files: making one beside its final name, opening one and reading its header, both on workers.
// The format is save_image.hpp's, moving the state state_pump.hpp's.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "service/definition.hpp"
#include "service/domains.hpp"
#include "service/save_image.hpp"
#include "service/state_pump.hpp"
#include "virtbus/ports.hpp"

namespace virtbus {

/// One that is being written.
struct SaveTarget {
    NewFilePtr file;
    std::string begun;  ///< its header
    StatePump::Place place;
};

/// Makes the file and writes its header.
Task<SaveTarget> begin_saved_file(Ports& ports, std::string path, SaveHeader header, Compression compression,
                                  bool bypass_cache, std::optional<Identity> as);
/// Where the driver shall write. Never the file itself: a guest's process that writes to a hung disk could not even be
/// killed, and nobody would know what it has written.
struct StateSink {
    Fd target;
    StatePump pump;
};
StateSink open_sink(Ports& ports, const SaveTarget& target);
/// What is left of a save when the guest has handed over all of its state: the way to the disk, which may be long.
inline constexpr Duration saving_end{10 * 60'000};
/// Marks it complete and gives it its name. When it throws nothing has the name. Until the name is given it can be
/// stopped.
Task<> commit_saved_file(Ports& ports, SaveTarget& target, StatePump::Moved moved, std::stop_token stop);

/// One that is there.
struct SavedFile final : SavedDomain {
    std::string path;
    Fd file;
    SaveImage image;
    StatePump::Place place(bool bypass_cache) const;
};
using SavedFilePtr = std::shared_ptr<SavedFile>;

/// Reads the header. An image whose writing was never finished has image.complete false and nothing else set; in a
/// file of our own (`managed`) one that ends before it could say so is such an image, too.
Task<SavedFilePtr> open_saved_file(Ports& ports, std::string path, std::optional<Identity> as, bool managed = false);
/// Unsupported, saying so, unless its writing was finished.
void require_complete(const SavedFile& saved);

/// The definition in it; Unsupported when it speaks of another domain than the header.
Understood understand_image(const SavedFile& saved);
/// A definition given in place of the one that ran, made whole. UnsupportedConfiguration naming the first difference
/// that the guest could see.
Task<DomainConfig> replacement_definition(HypervisorDriver& driver, std::string xml, const DomainConfig& before);

/// Whose rights open what the caller names: nothing for those who have the daemon's own.
Task<std::optional<Identity>> rights_of_caller(Ports& ports, std::uint32_t uid);
/// InvalidArgs unless it is an absolute path.
void require_file_name(const std::string& path);

}  // namespace virtbus
