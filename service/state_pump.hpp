// SPDX-License-Identifier: LGPL-2.1-or-later
// StatePump: moves a guest's state between a pipe and a file on a thread of its own, compressing or past the host's
// cache where that is wanted, with bounded buffers. What the bytes mean is the driver's knowledge.
#pragma once

#include <cstdint>
#include <memory>
#include <stop_token>
#include <string>

#include "service/save_image.hpp"
#include "virtbus/fd.hpp"
#include "virtbus/loop.hpp"
#include "virtbus/task.hpp"

namespace virtbus {

class StatePump {
public:
    /// What lies in the file between two marks, and how.
    struct Place {
        std::string path;  ///< for messages
        std::uint64_t offset = 0;
        Compression compression = Compression::none;
        bool bypass_cache = false;
        std::uint64_t stored_size = 0, state_size = 0, checksum = 0;  ///< of a file that is read
    };
    struct Moved {
        std::uint64_t stored = 0;  ///< bytes in the file
        std::uint64_t state = 0;   ///< bytes that went through the pipe
        std::uint64_t checksum = 0;
    };

    /// From the pipe, until nobody can write to it any more, into the file.
    static StatePump into_file(Loop& loop, Fd pipe, Fd file, Place place);
    /// From the file into the pipe, which is closed at the end. A reader that leaves early is no error; the file is
    /// read to its end all the same, to know whether it is what was written.
    static StatePump out_of_file(Loop& loop, Fd file, Place place, Fd pipe);

    StatePump(StatePump&&) noexcept;
    StatePump& operator=(StatePump&&) = delete;
    /// Ends the work if there still is some, without waiting for the file.
    ~StatePump();

    /// Waits for the end; NoSpace, Unsupported (the file is not what was written) or Internal when it did not go well,
    /// Cancelled or Timeout when it did not come. Whoever gives up waiting has given up the pump.
    Task<Moved> finish(Deadline deadline, std::stop_token stop);
    /// The error of finish() if the work has ended with one by now.
    void rethrow_error() const;
    /// How far it is: bytes through the pipe.
    std::uint64_t moved() const;

private:
    struct Shared;
    explicit StatePump(std::shared_ptr<Shared> shared);
    std::shared_ptr<Shared> shared_;
};

/// Whether the file can be used past the host's cache; Unsupported naming it when not.
void require_direct_io(const Fd& file, const std::string& path);

struct Pipe {
    Fd reading, writing;
};
/// A wide one, for a guest's state.
Pipe make_pipe();

}  // namespace virtbus
