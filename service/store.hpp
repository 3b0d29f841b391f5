// SPDX-License-Identifier: LGPL-2.1-or-later
// Store: where everything the service keeps lies (the table of files) and all reading and writing of it, through the
// Files port. What the texts mean is left to those who own them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <exception>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "service/status.hpp"
#include "virtbus/ports.hpp"
#include "virtbus/task.hpp"

namespace virtbus {

/// Every kind of file there is. Names are made of the UUID, so no name of a domain can reach outside or haunt another.
enum class Kept {
    definition,      ///< config: until undefined
    autostart,       ///< config: a link to the definition, until switched off or undefined
    managed_save,    ///< state: until restored or removed by its verb
    snapshots,       ///< state: a folder of records
    checkpoints,     ///< state: a folder of records
    nvram,           ///< state: the variable store; its suffix is the format's
    tpm,             ///< state: a folder
    undefining,      ///< state: the journal of an undefine that removes more than the definition
    status,          ///< runtime: while it runs
    autostart_done,  ///< runtime: one mark with the boot's id
};

class Store {
public:
    Store(Workers& workers, Files& files, Log& log, Folders folders, std::string boot_id);

    /// Makes the folders.
    void prepare();
    std::string folder(Kept kind) const;
    std::string path(Kept kind, std::string_view uuid) const;
    const Folders& folders() const { return folders_; }
    /// For those who keep files of their own in one of the folders.
    Workers& workers() const { return workers_; }
    Files& files() const { return files_; }
    Log& log() const { return log_; }
    const std::string& boot_id() const { return boot_id_; }

    struct DefinitionFile {
        std::string path, stem;  ///< stem: the name without ".xml"
        std::string text;
        std::string problem;  ///< why it could not be read; "" when it could
    };
    std::vector<DefinitionFile> definitions();
    Task<> write_definition(std::string path, std::string text);
    Task<> remove_file(std::string path);
    /// With its autostart link.
    Task<> remove_definition(std::string uuid, std::string definition);

    /// The uuids with a link that leads to a definition; dangling links are removed from the list, not from the disk.
    std::set<std::string> autostarts();
    Task<> set_autostart(std::string uuid, std::string definition, bool on);

    void write_status(const LiveStatus& status);
    void remove_status(const std::string& uuid);
    /// Those of this boot. Files of another boot are removed, damaged ones set aside, each with a line in the log.
    std::vector<LiveStatus> statuses();

    bool autostart_done();
    void mark_autostart_done();

    // ---- what outlives a run, by uuid
    bool has_managed_save(std::string_view uuid);
    std::set<std::string> managed_saves();
    std::size_t snapshots(std::string_view uuid);
    std::size_t checkpoints(std::string_view uuid);
    /// Stores at the default places, one per format, as far as they exist.
    std::vector<std::string> nvram(std::string_view uuid);
    /// A store in the folder of stores, with the name of the domain it was made for as far as that is on record.
    struct VariableStore {
        std::string path, domain;
        std::uint64_t size = 0;
    };
    /// All of them: regular files, no links, with names that can be told.
    Task<std::vector<VariableStore>> nvram_stores();
    /// It lies directly in that folder.
    bool is_in_nvram_folder(const std::string& path) const;
    /// Notes, beside the store, for which domain it is made, so that this is known when the domain is gone.
    Task<> record_nvram(std::string path, std::string domain);
    bool has_nvram_record(const std::string& path);
    Task<> forget_nvram_record(std::string path);
    /// The store with its record.
    Task<> remove_nvram(std::string path);
    bool has_tpm(std::string_view uuid);
    bool exists(const std::string& path);
    /// Removes all there is of that kind for the uuid.
    Task<> remove_all(Kept kind, std::string uuid);

    /// The journal of an undefine: once written, the undefine is done or will be finished at the next load.
    struct Undefining {
        std::string uuid, definition;
        std::vector<Kept> kinds;
        std::vector<std::string> files;
    };
    Task<> write_undefining(const Undefining& journal);
    Task<> close_undefining(std::string uuid);
    std::vector<Undefining> undefinings();
    /// Does what the journal says; can be repeated.
    Task<> carry_out(Undefining journal);

private:
    void set_aside(const std::string& path, const std::string& why);

    Workers& workers_;
    Files& files_;
    Log& log_;
    Folders folders_;
    std::string boot_id_;
};

}  // namespace virtbus
