// SPDX-License-Identifier: LGPL-2.1-or-later
#include "qemu/backup/bitmap_work.hpp"

#include <nlohmann/json.hpp>

#include "qemu/backup/bitmap_changes.hpp"
#include "qemu/backup/disk_chain.hpp"

namespace virtbus::qemu {

using nlohmann::json;
using CorePtr = std::shared_ptr<GuestCore>;

namespace {

Task<std::vector<BitmapFacts>> bitmap_facts(CorePtr core, std::stop_token stop) {
    std::vector<BitmapFacts> facts;
    for (const auto& [disk, chain] : co_await disk_chains(core, stop))
        for (const auto& node : chain)
            for (const auto& bitmap : node.bitmaps)
                facts.push_back({disk, bitmap.name, bitmap.recording, bitmap.persistent, bitmap.inconsistent,
                                 bitmap.dirty, bitmap.granularity, node.path});
    co_return facts;
}

Task<> change(CorePtr core, std::vector<BitmapChange> changes, std::stop_token stop) {
    BitmapActions actions{core->who(), co_await disk_chains(core, stop)};
    for (const auto& one : changes) actions.add(one);
    if (actions.list().empty()) co_return;
    co_await core->open_monitor().execute("transaction", json{{"actions", actions.list()}}, core->verb_deadline(),
                                          stop);
}

class QemuBitmapWork final : public BitmapWork {
public:
    explicit QemuBitmapWork(CorePtr core) : core_{std::move(core)} {}

    Task<std::vector<BitmapFacts>> bitmaps(std::stop_token stop) override { return bitmap_facts(core_, stop); }
    Task<> change_bitmaps(std::vector<BitmapChange> changes, std::stop_token stop) override {
        return change(core_, std::move(changes), stop);
    }
    Task<> begin_backup(BackupRequest request, std::stop_token stop) override {
        return qemu::begin_backup(core_, std::move(request), stop);
    }
    Task<> finish_backup(ProgressSink progress, std::stop_token stop) override {
        return qemu::finish_backup(core_, std::move(progress), stop);
    }
    Task<> end_backup() override { return clear_backup(core_); }

private:
    CorePtr core_;
};

}  // namespace

std::unique_ptr<BitmapWork> make_bitmap_work(CorePtr core) {
    return std::make_unique<QemuBitmapWork>(std::move(core));
}

}  // namespace virtbus::qemu
