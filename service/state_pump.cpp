// SPDX-License-Identifier: LGPL-2.1-or-later
#include "service/state_pump.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zstd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <mutex>
#include <new>
#include <thread>
#include <utility>

#include "virtbus/error.hpp"
#include "virtbus/reply.hpp"

namespace virtbus {

namespace {

constexpr std::size_t chunk = 1U << 20;
constexpr int most_window = 27;  // what zstd asks of a reader by default: 128 MiB

[[noreturn]] void fail(const char* verb, const std::string& path, int error) {
    throw Error{error == ENOSPC || error == EDQUOT || error == EFBIG ? Code::no_space : Code::internal,
                fmt::format("cannot {} {}: {}", verb, path, std::strerror(error))};
}

[[noreturn]] void bad_file(const std::string& path, const std::string& rule) {
    throw Error{Code::unsupported, fmt::format("save image {} cannot be used: {}", path, rule)};
}

/// The owner has gone; nobody hears of this.
struct Abandoned {};

struct Freed {
    void operator()(char* memory) const { std::free(memory); }
};
using Buffer = std::unique_ptr<char[], Freed>;

Buffer aligned_buffer(std::size_t size) {
    void* memory = nullptr;
    if (::posix_memalign(&memory, save_alignment, size) != 0) throw std::bad_alloc{};
    return Buffer{static_cast<char*>(memory)};
}

Pipe plain_pipe() {
    int ends[2];
    if (::pipe2(ends, O_CLOEXEC) != 0)
        throw Error{Code::internal, fmt::format("cannot make a pipe: {}", std::strerror(errno))};
    return {Fd{ends[0]}, Fd{ends[1]}};
}

void set_flag(int fd, int flag, bool on) {
    const int flags = ::fcntl(fd, F_GETFL);
    ::fcntl(fd, F_SETFL, on ? flags | flag : flags & ~flag);
}

/// One end of the pipe, given up when the owner leaves (its end of `control` is closed then).
class PipeEnd {
public:
    PipeEnd(Fd fd, int control) : fd_{std::move(fd)}, control_{control} { set_flag(fd_.get(), O_NONBLOCK, true); }
    /// 0 at the end.
    std::size_t read(char* to, std::size_t size) {
        for (;;) {
            const auto got = ::read(fd_.get(), to, size);
            if (got >= 0) return static_cast<std::size_t>(got);
            if (errno == EAGAIN)
                wait(POLLIN);
            else if (errno != EINTR)
                fail("read", "the guest's state", errno);
        }
    }
    /// False when the reader has left.
    bool write(const char* from, std::size_t size) {
        if (left_) {
            look_for_owner();
            return false;
        }
        while (size > 0) {
            const auto put = ::write(fd_.get(), from, size);
            if (put < 0 && errno == EPIPE) return left_ = true, false;
            if (put < 0 && errno == EAGAIN)
                wait(POLLOUT);
            else if (put < 0 && errno != EINTR)
                fail("hand on", "the guest's state", errno);
            if (put <= 0) continue;
            from += put;
            size -= static_cast<std::size_t>(put);
        }
        return true;
    }

private:
    void look_for_owner() {
        pollfd control{control_, POLLIN, 0};
        if (::poll(&control, 1, 0) > 0) throw Abandoned{};
    }
    void wait(short wanted) {
        pollfd both[] = {{fd_.get(), wanted, 0}, {control_, POLLIN, 0}};
        while (::poll(both, 2, -1) < 0 && errno == EINTR) {
        }
        if (both[1].revents != 0) throw Abandoned{};
    }
    Fd fd_;
    int control_;
    bool left_ = false;
};

/// The file behind a buffer that is written and read in whole blocks, as O_DIRECT wants it.
class FileWriter {
public:
    FileWriter(int fd, const StatePump::Place& place)
        : fd_{fd}, place_{place}, at_{place.offset}, buffer_{aligned_buffer(chunk)} {
        if (place.bypass_cache) set_flag(fd_, O_DIRECT, true);
    }
    void write(const char* from, std::size_t size) {
        written_ += size;
        while (size > 0) {
            const auto part = std::min(size, chunk - filled_);
            std::memcpy(buffer_.get() + filled_, from, part);
            checksum_.add(buffer_.get() + filled_, part);
            filled_ += part;
            from += part;
            size -= part;
            if (filled_ == chunk) flush(chunk);
        }
    }
    /// The last block is filled up, and cut off again.
    void finish() {
        const auto whole =
            place_.bypass_cache ? (filled_ + save_alignment - 1) / save_alignment * save_alignment : filled_;
        std::memset(buffer_.get() + filled_, 0, whole - filled_);
        flush(whole);
        if (place_.bypass_cache) set_flag(fd_, O_DIRECT, false);
        if (::ftruncate(fd_, static_cast<off_t>(place_.offset + written_)) != 0) fail("write", place_.path, errno);
    }
    std::uint64_t written() const { return written_; }
    std::uint64_t checksum() const { return checksum_.value(); }

private:
    void flush(std::size_t size) {
        for (std::size_t done = 0; done < size;) {
            const auto n = ::pwrite(fd_, buffer_.get() + done, size - done, static_cast<off_t>(at_ + done));
            if (n < 0 && errno == EINTR) continue;
            if (n <= 0) fail("write", place_.path, n == 0 ? ENOSPC : errno);
            done += static_cast<std::size_t>(n);
        }
        at_ += size;
        filled_ = 0;
    }
    int fd_;
    const StatePump::Place& place_;
    std::uint64_t at_, written_ = 0;
    Buffer buffer_;
    std::size_t filled_ = 0;
    StateChecksum checksum_;
};

class FileReader {
public:
    FileReader(int fd, const StatePump::Place& place)
        : fd_{fd}, place_{place}, at_{place.offset}, left_{place.stored_size}, buffer_{aligned_buffer(chunk)} {
        if (place.bypass_cache) set_flag(fd_, O_DIRECT, true);
    }
    /// The next bytes; empty after the last. What the file has beyond its recorded size is never looked at.
    std::string_view next() {
        if (left_ == 0) return {};
        const auto wanted = static_cast<std::size_t>(std::min<std::uint64_t>(left_, chunk));
        const auto asked = place_.bypass_cache ? chunk : wanted;
        ssize_t got = 0;
        do got = ::pread(fd_, buffer_.get(), asked, static_cast<off_t>(at_));
        while (got < 0 && errno == EINTR);
        if (got < 0) fail("read", place_.path, errno);
        const auto taken = std::min(static_cast<std::size_t>(got), wanted);
        // A short read within a direct file would lose the alignment; it means the end.
        if (taken == 0 || (place_.bypass_cache && taken < wanted))
            bad_file(place_.path, "it has been cut while it was read");
        at_ += taken;
        left_ -= taken;
        checksum_.add(buffer_.get(), taken);
        return {buffer_.get(), taken};
    }

