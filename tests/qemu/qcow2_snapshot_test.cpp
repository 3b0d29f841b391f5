// SPDX-License-Identifier: LGPL-2.1-or-later
// Internal snapshots that are taken here, not by qemu-img: what qemu-img then says of the image, what the guest and
// each snapshot see, and what a crash, a full disk or a hostile image leaves.
#include <fcntl.h>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <limits>
#include <map>
#include <random>

#include "qemu/images/image_lock.hpp"
#include "qemu/images/qcow2_snapshot.hpp"
#include "tests/qemu/image_folder.hpp"
#include "virtbus/error.hpp"
#include "virtbus/fd.hpp"

namespace virtbus::tests {
namespace {

constexpr auto no_end = static_cast<std::uint64_t>(std::numeric_limits<off_t>::max());

/// What reached the file, in order; an empty one is a sync.
struct Write {
    std::uint64_t at = 0;
    std::string bytes;
};
class RecordedBytes final : public qemu::ImageBytes {
public:
    using ImageBytes::ImageBytes;
    void write(std::uint64_t at, std::string_view bytes) override {
        writes.push_back({at, std::string{bytes}});
        ImageBytes::write(at, bytes);
    }
    void sync() override { writes.push_back({}); }
    std::vector<Write> writes;
};

class Qcow2SnapshotTest : public testing::Test {
protected:
    ImageFolder folder;

    std::string path(const std::string& name) const { return folder.path + "/" + name; }
    int status(const std::string& command) const {
        return std::system(fmt::format("cd {} && ({}) >out 2>&1", folder.path, command).c_str());
    }
    void shell(const std::string& command) const {
        ASSERT_EQ(status(command), 0) << command << "\n" << content(path("out"));
    }
    void create(const std::string& options, const std::string& size = "8M") {
        shell(fmt::format("qemu-img create -q -f qcow2 -o '{}' disk {}", options, size));
    }
    void io(const std::string& commands) { shell(fmt::format("qemu-io -t unsafe -f qcow2 {} disk", commands)); }

