// SPDX-License-Identifier: LGPL-2.1-or-later
#include "qemu/probe.hpp"

#include <fmt/format.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>

#include "qemu/json.hpp"
#include "qemu/monitor.hpp"

namespace virtbus::qemu {

using nlohmann::json;

namespace {

struct Question {
    const char* name;
    const char* command;
    const char* argument = nullptr;  ///< of qom-list-types: implements
    json arguments() const {
        if (argument) return {{"implements", argument}};
        if (std::string_view{name} == "host-cpu") return {{"type", "static"}, {"model", {{"name", "max"}}}};
        return {};
    }
};

constexpr std::array questions{
    Question{"version", "query-version"},
    Question{"target", "query-target"},
    Question{"kvm", "query-kvm"},
    Question{"machines", "query-machines"},
    Question{"cpus", "query-cpu-definitions"},
    Question{"host-cpu", "query-cpu-model-expansion"},
    Question{"devices", "qom-list-types", "device"},
    Question{"objects", "qom-list-types", "user-creatable"},
    Question{"chardevs", "qom-list-types", "chardev"},
    Question{"accelerators", "qom-list-types", "accel"},
    Question{"commands", "query-commands"},
    Question{"options", "query-command-line-options"},
    Question{"tpm-models", "query-tpm-models"},
    Question{"tpm-types", "query-tpm-types"},
};

constexpr std::pair<std::string_view, std::string_view> arch_names[] = {
    {"i386", "i686"}, {"arm", "armv7l"}, {"xtensa", "xtensa"}};

std::string last_line(std::string_view text) {
    while (!text.empty() && (text.back() == '\n' || text.back() == '\r')) text.remove_suffix(1);
    return excerpt(text.substr(text.rfind('\n') + 1), 400);
}

std::pair<Fd, Fd> socket_pair() {
    int ends[2];
    if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0)
        throw Error{Code::internal, fmt::format("socketpair: {}", std::strerror(errno))};
    return {Fd{ends[0]}, Fd{ends[1]}};
}

/// The process of one probe; its end is awaited apart from its answers.
struct Run {
    Reply<CommandResult> ended;
    Scope scope;
    std::stop_source stop;

    Run(Loop& loop, Spawner& spawner, Command command, Fd theirs, Deadline deadline) : ended{loop} {
        scope.spawn(
            execute(spawner, std::move(command), std::move(theirs), ended.promise(), deadline, stop.get_token()));
    }
    static Task<> execute(Spawner& spawner, Command command, Fd theirs, Reply<CommandResult>::Promise promise,
                          Deadline deadline, std::stop_token stop) {
        try {
            auto running = spawner.run(std::move(command), deadline, std::move(stop));
            promise.set(co_await running);
        } catch (...) {
            promise.fail(std::current_exception());
        }
        theirs = Fd{};
    }
};

Command probe_command(const std::string& binary, const std::string& accelerators, int socket) {
    Command command;
    command.argv = {binary,
                    "-S",
                    "-no-user-config",
                    "-nodefaults",
                    "-display",
                    "none",
                    "-machine",
                    "none,accel=" + accelerators,
                    "-chardev",
                    "socket,id=probe,fd=3",
                    "-mon",
                    "chardev=probe,mode=control"};
    command.fds = {{socket, 3}};
    return command;
}

std::map<std::string, Monitor::Answer> ask_all(Monitor& monitor) {
    std::map<std::string, Monitor::Answer> asked;
    for (const auto& question : questions)
        asked.emplace(question.name, monitor.send(question.command, question.arguments()));
    return asked;
}

// A command that this build does not have costs its answer, not the probe.
Task<ProbeAnswers> collect(Monitor& monitor, Deadline deadline) {
    const auto asked = ask_all(monitor);
    ProbeAnswers answers;
    for (const auto& [name, answer] : asked) {
        try {
            answers[name] = co_await answer.get(deadline);
        } catch (const Error&) {
            if (!monitor.is_open()) throw;
        }
    }
    co_return answers;
}

void read_machines(const json& list, Capabilities& result) {
    for (const auto& each : list) {
        Machine machine;
        machine.name = text(each, "name");
        if (machine.name.empty() || machine.name == "none") continue;
        machine.alias = text(each, "alias");
        machine.default_cpu_type = text(each, "default-cpu-type");
        machine.max_cpus = static_cast<unsigned>(std::min<std::uint64_t>(number(each, "cpu-max", 1), 1U << 20));
        machine.is_default = flag(each, "is-default");
        machine.hotpluggable_cpus = flag(each, "hotpluggable-cpus");
        machine.deprecated = flag(each, "deprecated");
        result.machines.push_back(std::move(machine));
    }
    std::ranges::sort(result.machines, {}, &Machine::name);
}

std::vector<KnownCpu> read_cpus(const json& list) {
    std::vector<KnownCpu> cpus;
    for (const auto& each : list) {
        KnownCpu cpu;
        cpu.name = text(each, "name");
        if (cpu.name.empty()) continue;
        const auto& missing = member(each, "unavailable-features");
        cpu.usable = missing.is_array() && missing.empty();
        for (const auto& feature : missing)
            if (feature.is_string()) cpu.blockers.push_back(feature.get<std::string>());
        cpu.deprecated = flag(each, "deprecated");
        cpus.push_back(std::move(cpu));
    }
    std::ranges::sort(cpus, {}, &KnownCpu::name);
    return cpus;
}

CpuExpansion read_host_cpu(const json& expansion) {
    CpuExpansion cpu;
    cpu.base = text(expansion, "name");
    const auto& properties = member(expansion, "props");
    if (!properties.is_object()) return cpu;
    for (const auto& [name, value] : properties.items()) {
        if (value.is_boolean() && value.get<bool>()) cpu.features.insert(name);
        if (value.is_string()) cpu.words.emplace(name, value.get<std::string>());
        if (value.is_number()) cpu.words.emplace(name, value.dump());
    }
    return cpu;
}

Capabilities::Names read_names(const json& list, std::string_view prefix = {}) {
    Capabilities::Names names;
    for (const auto& each : list) {
        auto name = text(each, "name");
        if (name.ends_with("-cpu") || !name.starts_with(prefix)) continue;
        names.insert(name.substr(prefix.size()));
    }
    return names;
}

std::vector<std::string> read_words(const json& list) {
    std::vector<std::string> words;
    for (const auto& each : list)
        if (each.is_string()) words.push_back(each.get<std::string>());
    std::ranges::sort(words);
    return words;
}

const json& find(const ProbeAnswers& answers, const std::string& name) {
    static const json nothing;
    const auto found = answers.find(name);
    return found == answers.end() ? nothing : found->second;
}

void read_options(const json& list, Capabilities& result) {
    for (const auto& each : list) {
        auto& parameters = result.options[text(each, "option")];
        for (const auto& parameter : member(each, "parameters")) parameters.insert(text(parameter, "name"));
    }
}

}  // namespace

