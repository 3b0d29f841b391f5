// SPDX-License-Identifier: LGPL-2.1-or-later
#include "qemu/helpers/gpu.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "qemu/helpers/vhost_user.hpp"
#include "qemu/opening.hpp"

namespace virtbus::qemu {

namespace {

[[noreturn]] void refuse(const std::string& why) {
    throw Error{Code::unsupported_configuration, "video with driver vhostuser: " + why};
}

bool is_accelerated(const Video& video) {
    return video.model.acceleration && video.model.acceleration->accel3d.value_or(false);
}

/// The node that is named, else the host's first; "" when it has none.
std::string node_of(const Video& video) {
    if (const auto& acceleration = video.model.acceleration; acceleration && !acceleration->rendernode.empty())
        return acceleration->rendernode;
    constexpr int first = 128, most = 64;
    for (int number = first; number < first + most; ++number)
        if (auto node = fmt::format("/dev/dri/renderD{}", number); ::access(node.c_str(), F_OK) == 0) return node;
    return {};
}

}  // namespace

bool needs_graphics_server(const Video& video) {
    return video.driver && video.driver->name == "vhostuser";
}

std::string find_graphics_server(Files& files, const std::vector<std::string>& folders, const Video& video) {
    const auto programs = vhost_user_programs(files, folders, "gpu");
    if (programs.empty())
        refuse(
            fmt::format("no vhost-user-gpu is installed (package qemu-system-gui): no descriptor of type 'gpu' is in "
                        "{}; leave the <driver> out to let QEMU draw",
                        fmt::join(folders, ", ")));
    if (::access(programs.front().c_str(), X_OK) != 0)
        refuse(fmt::format("{} cannot be run: {}", programs.front(), std::strerror(errno)));
    if (is_accelerated(video) && node_of(video).empty()) refuse("accel3d needs a render node of the host; it has none");
    return programs.front();
}

std::vector<std::string> graphics_server_words(const std::string& program, const Video& video) {
    std::vector<std::string> words{program, "--fd=3"};
    if (is_accelerated(video)) {
        words.emplace_back("--virgl");
        if (const auto node = node_of(video); !node.empty()) words.push_back("--render-node=" + node);
    }
    return words;
}

Task<Fd> GraphicsServer::run_connected(const HelperOrder& order, const Video& video, const std::string& program) {
    auto [ours, theirs] = helper_socket_pair();
    UnitRequest request;
    request.helper = "gpu_" + video.info.alias;
    request.description = fmt::format("Video card of virtual machine {}", order.domain);
    request.argv = graphics_server_words(program, video);
    request.fds = {{theirs.get(), 3}};
    if (is_accelerated(video)) request.devices = {node_of(video)};
    co_await run(order, {.program = "vhost-user-gpu", .alias = video.info.alias}, std::move(request));
    theirs = Fd{};  // its end is seen at ours
    co_await converse(order, ours, [patience = times_.answer](const Fd& fd) { require_vhost_user(fd, patience); });
    co_return std::move(ours);
}

Task<Fd> GraphicsServer::start(HelperOrder order, Video video, std::string program) {
    co_return co_await or_undo(run_connected(order, video, program));
}

}  // namespace virtbus::qemu
