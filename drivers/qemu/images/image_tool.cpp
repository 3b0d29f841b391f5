// SPDX-License-Identifier: LGPL-2.1-or-later
#include "qemu/images/image_tool.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <string_view>

#include "qemu/json.hpp"

namespace virtbus::qemu {

namespace {

// More than any honest image needs; see SECURITY.md.
constexpr Command::Limits tool_limits{.memory = std::uint64_t{1} << 30, .cpu_seconds = 600, .files = 64};

/// The image is passed as json:{...} with names that mean nothing outside of the child.
std::string without_internals(std::string_view words) {
    std::string out;
    for (std::size_t at = 0; at < words.size();) {
        const auto start = words.find("'json:{", at);
        const auto end = start == words.npos ? words.npos : words.find("}'", start);
        if (end == words.npos) return out += words.substr(at);
        const auto stop = words.find_first_not_of("}'", end);
        out += words.substr(at, start - at);
        out += "it";
        at = stop == words.npos ? words.size() : stop;
    }
    return out;
}

std::string in_one_line(std::string text) {
    while (text.ends_with('\n')) text.pop_back();
    std::ranges::replace(text, '\n', ' ');
    return text;
}

}  // namespace

Error image_error(const std::string& doing, const std::string& path, std::string_view words) {
    const auto says = [words](std::string_view part) { return words.find(part) != words.npos; };
    if ((says("Failed to get ") && says(" lock")) || says("Failed to lock byte"))
        return Error{Code::device_in_use, fmt::format("{}: image '{}' is in use by another process", doing, path)};
    constexpr std::array<std::string_view, 3> full{"No space left on device", "Disk quota exceeded", "File too large"};
    if (std::ranges::any_of(full, says))
        return Error{Code::no_space, fmt::format("{}: there is no room left for image '{}'", doing, path)};
    return Error{Code::hypervisor_failed,
                 fmt::format("{}: image '{}': {}", doing, path, excerpt(in_one_line(without_internals(words)), 500))};
}

Task<> run_image_tool(Ports& ports, const ImagePrograms& programs, std::string doing, std::string path,
                      std::vector<std::string> arguments, std::vector<std::pair<int, int>> fds) {
    Command command;
    command.argv = std::move(arguments);
    command.argv.insert(command.argv.begin(), programs.image_tool);
    command.output_limit = 64U << 10;
    command.fds = std::move(fds);
    command.limits = tool_limits;
    std::exception_ptr late;
    CommandResult result;
    try {
        result = co_await ports.spawner.run(std::move(command), in(programs.once));
    } catch (const Error& error) {
        const bool timeout = error.code() == Code::timeout;
        late = std::make_exception_ptr(Error{
            error.code(), timeout ? fmt::format("{}: image '{}': qemu-img did not finish in {} s and was ended; the "
                                                "image may need 'qemu-img check'",
                                                doing, path, programs.once.count() / 1000)
                                  : fmt::format("{}: image '{}': {}", doing, path, error.what())});
    }
    if (late) std::rethrow_exception(late);
    if (result.status > 128 && result.errors.empty())
        throw Error{Code::hypervisor_failed,
                    fmt::format("{}: image '{}': qemu-img was ended by signal {}", doing, path, result.status - 128)};
    if (result.status != 0) throw image_error(doing, path, result.errors);
}

}  // namespace virtbus::qemu
