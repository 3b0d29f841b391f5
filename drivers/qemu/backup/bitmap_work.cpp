// SPDX-License-Identifier: LGPL-2.1-or-later
#include "qemu/backup/bitmap_work.hpp"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "qemu/backup/bitmap_changes.hpp"
#include "qemu/backup/disk_chain.hpp"
#include "qemu/json.hpp"

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
    core->keeps_bitmaps = true;  // perhaps no more
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

Task<> look_for_bitmaps(CorePtr core) {
    const bool possible =
        std::ranges::any_of(core->record.images, [](const auto& image) { return image.second.file.format == "qcow2"; });
    if (!possible || core->is_gone()) co_return;
    try {
        const auto nodes = co_await core->open_monitor().execute("query-named-block-nodes", json{{"flat", true}},
                                                                 core->verb_deadline());
        bool any = core->keeps_bitmaps.value_or(false);
        for (const auto& node : nodes)
            for (const auto& bitmap : member(node, "dirty-bitmaps")) any = any || flag(bitmap, "persistent");
        core->keeps_bitmaps = any;
    } catch (const Error&) {
        // Not known: its images are given the time that bitmaps take.
    }
}

std::unique_ptr<BitmapWork> make_bitmap_work(CorePtr core) {
    return std::make_unique<QemuBitmapWork>(std::move(core));
}

}  // namespace virtbus::qemu
