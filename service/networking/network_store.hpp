// SPDX-License-Identifier: LGPL-2.1-or-later
// NetworkStore: where everything that is kept of networks lies, and all reading and writing of it through the Files
// port. What the texts mean is left to those who own them.
#pragma once

#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "virtbus/ports.hpp"
#include "virtbus/task.hpp"

namespace virtbus {

// config:  networks/<uuid>.xml                until undefined
//          networks/autostart/<uuid>.xml      a link to it, until switched off or undefined
// runtime: network/<name>.xml                 live state, while it is active
//          network-autostart-done             a mark with the boot's id
// state:   network/*.xml                      live state where other programs and older layouts have it: only read,
//                                             then removed
class NetworkStore {
public:
    NetworkStore(Files& files, Log& log, const Folders& folders, std::string boot_id);

    void prepare();
    const std::string& boot_id() const { return boot_id_; }

    // ---- definitions
    struct DefinitionFile {
        std::string path, stem;  ///< stem: the name without ".xml"
        std::string text;
        std::string problem;  ///< why it could not be read; "" when it could
    };
    std::vector<DefinitionFile> definitions();
    std::string definition_path(const std::string& uuid) const;
    Task<> write_definition(std::string path, std::string text);
    /// With its autostart link.
    Task<> remove_definition(std::string uuid, std::string path);

    /// The uuids with a link that leads to a definition.
    std::set<std::string> autostarts();
    Task<> set_autostart(std::string uuid, std::string definition, bool on);
    bool autostart_done();
    void mark_autostart_done();

    // ---- live state
    struct StateFile {
        std::string path, stem;
        std::string text, problem;
        bool after_boot = false;  ///< it was written since the host was started
    };
    std::string state_path(const std::string& name) const;
    void write_state(const std::string& name, std::string_view text);
    void remove_state(const std::string& name);
    /// Those in their place.
    std::vector<StateFile> states();
    /// Those in the old one.
    std::vector<StateFile> old_states();
    /// From the old place to the new one: synced there before it goes here.
    Task<> move_here(std::string old_path, std::string name, std::string text);
    Task<> remove_old(std::string path);
    /// Out of the way, for a human to look at; the reason goes into the log. Never throws.
    Task<> reject(std::string path, std::string why);

private:
    std::vector<StateFile> states_in(const std::string& folder);

    Files& files_;
    Log& log_;
    const std::string definitions_, autostart_, runtime_, old_, mark_, boot_id_;
};

}  // namespace virtbus
