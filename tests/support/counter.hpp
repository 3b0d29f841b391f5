// SPDX-License-Identifier: LGPL-2.1-or-later
// For tests: what a machine boots that counts in its memory and says each number on its serial port.
#pragma once

#include <fstream>
#include <string>

namespace virtbus::tests {

/// Says 'R', then for each byte it gets the next character after '0': the counter lies at 0x600.
inline constexpr unsigned char counter_code[] = {
    0x31, 0xc0,                    // xor ax, ax
    0x8e, 0xd8,                    // mov ds, ax
    0xc6, 0x06, 0x00, 0x06, 0x30,  // mov byte [0x600], '0'
    0xba, 0xf8, 0x03,              // mov dx, 0x3f8
    0xb0, 0x52,                    // mov al, 'R'
    0xee,                          // out dx, al
    0xba, 0xfd, 0x03,              // next: mov dx, 0x3fd
    0xec,                          // wait: in al, dx
    0xa8, 0x01,                    // test al, 1
    0x74, 0xfb,                    // jz wait
    0xba, 0xf8, 0x03,              // mov dx, 0x3f8
    0xec,                          // in al, dx
    0xfe, 0x06, 0x00, 0x06,        // inc byte [0x600]
    0xa0, 0x00, 0x06,              // mov al, [0x600]
    0xee,                          // out dx, al
    0xeb, 0xea,                    // jmp next
};

/// Writes a raw disk that boots it.
inline void write_counter_disk(const std::string& path) {
    std::string disk(1 << 20, '\0');
    disk.replace(0, sizeof counter_code, reinterpret_cast<const char*>(counter_code), sizeof counter_code);
    disk[510] = '\x55';
    disk[511] = '\xaa';
    std::ofstream{path, std::ios::binary} << disk;
}

}  // namespace virtbus::tests