    std::optional<std::string> take(const std::string& tag) {
        const Fd fd{::open(path("disk").c_str(), O_RDWR | O_CLOEXEC)};
        const qemu::ImageHold hold{fd.get(), path("disk")};
        qemu::ImageBytes bytes{fd.get(), path("disk")};
        return qemu::take_qcow2_snapshot(bytes, tag, 1'500'000'123'456'789, no_end, {});
    }
    std::string guest_bytes(const std::string& name = "disk") {
        shell(fmt::format("qemu-img convert -t unsafe -f qcow2 -O raw {} seen.raw", name));
        return content(path("seen.raw"));
    }
    std::string snapshot_bytes(const std::string& tag, const std::string& name = "disk") {
        shell(fmt::format("qemu-img convert -t unsafe -f qcow2 -l snapshot.name={} -O raw {} seen.raw", tag, name));
        return content(path("seen.raw"));
    }
    /// Neither wrong nor leaking.
    void expect_clean() { EXPECT_EQ(status("qemu-img check -f qcow2 disk"), 0) << content(path("out")); }
};

struct Shape {
    const char *name, *options, *size;
};
class Qcow2ShapeTest : public Qcow2SnapshotTest, public testing::WithParamInterface<Shape> {};

/// Writes, snapshots of ours and of qemu-img's, reverts and removals in any order: everybody keeps what was his.
TEST_P(Qcow2ShapeTest, QemuAgreesWithEveryStep) {
    shell("qemu-img create -q -f qcow2 below 1M && qemu-io -t unsafe -f qcow2 -c 'write -P 77 0 1M' below");
    create(GetParam().options, GetParam().size);
    std::mt19937 random{4711};
    const auto any = [&](unsigned count) { return static_cast<unsigned>(random() % count); };
    std::map<std::string, std::string> kept;
    unsigned number = 0, ours = 0;
    for (int step = 0; step < 15; ++step) {
        std::string writes;
        for (unsigned i = any(4); i-- > 0;) {
            const unsigned at = any(3 << 9), length = 1 + any(500);
            constexpr const char* kinds[] = {"write -P {2} {0}k {1}k", "write -z {0}k {1}k", "write -z -u {0}k {1}k",
                                             "discard {0}k {1}k"};
            writes +=
                " -c '" + fmt::format(fmt::runtime(kinds[any(10) < 7 ? 0 : any(4)]), at, length, 1 + any(250)) + "'";
        }
        if (!writes.empty()) io(writes);
        const auto before = guest_bytes();
        const auto tag = fmt::format("s{}", ++number);
        if (const auto left = any(4) == 0 ? std::optional<std::string>{"by turns"} : take(tag))
            shell(fmt::format("qemu-img snapshot -c {} disk", tag));
        else
            ++ours;
        kept[tag] = before;
        EXPECT_EQ(guest_bytes(), before);
        expect_clean();
        if (any(3) == 0) {
            const auto gone = std::next(kept.begin(), any(static_cast<unsigned>(kept.size())));
            shell(fmt::format("qemu-img snapshot -d {} disk", gone->first));
            kept.erase(gone);
        }
        if (any(5) == 0 && !kept.empty()) {
            const auto back = std::next(kept.begin(), any(static_cast<unsigned>(kept.size())));
            shell(fmt::format("qemu-img snapshot -a {} disk", back->first));
            EXPECT_EQ(guest_bytes(), back->second);
        }
        if (HasFailure()) return;
    }
    for (const auto& [tag, bytes] : kept) EXPECT_EQ(snapshot_bytes(tag), bytes) << tag;
    expect_clean();
    EXPECT_GE(ours, 4U) << "hardly any of them was taken here";
}

INSTANTIATE_TEST_SUITE_P(Shapes, Qcow2ShapeTest,
                         testing::Values(Shape{"Plain", "compat=1.1", "2M"}, Shape{"OldVersion", "compat=0.10", "2M"},
                                         Shape{"SmallClusters", "cluster_size=4k", "2M"},
                                         Shape{"LargeClusters", "cluster_size=2M", "20M"},
                                         Shape{"Overlay", "backing_file=below,backing_fmt=qcow2", "2M"},
                                         Shape{"Preallocated", "preallocation=metadata", "2M"},
                                         Shape{"Zstd", "compression_type=zstd,lazy_refcounts=on", "2M"},
                                         Shape{"OddSize", "cluster_size=16k", "1999872"}),
                         [](const auto& each) { return each.param.name; });

TEST_F(Qcow2SnapshotTest, QemuReadsWhatWasWritten) {
    create("compat=1.1");
    ASSERT_EQ(take("first"), std::nullopt);
    ASSERT_EQ(take("second, \"named\" oddly"), std::nullopt);
    shell("TZ=UTC qemu-img info --output=json disk");
    const auto info = content(path("out"));
    for (const auto* part : {"\"id\": \"1\"", "\"id\": \"2\"", "\"name\": \"first\"", "second, \\\"named\\\" oddly",
                             "\"date-sec\": 1500000123", "\"date-nsec\": 456789000", "\"vm-state-size\": 0"})
        EXPECT_NE(info.find(part), std::string::npos) << part << info;
    EXPECT_EQ(info.find("icount"), std::string::npos);
}

TEST_F(Qcow2SnapshotTest, CompressedClustersAreShared) {
    shell(
        "qemu-img create -q -f qcow2 plain 8M && qemu-io -t unsafe -f qcow2 -c 'write -P 5 0 3M' -c 'write -P 6 5M 1M' "
        "plain && qemu-img convert -c -f qcow2 -O qcow2 plain disk");
    const auto before = guest_bytes();
    ASSERT_EQ(take("one"), std::nullopt);
    expect_clean();
    io("-c 'write -P 9 1M 6M'");
    expect_clean();
    EXPECT_EQ(snapshot_bytes("one"), before);
    shell("qemu-img snapshot -d one disk");
    expect_clean();
}

TEST_F(Qcow2SnapshotTest, BitmapsStayAndStayTrue) {
    create("compat=1.1");
    shell("qemu-img bitmap --add disk changes");
    io("-c 'write -P 3 1M 64k'");
    ASSERT_EQ(take("one"), std::nullopt);
    expect_clean();
    shell("qemu-img info --output=json disk");
    const auto info = content(path("out"));
    EXPECT_NE(info.find("\"name\": \"changes\""), std::string::npos);
    EXPECT_EQ(info.find("in-use"), std::string::npos) << info;
}

/// Whatever part of the writes since the last sync has reached the disk.
TEST_F(Qcow2SnapshotTest, ACrashAtAnyMomentLosesNothing) {
    create("cluster_size=4k", "2M");
    io("-c 'write -P 1 0 1M'");
    ASSERT_EQ(take("old"), std::nullopt);
    io("-c 'write -P 2 512k 1M' -c 'write -z 0 64k'");
    const auto before = content(path("disk")), guest = guest_bytes(), old = snapshot_bytes("old");
    std::vector<Write> writes;
    {
        const Fd fd{::open(path("disk").c_str(), O_RDWR | O_CLOEXEC)};
        RecordedBytes bytes{fd.get(), path("disk")};
        ASSERT_EQ(qemu::take_qcow2_snapshot(bytes, "new", 0, no_end, {}), std::nullopt);
        writes = std::move(bytes.writes);
    }
    ASSERT_GE(std::ranges::count_if(writes, [](const auto& each) { return each.bytes.empty(); }), 3);
    std::mt19937 random{7};
    const auto put = [](std::string& disk, const Write& write) {
        disk.resize(std::max<std::size_t>(disk.size(), write.at + write.bytes.size()));
        disk.replace(write.at, write.bytes.size(), write.bytes);
    };
    for (std::size_t at = 0; at <= writes.size(); ++at) {
        auto disk = before;
        std::vector<const Write*> unsure;
        for (std::size_t i = 0; i < at; ++i) {
            if (!writes[i].bytes.empty()) {
                unsure.push_back(&writes[i]);
                continue;
            }
            for (const auto* each : unsure) put(disk, *each);
            unsure.clear();
        }
        for (const auto* each : unsure)
            if (random() % 2) put(disk, *each);
        std::ofstream{path("disk"), std::ios::binary} << disk;
        SCOPED_TRACE(fmt::format("crash after {} of {} writes", at, writes.size()));
        EXPECT_EQ(guest_bytes(), guest);
        EXPECT_EQ(snapshot_bytes("old"), old);
        status("qemu-img check -f qcow2 disk");
        EXPECT_EQ(content(path("out")).find("ERROR cluster"), std::string::npos) << content(path("out"));
        // Whoever writes on does not write what somebody else sees.
        io("-c 'write -P 9 0 2M'");
        EXPECT_EQ(snapshot_bytes("old"), old);
        if (status("qemu-img snapshot -l disk | grep -q new") == 0) {
            EXPECT_EQ(snapshot_bytes("new"), guest);
        }
        EXPECT_EQ(status("qemu-img check -r all -f qcow2 disk"), 0) << content(path("out"));
        EXPECT_EQ(snapshot_bytes("old"), old);
        if (HasFailure()) return;
    }
}

TEST_F(Qcow2SnapshotTest, WhatNeedsMoreCareIsLeftAsItIs) {
    struct Case {
        const char *make, *reason;
    };
    for (const auto& [make, reason] :
         {Case{"qemu-img create -f qcow2 -o extended_l2=on,cluster_size=128k disk 8M", "features"},
          Case{"qemu-img create -f qcow2 -o refcount_bits=1 disk 8M", "16 bits"},
          Case{"qemu-img create -f qcow2 -o refcount_bits=64 disk 8M", "16 bits"},
          Case{"qemu-img create -f qcow2 -o data_file=data disk 8M", "features"},
          Case{"qemu-img create -f qcow2 disk 8M && printf '\\001' | dd of=disk bs=1 seek=35 conv=notrunc",
               "encrypted"},
          // Left behind by a QEMU that was killed with lazy counts.
          Case{"qemu-img create -f qcow2 disk 8M && printf '\\001' | dd of=disk bs=1 seek=79 conv=notrunc", "features"},
          Case{"qemu-img create -f qcow2 disk 8M && printf '\\002' | dd of=disk bs=1 seek=79 conv=notrunc", "features"},
          Case{"qemu-img create -f qcow2 disk 8M && printf '\\200' | dd of=disk bs=1 seek=95 conv=notrunc", "marks"}}) {
        SCOPED_TRACE(make);
        shell(fmt::format("rm -f disk data; {}", make));
        const auto before = content(path("disk"));
        const auto left = take("t");
        ASSERT_TRUE(left);
        EXPECT_NE(left->find(reason), std::string::npos) << *left;
        EXPECT_EQ(content(path("disk")), before);
    }
}

/// A block of counts covers 128 KiB here.
TEST_F(Qcow2SnapshotTest, WithoutRoomInTheCountsQemuMakesSome) {
    create("cluster_size=512", "256k");
    io("-c 'write -P 1 0 256k'");
    int ours = 0, theirs = 0;
    while (theirs == 0) {
        const auto before = content(path("disk"));
        const auto tag = fmt::format("s{}{}", ours + theirs, ours + theirs ? std::string(200, 'x') : "");
        if (const auto left = take(tag)) {
            EXPECT_NE(left->find("no room"), std::string::npos) << *left;
            EXPECT_EQ(content(path("disk")), before);
            shell(fmt::format("qemu-img snapshot -c {} disk", tag));
            ++theirs;
        } else {
            ++ours;
        }
        if (ours % 16 == 0) expect_clean();
        ASSERT_LT(ours, 300);
    }
    expect_clean();
    EXPECT_GT(ours, 10);
    EXPECT_EQ(snapshot_bytes("s0"), guest_bytes());
}

TEST_F(Qcow2SnapshotTest, AHostileImageIsLeftAsItIsOrTakenWhole) {
    create("cluster_size=512", "256k");
    io("-c 'write -P 1 0 100k'");
    ASSERT_EQ(take("one"), std::nullopt);
    io("-c 'write -P 2 50k 100k'");
    const auto sound = content(path("disk"));
    std::mt19937 random{99};
    int taken = 0, left_alone = 0;
    for (int round = 0; round < 1500; ++round) {
        auto bytes = sound;
        for (unsigned i = 1 + random() % 3; i-- > 0;) {
            // Mostly where the header and the tables are.
            const auto at = random() % (random() % 2 ? std::size_t{112} : bytes.size());
            bytes[at] = static_cast<char>(random() % 3 ? random() : random() % 2 ? 0xff : 0);
        }
        if (random() % 8 == 0) bytes.resize(random() % bytes.size());
        std::ofstream{path("disk"), std::ios::binary} << bytes;
        bool changed = true;
        try {
            changed = !take("t");
        } catch (const Error&) {
            changed = false;
        }
        ++(changed ? taken : left_alone);
        if (!changed) {
            ASSERT_EQ(content(path("disk")), bytes) << round;
        }
    }
    EXPECT_GT(taken, 20);
    EXPECT_GT(left_alone, 200);
}

TEST_F(Qcow2SnapshotTest, AFailedWriteIsTakenBack) {
    struct Full final : qemu::ImageBytes {
        using ImageBytes::ImageBytes;
        void write(std::uint64_t at, std::string_view bytes) override {
            if (left > 0 && --left == 0) throw Error{Code::no_space, "full"};
            ImageBytes::write(at, bytes);
        }
        int left = 0;
    };
    create("compat=1.1");
    io("-c 'write -P 1 0 2M'");
    const auto guest = guest_bytes();
    for (int at = 1;; ++at) {
        const Fd fd{::open(path("disk").c_str(), O_RDWR | O_CLOEXEC)};
        Full bytes{fd.get(), path("disk")};
        bytes.left = at;
        try {
            ASSERT_EQ(qemu::take_qcow2_snapshot(bytes, "t", 0, no_end, {}), std::nullopt);
            break;
        } catch (const Error& error) {
            EXPECT_EQ(error.code(), Code::no_space);
        }
        ASSERT_LT(at, 20);
        EXPECT_EQ(guest_bytes(), guest);
        status("qemu-img check -f qcow2 disk");
        EXPECT_EQ(content(path("out")).find("Leaked"), std::string::npos) << content(path("out"));
        EXPECT_EQ(content(path("out")).find("ERROR cluster"), std::string::npos) << content(path("out"));
    }
    expect_clean();
}

TEST_F(Qcow2SnapshotTest, ACancelledOneHasChangedNothing) {
    create("compat=1.1");
    io("-c 'write -P 1 0 2M'");
    const auto before = content(path("disk"));
    std::stop_source stop;
    stop.request_stop();
    const Fd fd{::open(path("disk").c_str(), O_RDWR | O_CLOEXEC)};
    qemu::ImageBytes bytes{fd.get(), path("disk")};
    EXPECT_THROW(qemu::take_qcow2_snapshot(bytes, "t", 0, no_end, stop.get_token()), Error);
    EXPECT_EQ(content(path("disk")), before);
}

TEST_F(Qcow2SnapshotTest, WhoHoldsAnImageKeepsOthersOut) {
    create("compat=1.1");
    const Fd fd{::open(path("disk").c_str(), O_RDWR | O_CLOEXEC)};
    {
        const qemu::ImageHold hold{fd.get(), path("disk")};
        EXPECT_NE(status("qemu-io -f qcow2 -c 'write 0 64k' disk"), 0);
        EXPECT_NE(status("qemu-img info disk"), 0) << "readers want that nobody writes";
        EXPECT_EQ(status("qemu-img info -U disk"), 0);
        EXPECT_THROW(take("t"), Error);
    }
    EXPECT_EQ(status("qemu-io -f qcow2 -c 'write 0 64k' disk"), 0) << content(path("out"));
    EXPECT_EQ(take("t"), std::nullopt);
}

}  // namespace
}  // namespace virtbus::tests
