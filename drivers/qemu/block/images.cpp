// SPDX-License-Identifier: LGPL-2.1-or-later
#include "qemu/block/images.hpp"

namespace virtbus::qemu {

using nlohmann::json;

Task<OpenedImage> open_image(std::string path, Resources& resources) {
    OpenedImage image;
    image.writer = co_await resources.open_file(path, Access::read_write);
    image.reader = co_await resources.open_file(path, Access::read);
    co_return image;
}

Task<> add_image(std::shared_ptr<GuestCore> core, OpenedImage image, NewNodes nodes) {
    auto& monitor = core->open_monitor();
    const json set{{"fdset-id", nodes.set}};
    std::vector<Monitor::Answer> answers;
    answers.push_back(monitor.send("add-fd", set, std::move(image.writer)));
    answers.push_back(monitor.send("add-fd", set, std::move(image.reader)));
    answers.push_back(monitor.send("blockdev-add", nodes.storage));
    if (!nodes.node.empty()) answers.push_back(monitor.send("blockdev-add", nodes.node));
    // The first refusal is the one that says why.
    for (const auto& answer : answers) co_await answer.get(core->verb_deadline());
}

}  // namespace virtbus::qemu
