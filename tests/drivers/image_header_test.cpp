// SPDX-License-Identifier: LGPL-2.1-or-later
#include "common/image_header.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <functional>

#include "virtbus/error.hpp"
#include "virtbus/fd.hpp"

namespace virtbus::common {
namespace {

using namespace std::string_literals;

class Images : public testing::Test {
protected:
    void SetUp() override {
        std::string pattern = (std::filesystem::temp_directory_path() / "virtbus-images-XXXXXX").string();
        ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
        folder = pattern;
    }
    void TearDown() override { std::filesystem::remove_all(folder); }

    std::string path(const std::string& name) const { return folder + "/" + name; }
    /// Fails the test when qemu-img does.
    void qemu_img(const std::string& arguments) const {
        ASSERT_EQ(std::system(fmt::format("cd {} && qemu-img {} >/dev/null", folder, arguments).c_str()), 0)
            << arguments;
    }
    std::string write(const std::string& name, const std::string& content) const {
        Fd fd{::open(path(name).c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600)};
        EXPECT_EQ(::write(fd.get(), content.data(), content.size()), static_cast<ssize_t>(content.size()));
        return path(name);
    }
    ImageHeader read(const std::string& name, ImageFormat format) const {
        Fd fd{::open(path(name).c_str(), O_RDONLY)};
        return read_image_header(fd.get(), path(name), format);
    }
    ImageFormat probe(const std::string& name) const {
        Fd fd{::open(path(name).c_str(), O_RDONLY)};
        return probe_image_format(fd.get(), path(name));
    }
    /// The message with which the reading fails, "" when it does not.
    std::string failure(const std::string& name, ImageFormat format) const {
        try {
            read(name, format);
        } catch (const Error& error) {
            EXPECT_EQ(error.code(), Code::unsupported_configuration);
            return error.what();
        }
        return {};
    }

    std::string folder;
};

std::string be(std::uint64_t value, int width) {
    std::string out;
    for (int i = width - 1; i >= 0; --i) out += static_cast<char>(value >> (8 * i));
    return out;
}

struct Qcow2 {
    std::uint32_t version = 3;
    std::uint64_t backing_offset = 0;
    std::uint32_t backing_length = 0, cluster_bits = 16;
    std::uint64_t size = 1 << 20, incompatible = 0;
    std::uint32_t header_length = 104;
    std::string rest;  // after the header

