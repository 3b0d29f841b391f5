// SPDX-License-Identifier: LGPL-2.1-or-later
// What a command line says, taken apart: the words one line has more than another, what stands behind each device, and
// the QMP commands that make the same of a running machine or take it away again. Pure; sending is plug.hpp's work.
#pragma once

#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

namespace virtbus::qemu {

/// An option with its value ("" when it takes none).
struct Word {
    std::string option, value;
    bool operator==(const Word&) const = default;
};
std::vector<Word> words_of_line(const std::vector<std::string>& argv);
/// Those of `more` that `less` does not have, in their order.
std::vector<Word> difference(const std::vector<Word>& more, const std::vector<Word>& less);

/// Something that QEMU has by a name. As text: "blockdev:libvirt-1-format".
struct Part {
    enum class Kind { set, chardev, object, blockdev, netdev, device } kind;
    std::string id;
    bool operator==(const Part&) const = default;

    std::string text() const;
    /// What the guest has to let go of; anything else goes at once.
    bool is_device() const { return kind == Kind::device; }
    static Part from_text(std::string_view text);
};

/// By each device's alias, what it stands on and then the device itself, if it is one to QEMU.
std::map<std::string, std::vector<Part>> parts_of_devices(const std::vector<Word>& words);
/// The highest number of a node "libvirt-<n>-..." and of a set "/dev/fdset/<n>" that the words speak of.
unsigned highest_node(const std::vector<Word>& words);
unsigned highest_set(const std::vector<Word>& words);

struct QmpCommand {
    std::string name;
    nlohmann::json arguments;
    Part part;  ///< what is there once it has succeeded
};
/// Descriptors by the numbers that the words give them.
struct DescriptorUse {
    int number = -1;
    std::string name;  ///< for getfd; "" = goes into `set`
    unsigned set = 0;
    bool by_number = false;  ///< the words open it by its number in the process, which the answer tells
};
/// How a descriptor gets into the running process, in the order of the words.
std::vector<DescriptorUse> descriptors_of(const std::vector<Word>& words, unsigned last_set);
void set_number(std::vector<Word>& words, int before, std::int64_t now);

/// Unsupported for an option that QEMU takes only at its start.
std::vector<QmpCommand> commands_of(const std::vector<Word>& words);
/// The command that takes the part away.
QmpCommand removal_of(const Part& part);

}  // namespace virtbus::qemu
