// SPDX-License-Identifier: LGPL-2.1-or-later
// MomentShelf: the files of one domain's snapshots, or of its checkpoints: the index, a body with the complete XML for
// each, and the stores kept with it. What is in them, and in which order they change, is left to the verbs.
#pragma once

#include <cstddef>
#include <string>

#include "service/moments/index.hpp"
#include "service/store.hpp"
#include "virtbus/task.hpp"

namespace virtbus {

class MomentShelf {
public:
    MomentShelf(Store& store, Kept kind, const std::string& uuid);

    /// The index. One that is damaged is set aside, and without one it is made from the bodies as far as they tell;
    /// both with a line in the log. Files that nobody names are removed, unless something is pending.
    MomentIndex load();
    /// When this returns the index will be found so by the next daemon.
    Task<> save(const MomentIndex& index);

    Task<> write_body(std::string id, std::string text);
    /// Internal when it is not there.
    Task<std::string> read_body(std::string id);
    /// The body and the stores; what is not there is no error.
    Task<> remove(std::string id);

    /// Copies of the variable store and of the TPM's folder or file, as they are now, and back again. Whole or not at
    /// all.
    Task<> keep_store(std::string id, std::string store);
    Task<> bring_store(std::string id, std::string store);
    Task<> keep_tpm(std::string id, std::string state);
    Task<> bring_tpm(std::string id, std::string state);
    /// What is kept with one, also with the other.
    Task<> share_stores(std::string from, std::string to);
    bool has_store(const std::string& id) const;
    bool has_tpm(const std::string& id) const;

    std::string new_id() const;

    static constexpr std::size_t longest_body = 64UL << 20;

private:
    std::string path(const std::string& id, std::string_view suffix) const;
    void make_folder();
    MomentIndex rebuilt();
    void set_aside(const std::string& why);
    void tidy(const MomentIndex& index);

    Store& store_;
    MomentKind kind_;
    std::string folder_;
};

/// How many there are, without trusting anything: those of the index, or as many as have bodies. Error when the folder
/// cannot be read.
std::size_t count_moments(Files& files, MomentKind kind, const std::string& folder);

}  // namespace virtbus
