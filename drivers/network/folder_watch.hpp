// SPDX-License-Identifier: LGPL-2.1-or-later
// Tells what happens to the files of a folder. All watches of a loop share one inotify descriptor, of which a user has
// few. What an event means is its listener's knowledge. Main thread.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "virtbus/loop.hpp"

namespace virtbus::network {

enum FileEvent : unsigned { file_written = 1, file_closed = 2, file_read = 4, file_gone = 8 };

class FolderWatch {
public:
    /// `file` is a name in the folder; "" with all events when some were lost. May be called once more for what
    /// happened before the destructor, never after it.
    using Happened = std::function<void(const std::string& file, unsigned events)>;
    FolderWatch(Loop& loop, const std::string& folder, Happened happened);
    ~FolderWatch();
    FolderWatch(const FolderWatch&) = delete;
    FolderWatch& operator=(const FolderWatch&) = delete;

private:
    class Shared;
    std::shared_ptr<Shared> shared_;
    std::shared_ptr<Happened> happened_;
};

}  // namespace virtbus::network
