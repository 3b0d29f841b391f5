// SPDX-License-Identifier: LGPL-2.1-or-later
// <sound>: sound cards, and <audio>: where their sound goes on the host.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "virtbus/model/device_info.hpp"

namespace virtbus {

struct SoundCodec {
    std::string type;  ///< duplex, micro, output
    Unknown unknown;
    bool operator==(const SoundCodec&) const = default;
};

struct Sound {
    std::string model;  ///< sb16, es1370, pcspk, ac97, ich6, ich7, ich9, usb, virtio
    std::optional<std::uint32_t> streams;
    std::optional<bool> multichannel;
    std::vector<SoundCodec> codecs;
    std::optional<std::uint32_t> audio_id;
    std::optional<VirtioDriver> driver;
    DeviceInfo info;
    Unknown unknown;
    bool operator==(const Sound&) const = default;
};

/// <input> or <output> of an audio back end.
struct AudioDirection {
    std::optional<bool> mixing_engine, fixed_settings;
    std::optional<std::uint32_t> voices, buffer_length;
    std::string dev;                                      ///< alsa, oss
    std::optional<std::uint32_t> buffer_count;            ///< coreaudio, oss, sdl
    std::optional<bool> try_poll;                         ///< oss, alsa
    std::string server_name, client_name, connect_ports;  ///< jack
    std::optional<bool> exact_name;
    std::string name, stream_name;         ///< pulseaudio, pipewire
    std::optional<std::uint32_t> latency;  ///< microseconds
    std::optional<std::uint32_t> frequency, channels;
    std::string format;  ///< s8, u8, s16, u16, s32, u32, f32
    Unknown unknown;
    bool operator==(const AudioDirection&) const = default;
};

struct Audio {
    std::uint32_t id = 1;
    std::string type = "none";  ///< none, alsa, coreaudio, jack, oss, pulseaudio, pipewire, sdl, spice, file, dbus
    std::optional<std::uint32_t> timer_period;
    std::string server_name;  ///< pulseaudio
    std::string driver;       ///< sdl
    std::string path;         ///< file
    std::string runtime_dir;  ///< pipewire
    std::optional<bool> try_mmap, exclusive;
    std::optional<std::int32_t> dsp_policy;
    std::optional<AudioDirection> input, output;
    Unknown unknown;
    bool operator==(const Audio&) const = default;
};

}  // namespace virtbus
