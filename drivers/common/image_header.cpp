// SPDX-License-Identifier: LGPL-2.1-or-later
#include "common/image_header.hpp"

#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <limits>
#include <nlohmann/json.hpp>
#include <utility>

#include "virtbus/error.hpp"

namespace virtbus::common {

namespace {

constexpr std::size_t longest_name = 1023;           // the limit QEMU has for qcow2; PATH_MAX covers the others
constexpr std::size_t longest_descriptor = 1 << 20;  // text of a vmdk
constexpr std::uint64_t sector = 512;

struct FormatName {
    ImageFormat format;
    std::string_view word;
};
constexpr std::array names{
    FormatName{ImageFormat::raw, "raw"},     FormatName{ImageFormat::qcow, "qcow"},
    FormatName{ImageFormat::qcow2, "qcow2"}, FormatName{ImageFormat::qed, "qed"},
    FormatName{ImageFormat::vmdk, "vmdk"},   FormatName{ImageFormat::vdi, "vdi"},
    FormatName{ImageFormat::vpc, "vpc"},     FormatName{ImageFormat::vhdx, "vhdx"},
    FormatName{ImageFormat::luks, "luks"},   FormatName{ImageFormat::parallels, "parallels"},
    FormatName{ImageFormat::bochs, "bochs"}, FormatName{ImageFormat::cloop, "cloop"},
    FormatName{ImageFormat::dmg, "dmg"},
};

/// A file with bounds: every access says where and how much, and fails with the path in its message.
class Content {
public:
    Content(int fd, const std::string& path) : fd_{fd}, path_{path} {
        struct stat status{};
        if (::fstat(fd, &status) != 0) fail(fmt::format("cannot be examined: {}", std::strerror(errno)));
        if (S_ISREG(status.st_mode)) {
            size_ = static_cast<std::uint64_t>(status.st_size);
        } else if (const off_t end = S_ISBLK(status.st_mode) ? ::lseek(fd, 0, SEEK_END) : -1; end >= 0) {
            size_ = static_cast<std::uint64_t>(end);
        } else {
            fail("is neither a file nor a block device");
        }
    }

    std::uint64_t size() const { return size_; }

    [[noreturn]] void fail(const std::string& what) const {
        throw Error{Code::unsupported_configuration, fmt::format("image '{}' {}", path_, what)};
    }
    void require(bool holds, const char* what) const {
        if (!holds) fail(what);
    }