std::string arch_of_target(std::string_view target) {
    for (const auto& [theirs, ours] : arch_names)
        if (theirs == target) return std::string{ours};
    return std::string{target};
}

std::string target_of_arch(std::string_view arch) {
    for (const auto& [theirs, ours] : arch_names)
        if (ours == arch) return std::string{theirs};
    return std::string{arch};
}

Task<ProbeAnswers> ask_emulator(std::string binary, std::string accelerators, Loop& loop, Spawner& spawner,
                                Deadline deadline) {
    auto [ours, theirs] = socket_pair();
    auto command = probe_command(binary, accelerators, theirs.get());
    Run run{loop, spawner, std::move(command), std::move(theirs), deadline};
    Monitor monitor{loop, std::move(ours), binary, {}};
    ProbeAnswers answers;
    std::optional<Error> failure;
    try {
        answers = co_await collect(monitor, deadline);
    } catch (const Error& error) {
        failure = error;
    }
    if (!failure) monitor.send("quit");
    const auto result = co_await run.ended.wait("the probe of " + binary, deadline);
    if (failure)
        throw Error{Code::hypervisor_failed,
                    fmt::format("{} could not be asked what it can do: {}", binary,
                                result.errors.empty() ? failure->what() : last_line(result.errors))};
    co_return answers;
}

/// Displays may be in modules that come in packages of their own, which only this tells. None, when it tells nothing.
Task<Capabilities::Names> ask_displays(std::string binary, Spawner& spawner, Deadline deadline) {
    Command command;
    command.argv = {std::move(binary), "-display", "help"};
    Capabilities::Names names;
    try {
        auto running = spawner.run(std::move(command), deadline, {});
        const auto result = co_await running;
        for (std::size_t start = 0; start < result.output.size();) {
            const auto end = std::min(result.output.find('\n', start), result.output.size());
            const auto word = result.output.substr(start, end - start);
            if (!word.empty() && word.find(' ') == word.npos) names.insert(word);
            start = end + 1;
        }
    } catch (const Error&) {
        names.clear();
    }
    co_return names;
}

Task<Capabilities> probe(std::string binary, bool with_kvm, Loop& loop, Spawner& spawner, Deadline deadline) {
    auto answers = co_await ask_emulator(binary, "tcg:kvm", loop, spawner, deadline);
    ProbeAnswers kvm;
    if (with_kvm && flag(find(answers, "kvm"), "present")) {
        try {
            kvm = co_await ask_emulator(binary, "kvm", loop, spawner, deadline);
        } catch (const Error&) {
            kvm.clear();  // built in, but this host's kernel has no use of it
        }
    }
    auto result = capabilities_from(binary, answers, kvm);
    result.options["display"] = co_await ask_displays(std::move(binary), spawner, deadline);
    co_return result;
}

