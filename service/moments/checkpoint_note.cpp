// SPDX-License-Identifier: LGPL-2.1-or-later
#include "service/moments/checkpoint_note.hpp"

#include <fmt/format.h>

#include "virtbus/error.hpp"

namespace virtbus {

namespace {

/// Neither names nor targets have control characters; what else has one is no note of ours.
std::string next_line(std::string_view& text) {
    const auto end = text.find('\n');
    if (end == text.npos) throw Error{Code::internal, "the note of an interrupted change of checkpoints was cut"};
    std::string line{text.substr(0, end)};
    text.remove_prefix(end + 1);
    return line;
}

}  // namespace

std::string encode(const CheckpointNote& note) {
    auto text = fmt::format("{}\n{}\n{}\n", note.verb == CheckpointNote::Verb::create ? "create" : "remove",
                            note.entry.name, note.entry.parent);
    for (const auto& disk : note.entry.disks) text += disk.target + '\n' + disk.bitmap + '\n';
    return text;
}

CheckpointNote decode_checkpoint_note(std::string_view text) {
    CheckpointNote note;
    const auto verb = next_line(text);
    if (verb != "create" && verb != "remove")
        throw Error{Code::internal, "the note of an interrupted change of checkpoints is not known"};
    note.verb = verb == "create" ? CheckpointNote::Verb::create : CheckpointNote::Verb::remove;
    note.entry.name = next_line(text);
    note.entry.parent = next_line(text);
    while (!text.empty()) {
        MomentDisk disk;
        disk.target = next_line(text);
        disk.bitmap = next_line(text);
        note.entry.disks.push_back(std::move(disk));
    }
    return note;
}

}  // namespace virtbus