    /// After the last.
    void require_undamaged() const {
        if (checksum_.value() != place_.checksum)
            bad_file(place_.path, "the checksum of the guest's state is wrong; the file was altered or damaged");
    }

private:
    int fd_;
    const StatePump::Place& place_;
    std::uint64_t at_, left_;
    Buffer buffer_;
    StateChecksum checksum_;
};

template <class Context, std::size_t (*Free)(Context*)>
struct ZstdFreed {
    void operator()(Context* context) const { Free(context); }
};
using Packer = std::unique_ptr<ZSTD_CCtx, ZstdFreed<ZSTD_CCtx, ZSTD_freeCCtx>>;
using Unpacker = std::unique_ptr<ZSTD_DCtx, ZstdFreed<ZSTD_DCtx, ZSTD_freeDCtx>>;

}  // namespace

struct StatePump::Shared {
    explicit Shared(Loop& on) : loop{on} {}
    Loop& loop;
    Place place;
    Fd control_here, control_there;
    std::atomic<std::uint64_t> moved{0};
    Moved result;
    std::exception_ptr error;

    std::mutex mutex;
    bool abandoned = false, ended = false;      ///< under the mutex
    std::shared_ptr<Reply<>::Promise> waiting;  ///< main thread only

    void pack(PipeEnd& pipe, FileWriter& file);
    void copy_in(PipeEnd& pipe, FileWriter& file);
    void unpack(FileReader& file, PipeEnd& pipe);
    void copy_out(FileReader& file, PipeEnd& pipe);

