// SPDX-License-Identifier: LGPL-2.1-or-later
// What a domain answers that keeps no moments: nothing is there, nothing can be made.
#pragma once

#include <fmt/format.h>

#include "service/checkpoints.hpp"
#include "virtbus/error.hpp"

namespace virtbus {

class NoSnapshots final : public Snapshots {
public:
    const SnapshotView* find(std::string_view) const override { return nullptr; }
    const SnapshotView& get(std::string_view name) const override {
        throw Error{Code::no_such_snapshot, fmt::format("there is no snapshot '{}'", name)};
    }
    std::vector<const SnapshotView*> list() const override { return {}; }
    Task<std::string> xml(std::string name, bool) override { co_return get(name).name; }
    MomentJob create(std::string, SnapshotCreateOptions, Caller) override { refuse(); }
    JobPtr revert(std::string, RevertOptions, Caller) override { refuse(); }
    JobPtr remove(std::string, MomentDeleteOptions, Caller) override { refuse(); }
    Task<std::string> export_all() override { co_return std::string{}; }
    Task<std::vector<std::string>> import_all(std::string, Caller) override { refuse(); }

private:
    [[noreturn]] static void refuse() { throw Error{Code::unsupported, "snapshots are not kept here"}; }
};

class NoCheckpoints final : public Checkpoints {
public:
    const CheckpointView* find(std::string_view) const override { return nullptr; }
    const CheckpointView& get(std::string_view name) const override {
        throw Error{Code::no_such_checkpoint, fmt::format("there is no checkpoint '{}'", name)};
    }
    std::vector<const CheckpointView*> list() const override { return {}; }
    Task<std::string> xml(std::string name, CheckpointXmlOptions) override { co_return get(name).name; }
    MomentJob create(std::string, CheckpointCreateOptions, Caller) override { refuse(); }
    JobPtr remove(std::string, MomentDeleteOptions, Caller) override { refuse(); }

private:
    [[noreturn]] static void refuse() { throw Error{Code::unsupported, "checkpoints are not kept here"}; }
};

class NoBackups final : public Backups {
public:
    JobPtr begin(std::string, BackupOptions, Caller) override { refuse(); }
    Task<> end(Caller) override { refuse(); }
    std::string xml() const override { refuse(); }

private:
    [[noreturn]] static void refuse() { throw Error{Code::unsupported, "backups are not made here"}; }
};

}  // namespace virtbus