Capabilities capabilities_from(std::string binary, const ProbeAnswers& answers, const ProbeAnswers& kvm) {
    Capabilities result;
    result.binary = std::move(binary);
    result.arch = arch_of_target(text(find(answers, "target"), "arch"));
    const auto& version = member(find(answers, "version"), "qemu");
    const auto part = [&](const char* name) { return static_cast<unsigned>(number(version, name) % 1000); };
    result.version = part("major") * 1000000 + part("minor") * 1000 + part("micro");
    result.package = text(find(answers, "version"), "package");
    result.has_tcg = read_names(find(answers, "accelerators")).contains("tcg-accel");
    result.has_kvm = flag(find(kvm, "kvm"), "enabled");
    read_machines(find(answers, "machines"), result);
    if (result.has_tcg) {
        result.tcg_cpus = read_cpus(find(answers, "cpus"));
        result.tcg_host = read_host_cpu(member(find(answers, "host-cpu"), "model"));
    }
    if (result.has_kvm) {
        result.kvm_cpus = read_cpus(find(kvm, "cpus"));
        result.kvm_host = read_host_cpu(member(find(kvm, "host-cpu"), "model"));
    }
    result.devices = read_names(find(answers, "devices"));
    result.objects = read_names(find(answers, "objects"));
    result.chardevs = read_names(find(answers, "chardevs"), "chardev-");
    result.commands = read_names(find(answers, "commands"));
    read_options(find(answers, "options"), result);
    result.tpm_models = read_words(find(answers, "tpm-models"));
    result.tpm_types = read_words(find(answers, "tpm-types"));
    return result;
}

// ---- the cached form

namespace {

json cpus_json(const std::vector<KnownCpu>& cpus) {
    auto list = json::array();
    for (const auto& cpu : cpus)
        list.push_back(
            {{"name", cpu.name}, {"blockers", cpu.blockers}, {"usable", cpu.usable}, {"deprecated", cpu.deprecated}});
    return list;
}

std::vector<KnownCpu> cpus_from_json(const json& list) {
    std::vector<KnownCpu> cpus;
    for (const auto& each : list)
        cpus.push_back(
            {text(each, "name"), flag(each, "usable"), read_words(member(each, "blockers")), flag(each, "deprecated")});
    return cpus;
}

json to_json(const CpuExpansion& cpu) {
    auto properties = json::object();
    for (const auto& feature : cpu.features) properties[feature] = true;
    for (const auto& [name, word] : cpu.words) properties[name] = word;
    return {{"name", cpu.base}, {"props", properties}};
}

Capabilities::Names names_from_json(const json& list) {
    auto words = read_words(list);
    return {std::make_move_iterator(words.begin()), std::make_move_iterator(words.end())};
}

}  // namespace

json to_json(const Capabilities& capabilities) {
    auto machines = json::array();
    for (const auto& machine : capabilities.machines)
        machines.push_back({{"name", machine.name},
                            {"alias", machine.alias},
                            {"default-cpu-type", machine.default_cpu_type},
                            {"cpu-max", machine.max_cpus},
                            {"is-default", machine.is_default},
                            {"hotpluggable-cpus", machine.hotpluggable_cpus},
                            {"deprecated", machine.deprecated}});
    auto options = json::object();
    for (const auto& [name, parameters] : capabilities.options) options[name] = parameters;
    return {{"binary", capabilities.binary},
            {"arch", capabilities.arch},
            {"version", capabilities.version},
            {"package", capabilities.package},
            {"tcg", capabilities.has_tcg},
            {"kvm", capabilities.has_kvm},
            {"machines", machines},
            {"tcg-cpus", cpus_json(capabilities.tcg_cpus)},
            {"kvm-cpus", cpus_json(capabilities.kvm_cpus)},
            {"tcg-host", to_json(capabilities.tcg_host)},
            {"kvm-host", to_json(capabilities.kvm_host)},
            {"devices", capabilities.devices},
            {"objects", capabilities.objects},
            {"chardevs", capabilities.chardevs},
            {"commands", capabilities.commands},
            {"options", options},
            {"tpm-models", capabilities.tpm_models},
            {"tpm-types", capabilities.tpm_types}};
}

Capabilities capabilities_from_json(const json& stored) {
    Capabilities result;
    result.binary = text(stored, "binary");
    result.arch = text(stored, "arch");
    result.version = static_cast<unsigned>(number(stored, "version"));
    result.package = text(stored, "package");
    result.has_tcg = flag(stored, "tcg");
    result.has_kvm = flag(stored, "kvm");
    read_machines(member(stored, "machines"), result);
    result.tcg_cpus = cpus_from_json(member(stored, "tcg-cpus"));
    result.kvm_cpus = cpus_from_json(member(stored, "kvm-cpus"));
    result.tcg_host = read_host_cpu(member(stored, "tcg-host"));
    result.kvm_host = read_host_cpu(member(stored, "kvm-host"));
    result.devices = names_from_json(member(stored, "devices"));
    result.objects = names_from_json(member(stored, "objects"));
    result.chardevs = names_from_json(member(stored, "chardevs"));
    result.commands = names_from_json(member(stored, "commands"));
    if (const auto& options = member(stored, "options"); options.is_object())
        for (const auto& [name, parameters] : options.items()) result.options[name] = names_from_json(parameters);
    result.tpm_models = read_words(member(stored, "tpm-models"));
    result.tpm_types = read_words(member(stored, "tpm-types"));
    return result;
}

}  // namespace virtbus::qemu
