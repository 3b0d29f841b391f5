// SPDX-License-Identifier: LGPL-2.1-or-later
#include "service/moments/pending.hpp"

#include <algorithm>
#include <array>
#include <utility>

#include "service/kept_text.hpp"
#include "virtbus/error.hpp"

namespace virtbus {

namespace {

constexpr std::array verbs{std::string_view{"create"}, std::string_view{"remove"}, std::string_view{"revert"},
                           std::string_view{"tidy"}};

struct Flag {
    std::string_view name;
    bool Pending::* flag;
};
constexpr std::array flags{Flag{"running", &Pending::running}, Flag{"active", &Pending::active},
                           Flag{"frozen", &Pending::frozen}, Flag{"keep-overlays", &Pending::keep_overlays},
                           Flag{"unrecorded", &Pending::unrecorded}};

struct Word {
    std::string_view name;
    std::string Pending::* word;
};
constexpr std::array words{Word{"name", &Pending::name}, Word{"temporary", &Pending::temporary},
                           Word{"tag", &Pending::tag}, Word{"definition", &Pending::definition}};

}  // namespace

std::string encode(const Pending& pending) {
    KeptWriter text;
    text.add("verb", verbs[static_cast<std::size_t>(pending.verb)]);
    for (const auto& [name, word] : words) text.add(name, pending.*word);
    for (const auto& [name, flag] : flags) text.add(name, pending.*flag ? 1 : 0);
    for (const auto& image : pending.images) {
        KeptWriter one;
        one.add("path", image.path);
        one.add("format", image.format);
        one.add("block", image.block_device ? 1 : 0);
        text.add("image", one.take());
    }
    if (pending.entry) {
        // Alone in an index, since that is what has a text form; there it has no parent.
        auto alone = *pending.entry;
        text.add("parent", std::exchange(alone.parent, {}));
        MomentIndex index;
        index.add(std::move(alone));
        text.add("entry", index.encode());
    }
    return text.take();
}

Pending decode_pending(std::string_view content) {
    const KeptReader text{content};
    Pending pending;
    const auto* verb = std::find(verbs.begin(), verbs.end(), text.text("verb"));
    if (verb == verbs.end()) throw Error{Code::internal, "a note of an operation on snapshots names no verb"};
    pending.verb = static_cast<Pending::Verb>(verb - verbs.begin());
    for (const auto& [name, word] : words) pending.*word = text.text(name);
    for (const auto& [name, flag] : flags) pending.*flag = text.count(name) != 0;
    for (const auto& image : text.all("image")) {
        const KeptReader one{image};
        pending.images.push_back(
            {std::string{one.text("path")}, std::string{one.text("format")}, one.count("block") != 0});
    }
    if (const auto entry = text.text("entry"); !entry.empty()) {
        const auto index = MomentIndex::decode(MomentKind::snapshot, entry);
        if (index.size() != 1) throw Error{Code::internal, "a note of an operation on snapshots has no entry"};
        pending.entry = *index.list().front();
        pending.entry->parent = text.text("parent");
    }
    return pending;
}

}  // namespace virtbus
