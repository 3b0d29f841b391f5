// SPDX-License-Identifier: LGPL-2.1-or-later
// The pump between a guest's state and a file: nothing lost, nothing unbounded, nobody held.
#include "service/state_pump.hpp"

#include <fcntl.h>
#include <signal.h>

#include "world.hpp"

namespace virtbus::tests {
namespace {

constexpr Duration plenty{60'000};

struct Pumping : World {
    StatePump::Moved pack(const std::string& content, StatePump::Place place) {
        auto pipe = make_pipe();
        auto pump = StatePump::into_file(host.loop, std::move(pipe.reading),
                                         Fd{::open(place.path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600)}, place);
        Fd writing = std::move(pipe.writing);
        std::size_t done = 0;
        while (done < content.size()) {
            const auto n = ::write(writing.get(), content.data() + done, content.size() - done);
            if (n <= 0) break;
            done += static_cast<std::size_t>(n);
        }
        writing = Fd{};
        return run(pump.finish(in(plenty), {}));
    }
    std::string unpack(StatePump::Place place) {
        auto pipe = make_pipe();
        auto pump = StatePump::out_of_file(host.loop, Fd{::open(place.path.c_str(), O_RDONLY | O_CLOEXEC)}, place,
                                           std::move(pipe.writing));
        std::string content;
        char buffer[65536];
        for (ssize_t n; (n = ::read(pipe.reading.get(), buffer, sizeof buffer)) > 0;)
            content.append(buffer, static_cast<std::size_t>(n));
        run(pump.finish(in(plenty), {}));
        return content;
    }
};

TEST_F(Pumping, WhatWentInComesOut) {
    std::string content;
    for (unsigned i = 0; content.size() < 5'000'001; ++i) content += std::to_string(i * 2654435761U);
    for (const std::size_t size : {std::size_t{0}, std::size_t{1}, std::size_t{1} << 20, content.size()})
        for (const auto compression : {Compression::none, Compression::zstd}) {
            const auto part = content.substr(0, size);
            StatePump::Place place{.path = root + "/state", .offset = 8192, .compression = compression};
            const auto moved = pack(part, place);
            EXPECT_EQ(moved.state, part.size());
            EXPECT_EQ(std::filesystem::file_size(place.path), 8192 + moved.stored);
            place.stored_size = moved.stored;
            place.state_size = moved.state;
            place.checksum = moved.checksum;
            EXPECT_TRUE(unpack(place) == part) << size;
        }
}

TEST_F(Pumping, TheChecksumIsOfTheBytesAndNotOfTheirPieces) {
    std::string bytes;
    for (unsigned i = 0; bytes.size() < 1000; ++i) bytes += std::to_string(i * 2654435761U);
    const auto sum_of = [](const std::string& text, std::size_t piece) {
        StateChecksum sum;
        for (std::size_t at = 0; at < text.size(); at += piece)
            sum.add(text.data() + at, std::min(piece, text.size() - at));
        return sum.value();
    };
    const auto whole = sum_of(bytes, bytes.size());
    for (const std::size_t piece : {1, 7, 31, 32, 33, 100}) EXPECT_EQ(sum_of(bytes, piece), whole) << piece;
    EXPECT_NE(sum_of(bytes + std::string(1, '\0'), 64), whole);
    for (std::size_t at = 0; at < bytes.size(); ++at) {
        auto other = bytes;
        other[at] ^= '\x80';
        EXPECT_NE(sum_of(other, 64), whole) << at;
        if (at + 32 >= bytes.size()) continue;
        other[at + 32] ^= '\x80';  // the same place of the next stripe
        EXPECT_NE(sum_of(other, 64), whole) << at;
    }
}

TEST_F(Pumping, AFileThatWasAlteredIsSeenEvenWhenNobodyReadsToItsEnd) {
    StatePump::Place place{.path = root + "/state"};
    const auto moved = pack(std::string(3 << 20, 'x'), place);
    place.stored_size = place.state_size = moved.stored;
    place.checksum = moved.checksum;
    auto content = read(place.path);
    content[(2 << 20) + 5] ^= 1;
    write(place.path, content);
    EXPECT_REFUSED(unpack(place), Code::unsupported, place.path);
    auto pipe = make_pipe();
    auto pump =
        StatePump::out_of_file(host.loop, Fd{::open(place.path.c_str(), O_RDONLY)}, place, std::move(pipe.writing));
    pipe.reading = Fd{};
    EXPECT_REFUSED(run(pump.finish(in(plenty), {})), Code::unsupported, "checksum");
}

TEST_F(Pumping, ABombGoesOffOutside) {
    StatePump::Place place{.path = root + "/bomb", .compression = Compression::zstd};
    const auto moved = pack(std::string(64 << 20, '\0'), place);
    EXPECT_LT(moved.stored, 64u << 10);
    place.stored_size = moved.stored;
    place.checksum = moved.checksum;
    place.state_size = 1 << 20;
    EXPECT_REFUSED(unpack(place), Code::unsupported, "unpacks to more than");
    place.state_size = (64 << 20) + 1;
    EXPECT_REFUSED(unpack(place), Code::unsupported, "was written with");
    place.state_size = 64 << 20;
    place.stored_size -= 4;
    EXPECT_REFUSED(unpack(place), Code::unsupported, "was written with");
    place.stored_size += 10'000;
    EXPECT_REFUSED(unpack(place), Code::unsupported, "cut");
}

TEST_F(Pumping, WhoeverLeavesLeavesNothingBehind) {
    ::signal(SIGPIPE, SIG_IGN);
    auto pipe = make_pipe();
    {
        const auto pump =
            StatePump::into_file(host.loop, std::move(pipe.reading),
                                 Fd{::open((root + "/x").c_str(), O_RDWR | O_CREAT, 0600)}, {.path = root + "/x"});
    }
    // Its thread closes its end: the writer sees it.
    const std::string much(1 << 20, 'x');
    while (::write(pipe.writing.get(), much.data(), much.size()) > 0) {
    }
    EXPECT_EQ(errno, EPIPE);

    write(root + "/y", much);
    auto out = make_pipe();
    StateChecksum sum;
    sum.add(much.data(), much.size());
    auto pump = StatePump::out_of_file(
        host.loop, Fd{::open((root + "/y").c_str(), O_RDONLY)},
        {.path = root + "/y", .stored_size = much.size(), .state_size = much.size(), .checksum = sum.value()},
        std::move(out.writing));
    out.reading = Fd{};
    run(pump.finish(in(plenty), {}));
    EXPECT_LT(pump.moved(), much.size());
}

TEST_F(Pumping, AFullDeviceIsNoSpace) {
    auto pipe = make_pipe();
    auto pump = StatePump::into_file(host.loop, std::move(pipe.reading), Fd{::open("/dev/full", O_RDWR | O_CLOEXEC)},
                                     {.path = "/dev/full"});
    ASSERT_EQ(::write(pipe.writing.get(), "x", 1), 1);
    pipe.writing = Fd{};
    EXPECT_REFUSED(run(pump.finish(in(plenty), {})), Code::no_space, "/dev/full");
}

TEST_F(Pumping, WhoeverIsToldToStopWaitsNoLonger) {
    auto pipe = make_pipe();
    auto pump = StatePump::into_file(host.loop, std::move(pipe.reading),
                                     Fd{::open((root + "/x").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600)},
                                     {.path = root + "/x"});
    std::stop_source stop;
    host.loop.post([&] { stop.request_stop(); });
    EXPECT_REFUSED(run(pump.finish(in(plenty), stop.get_token())), Code::cancelled, root + "/x");
    EXPECT_REFUSED(run(pump.finish(in(Duration{1}), {})), Code::timeout, root + "/x");
}

}  // namespace
}  // namespace virtbus::tests
