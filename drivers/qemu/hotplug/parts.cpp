// SPDX-License-Identifier: LGPL-2.1-or-later
#include "qemu/hotplug/parts.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <set>

#include "qemu/json.hpp"
#include "virtbus/error.hpp"

namespace virtbus::qemu {

using nlohmann::json;

namespace {

constexpr std::array<std::string_view, 6> part_words{"set", "chardev", "object", "blockdev", "netdev", "device"};
constexpr std::string_view set_prefix = "/dev/fdset/", node_prefix = "libvirt-";

// ---- values

using Pairs = std::vector<std::pair<std::string, std::string>>;

/// "first,key=value": the first word under the key "". Doubled commas stand for one.
Pairs pairs_of(std::string_view text) {
    Pairs pairs;
    std::string item;
    const auto end_item = [&] {
        const auto equals = item.find('=');
        if (equals == item.npos)
            pairs.emplace_back("", item);
        else
            pairs.emplace_back(item.substr(0, equals), item.substr(equals + 1));
        item.clear();
    };
    for (std::size_t i = 0; i < text.size(); ++i) {
        if (text[i] != ',') {
            item += text[i];
        } else if (i + 1 < text.size() && text[i + 1] == ',') {
            item += text[i++];
        } else {
            end_item();
        }
    }
    end_item();
    return pairs;
}

std::string value_of(const Pairs& pairs, std::string_view key) {
    for (const auto& [name, value] : pairs)
        if (name == key) return value;
    return {};
}

unsigned number_behind(std::string_view text, std::string_view prefix) {
    unsigned number = 0;
    if (text.starts_with(prefix)) std::from_chars(text.data() + prefix.size(), text.data() + text.size(), number);
    return number;
}

bool is_json(const Word& word) {
    return word.value.starts_with('{');
}

/// The strings under a key that names another part.
template <class Use>
void each_reference(const json& value, Use& use) {
    static constexpr std::string_view keys[]{
        "drive",     "netdev",     "chardev",         "rng",       "memdev",         "cryptodev",
        "file",      "backing",    "filename",        "mem-path",  "throttle-group", "hostdevice",
        "data-file", "key-secret", "password-secret", "tls-creds", "pr-manager"};
    if (value.is_array())
        for (const auto& each : value) each_reference(each, use);
    if (!value.is_object()) return;
    for (const auto& [key, held] : value.items()) {
        if (held.is_string() && std::ranges::find(keys, key) != std::end(keys)) use(held.get<std::string>());
        // "tcp:10.0.2.1:4600-chardev:charchannel0", in a list of such.
        constexpr std::string_view forwards = "-chardev:";
        if (const auto* to = held.is_string() ? held.get_ptr<const json::string_t*>() : nullptr;
            to && key == "str" && to->find(forwards) != to->npos)
            use(to->substr(to->find(forwards) + forwards.size()));
        if (held.is_structured()) each_reference(held, use);
    }
}
template <class Use>
void each_reference(const Word& word, Use use) {
    if (is_json(word)) return each_reference(parse_json(word.value), use);
    for (const auto& [key, value] : pairs_of(word.value))
        if (key == "path" || key == "logfile") use(value);
}

constexpr std::string_view proc_prefix = "/proc/self/fd/";

/// The descriptors a word names by their numbers, "7" or "7:8".
template <class Use>
void each_descriptor(json& value, const std::string& option, Use& use) {
    if (option == "-netdev")
        for (const char* key : {"fd", "fds", "vhostfd", "vhostfds"})
            if (value.contains(key) && value[key].is_string()) use(value[key]);
    if (option == "-device" && value.contains("vhostfd") && value["vhostfd"].is_string()) use(value["vhostfd"]);
    if (option != "-blockdev") return;
    if (text(value, "type") == "fd" && value.contains("str") && value["str"].is_string()) return use(value["str"]);
    for (auto& each : value)
        if (each.is_object()) each_descriptor(each, option, use);
}

std::optional<Part> part_of(const Word& word) {
    struct Row {
        std::string_view option;
        Part::Kind kind;
        const char* key;
    };
    static constexpr Row rows[]{{"-blockdev", Part::Kind::blockdev, "node-name"},
                                {"-object", Part::Kind::object, "id"},
                                {"-netdev", Part::Kind::netdev, "id"},
                                {"-device", Part::Kind::device, "id"}};
    if (word.option == "-chardev") return Part{Part::Kind::chardev, value_of(pairs_of(word.value), "id")};
    for (const auto& row : rows)
        if (row.option == word.option && is_json(word)) return Part{row.kind, text(parse_json(word.value), row.key)};
    return std::nullopt;
}

/// Where each part is said, and what the parts it refers to are.
class Lookup {
public:
    explicit Lookup(const std::vector<Word>& words) : words_{words} {
        for (std::size_t i = 0; i < words.size(); ++i)
            if (const auto part = part_of(words[i]); part && part->kind != Part::Kind::device)
                said_.emplace(part->id, std::pair{i, *part});
    }
    void collect(const Word& word, std::vector<Part>& out) const {
        each_reference(word, [&](const std::string& id) {
            if (const unsigned set = number_behind(id, set_prefix)) add(out, {Part::Kind::set, std::to_string(set)});
            const auto found = said_.find(id);
            if (found == said_.end() || std::ranges::find(out, found->second.second) != out.end()) return;
            collect(words_[found->second.first], out);
            add(out, found->second.second);
        });
    }

private:
    static void add(std::vector<Part>& out, Part part) {
        if (std::ranges::find(out, part) == out.end()) out.push_back(std::move(part));
    }
    const std::vector<Word>& words_;
    std::map<std::string, std::pair<std::size_t, Part>> said_;
};

/// Of the device that the word makes. A channel to addresses of the guest's network is a back end and nothing else.
std::string alias_of(const Word& word, const Part& part) {
    constexpr std::string_view prefix = "host";
    if (part.kind == Part::Kind::device) return part.id;
    const bool forwards = part.kind == Part::Kind::netdev && parse_json(word.value).contains("guestfwd");
    return forwards && part.id.starts_with(prefix) ? part.id.substr(prefix.size()) : std::string{};
}

// ---- words as commands

std::string descriptor_name(int number) {
    return fmt::format("virtbus-fd-{}", number);
}

std::string names_of(std::string_view numbers) {
    std::string names;
    while (!numbers.empty()) {
        const auto one = numbers.substr(0, numbers.find(':'));
        names += (names.empty() ? "" : ":") + fmt::format("virtbus-fd-{}", one);
        numbers.remove_prefix(std::min(one.size() + 1, numbers.size()));
    }
    return names;
}

json arguments_of(const Word& word) {
    auto arguments = parse_json(word.value);
    const auto rename = [](json& numbers) { numbers = names_of(numbers.get<std::string>()); };
    each_descriptor(arguments, word.option, rename);
    return arguments;
}

bool on(std::string_view word) {
    return word == "on";
}

json socket_backend(const Pairs& pairs) {
    json address, data;
    const auto get = [&](const char* key) { return value_of(pairs, key); };
    if (!get("fd").empty())
        address = {{"type", "fd"}, {"data", {{"str", fmt::format("virtbus-fd-{}", get("fd"))}}}};
    else if (!get("path").empty())
        address = {{"type", "unix"}, {"data", {{"path", get("path")}}}};
    else
        address = {{"type", "inet"}, {"data", {{"host", get("host")}, {"port", get("port")}}}};
    data["addr"] = address;
    // At the command line a socket is a client unless it says otherwise; here it is the other way round.
    data["server"] = on(get("server"));
    if (on(get("server"))) data["wait"] = false;
    if (on(get("telnet"))) data["telnet"] = true;
    if (!get("tls-creds").empty()) data["tls-creds"] = get("tls-creds");
    if (const auto pause = get("reconnect"); !pause.empty()) data["reconnect"] = std::atoi(pause.c_str());
    return data;
}

json inet(const std::string& host, const std::string& port) {
    return {{"type", "inet"}, {"data", {{"host", host}, {"port", port.empty() ? "0" : port}}}};
}

json chardev_arguments(const Word& word) {
    const auto pairs = pairs_of(word.value);
    const auto get = [&](const char* key) { return value_of(pairs, key); };
    const auto kind = get("");
    json data = json::object();
    if (kind == "file") data = {{"out", get("path")}, {"append", on(get("append"))}};
    if (kind == "serial" || kind == "pipe") data = {{"device", get("path")}};
    if (kind == "socket") data = socket_backend(pairs);
    if (kind == "udp") {
        data["remote"] = inet(get("host"), get("port"));
        if (!get("localaddr").empty() || !get("localport").empty())
            data["local"] = inet(get("localaddr"), get("localport"));
    }
    if (kind == "spicevmc") data = {{"type", get("name")}};
    if (kind == "spiceport") data = {{"fqdn", get("name")}};
    if (kind == "dbus") data = {{"name", get("name")}};
    if (kind == "qemu-vdagent")
        for (const auto* key : {"clipboard", "mouse"})
            if (!get(key).empty()) data[key] = on(get(key));
    if (!get("logfile").empty()) {
        data["logfile"] = get("logfile");
        data["logappend"] = on(get("logappend"));
    }
    return {{"id", get("id")}, {"backend", {{"type", kind}, {"data", data}}}};
}

}  // namespace

std::vector<Word> words_of_line(const std::vector<std::string>& argv) {
    std::vector<Word> words;
    for (std::size_t i = 1; i < argv.size(); ++i) {
        if (argv[i].starts_with('-'))
            words.push_back({argv[i], {}});
        else if (!words.empty())
            words.back().value = argv[i];
    }
    return words;
}

std::vector<Word> difference(const std::vector<Word>& more, const std::vector<Word>& less) {
    auto left = less;
    std::vector<Word> rest;
    for (const auto& word : more) {
        const auto same = std::ranges::find(left, word);
        if (same != left.end())
            left.erase(same);
        else
            rest.push_back(word);
    }
    return rest;
}

std::string Part::text() const {
    return fmt::format("{}:{}", part_words[static_cast<std::size_t>(kind)], id);
}

Part Part::from_text(std::string_view text) {
    const auto colon = std::min(text.find(':'), text.size());
    const auto found = std::ranges::find(part_words, text.substr(0, colon));
    if (found == part_words.end() || colon == text.size())
        throw Error{Code::internal, fmt::format("'{}' is no part of a device", text)};
    return {static_cast<Kind>(found - part_words.begin()), std::string{text.substr(colon + 1)}};
}

std::map<std::string, std::vector<Part>> parts_of_devices(const std::vector<Word>& words) {
    const Lookup lookup{words};
    std::map<std::string, std::vector<Part>> all;
    for (const auto& word : words) {
        const auto part = part_of(word);
        const auto alias = part ? alias_of(word, *part) : std::string{};
        if (alias.empty()) continue;
        auto& parts = all[alias];
        lookup.collect(word, parts);
        parts.push_back(*part);
    }
    return all;
}

unsigned highest_node(const std::vector<Word>& words) {
    unsigned highest = 0;
    for (const auto& word : words)
        if (const auto part = part_of(word); part && part->kind == Part::Kind::blockdev)
            highest = std::max(highest, number_behind(part->id, node_prefix));
    return highest;
}

unsigned highest_set(const std::vector<Word>& words) {
    unsigned highest = 0;
    for (const auto& word : words)
        if (word.option == "-add-fd")
            highest = std::max(highest, number_behind("=" + value_of(pairs_of(word.value), "set"), "="));
    return highest;
}

std::vector<DescriptorUse> descriptors_of(const std::vector<Word>& words, unsigned last_set) {
    std::vector<DescriptorUse> uses;
    const auto named = [&](std::string_view numbers) {
        while (!numbers.empty()) {
            const auto one = numbers.substr(0, numbers.find(':'));
            const auto number = static_cast<int>(number_behind(fmt::format("={}", one), "="));
            uses.push_back({number, descriptor_name(number), 0, false});
            numbers.remove_prefix(std::min(one.size() + 1, numbers.size()));
        }
    };
    const auto named_json = [&](json& numbers) { named(numbers.get<std::string>()); };
    for (const auto& word : words) {
        if (word.option == "-add-fd") {
            const auto pairs = pairs_of(word.value);
            uses.push_back({static_cast<int>(number_behind("=" + value_of(pairs, "fd"), "=")),
                            {},
                            number_behind("=" + value_of(pairs, "set"), "="),
                            false});
        }
        if (word.option == "-chardev") named(value_of(pairs_of(word.value), "fd"));
        if (is_json(word)) {
            auto value = parse_json(word.value);
            each_descriptor(value, word.option, named_json);
        }
        if (const auto at = word.value.find(proc_prefix); at != word.value.npos)
            uses.push_back({static_cast<int>(number_behind(word.value.substr(at), proc_prefix)), {}, ++last_set, true});
    }
    return uses;
}

void set_number(std::vector<Word>& words, int before, std::int64_t now) {
    const auto old = fmt::format("{}{}\"", proc_prefix, before);
    for (auto& word : words)
        if (const auto at = word.value.find(old); at != word.value.npos)
            word.value.replace(at, old.size(), fmt::format("{}{}\"", proc_prefix, now));
}

std::vector<QmpCommand> commands_of(const std::vector<Word>& words) {
    std::vector<QmpCommand> commands;
    for (const auto& word : words) {
        if (word.option == "-add-fd") continue;  // see descriptors_of
        const auto part = part_of(word);
        if (!part)
            throw Error{Code::unsupported, fmt::format("this cannot be plugged while the machine runs: QEMU takes {} "
                                                       "only at its start",
                                                       word.option)};
        switch (part->kind) {
            case Part::Kind::chardev:
                commands.push_back({"chardev-add", chardev_arguments(word), *part});
                break;
            case Part::Kind::netdev:
                commands.push_back({"netdev_add", arguments_of(word), *part});
                break;
            case Part::Kind::object:
                commands.push_back({"object-add", arguments_of(word), *part});
                break;
            case Part::Kind::blockdev:
                commands.push_back({"blockdev-add", arguments_of(word), *part});
                break;
            default:
                commands.push_back({"device_add", arguments_of(word), *part});
        }
    }
    return commands;
}

QmpCommand removal_of(const Part& part) {
    switch (part.kind) {
        case Part::Kind::set:
            return {"remove-fd", {{"fdset-id", number_behind("=" + part.id, "=")}}, part};
        case Part::Kind::chardev:
            return {"chardev-remove", {{"id", part.id}}, part};
        case Part::Kind::object:
            return {"object-del", {{"id", part.id}}, part};
        case Part::Kind::blockdev:
            return {"blockdev-del", {{"node-name", part.id}}, part};
        case Part::Kind::netdev:
            return {"netdev_del", {{"id", part.id}}, part};
        default:
            return {"device_del", {{"id", part.id}}, part};
    }
}

}  // namespace virtbus::qemu