    /// The thread's work around its errors.
    template <class Work>
    static void start(std::shared_ptr<Shared> self, Work work) {
        auto control = plain_pipe();
        self->control_here = std::move(control.writing);
        self->control_there = std::move(control.reading);
        sigset_t all, before;
        ::sigfillset(&all);
        ::pthread_sigmask(SIG_SETMASK, &all, &before);
        std::thread thread{[self, work = std::move(work)]() mutable {
            std::exception_ptr error;
            try {
                work(*self);
            } catch (const Abandoned&) {
            } catch (...) {
                error = std::current_exception();
            }
            self->error = error;
            const std::lock_guard lock{self->mutex};
            self->ended = true;
            if (self->abandoned) return;
            self->loop.post([self] {
                if (const auto promise = std::exchange(self->waiting, nullptr)) promise->set();
            });
        }};
        ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
        thread.detach();
    }
};

void StatePump::Shared::copy_in(PipeEnd& pipe, FileWriter& file) {
    const auto buffer = aligned_buffer(chunk);
    while (const auto got = pipe.read(buffer.get(), chunk)) {
        file.write(buffer.get(), got);
        moved += got;
    }
}

void StatePump::Shared::pack(PipeEnd& pipe, FileWriter& file) {
    const Packer packer{::ZSTD_createCCtx()};
    if (!packer) throw std::bad_alloc{};
    ::ZSTD_CCtx_setParameter(packer.get(), ZSTD_c_compressionLevel, 1);
    ::ZSTD_CCtx_setParameter(packer.get(), ZSTD_c_checksumFlag, 1);
    const auto in = aligned_buffer(chunk), out = aligned_buffer(chunk);
    for (bool last = false; !last;) {
        const auto got = pipe.read(in.get(), chunk);
        last = got == 0;
        ZSTD_inBuffer from{in.get(), got, 0};
        for (std::size_t left = 1; last ? left != 0 : from.pos < from.size;) {
            ZSTD_outBuffer to{out.get(), chunk, 0};
            left = ::ZSTD_compressStream2(packer.get(), &to, &from, last ? ZSTD_e_end : ZSTD_e_continue);
            if (::ZSTD_isError(left))
                throw Error{Code::internal,
                            fmt::format("compressing for {}: {}", place.path, ::ZSTD_getErrorName(left))};
            file.write(out.get(), to.pos);
        }
        moved += got;
    }
}

void StatePump::Shared::copy_out(FileReader& file, PipeEnd& pipe) {
    for (auto part = file.next(); !part.empty(); part = file.next()) {
        if (pipe.write(part.data(), part.size())) moved += part.size();
    }
    file.require_undamaged();
}

/// What comes out is bounded by the size that the image was finished with, whatever the compressed bytes say.
void StatePump::Shared::unpack(FileReader& file, PipeEnd& pipe) {
    const Unpacker unpacker{::ZSTD_createDCtx()};
    if (!unpacker) throw std::bad_alloc{};
    ::ZSTD_DCtx_setParameter(unpacker.get(), ZSTD_d_windowLogMax, most_window);
    const auto out = aligned_buffer(chunk);
    std::size_t left = 0;
    std::uint64_t unpacked = 0;
    for (auto part = file.next(); !part.empty(); part = file.next()) {
        ZSTD_inBuffer from{part.data(), part.size(), 0};
        for (bool more = true; more || from.pos < from.size;) {
            ZSTD_outBuffer to{out.get(), chunk, 0};
            left = ::ZSTD_decompressStream(unpacker.get(), &to, &from);
            if (::ZSTD_isError(left))
                bad_file(place.path, fmt::format("its compressed state is damaged ({})", ::ZSTD_getErrorName(left)));
            more = to.pos == to.size && left != 0;
            if (unpacked + to.pos > place.state_size)
                bad_file(place.path, fmt::format("its state unpacks to more than the {} bytes it was written with",
                                                 place.state_size));
            unpacked += to.pos;
            if (pipe.write(out.get(), to.pos)) moved += to.pos;
        }
    }
    if (left != 0 || unpacked != place.state_size)
        bad_file(place.path,
                 fmt::format("its state unpacks to {} bytes and was written with {}", unpacked, place.state_size));
    file.require_undamaged();
}

StatePump::StatePump(std::shared_ptr<Shared> shared) : shared_{std::move(shared)} {}
StatePump::StatePump(StatePump&&) noexcept = default;

StatePump::~StatePump() {
    if (!shared_) return;
    const std::lock_guard lock{shared_->mutex};
    shared_->abandoned = true;
    shared_->control_here = Fd{};
}

StatePump StatePump::into_file(Loop& loop, Fd pipe, Fd file, Place place) {
    auto shared = std::make_shared<Shared>(loop);
    shared->place = std::move(place);
    Shared::start(shared, [pipe = std::move(pipe), file = std::move(file)](Shared& self) mutable {
        // Both ends are closed before the end is told.
        const auto own = std::move(file);
        PipeEnd from{std::move(pipe), self.control_there.get()};
        FileWriter to{own.get(), self.place};
        if (self.place.compression == Compression::zstd)
            self.pack(from, to);
        else
            self.copy_in(from, to);
        to.finish();
        self.result = {to.written(), self.moved, to.checksum()};
    });
    return StatePump{std::move(shared)};
}

StatePump StatePump::out_of_file(Loop& loop, Fd file, Place place, Fd pipe) {
    auto shared = std::make_shared<Shared>(loop);
    shared->place = std::move(place);
    Shared::start(shared, [pipe = std::move(pipe), file = std::move(file)](Shared& self) mutable {
        const auto own = std::move(file);
        PipeEnd to{std::move(pipe), self.control_there.get()};
        FileReader from{own.get(), self.place};
        if (self.place.compression == Compression::zstd)
            self.unpack(from, to);
        else
            self.copy_out(from, to);
        self.result = {self.place.stored_size, self.moved, self.place.checksum};
    });
    return StatePump{std::move(shared)};
}

Task<StatePump::Moved> StatePump::finish(Deadline deadline, std::stop_token stop) {
    const auto shared = shared_;
    Reply<> end{shared->loop};
    bool wait = false;
    {
        const std::lock_guard lock{shared->mutex};
        wait = !shared->ended;
        if (wait) shared->waiting = std::make_shared<Reply<>::Promise>(end.promise());
    }
    if (wait) co_await end.wait("moving the guest's state of " + shared->place.path, deadline, std::move(stop));
    if (shared->error) std::rethrow_exception(shared->error);
    co_return shared->result;
}

void StatePump::rethrow_error() const {
    const std::lock_guard lock{shared_->mutex};
    if (shared_->ended && shared_->error) std::rethrow_exception(shared_->error);
}

std::uint64_t StatePump::moved() const {
    return shared_->moved;
}

void require_direct_io(const Fd& file, const std::string& path) {
    const int flags = ::fcntl(file.get(), F_GETFL);
    if (::fcntl(file.get(), F_SETFL, flags | O_DIRECT) != 0)
        throw Error{Code::unsupported,
                    fmt::format("the file system of {} knows no access past the host's cache; go without "
                                "'bypass-cache', or take another folder",
                                path)};
    ::fcntl(file.get(), F_SETFL, flags);
}

Pipe make_pipe() {
    auto pipe = plain_pipe();
    ::fcntl(pipe.writing.get(), F_SETPIPE_SZ, static_cast<int>(chunk));  // as it is when that may not be
    return pipe;
}

}  // namespace virtbus
