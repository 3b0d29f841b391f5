// SPDX-License-Identifier: LGPL-2.1-or-later
// Any bytes as a firmware descriptor: what is understood names plain absolute paths. Any bytes as a qcow2 template: an
// Error of the one allowed code, or content that survives being written as qcow2 and read again.
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>

#include "qemu/firmware.hpp"
#include "qemu/nvram.hpp"
#include "virtbus/error.hpp"

namespace {

using namespace virtbus;
using namespace virtbus::qemu;

void require(bool holds, const char* what) {
    if (holds) return;
    std::fprintf(stderr, "broken: %s\n", what);
    std::abort();
}

void check_descriptor(std::string_view text) {
    const auto firmware = parse_firmware("x.json", text);
    if (firmware.executable.empty()) return;
    require(firmware.executable.front() == '/', "the executable is an absolute path");
    require((firmware.executable + '/').find("/../") == std::string::npos, "the executable goes nowhere else");
    Os os;
    os.firmware = "efi";
    os.arch = "x86_64";
    os.machine = "pc-q35-7.2";
    if (!choose_firmware({firmware}, os, nullptr)) (void)explain_no_firmware({firmware}, os, nullptr);
}

void check_template(std::string_view image) {
    std::string raw;
    try {
        raw = raw_of_qcow2(image);
    } catch (const Error& error) {
        require(error.code() == Code::unsupported_configuration, "an error of another code");
        return;
    }
    if (raw.size() > 1 << 20) return;
    const auto again = raw_of_qcow2(qcow2_image(raw));
    require(again.substr(0, raw.size()) == raw, "what was written is read again");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const std::string_view text{reinterpret_cast<const char*>(data), size};
    check_descriptor(text);
    check_template(text);
    return 0;
}