    std::string bytes(std::uint64_t at, std::size_t count) const {
        std::string out = up_to(at, count);
        require(out.size() == count, "is cut: its header points past its end");
        return out;
    }
    /// What is there of that range; empty past the end.
    std::string up_to(std::uint64_t at, std::size_t count) const {
        if (at >= size_) return {};
        std::string out(static_cast<std::size_t>(std::min<std::uint64_t>(count, size_ - at)), '\0');
        std::size_t done = 0;
        while (done < out.size()) {
            const ssize_t got = ::pread(fd_, out.data() + done, out.size() - done, static_cast<off_t>(at + done));
            if (got < 0 && errno == EINTR) continue;
            if (got < 0) fail(fmt::format("cannot be read: {}", std::strerror(errno)));
            if (got == 0) break;
            done += static_cast<std::size_t>(got);
        }
        out.resize(done);
        return out;
    }
    std::string name(std::uint64_t at, std::uint64_t length) const {
        require(length <= longest_name, "names a backing file of more than 1023 bytes");
        std::string out = bytes(at, static_cast<std::size_t>(length));
        require(out.find('\0') == std::string::npos, "names a backing file with a zero byte in it");
        return out;
    }
    std::uint64_t sectors(std::uint64_t count) const {
        require(count <= std::numeric_limits<std::int64_t>::max() / sector, "claims an impossible size");
        return count * sector;
    }

private:
    int fd_;
    const std::string& path_;
    std::uint64_t size_ = 0;
};

std::uint64_t number(std::string_view bytes, std::size_t at, std::size_t width, bool big) {
    std::uint64_t value = 0;
    for (std::size_t i = 0; i < width; ++i)
        value = value << 8 | static_cast<unsigned char>(bytes[at + (big ? i : width - 1 - i)]);
    return value;
}
std::uint64_t big(std::string_view bytes, std::size_t at, std::size_t width) {
    return number(bytes, at, width, true);
}
std::uint64_t little(std::string_view bytes, std::size_t at, std::size_t width) {
    return number(bytes, at, width, false);
}

using namespace std::string_view_literals;

// ---- qcow, qcow2

constexpr auto qcow_magic = "QFI\xfb"sv;

bool is_qcow(std::string_view head, std::uint64_t from, std::uint64_t to) {
    return head.size() >= 8 && head.starts_with(qcow_magic) && big(head, 4, 4) >= from && big(head, 4, 4) <= to;
}
bool looks_qcow(std::string_view head) {
    return is_qcow(head, 1, 1);
}
bool looks_qcow2(std::string_view head) {
    return is_qcow(head, 2, 3);
}

void read_qcow(const Content& content, ImageHeader& out) {
    const std::string head = content.bytes(0, 48);
    out.virtual_size = big(head, 24, 8);
    out.encrypted = big(head, 36, 4) != 0;
    if (const auto at = big(head, 8, 8)) out.backing_file = content.name(at, big(head, 16, 4));
}

void read_qcow2_extensions(const Content& content, std::uint64_t at, std::uint64_t end, ImageHeader& out) {
    constexpr std::uint64_t backing_format = 0xE2792ACA, data_file = 0x44415441;
    while (at + 8 <= end) {
        const std::string entry = content.bytes(at, 8);
        const auto kind = big(entry, 0, 4), length = big(entry, 4, 4);
        if (kind == 0) return;
        at += 8;
        content.require(length <= end - at, "has a header extension that is longer than the header");
        if (kind == backing_format) out.backing_format = content.name(at, length);
        if (kind == data_file) out.data_file = content.name(at, length);
        at += (length + 7) / 8 * 8;
    }
}

void read_qcow2(const Content& content, ImageHeader& out) {
    const std::string head = content.bytes(0, 72);
    const auto version = big(head, 4, 4), cluster_bits = big(head, 20, 4);
    content.require(cluster_bits >= 9 && cluster_bits <= 21, "has an impossible cluster size");
    const std::uint64_t cluster = std::uint64_t{1} << cluster_bits;
    out.virtual_size = big(head, 24, 8);
    content.require(out.virtual_size <= std::numeric_limits<std::int64_t>::max(), "claims an impossible size");
    out.encrypted = big(head, 32, 4) != 0;

    std::uint64_t extensions = 72;
    bool has_data_file = false;
    if (version == 3) {
        const std::string more = content.bytes(72, 32);
        has_data_file = big(more, 0, 8) & 4;
        extensions = big(more, 28, 4);
        content.require(extensions >= 104 && extensions <= cluster, "has an impossible header length");
    }
    const auto backing = big(head, 8, 8), length = big(head, 16, 4);
    content.require(backing <= cluster - std::min(cluster, length), "has its backing file's name outside its header");
    read_qcow2_extensions(content, extensions, backing ? backing : cluster, out);
    if (backing) out.backing_file = content.name(backing, length);
    content.require(!has_data_file || !out.data_file.empty(), "has an external data file but does not name it");
    if (!has_data_file) out.data_file.clear();
}

// ---- qed

bool looks_qed(std::string_view head) {
    return head.starts_with("QED\0"sv);
}

void read_qed(const Content& content, ImageHeader& out) {
    constexpr std::uint64_t has_backing = 1, backing_is_raw = 4;
    const std::string head = content.bytes(0, 64);
    const auto features = little(head, 16, 8);
    out.virtual_size = little(head, 48, 8);
    if (!(features & has_backing)) return;
    out.backing_file = content.name(little(head, 56, 4), little(head, 60, 4));
    if (features & backing_is_raw) out.backing_format = "raw";
}

// ---- vmdk

bool looks_vmdk(std::string_view head) {
    return head.starts_with("KDMV") || head.starts_with("COWD") || head.starts_with("# Disk DescriptorFile");
}

std::string_view trimmed(std::string_view text) {
    while (!text.empty() && static_cast<unsigned char>(text.front()) <= ' ') text.remove_prefix(1);
    while (!text.empty() && static_cast<unsigned char>(text.back()) <= ' ') text.remove_suffix(1);
    return text;
}
std::string_view quoted(std::string_view text) {
    const auto open = text.find('"');
    const auto close = open == text.npos ? text.npos : text.find('"', open + 1);
    return close == text.npos ? std::string_view{} : text.substr(open + 1, close - open - 1);
}

/// `RW 2048 FLAT "disk-flat.vmdk" 0`: the sectors count, the file is one more that the image is made of.
void read_vmdk_extent(std::string_view line, std::uint64_t& sectors, ImageHeader& out) {
    std::uint64_t count = 0;
    const auto space = line.find(' ');
    std::from_chars(line.data() + space + 1, line.data() + line.size(), count);
    if (count > std::numeric_limits<std::int64_t>::max() / sector - sectors) return;
    sectors += count;
    if (const auto name = quoted(line); !name.empty()) out.extents.emplace_back(name);
}

void read_vmdk_descriptor(const Content& content, std::string_view text, ImageHeader& out) {
    std::uint64_t sectors = 0;
    text = text.substr(0, text.find('\0'));
    while (!text.empty()) {
        const auto end = text.find('\n');
        const std::string_view line = trimmed(text.substr(0, end));
        text.remove_prefix(end == text.npos ? text.size() : end + 1);
        if (line.starts_with("RW ") || line.starts_with("RDONLY ")) read_vmdk_extent(line, sectors, out);
        if (line.starts_with("parentFileNameHint")) out.backing_file = quoted(line);
        content.require(out.extents.size() <= 64, "is made of more than 64 files");
        content.require(out.backing_file.size() <= longest_name, "names a backing file of more than 1023 bytes");
    }
    if (!out.virtual_size) out.virtual_size = sectors * sector;
    if (!out.backing_file.empty()) out.backing_format = "vmdk";
}

void read_vmdk(const Content& content, ImageHeader& out) {
    const std::string magic = content.bytes(0, 4);
    if (magic == "COWD") {
        out.virtual_size = content.sectors(little(content.bytes(0, 16), 12, 4));
        return;
    }
    if (magic != "KDMV") return read_vmdk_descriptor(content, content.up_to(0, longest_descriptor), out);

    const std::string head = content.bytes(0, 77);
    out.virtual_size = content.sectors(little(head, 12, 8));
    const auto at = little(head, 28, 8), length = little(head, 36, 8);
    if (at == 0) return;
    content.require(length <= longest_descriptor / sector, "has a descriptor of more than 1 MiB");
    read_vmdk_descriptor(content, content.up_to(content.sectors(at), static_cast<std::size_t>(length * sector)), out);
    // A sparse vmdk names itself as its only extent.
    if (out.extents.size() == 1) out.extents.clear();
}

// ---- vdi, vpc, vhdx, luks, parallels

bool looks_vdi(std::string_view head) {
    return head.size() >= 0x44 && little(head, 0x40, 4) == 0xbeda107f;
}

void read_vdi(const Content& content, ImageHeader& out) {
    out.virtual_size = little(content.bytes(0, 0x178), 0x170, 8);
}

constexpr auto vpc_cookie = "conectix"sv;

bool looks_vpc(std::string_view head) {
    return head.starts_with(vpc_cookie);
}

/// Tools disagree whether the geometry or the size field counts; this is QEMU's rule.
std::uint64_t vpc_size(std::string_view footer) {
    constexpr std::array exact{"win "sv, "qem2"sv, "d2v "sv, "tap\0"sv, "CTXS"sv};
    const auto cylinders = big(footer, 56, 2), heads = big(footer, 58, 1), per_track = big(footer, 59, 1);
    const bool largest = cylinders == 65535 && heads == 16 && per_track == 255;
    if (largest || std::find(exact.begin(), exact.end(), footer.substr(28, 4)) != exact.end())
        return big(footer, 48, 8);
    return cylinders * heads * per_track * sector;
}

void read_vpc(const Content& content, ImageHeader& out) {
    std::string footer = content.bytes(0, 512);
    if (!looks_vpc(footer)) {
        content.require(content.size() >= 512, "is too short for the format vpc");
        footer = content.bytes(content.size() - 512, 512);
    }
    content.require(looks_vpc(footer), "is not of the format vpc");
    content.require(big(footer, 60, 4) != 4, "is a differencing vpc image, which QEMU cannot use");
    out.virtual_size = vpc_size(footer);
}

bool looks_vhdx(std::string_view head) {
    return head.starts_with("vhdxfile");
}

/// The offset of the entry of that id in a table of 32-byte entries.
std::optional<std::size_t> find_guid(std::string_view table, std::size_t first, std::uint64_t count,
                                     std::string_view guid) {
    for (std::uint64_t i = 0; i < count; ++i)
        if (const std::size_t at = first + i * 32; table.substr(at, 16) == guid) return at;
    return std::nullopt;
}

void read_vhdx(const Content& content, ImageHeader& out) {
    constexpr auto metadata_region = "\x06\xa2\x7c\x8b\x90\x47\x9a\x4b\xb8\xfe\x57\x5f\x05\x0f\x88\x6e"sv;
    constexpr auto disk_size = "\x24\x42\xa5\x2f\x1b\xcd\x76\x48\xb2\x11\x5d\xbe\xd8\x3b\xf4\xb8"sv;
    constexpr std::size_t table = 64 * 1024, most = 2047;
    const std::string regions = content.bytes(192 * 1024, table);
    content.require(regions.starts_with("regi") && little(regions, 8, 4) <= most - 1, "has no vhdx region table");
    const auto region = find_guid(regions, 16, little(regions, 8, 4), metadata_region);
    content.require(region.has_value(), "has no vhdx metadata");
    const auto base = little(regions, *region + 16, 8);
    content.require(base <= content.size(), "is cut: its header points past its end");
    const std::string items = content.bytes(base, table);
    content.require(items.starts_with("metadata") && little(items, 10, 2) <= most - 1, "has no vhdx metadata table");
    const auto item = find_guid(items, 32, little(items, 10, 2), disk_size);
    content.require(item.has_value(), "does not tell its size");
    out.virtual_size = little(content.bytes(base + little(items, *item + 16, 4), 8), 0, 8);
}

bool looks_luks(std::string_view head) {
    return head.starts_with("LUKS\xba\xbe"sv);
}

void read_luks(const Content& content, ImageHeader& out) {
    const std::string head = content.bytes(0, 108);
    content.require(big(head, 6, 2) == 1, "is LUKS 2, which QEMU cannot open; only LUKS 1 can be used");
    const auto payload = content.sectors(big(head, 104, 4));
    out.virtual_size = content.size() - std::min(content.size(), payload);
    out.encrypted = true;
}

bool looks_parallels(std::string_view head) {
    return head.starts_with("WithoutFreeSpace") || head.starts_with("WithouFreSpacExt");
}

void read_parallels(const Content& content, ImageHeader& out) {
    out.virtual_size = content.sectors(little(content.bytes(0, 64), 36, 8));
}

// ---- bochs, cloop, dmg

bool looks_bochs(std::string_view head) {
    return head.starts_with("Bochs Virtual HD Image\0"sv);
}

void read_bochs(const Content& content, ImageHeader& out) {
    const std::string head = content.bytes(0, 512);
    const auto version = little(head, 64, 4);
    content.require(head.substr(32).starts_with("Redolog\0"sv) && head.substr(48).starts_with("Growing\0"sv) &&
                        (version == 0x10000 || version == 0x20000),
                    "is of a kind of bochs image that QEMU does not read");
    out.virtual_size = little(head, version == 0x10000 ? 84 : 88, 8) / sector * sector;
    content.require(out.virtual_size <= std::numeric_limits<std::int64_t>::max(), "claims an impossible size");
}

bool looks_cloop(std::string_view head) {
    return head.starts_with("#!/bin/sh\n#V2.0 Format\nmodprobe cloop"sv);
}

void read_cloop(const Content& content, ImageHeader& out) {
    const std::string head = content.bytes(128, 8);
    const auto block = big(head, 0, 4), blocks = big(head, 4, 4);
    content.require(block % sector == 0 && block != 0 && block <= (64 << 20), "has an impossible block size");
    content.require(blocks <= (512u << 20) / 8, "has an impossible number of blocks");
    out.virtual_size = block * blocks;
}

/// Its mark is at its end, and what is before it may look like anything.
bool looks_dmg(std::string_view) {
    return false;
}

void read_dmg(const Content& content, ImageHeader& out) {
    content.require(content.size() >= 512, "is too short for the format dmg");
    const std::string trailer = content.bytes(content.size() - 512, 512);
    content.require(trailer.starts_with("koly"), "is not of the format dmg");
    out.virtual_size = content.sectors(big(trailer, 0x1ec, 8));
}

struct Reader {
    ImageFormat format;
    bool (*looks)(std::string_view head);
    void (*read)(const Content&, ImageHeader&);
};
constexpr std::array readers{
    Reader{ImageFormat::qcow, looks_qcow, read_qcow},
    Reader{ImageFormat::qcow2, looks_qcow2, read_qcow2},
    Reader{ImageFormat::qed, looks_qed, read_qed},
    Reader{ImageFormat::vmdk, looks_vmdk, read_vmdk},
    Reader{ImageFormat::vdi, looks_vdi, read_vdi},
    Reader{ImageFormat::vpc, looks_vpc, read_vpc},
    Reader{ImageFormat::vhdx, looks_vhdx, read_vhdx},
    Reader{ImageFormat::luks, looks_luks, read_luks},
    Reader{ImageFormat::parallels, looks_parallels, read_parallels},
    Reader{ImageFormat::bochs, looks_bochs, read_bochs},
    Reader{ImageFormat::cloop, looks_cloop, read_cloop},
    Reader{ImageFormat::dmg, looks_dmg, read_dmg},
};

std::string folder_of(const std::string& path) {
    const auto slash = path.rfind('/');
    return slash == std::string::npos ? std::string{} : path.substr(0, slash + 1);
}

bool is_protocol(std::string_view name) {
    const auto colon = name.find(':');
    return colon != name.npos && name.find('/') > colon;
}

[[noreturn]] void refuse_reference(const std::string& overlay, const std::string& backing) {
    throw Error{Code::unsupported_configuration,
                fmt::format("image '{}' names the backing file '{}'; only local files can be used", overlay, backing)};
}

/// {"driver":"qcow2","file":{"driver":"file","filename":"..."}}, also with "file.driver" and "file.filename".
BackingReference resolve_json(const std::string& overlay, const std::string& backing) {
    using Json = nlohmann::json;
    const auto parsed = Json::parse(backing.begin() + 5, backing.end(), nullptr, false);
    if (!parsed.is_object()) refuse_reference(overlay, backing);
    const auto text = [](const Json& object, const char* key) {
        const auto found = object.find(key);
        return found != object.end() && found->is_string() ? found->get<std::string>() : std::string{};
    };
    const auto inner = parsed.find("file");
    const bool nested = inner != parsed.end() && inner->is_object();
    std::string driver = nested ? text(*inner, "driver") : text(parsed, "file.driver");
    std::string filename = nested ? text(*inner, "filename") : text(parsed, "file.filename");
    std::string format = text(parsed, "driver");
    if (filename.empty() && (format == "file" || format.empty())) {
        filename = text(parsed, "filename");
        driver = std::exchange(format, "");
    }
    const bool local = driver.empty() || driver == "file" || driver == "host_device";
    if (!local || filename.empty() || filename.find('\0') != filename.npos) refuse_reference(overlay, backing);
    return {filename.front() == '/' ? filename : folder_of(overlay) + filename, format};
}

}  // namespace

std::string_view word(ImageFormat format) {
    for (const auto& name : names)
        if (name.format == format) return name.word;
    return "raw";
}

std::optional<ImageFormat> find_image_format(std::string_view word) {
    for (const auto& name : names)
        if (name.word == word) return name.format;
    return std::nullopt;
}

bool is_read_only(ImageFormat format) {
    return format == ImageFormat::bochs || format == ImageFormat::cloop || format == ImageFormat::dmg;
}

ImageFormat probe_image_format(int fd, const std::string& path) {
    const std::string head = Content{fd, path}.up_to(0, 512);
    for (const auto& reader : readers)
        if (reader.looks(head)) return reader.format;
    return ImageFormat::raw;
}

ImageHeader read_image_header(int fd, const std::string& path, ImageFormat format) {
    const Content content{fd, path};
    ImageHeader out;
    out.format = format;
    if (format == ImageFormat::raw) {
        out.virtual_size = content.size();
        return out;
    }
    const auto reader = std::find_if(readers.begin(), readers.end(), [&](auto& r) { return r.format == format; });
    // A fixed-size vpc begins with the guest's own bytes.
    const bool in_footer = format == ImageFormat::vpc || format == ImageFormat::dmg;
    if (!in_footer && !reader->looks(content.up_to(0, 512)))
        content.fail(fmt::format("is not of the format {}", word(format)));
    reader->read(content, out);
    return out;
}

BackingReference resolve_backing(const std::string& overlay, const std::string& backing_file) {
    if (backing_file.starts_with("json:")) return resolve_json(overlay, backing_file);
    std::string name = backing_file.starts_with("file:") ? backing_file.substr(5) : backing_file;
    if (backing_file.starts_with("file://")) name = backing_file.substr(7);
    if (name.empty() || is_protocol(name)) refuse_reference(overlay, backing_file);
    return {name.front() == '/' ? name : folder_of(overlay) + name, ""};
}

}  // namespace virtbus::common
