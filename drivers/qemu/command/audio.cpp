// SPDX-License-Identifier: LGPL-2.1-or-later
// Sound cards and the host's side of them.
#include <fmt/format.h>

#include "qemu/command/families.hpp"
#include "virtbus/error.hpp"

namespace virtbus::qemu {

namespace {

Json direction_of(const AudioDirection& direction, const std::string& driver) {
    Json out;
    out.set("mixing-engine", direction.mixing_engine).set("fixed-settings", direction.fixed_settings);
    out.set("voices", direction.voices).set("buffer-length", direction.buffer_length);
    out.set("frequency", direction.frequency).set("channels", direction.channels).set_text("format", direction.format);
    if (driver == "alsa" || driver == "oss") out.set_text("dev", direction.dev).set("try-poll", direction.try_poll);
    if (driver == "oss" || driver == "sdl") out.set("buffer-count", direction.buffer_count);
    if (driver == "pa" || driver == "pipewire")
        out.set_text("name", direction.name)
            .set_text("stream-name", direction.stream_name)
            .set("latency", direction.latency);
    if (driver == "jack")
        out.set_text("server-name", direction.server_name)
            .set_text("client-name", direction.client_name)
            .set_text("connect-ports", direction.connect_ports)
            .set("exact-name", direction.exact_name);
    return out;
}

std::string driver_of(const Audio& audio) {
    if (audio.type == "pulseaudio") return "pa";
    if (audio.type == "file") return "wav";
    return audio.type;
}

bool has_display(const Argv& line, GraphicsType type) {
    for (const auto& graphics : line.config.devices.graphics)
        if (graphics.type == type) return true;
    return false;
}

void add_audio_backend(Argv& line, const Audio& audio) {
    std::string driver = driver_of(audio);
    if (line.runnable()) driver = "none";
    if (driver == "spice" && !has_display(line, GraphicsType::spice)) driver = "none";
    Json object;
    object.set("id", fmt::format("audio{}", audio.id)).set("driver", driver).set("timer-period", audio.timer_period);
    if (driver == "pa") object.set_text("server", audio.server_name);
    if (driver == "wav") object.set_text("path", audio.path);
    if (driver == "oss")
        object.set("try-mmap", audio.try_mmap).set("exclusive", audio.exclusive).set("dsp-policy", audio.dsp_policy);
    if (audio.input) object.set("in", direction_of(*audio.input, driver));
    if (audio.output) object.set("out", direction_of(*audio.output, driver));
    if (driver == "sdl" && !audio.driver.empty()) line.out.environment["SDL_AUDIODRIVER"] = audio.driver;
    if (driver == "pipewire" && !audio.runtime_dir.empty())
        line.out.environment["PIPEWIRE_RUNTIME_DIR"] = audio.runtime_dir;
    line.arg("-audiodev", object.text());
}

std::string card_driver(const Argv& line, const Sound& sound) {
    struct Card {
        std::string_view model, driver;
    };
    constexpr Card cards[]{{"ac97", "AC97"},      {"es1370", "ES1370"},       {"ich6", "intel-hda"},
                           {"ich7", "intel-hda"}, {"ich9", "ich9-intel-hda"}, {"sb16", "sb16"},
                           {"usb", "usb-audio"}};
    for (const auto& card : cards)
        if (card.model == sound.model) return std::string{card.driver};
    if (sound.model == "virtio") return line.virtio_driver("virtio-sound", "", sound.info);
    throw Error{Code::unsupported_configuration, fmt::format("QEMU has no sound card '{}'", sound.model)};
}

void add_codecs(Argv& line, const Sound& sound, const std::string& audio) {
    std::vector<std::string> types;
    for (const auto& codec : sound.codecs) types.push_back(codec.type);
    if (types.empty()) types.emplace_back("duplex");
    unsigned address = 0;
    for (const auto& type : types) {
        Json device;
        device.set("driver", "hda-" + type).set("id", fmt::format("{}-codec{}", sound.info.alias, address));
        device.set("bus", sound.info.alias + ".0").set("cad", address++).set_text("audiodev", audio);
        line.device(device, "");
    }
}

}  // namespace

void add_audio(Argv& line) {
    for (const auto& audio : line.config.devices.audios) add_audio_backend(line, audio);
}

void add_sounds(Argv& line) {
    const auto& audios = line.config.devices.audios;
    for (const auto& sound : line.config.devices.sounds) {
        const std::string audio = sound.audio_id   ? fmt::format("audio{}", *sound.audio_id)
                                  : audios.empty() ? ""
                                                   : fmt::format("audio{}", audios.front().id);
        if (sound.model == "pcspk") {
            line.arg("-machine", KeyValues{}.add_text("pcspk-audiodev", audio));
            continue;
        }
        const bool hda = sound.model.starts_with("ich");
        Json device;
        device.set("driver", card_driver(line, sound));
        if (!hda) device.set_text("audiodev", audio);
        if (sound.model == "usb") device.set("multi", sound.multichannel);
        if (sound.model == "virtio") device.set("streams", sound.streams);
        line.place(device, sound.info);
        line.device(device, sound.info.alias);
        if (hda) add_codecs(line, sound, audio);
    }
}

}  // namespace virtbus::qemu