    std::string text() const {
        return "QFI\xfb"s + be(version, 4) + be(backing_offset, 8) + be(backing_length, 4) + be(cluster_bits, 4) +
               be(size, 8) + std::string(40, '\0') + be(incompatible, 8) + std::string(16, '\0') + be(4, 4) +
               be(header_length, 4) + rest;
    }
};

TEST_F(Images, EveryFormatOfQemuImgIsKnownWithItsSize) {
    for (const char* format : {"raw", "qcow", "qcow2", "qed", "vmdk", "vdi", "vpc", "vhdx", "parallels"}) {
        SCOPED_TRACE(format);
        const std::string name = "disk."s + format;
        qemu_img(fmt::format("create -f {} {} 64M", format, name));
        const auto known = find_image_format(format);
        ASSERT_TRUE(known);
        EXPECT_EQ(word(probe(name)), format);
        const auto header = read(name, *known);
        EXPECT_EQ(header.format, *known);
        EXPECT_EQ(header.backing_file, "");
        EXPECT_TRUE(header.extents.empty());
        if (format == "vpc"s)  // rounded to whole cylinders
            EXPECT_NEAR(static_cast<double>(header.virtual_size), 64 << 20, 1 << 20);
        else
            EXPECT_EQ(header.virtual_size, 64u << 20);
    }
}

TEST_F(Images, SizesOfVpcAreQemusOwn) {
    qemu_img("create -f vpc -o force_size=on exact.vpc 10M");
    EXPECT_EQ(read("exact.vpc", ImageFormat::vpc).virtual_size, 10u << 20);
    qemu_img("create -f vpc -o subformat=fixed,force_size=on fixed.vpc 10M");
    EXPECT_EQ(read("fixed.vpc", ImageFormat::vpc).virtual_size, 10u << 20);
    EXPECT_EQ(probe("fixed.vpc"), ImageFormat::raw);
}

TEST_F(Images, LuksTellsThePayload) {
    // By hand: qemu-img spends seconds on key derivation.
    const std::string head = "LUKS\xba\xbe"s + be(1, 2) + std::string(96, 'x') + be(4, 4);
    write("disk.luks", head + std::string(4 * 512 + 1024 - head.size(), '\0'));
    EXPECT_EQ(probe("disk.luks"), ImageFormat::luks);
    const auto header = read("disk.luks", ImageFormat::luks);
    EXPECT_EQ(header.virtual_size, 1024u);
    EXPECT_TRUE(header.encrypted);
    write("two.luks", "LUKS\xba\xbe"s + be(2, 2) + std::string(4096, '\0'));
    EXPECT_NE(failure("two.luks", ImageFormat::luks).find("LUKS 2"), std::string::npos);
}

TEST_F(Images, BackingFilesAreTold) {
    qemu_img("create -f qcow2 base.qcow2 8M");
    qemu_img("create -f qcow2 -b base.qcow2 -F qcow2 top.qcow2");
    qemu_img("create -f qcow2 -o compat=0.10 -b base.qcow2 -F qcow2 old.qcow2");
    qemu_img("create -f qed -b base.qcow2 -F qcow2 top.qed");
    for (const auto& [name, format] : {std::pair{"top.qcow2", "qcow2"}, {"old.qcow2", "qcow2"}, {"top.qed", "qed"}}) {
        const auto header = read(name, *find_image_format(format));
        EXPECT_EQ(header.backing_file, "base.qcow2") << name;
        EXPECT_EQ(header.virtual_size, 8u << 20) << name;
    }
    EXPECT_EQ(read("top.qcow2", ImageFormat::qcow2).backing_format, "qcow2");
    EXPECT_EQ(read("old.qcow2", ImageFormat::qcow2).backing_format, "qcow2");
}

TEST_F(Images, ExternalDataFilesAndVmdkExtentsAreTold) {
    qemu_img("create -f qcow2 -o data_file=payload.raw outside.qcow2 4M");
    EXPECT_EQ(read("outside.qcow2", ImageFormat::qcow2).data_file, "payload.raw");
    qemu_img("create -f vmdk -o subformat=monolithicFlat flat.vmdk 4M");
    const auto flat = read("flat.vmdk", ImageFormat::vmdk);
    EXPECT_EQ(flat.extents, std::vector<std::string>{"flat-flat.vmdk"});
    EXPECT_EQ(flat.virtual_size, 4u << 20);
}

TEST_F(Images, ARawDiskIsNeverBelieved) {
    write("guest.raw", Qcow2{.backing_offset = 112, .backing_length = 11, .rest = be(0, 8) + "/etc/shadow"}.text());
    const auto header = read("guest.raw", ImageFormat::raw);
    EXPECT_EQ(header.backing_file, "");
    EXPECT_EQ(header.virtual_size, std::filesystem::file_size(path("guest.raw")));
    EXPECT_EQ(read("guest.raw", ImageFormat::qcow2).backing_file, "/etc/shadow");
}

TEST_F(Images, WrongFormatsNameThePathAndTheFormat) {
    write("text", std::string(1024, 'x'));
    for (const char* format : {"qcow", "qcow2", "qed", "vmdk", "vdi", "vpc", "vhdx", "luks", "parallels"}) {
        const auto message = failure("text", *find_image_format(format));
        EXPECT_NE(message.find(path("text")), std::string::npos) << format;
        EXPECT_NE(message.find(fmt::format("format {}", format)), std::string::npos) << message;
    }
}

TEST_F(Images, HostileQcow2HeadersAreRefused) {
    const auto refused = [&](const Qcow2& image, const std::string& why) {
        write("bad", image.text());
        EXPECT_NE(failure("bad", ImageFormat::qcow2).find(why), std::string::npos)
            << failure("bad", ImageFormat::qcow2);
    };
    refused({.backing_offset = 112, .backing_length = 5000, .rest = std::string(6000, '\0')}, "1023");
    refused({.backing_offset = 112, .backing_length = 500, .rest = std::string(8, '\0')}, "cut");
    refused({.backing_offset = 1ull << 63, .backing_length = 4}, "outside");
    refused({.backing_offset = 0xfffe, .backing_length = 4}, "outside");
    refused({.backing_offset = 112, .backing_length = 4, .rest = be(0, 8) + "a\0bc"s}, "zero byte");
    refused({.cluster_bits = 63}, "cluster size");
    refused({.size = 1ull << 63}, "impossible size");
    refused({.header_length = 0xffffffff}, "header length");
    refused({.header_length = 8}, "header length");
    refused({.rest = be(0xE2792ACA, 4) + be(0xffffffff, 4)}, "extension");
    refused({.rest = be(0xE2792ACA, 4) + be(5000, 4)}, "1023");
    refused({.incompatible = 4, .rest = be(0, 8)}, "data file");
    write("bad", Qcow2{}.text().substr(0, 60));
    EXPECT_NE(failure("bad", ImageFormat::qcow2), "");
    write("bad", "");
    EXPECT_NE(failure("bad", ImageFormat::qcow2), "");
}

TEST_F(Images, EveryCutAndEveryFlippedByteIsSurvived) {
    for (const char* format : {"qcow2", "qed", "vmdk", "vdi", "vpc", "parallels"}) {
        qemu_img(fmt::format("create -f {} whole 1M", format));
        std::string head(4096, '\0');
        Fd fd{::open(path("whole").c_str(), O_RDONLY)};
        head.resize(static_cast<std::size_t>(::pread(fd.get(), head.data(), head.size(), 0)));
        for (std::size_t at = 0; at < std::min<std::size_t>(head.size(), 640); at += 7) {
            write("cut", head.substr(0, at));
            failure("cut", *find_image_format(format));
            std::string flipped = head;
            flipped[at] = static_cast<char>(~flipped[at]);
            write("flipped", flipped);
            failure("flipped", *find_image_format(format));
        }
    }
}

std::string le(std::uint64_t value, int width) {
    const std::string big = be(value, width);
    return {big.rbegin(), big.rend()};
}
std::string padded(std::string text, std::size_t size) {
    text.resize(size);
    return text;
}

/// What QEMU only reads: no tool here makes such images, so their headers are written out.
struct ReadOnlyImage {
    ImageFormat format;
    std::string content;
};
std::vector<ReadOnlyImage> read_only_images() {
    const std::string bochs = padded("Bochs Virtual HD Image", 32) + padded("Redolog", 16) + padded("Growing", 16) +
                              le(0x20000, 4) + std::string(20, '\0') + le(3 << 20, 8);
    const std::string cloop = padded("#!/bin/sh\n#V2.0 Format\nmodprobe cloop file=$0", 128) + be(65536, 4) + be(48, 4);
    const std::string dmg =
        std::string(700, 'x') + padded("koly", 0x1ec) + be((3 << 20) / 512, 8) + std::string(12, '\0');
    return {
        {ImageFormat::bochs, padded(bochs, 512)}, {ImageFormat::cloop, padded(cloop, 512)}, {ImageFormat::dmg, dmg}};
}

TEST_F(Images, FormatsThatAreOnlyReadTellTheirSizeAndSurviveHostileHeaders) {
    for (const auto& [format, content] : read_only_images()) {
        EXPECT_TRUE(is_read_only(format));
        write("whole", content);
        EXPECT_EQ(read("whole", format).virtual_size, 3u << 20) << word(format);
        // The mark of a dmg is at its end; what it begins with is anybody's.
        EXPECT_EQ(probe("whole"), format == ImageFormat::dmg ? ImageFormat::raw : format);
        for (std::size_t at = 0; at < content.size(); at += 3) {
            write("cut", content.substr(0, at));
            const bool header_is_whole = format == ImageFormat::cloop && at >= 136;
            EXPECT_EQ(failure("cut", format).empty(), header_is_whole) << word(format) << " cut at " << at;
            std::string flipped = content;
            flipped[at] = static_cast<char>(~flipped[at]);
            write("flipped", flipped);
            failure("flipped", format);
        }
    }
    EXPECT_FALSE(is_read_only(ImageFormat::qcow2));
}

TEST_F(Images, FoldersAndPipesAreNoImages) {
    std::filesystem::create_directory(path("folder"));
    EXPECT_NE(failure("folder", ImageFormat::raw), "");
    int ends[2];
    ASSERT_EQ(::pipe(ends), 0);
    Fd in{ends[0]}, out{ends[1]};
    EXPECT_THROW(read_image_header(in.get(), "a pipe", ImageFormat::raw), Error);
}

TEST(Backing, ReferencesBecomePaths) {
    const auto at = [](const char* reference) { return resolve_backing("/images/top.qcow2", reference).path; };
    EXPECT_EQ(at("base.img"), "/images/base.img");
    EXPECT_EQ(at("../other/base.img"), "/images/../other/base.img");
    EXPECT_EQ(at("/abs/base.img"), "/abs/base.img");
    EXPECT_EQ(at("file:/abs/base.img"), "/abs/base.img");
    EXPECT_EQ(at("file:///abs/base.img"), "/abs/base.img");
    EXPECT_EQ(at("/with:colon/base"), "/with:colon/base");
    EXPECT_EQ(at(R"(json:{"driver":"file","filename":"/a/b"})"), "/a/b");
    EXPECT_EQ(at(R"(json:{"driver":"qcow2","file.filename":"b"})"), "/images/b");
    const auto nested =
        resolve_backing("/images/top", R"(json:{"driver":"qcow2","file":{"driver":"file","filename":"/a"}})");
    EXPECT_EQ(nested.path, "/a");
    EXPECT_EQ(nested.format, "qcow2");
}

TEST(Backing, WhatIsNoLocalFileIsRefused) {
    for (const char* reference : {"nbd://host/export", "http://host/a", "rbd:pool/image", "json:{", "json:[]", "json:3",
                                  "", "fat:/etc", R"(json:{"driver":"nbd","host":"x"})",
                                  R"(json:{"file":{"driver":"nbd","filename":"/x"}})", R"(json:{"driver":"file"})"})
        EXPECT_THROW(resolve_backing("/images/top", reference), Error) << reference;
}

}  // namespace
}  // namespace virtbus::common
