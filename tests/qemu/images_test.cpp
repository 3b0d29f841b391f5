// SPDX-License-Identifier: LGPL-2.1-or-later
// Images of machines that do not run, with the real qemu-img and storage daemon: what a guest would read is compared
// byte for byte with what it must be, and hostile images lead nowhere.
#include <fcntl.h>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <fstream>

#include "qemu/images/images.hpp"
#include "tests/drivers/host_bed.hpp"
#include "tests/qemu/image_folder.hpp"

namespace virtbus::tests {
namespace {

/// A small file system of this process alone: every thread sees it, for it is made before there are others.
struct SmallDisk final : testing::Environment {
    static inline std::string path;
    TemporaryFolder folder;
    void SetUp() override {
        if (::unshare(CLONE_NEWNS) != 0) return;
        if (::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) return;
        if (::mount("small", folder.path().c_str(), "tmpfs", 0, "size=4m") != 0) return;
        path = folder.path();
    }
    void TearDown() override {
        if (!path.empty()) ::umount(path.c_str());
    }
};
[[maybe_unused]] const auto* small_disk = testing::AddGlobalTestEnvironment(new SmallDisk);

/// Somebody who has an image open for writing.
class Holder {
public:
    Holder(const std::string& folder, const std::string& image) {
        const auto pid_file = folder + "/holder.pid";
        EXPECT_EQ(std::system(fmt::format("qemu-nbd --fork --pid-file {} -f qcow2 -t -k {}/holder.sock {}", pid_file,
                                          folder, image)
                                  .c_str()),
                  0);
        std::ifstream{pid_file} >> pid_;
    }
    Holder(const Holder&) = delete;
    Holder& operator=(const Holder&) = delete;
    ~Holder() {
        if (pid_ > 1) ::kill(pid_, SIGKILL);
    }

private:
    pid_t pid_ = 0;
};

class ImagesTest : public testing::Test {
protected:
    ImageFolder folder;

    std::string path(const std::string& name) const { return folder.path + "/" + name; }
    ImageFile image(const std::string& name, std::string format = "qcow2") const { return {path(name), format}; }
    void shell(const std::string& command) {
        ASSERT_EQ(std::system(fmt::format("cd {} && ({}) >/dev/null", folder.path, command).c_str()), 0) << command;
    }
    /// What a guest reads.
    std::string guest_bytes(const std::string& name, const std::string& format = "qcow2") {
        shell(fmt::format("qemu-img convert -t unsafe -f {} -O raw {} seen.raw", format, name));
        return content(path("seen.raw"));
    }
    bool is_sound(const std::string& name) {
        return std::system(fmt::format("qemu-img check -q {} >/dev/null 2>&1", path(name)).c_str()) == 0;
    }
    template <class T>
    T run(Task<T> task) {
        return bed.run(std::move(task));
    }
    ImageFacts examine(const std::string& name, std::string format = "qcow2") {
        return run(images.examine(image(name, std::move(format)), {}));
    }
    Error failure(Task<> task) {
        try {
            run(std::move(task));
        } catch (const Error& error) {
            return error;
        }
        return Error{Code::internal, "nothing failed"};
    }
    Error failure(Task<ImageFacts> task) {
        try {
            run(std::move(task));
        } catch (const Error& error) {
            return error;
        }
        return Error{Code::internal, "nothing failed"};
    }
    void expect_error(const Error& error, Code code, const std::string& part) {
        EXPECT_EQ(error.code(), code) << error.what();
        EXPECT_NE(std::string{error.what()}.find(part), std::string::npos) << error.what();
        EXPECT_EQ(std::string{error.what()}.find("/proc/self/fd"), std::string::npos) << error.what();
    }
    /// base <- middle <- top, each with a pattern of its own over the one below.
    void make_chain() {
        shell("qemu-img create -q -f qcow2 base 8M && qemu-io -t unsafe -f qcow2 -c 'write -P 1 0 4M' base");
        shell(
            fmt::format("qemu-img create -q -f qcow2 -b {0}/base -F qcow2 middle && "
                        "qemu-io -t unsafe -f qcow2 -c 'write -P 2 1M 2M' middle && "
                        "qemu-img create -q -f qcow2 -b {0}/middle -F qcow2 top && "
                        "qemu-io -t unsafe -f qcow2 -c 'write -P 3 2M 3M' -c 'write -z 0 64k' top",
                        folder.path));
    }
    std::string program(const std::string& name, const std::string& text) {
        std::ofstream{path(name)} << "#!/bin/sh\n" << text << "\n";
        ::chmod(path(name).c_str(), 0755);
        return path(name);
    }

