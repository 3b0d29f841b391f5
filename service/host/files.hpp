// SPDX-License-Identifier: LGPL-2.1-or-later
// The Files port on Linux: durable writes that share their folder's sync, and opening with another's rights.
#pragma once

#include <memory>

#include "virtbus/ports.hpp"

namespace virtbus::host {

class LinuxFiles final : public Files {
public:
    /// `state` writes the project's own files; `outside` opens what others name and may hang on a dead mount.
    LinuxFiles(Workers& state, Workers& outside);
    ~LinuxFiles() override;

    Task<> write(std::string path, std::string content, unsigned mode) override;
    void write_volatile(const std::string& path, std::string_view content, unsigned mode) override;
    Task<> remove(std::string path) override;
    void remove_volatile(const std::string& path) override;
    Task<> rename(std::string from, std::string to) override;
    Task<> link(std::string target, std::string link) override;
    std::optional<std::string> read(const std::string& path, std::size_t limit) override;
    std::vector<std::string> list(const std::string& folder) override;
    /// Also removes the temporary files that an earlier daemon left in it.
    void make_folder(const std::string& path, unsigned mode) override;
    bool exists(const std::string& path) override;
    Task<Fd> open(std::string path, int flags, unsigned mode, std::optional<Identity> as, Deadline deadline,
                  std::stop_token stop) override;
    Task<Identity> identify(std::uint32_t uid, Deadline deadline) override;
    Task<NewFilePtr> create_beside(std::string path, unsigned mode, std::optional<Identity> as, Deadline deadline,
                                   std::stop_token stop) override;
    Task<> commit(NewFilePtr file) override;
    Task<> discard(NewFilePtr file) override;
    Task<> remove_temporary(std::string temporary, std::optional<Identity> as) override;

private:
    class FolderSyncs;
    Workers &state_, &outside_;
    std::shared_ptr<FolderSyncs> syncs_;
};

}  // namespace virtbus::host
