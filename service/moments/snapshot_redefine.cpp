// SPDX-License-Identifier: LGPL-2.1-or-later
// Records that come from elsewhere: one at a time, or all of a domain at once. The bodies first, then the index, which
// makes all of them known in one step.
#include <fmt/format.h>

#include <map>

#include "service/machine.hpp"
#include "service/moments/redefine.hpp"
#include "service/moments/snapshots.hpp"
#include "service/moments/transfer.hpp"
#include "service/xml/moment_set.hpp"
#include "service/xml/moment_xml.hpp"

namespace virtbus {

/// What there is of those that are about to be replaced.
Task<std::map<std::string, Replaced>> SnapshotBook::replaced(std::vector<std::string> names) {
    std::map<std::string, Replaced> known;
    for (auto& name : names) {
        const auto* entry = index_.find(name);
        if (!entry || !entry->has_domain) continue;
        const auto record = co_await read_record(*entry);
        known.emplace(std::move(name), Replaced{record.domain});
    }
    co_return known;
}

/// Writes what is new, makes it known with `next`, removes what it replaces.
Task<> SnapshotBook::take_over(MomentIndex next, std::vector<SnapshotImport::Part> parts) {
    std::exception_ptr error;
    try {
        for (const auto& part : parts) {
            if (!part.made.replaces.empty()) co_await shelf_.share_stores(part.made.replaces, part.made.entry.id);
            co_await shelf_.write_body(part.made.entry.id, xml::format_snapshot(part.record, true));
        }
        co_await save(std::move(next));
    } catch (...) {
        error = std::current_exception();
    }
    for (const auto& part : parts) {
        const auto& gone = error ? part.made.entry.id : part.made.replaces;
        if (gone.empty()) continue;
        try {
            co_await shelf_.remove(gone);
        } catch (const std::exception& e) {
            machine_.log(Priority::warning, fmt::format("A record of a snapshot stays behind: {}", e.what()));
        }
    }
    if (error) std::rethrow_exception(error);
    for (const auto& part : parts)
        if (!part.made.warning.empty()) machine_.log(Priority::warning, part.made.warning);
}

Task<> SnapshotBook::do_redefine(JobPtr job, SnapshotConfig wanted, SnapshotCreateOptions options) {
    const auto hold = co_await machine_.lane_.enter(std::move(job), Lane::Subject::definition);
    machine_.require_listed();
    co_await recover();
    const auto known = co_await replaced({wanted.name});
    const auto before = known.find(wanted.name);
    auto next = index_;
    auto made = redefine(next, wanted, machine_.view_.uuid, shelf_.new_id(),
                         before == known.end() ? Replaced{} : before->second, {options.disk_only, options.validate});
    if (options.current) next.set_current(wanted.name);
    std::vector<SnapshotImport::Part> parts;
    parts.push_back({std::move(wanted), std::move(made)});
    co_await take_over(std::move(next), std::move(parts));
}

Task<std::string> SnapshotBook::export_all() {
    xml::MomentSetWriter document{index_.current()};
    std::vector<MomentEntry> entries;
    for (const auto* entry : index_.list()) entries.push_back(*entry);
    for (const auto& entry : entries) document.add(xml::format_snapshot(co_await read_record(entry), true));
    co_return document.take();
}

Task<std::vector<std::string>> SnapshotBook::import_all(std::string document, Caller caller) {
    const auto names = std::make_shared<std::vector<std::string>>();
    const auto job = machine_.begin("import-snapshots", "domain.snapshot", std::move(caller), false,
                                    [this, document = std::move(document), names](Machine&, JobPtr job) {
                                        return do_import(std::move(job), document, names);
                                    });
    (void)co_await machine_.context_.jobs.wait(job, std::nullopt);
    co_return *names;
}

Task<> SnapshotBook::do_import(JobPtr job, std::string document, std::shared_ptr<std::vector<std::string>> names) {
    const auto hold = co_await machine_.lane_.enter(job, Lane::Subject::definition);
    machine_.require_listed();
    co_await recover();
    constexpr Duration patience{60'000};
    auto set = co_await machine_.context_.ports.workers.run(
        "reading a set of snapshots", [document = std::move(document)] { return read_set(document); }, in(patience),
        job->stop());
    std::vector<std::string> wanted;
    for (const auto& snapshot : set.snapshots) wanted.push_back(snapshot.name);
    const auto known = co_await replaced(wanted);
    auto import = plan_import(index_, std::move(set), machine_.view_.uuid, known, [this] { return shelf_.new_id(); });
    for (const auto& part : import.parts) names->push_back(part.made.entry.name);
    co_await take_over(std::move(import.index), std::move(import.parts));
}

}  // namespace virtbus