    HostBed bed;
    qemu::ImagePrograms programs;
    qemu::QemuImages images{bed.ports, programs};
};

// ---- what an image says

TEST_F(ImagesTest, AnImageTellsItsSizeItsSnapshotsItsBitmapsAndWhatItLiesOn) {
    shell(
        "qemu-img create -q -f qcow2 base 8M && qemu-img create -q -f qcow2 -b base -F qcow2 top 9M && "
        "qemu-img snapshot -c 'first one' top && qemu-img snapshot -c 2 top && "
        "qemu-img bitmap --add -g 128k top a && qemu-img bitmap --add --disable top b");
    const auto facts = examine("top");
    EXPECT_EQ(facts.size, 9U << 20);
    ASSERT_TRUE(facts.backing);
    EXPECT_EQ(*facts.backing, image("base")) << "a relative name is one beside the image";
    EXPECT_EQ(facts.tags, (std::vector<std::string>{"first one", "2"}));
    ASSERT_EQ(facts.bitmaps.size(), 2U);
    EXPECT_EQ(facts.bitmaps[0].name, "a");
    EXPECT_TRUE(facts.bitmaps[0].recording);
    EXPECT_EQ(facts.bitmaps[0].granularity, 128U << 10);
    EXPECT_EQ(facts.bitmaps[1].name, "b");
    EXPECT_FALSE(facts.bitmaps[1].recording);
    EXPECT_FALSE(facts.bitmaps[1].inconsistent);
    EXPECT_FALSE(examine("base").backing);
}

TEST_F(ImagesTest, OnlyRawIsGuessedForWhatLiesBelow) {
    shell(
        "truncate -s 1M plain && qemu-img create -q -f qcow2 -u -b plain -F raw top 1M && qemu-img create -q -f "
        "qcow2 base 1M");
    // The image no longer tells the format.
    auto bytes = content(path("top"));
    const std::string mark{"\xE2\x79\x2A\xCA", 4};
    bytes.replace(bytes.find(mark), 4, "\x01\x02\x03\x04");
    std::ofstream{path("top"), std::ios::binary} << bytes;
    EXPECT_EQ(examine("top").backing, image("plain", "raw"));
    shell("cp base plain");
    expect_error(failure(images.examine(image("top"), {})), Code::unsupported_configuration, "looks like qcow2");
}

TEST_F(ImagesTest, ACutOrRubbishImageIsRefusedAndNeverReadPastItsEnd) {
    shell("qemu-img create -q -f qcow2 whole 8M && qemu-img snapshot -c one whole && qemu-img bitmap --add whole b");
    const auto bytes = content(path("whole"));
    const auto put = [&](std::size_t at, std::string what) {
        auto changed = bytes;
        changed.replace(at, what.size(), what);
        std::ofstream{path("broken"), std::ios::binary} << changed;
    };
    put(60, {"\xff\xff\xff\xff", 4});  // snapshots
    expect_error(failure(images.examine(image("broken"), {})), Code::unsupported_configuration, "snapshots");
    put(60, {"\x00\x00\xff\xff", 4});
    expect_error(failure(images.examine(image("broken"), {})), Code::unsupported_configuration, path("broken"));
    put(64, {"\xff\xff\xff\xff\xff\xff\xff\xff", 8});  // where they are
    expect_error(failure(images.examine(image("broken"), {})), Code::unsupported_configuration, "outside");
    put(64, {"\x00\x00\x00\x7f\xff\xff\xff\x00", 8});
    expect_error(failure(images.examine(image("broken"), {})), Code::unsupported_configuration, "cut");
    const auto note = bytes.find(std::string{"\x23\x85\x28\x75", 4});
    put(note + 8, {"\xff\xff\xff\xff", 4});  // bitmaps
    expect_error(failure(images.examine(image("broken"), {})), Code::unsupported_configuration, "bitmaps");
    for (const std::size_t length : {0, 4, 72, 103, 104, 200, 512, 65536}) {
        std::ofstream{path("broken"), std::ios::binary} << bytes.substr(0, length);
        EXPECT_EQ(failure(images.examine(image("broken"), {})).code(), Code::unsupported_configuration) << length;
        EXPECT_EQ(failure(images.take(image("broken"), "t", {})).code(), Code::unsupported_configuration) << length;
    }
    expect_error(failure(images.examine(image("missing"), {})), Code::unsupported_configuration, path("missing"));
    ::mkfifo(path("fifo").c_str(), 0600);
    expect_error(failure(images.examine(image("fifo", "raw"), {})), Code::unsupported_configuration, path("fifo"));
}

// ---- internal snapshots

TEST_F(ImagesTest, ASnapshotBringsBackWhatTheGuestHad) {
    make_chain();
    const auto before = guest_bytes("top");
    run(images.take(image("top"), "moment", {}));
    EXPECT_EQ(examine("top").tags, std::vector<std::string>{"moment"});
    expect_error(failure(images.take(image("top"), "moment", {})), Code::already_exists, path("top"));
    shell("qemu-io -t unsafe -f qcow2 -c 'write -P 9 0 8M' top");
    EXPECT_NE(guest_bytes("top"), before);
    run(images.apply(image("top"), "moment", {}));
    EXPECT_EQ(guest_bytes("top"), before);
    run(images.remove(image("top"), "moment", {}));
    EXPECT_TRUE(examine("top").tags.empty());
    run(images.remove(image("top"), "moment", {}));
    expect_error(failure(images.apply(image("top"), "moment", {})), Code::no_such_snapshot, path("top"));
    EXPECT_EQ(guest_bytes("top"), before);
    EXPECT_TRUE(is_sound("top"));
    EXPECT_EQ(examine("top").backing, image("middle"));
}

TEST_F(ImagesTest, WhatAKilledRemovalLeavesIsMended) {
    make_chain();
    // The first entry of the first table (its place stands at byte 40 of the header) is marked as shared, as it is
    // until a removal comes to its end.
    shell(
        "printf '\\0' | dd of=base bs=1 conv=notrunc seek=$(echo $(od -An -j40 -N8 -t u8 --endian=big base)) && "
        "! qemu-img check -q -f qcow2 base");
    run(images.mend(image("base"), {}));
    shell("qemu-img check -q -f qcow2 base && qemu-io -f qcow2 -c 'read -P 1 0 4M' base");
}

TEST_F(ImagesTest, ASnapshotNamedLikeAnotherOnesNumberIsNotMistaken) {
    shell("qemu-img create -q -f qcow2 disk 1M && qemu-io -t unsafe -f qcow2 -c 'write -P 1 0 1M' disk");
    run(images.take(image("disk"), "2", {}));  // becomes QEMU's number 1
    const auto wanted = guest_bytes("disk");
    shell("qemu-io -t unsafe -f qcow2 -c 'write -P 2 0 1M' disk");
    run(images.take(image("disk"), "1", {}));  // becomes number 2
    run(images.apply(image("disk"), "2", {}));
    EXPECT_EQ(guest_bytes("disk"), wanted);
    run(images.remove(image("disk"), "1", {}));
    EXPECT_EQ(examine("disk").tags, std::vector<std::string>{"2"});
}

TEST_F(ImagesTest, NamesAreTakenAsTheyAre) {
    shell("qemu-img create -q -f qcow2 disk 1M");
    for (const std::string tag : {"-c", "--help", "a,b=c", "'\"$(id)\n", "\xff\xfe", " "}) {
        run(images.take(image("disk"), tag, {}));
        EXPECT_EQ(examine("disk").tags, std::vector<std::string>{tag});
        run(images.remove(image("disk"), tag, {}));
        run(images.add_bitmap(image("disk"), tag == "\xff\xfe" ? "x" : tag, std::nullopt, {}));
        run(images.remove_bitmap(image("disk"), tag == "\xff\xfe" ? "x" : tag, {}));
    }
    EXPECT_EQ(failure(images.take(image("disk"), "", {})).code(), Code::invalid_args);
    EXPECT_EQ(failure(images.take(image("disk"), std::string(256, 'x'), {})).code(), Code::invalid_args);
    run(images.take(image("disk"), std::string(255, 'x'), {}));
    run(images.apply(image("disk"), std::string(255, 'x'), {}));
}

TEST_F(ImagesTest, AnImageInUseIsLeftAlone) {
    make_chain();
    const auto before = content(path("top"));
    {
        const Holder holder{folder.path, path("top")};
        EXPECT_EQ(run(images.examine(image("top"), {})).size, run(images.examine(image("base"), {})).size);
        expect_error(failure(images.take(image("top"), "t", {})), Code::device_in_use, path("top"));
        expect_error(failure(images.rename_backing(image("top"), image("base"), {})), Code::device_in_use, path("top"));
        expect_error(failure(images.commit(image("top"), image("base"), {}, {})), Code::device_in_use, path("top"));
        expect_error(failure(images.pull(image("top"), image("base"), {}, {})), Code::device_in_use, path("top"));
        EXPECT_EQ(run(images.examine(image("middle"), {})).size, 8U << 20) << "others may read it, too";
        // It is read by that somebody: nobody may write it now.
        expect_error(failure(images.commit(image("middle"), image("base"), {}, {})), Code::device_in_use, path("base"));
        run(images.make_overlay(image("next"), image("top"), {}));
    }
    EXPECT_EQ(content(path("top")), before);
}

// ---- new images

TEST_F(ImagesTest, AnOverlayIsEmptyAsLargeAndNamesWhatItLiesOn) {
    make_chain();
    if (::geteuid() == 0) ASSERT_EQ(::chown(path("top").c_str(), 12345, 23456), 0);
    shell("chmod 644 top");
    run(images.make_overlay(image("over"), image("top"), {}));
    const auto facts = examine("over");
    EXPECT_EQ(facts.size, 8U << 20);
    EXPECT_EQ(facts.backing, image("top"));
    EXPECT_NE(content(path("over")).find(path("top")), std::string::npos) << "the name in the header is the real one";
    EXPECT_EQ(guest_bytes("over"), guest_bytes("top"));
    struct stat status{};
    ASSERT_EQ(::stat(path("over").c_str(), &status), 0);
    EXPECT_EQ(status.st_mode & 07777, 0600U);
    if (::geteuid() == 0) EXPECT_EQ(status.st_uid, 12345U);
    if (::geteuid() == 0) EXPECT_EQ(status.st_gid, 23456U);

    shell("truncate -s 1000001 odd.raw");
    run(images.make_overlay(image("over-raw"), image("odd.raw", "raw"), {}));
    EXPECT_EQ(examine("over-raw").backing, image("odd.raw", "raw"));
    EXPECT_GE(examine("over-raw").size, 1000001U);
    expect_error(failure(images.make_overlay(image("over.qed", "qed"), image("top"), {})),
                 Code::unsupported_configuration, "qcow2");
}

TEST_F(ImagesTest, NothingThatIsThereIsOverwritten) {
    shell("qemu-img create -q -f qcow2 base 8M; echo mine >full; touch empty; ln -s empty link; ln -s /dev/null null");
    expect_error(failure(images.make_overlay(image("full"), image("base"), {})), Code::already_exists, path("full"));
    EXPECT_EQ(content(path("full")), "mine\n");
    expect_error(failure(images.make_image(image("link"), 1 << 20, {})), Code::already_exists, path("link"));
    EXPECT_EQ(content(path("empty")), "");
    run(images.make_overlay(image("empty"), image("base"), {}));
    EXPECT_EQ(examine("empty").backing, image("base"));
    for (const auto& taken : {image("base"), image("."), image("no/such/folder")})
        EXPECT_NE(failure(images.make_image(taken, 1 << 20, {})).code(), Code::internal) << taken.path;
}

TEST_F(ImagesTest, AnImageOfItsOwnIsOfTheFormatAndSizeAskedFor) {
    for (const std::string format : {"raw", "qcow2", "qed", "vdi", "vhdx"}) {
        run(images.make_image(image("new." + format, format), 16U << 20, {}));
        const auto facts = examine("new." + format, format);
        EXPECT_EQ(facts.size, 16U << 20) << format;
        EXPECT_FALSE(facts.backing) << format;
    }
    expect_error(failure(images.make_image(image("x", "dmg"), 1 << 20, {})), Code::unsupported_configuration, "dmg");
    EXPECT_EQ(failure(images.make_image(image("x"), 0, {})).code(), Code::invalid_args);
    EXPECT_FALSE(bed.files.exists(path("x")));
}

TEST_F(ImagesTest, WhatCannotBeMadeLeavesNoFile) {
    shell("qemu-img create -q -f qcow2 base 8M; touch empty");
    expect_error(failure(images.make_overlay(image("over"), image("missing"), {})), Code::unsupported_configuration,
                 path("missing"));
    EXPECT_FALSE(bed.files.exists(path("over")));
    expect_error(failure(images.make_overlay(image("over"), image("base", "vdi"), {})), Code::unsupported_configuration,
                 path("base"));
    programs.image_tool = program("img", "echo sorry >&2; exit 1");
    qemu::QemuImages broken{bed.ports, programs};
    expect_error(failure(broken.make_overlay(image("over"), image("base"), {})), Code::hypervisor_failed, "sorry");
    expect_error(failure(broken.make_overlay(image("empty"), image("base"), {})), Code::hypervisor_failed, "sorry");
    EXPECT_FALSE(bed.files.exists(path("over")));
    EXPECT_EQ(content(path("empty")), "");
    std::stop_source stop;
    stop.request_stop();
    EXPECT_EQ(failure(images.make_overlay(image("over"), image("base"), stop.get_token())).code(), Code::cancelled);
    EXPECT_FALSE(bed.files.exists(path("over")));
}

// ---- between images of a chain

TEST_F(ImagesTest, ACommitPutsDownWhatTheGuestSeesAndChangesNothingElse) {
    make_chain();
    shell("qemu-img bitmap --add base since && cp middle middle.was && cp top top.was");
    const auto want = guest_bytes("top");
    std::uint64_t told = 0;
    run(images.commit(image("top"), image("base"), [&](std::uint64_t done, std::uint64_t) { told = done; }, {}));
    EXPECT_GT(told, 0U);
    EXPECT_EQ(guest_bytes("base"), want);
    EXPECT_EQ(content(path("top")), content(path("top.was")));
    EXPECT_EQ(content(path("middle")), content(path("middle.was")));
    const auto facts = examine("base");
    ASSERT_EQ(facts.bitmaps.size(), 1U);
    EXPECT_FALSE(facts.bitmaps[0].inconsistent) << "it was closed as it should be";
    EXPECT_TRUE(is_sound("base"));
    run(images.commit(image("top"), image("base"), {}, {}));
    EXPECT_EQ(guest_bytes("base"), want) << "again";
}

TEST_F(ImagesTest, ACommitIntoTheMiddleKeepsWhatIsFurtherDown) {
    // Small clusters over large ones: what the middle lacks of a cluster comes from below it.
    shell("qemu-img create -q -f raw base 8M && qemu-io -t unsafe -f raw -c 'write -P 1 0 8M' base");
    shell(
        "qemu-img create -q -f qcow2 -o cluster_size=2M -b base -F raw middle && "
        "qemu-img create -q -f qcow2 -o cluster_size=4k -b middle -F qcow2 top 9M && "
        "qemu-io -t unsafe -f qcow2 -c 'write -P 5 100k 8k' -c 'write -P 6 8500k 4k' top && cp base base.was");
    const auto want = guest_bytes("top");
    run(images.commit(image("top"), image("middle"), {}, {}));
    EXPECT_EQ(guest_bytes("middle"), want);
    EXPECT_EQ(content(path("base")), content(path("base.was")));
    EXPECT_EQ(examine("middle").backing, image("base", "raw"));
}

TEST_F(ImagesTest, APullTakesUpWhatLiesBetweenAndNamesWhatIsLeft) {
    make_chain();
    shell("qemu-img bitmap --add top since && cp base base.was && cp middle middle.was");
    const auto want = guest_bytes("top");
    run(images.pull(image("top"), image("base"), {}, {}));
    EXPECT_EQ(guest_bytes("top"), want);
    EXPECT_EQ(examine("top").backing, image("base"));
    EXPECT_FALSE(examine("top").bitmaps.at(0).inconsistent);
    EXPECT_EQ(content(path("base")), content(path("base.was")));
    EXPECT_EQ(content(path("middle")), content(path("middle.was")));
    run(images.pull(image("top"), std::nullopt, {}, {}));
    EXPECT_FALSE(examine("top").backing);
    shell("rm base middle");
    EXPECT_EQ(guest_bytes("top"), want);
    run(images.pull(image("top"), std::nullopt, {}, {}));
    EXPECT_TRUE(is_sound("top"));
}

TEST_F(ImagesTest, RelativeReferencesAreFollowedAndNewOnesAreAbsolute) {
    shell(
        "mkdir sub && qemu-img create -q -f qcow2 base 1M && qemu-io -t unsafe -f qcow2 -c 'write -P 1 0 1M' base && "
        "qemu-img create -q -f qcow2 -b ../base -F qcow2 sub/middle && "
        "qemu-img create -q -f qcow2 -b middle -F qcow2 sub/top && qemu-io -t unsafe -f qcow2 -c 'write -P 2 0 4k' "
        "sub/top");
    const auto want = guest_bytes("sub/top");
    EXPECT_EQ(examine("sub/top").backing, image("sub/middle"));
    run(images.pull(image("sub/top"), image("base"), {}, {}));
    EXPECT_EQ(examine("sub/top").backing, image("base"));
    EXPECT_EQ(guest_bytes("sub/top"), want);
    shell("cp base twin");
    run(images.rename_backing(image("sub/top"), image("twin"), {}));
    EXPECT_EQ(examine("sub/top").backing, image("twin"));
    EXPECT_EQ(guest_bytes("sub/top"), want);
    EXPECT_EQ(failure(images.rename_backing(image("twin"), image("twin"), {})).code(), Code::unsupported_configuration);
    run(images.pull(image("sub/top"), image("twin"), {}, {}));
    EXPECT_EQ(examine("sub/top").backing, image("twin")) << "it lies there already";
}

TEST_F(ImagesTest, OnlyWhatReallyLiesBelowIsWritten) {
    make_chain();
    shell("cp base other; truncate -s 8M plain; qemu-img create -q -f qcow2 -u -b plain -F raw over 8M");
    expect_error(failure(images.commit(image("top"), image("other"), {}, {})), Code::unsupported_configuration,
                 "does not lie below");
    expect_error(failure(images.pull(image("top"), image("other"), {}, {})), Code::unsupported_configuration,
                 "does not lie below");
    expect_error(failure(images.commit(image("top"), image("base", "raw"), {}, {})), Code::unsupported_configuration,
                 "format");
    shell("qemu-img rebase -u -b top -F qcow2 base");
    expect_error(failure(images.commit(image("top"), image("middle"), {}, {})), Code::unsupported_configuration,
                 "comes back");
}

TEST_F(ImagesTest, HostileReferencesAreNotFollowed) {
    shell("echo secret >victim; qemu-img create -q -f qcow2 base 1M");
    for (const std::string name : {"nbd://127.0.0.1/x", "json:{\"driver\":\"nbd\",\"host\":\"127.0.0.1\"}", "fat:rw:/",
                                   "json:{", "blkdebug::x"}) {
        const auto quoted = fmt::format("qemu-img create -q -f qcow2 -u -b '{}' -F raw evil 1M", name);
        shell(quoted);
        EXPECT_FALSE(examine("evil").backing) << name;
        run(images.take(image("evil"), "t", {}));
        expect_error(failure(images.pull(image("evil"), std::nullopt, {}, {})), Code::unsupported_configuration,
                     path("evil"));
    }
    // Its data is said to be elsewhere, where a guest would write.
    shell(
        "mkdir d && qemu-img create -q -f qcow2 -o data_file=d/data evil 1M && qemu-img amend -q -f qcow2 -o "
        "data_file=../victim evil 2>/dev/null || true");
    expect_error(failure(images.take(image("evil"), "t", {})), Code::unsupported_configuration, "same folder");
    expect_error(failure(images.commit(image("evil"), image("base"), {}, {})), Code::unsupported_configuration,
                 "same folder");
    EXPECT_EQ(content(path("victim")), "secret\n");
    // One said to be raw that looks like something else stays raw.
    shell("cp base sneaky && qemu-img create -q -f qcow2 -u -b sneaky -F raw over 1M && cp sneaky sneaky.was");
    run(images.pull(image("over"), std::nullopt, {}, {}));
    EXPECT_EQ(guest_bytes("over").substr(0, 4), "QFI\xfb");
}

TEST_F(ImagesTest, ACancelledCommitOrPullCanBeDoneAgain) {
    shell(fmt::format(
        "qemu-img create -q -f qcow2 base 80M && qemu-img create -q -f qcow2 -b {}/base -F qcow2 top && "
        "qemu-io -t unsafe -f qcow2 -c 'write -P 7 0 64M' top && qemu-img bitmap --add base since && cp top top.was",
        folder.path));
    const auto want = guest_bytes("top");
    {
        std::stop_source stop;
        const auto at_once = [&](std::uint64_t, std::uint64_t) { stop.request_stop(); };
        EXPECT_EQ(failure(images.commit(image("top"), image("base"), at_once, stop.get_token())).code(),
                  Code::cancelled);
    }
    EXPECT_TRUE(guest_bytes("top") == want);
    EXPECT_FALSE(examine("base").bitmaps.at(0).inconsistent) << "also a cancelled one closes it as it should be";
    run(images.commit(image("top"), image("base"), {}, {}));
    EXPECT_TRUE(guest_bytes("base") == want);
    shell(fmt::format("qemu-img create -q -f qcow2 -b {}/base -F qcow2 over", folder.path));
    std::stop_source stop;
    const auto at_once = [&](std::uint64_t, std::uint64_t) { stop.request_stop(); };
    EXPECT_EQ(failure(images.pull(image("over"), std::nullopt, at_once, stop.get_token())).code(), Code::cancelled);
    EXPECT_EQ(examine("over").backing, image("base"));
    EXPECT_TRUE(guest_bytes("over") == want);
    run(images.pull(image("over"), std::nullopt, {}, {}));
    EXPECT_TRUE(guest_bytes("over") == want);
    EXPECT_FALSE(examine("over").backing);
}

TEST_F(ImagesTest, AFullDiskIsNoSpaceAndLosesNothing) {
    if (SmallDisk::path.empty()) GTEST_SKIP() << "a small file system of our own needs root";
    const auto small = [](const char* name) { return ImageFile{SmallDisk::path + "/" + name, "qcow2"}; };
    shell("qemu-img create -q -f qcow2 base 16M && qemu-io -t unsafe -f qcow2 -c 'write -P 4 0 16M' base");
    run(images.make_overlay(small("over"), image("base"), {}));
    run(images.make_overlay(small("second"), image("base"), {}));
    const auto want = guest_bytes("base");
    const auto error = failure(images.pull(small("over"), std::nullopt, {}, {}));
    expect_error(error, Code::no_space, small("over").path);
    EXPECT_EQ(run(images.examine(small("over"), {})).backing, image("base"));
    EXPECT_TRUE(guest_bytes(small("over").path) == want);
    shell(fmt::format("dd if=/dev/zero of={}/rest bs=64k status=none 2>/dev/null || true", SmallDisk::path));
    expect_error(failure(images.take(small("second"), "t", {})), Code::no_space, small("second").path);
    EXPECT_TRUE(run(images.examine(small("second"), {})).tags.empty());
    expect_error(failure(images.make_image(small("more"), 1 << 20, {})), Code::no_space, small("more").path);
    EXPECT_FALSE(bed.files.exists(small("more").path));
    EXPECT_TRUE(guest_bytes(small("over").path) == want);
    shell(fmt::format("rm {}/*", SmallDisk::path));
}

// ---- bitmaps

TEST_F(ImagesTest, BitmapsComeMergeStopAndGo) {
    shell("qemu-img create -q -f qcow2 disk 8M");
    run(images.add_bitmap(image("disk"), "a", 65536 * 2, {}));
    run(images.add_bitmap(image("disk"), "-b", std::nullopt, {}));
    expect_error(failure(images.add_bitmap(image("disk"), "a", std::nullopt, {})), Code::already_exists, "'a'");
    run(images.set_recording(image("disk"), "a", false, {}));
    shell("qemu-io -t unsafe -f qcow2 -c 'write -P 1 0 64k' disk");
    run(images.merge_bitmap(image("disk"), "a", "-b", {}));
    run(images.remove_bitmap(image("disk"), "-b", {}));
    run(images.remove_bitmap(image("disk"), "-b", {}));
    const auto facts = examine("disk");
    ASSERT_EQ(facts.bitmaps.size(), 1U);
    EXPECT_EQ(facts.bitmaps[0].name, "a");
    EXPECT_EQ(facts.bitmaps[0].granularity, 65536U * 2);
    EXPECT_FALSE(facts.bitmaps[0].recording);
    run(images.set_recording(image("disk"), "a", true, {}));
    EXPECT_TRUE(examine("disk").bitmaps.at(0).recording);
    expect_error(failure(images.merge_bitmap(image("disk"), "a", "gone", {})), Code::checkpoint_inconsistent, "gone");
    run(images.take(image("disk"), "t", {}));
    EXPECT_FALSE(examine("disk").bitmaps.at(0).inconsistent);
}

// ---- tools that misbehave

TEST_F(ImagesTest, AToolThatHangsIsEndedAndOneThatIsMissingIsNamed) {
    make_chain();
    run(images.take(image("top"), "t", {}));
    programs.image_tool = programs.storage_daemon = program("hangs", "exec sleep 1000");
    programs.once = programs.answer = Duration{50};
    qemu::QemuImages hanging{bed.ports, programs};
    expect_error(failure(hanging.apply(image("top"), "t", {})), Code::timeout, path("top"));
    expect_error(failure(hanging.commit(image("top"), image("base"), {}, {})), Code::timeout, path("base"));
    programs.image_tool = programs.storage_daemon = path("missing");
    qemu::QemuImages missing{bed.ports, programs};
    EXPECT_NE(std::string{failure(missing.apply(image("top"), "t", {})).what()}.find(path("missing")),
              std::string::npos);
    EXPECT_NE(std::string{failure(missing.pull(image("top"), {}, {}, {})).what()}.find(path("missing")),
              std::string::npos);
    programs.image_tool = programs.storage_daemon = program("talks", "yes rubbish");
    qemu::QemuImages talking{bed.ports, programs};
    EXPECT_EQ(failure(talking.apply(image("top"), "t", {})).code(), Code::limits_exceeded);
    EXPECT_NE(failure(talking.pull(image("top"), {}, {}, {})).code(), Code::internal);
}

TEST_F(ImagesTest, TheToolsRunWithinLimits) {
    shell("qemu-img create -q -f qcow2 disk 1M");
    programs.image_tool =
        program("limits", fmt::format("(ulimit -d; ulimit -t; ulimit -n) >{}/limits.txt", folder.path));
    qemu::QemuImages images{bed.ports, programs};
    run(images.take(image("disk"), "t", {}));
    run(images.apply(image("disk"), "t", {}));
    EXPECT_EQ(content(path("limits.txt")), "1048576\n600\n64\n");
}

TEST_F(ImagesTest, WithoutIoUringItGoesTheOldWay) {
    shell("qemu-img create -q -f qcow2 disk 1M");
    programs.image_tool = program(
        "old", fmt::format("echo call >>{}/calls; case \"$*\" in *io_uring*) echo 'qemu-img: Could not open it: "
                           "Unable to use io_uring: no' >&2; exit 1;; esac; exec qemu-img \"$@\"",
                           folder.path));
    qemu::QemuImages old{bed.ports, programs};
    run(old.take(image("disk"), "one", {}));
    run(old.take(image("disk"), "two", {}));
    run(old.remove(image("disk"), "one", {}));
    run(old.apply(image("disk"), "two", {}));
    EXPECT_EQ(run(old.examine(image("disk"), {})).tags, (std::vector<std::string>{"two"}));
    EXPECT_EQ(content(path("calls")), "call\ncall\ncall\n") << "it is tried once";
}

}  // namespace
}  // namespace virtbus::tests
