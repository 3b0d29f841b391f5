// SPDX-License-Identifier: LGPL-2.1-or-later
// Tables of what a person sees, hears and touches: graphics, video, sound, audio, input.
#include "service/xml/tables.hpp"
#include "virtbus/model/graphics.hpp"
#include "virtbus/model/input.hpp"
#include "virtbus/model/sound.hpp"
#include "virtbus/model/video.hpp"

namespace virtbus::xml {

namespace {

// ---- graphics

constexpr Row listen_rows[]{
    attribute<&GraphicsListen::type>("type").one_of("address|network|socket|none").required(),
    attribute<&GraphicsListen::address>("address"),
    attribute<&GraphicsListen::network>("network"),
    attribute<&GraphicsListen::socket>("socket"),
};
std::string check_listen(const void* object) {
    const auto& listen = *static_cast<const GraphicsListen*>(object);
    return listen.type == "network" && listen.network.empty() ? "type='network' needs attribute 'network'" : "";
}
constinit const Table listen_table = table<GraphicsListen>(listen_rows, check_listen);

constexpr Row spice_channel_rows[]{
    attribute<&SpiceChannel::name>("name")
        .one_of("main|display|inputs|cursor|playback|record|smartcard|usbredir")
        .required(),
    attribute<&SpiceChannel::mode>("mode").one_of("any|secure|insecure").required(),
};
constinit const Table spice_channel_table = table<SpiceChannel>(spice_channel_rows);

constexpr Row gl_rows[]{
    attribute<&GraphicsGl::enable>("enable").yes_no(),
    attribute<&GraphicsGl::rendernode>("rendernode"),
};
constinit const Table gl_table = table<GraphicsGl>(gl_rows);

constexpr Row graphics_rows[]{
    attribute<&Graphics::type>("type").required(),
    attribute<&Graphics::port>("port").range(-1, 65535),
    attribute<&Graphics::tls_port>("tlsPort").range(-1, 65535),
    attribute<&Graphics::autoport>("autoport").yes_no(),
    attribute<&Graphics::websocket>("websocket").range(-1, 65535),
    attribute<&Graphics::socket>("socket"),
    attribute<&Graphics::replace_user>("replaceUser").yes_no(),
    attribute<&Graphics::multi_user>("multiUser").yes_no(),
    attribute<&Graphics::username>("username"),
    attribute<&Graphics::listen>("listen"),
    attribute<&Graphics::keymap>("keymap"),
    attribute<&Graphics::default_mode>("defaultMode").one_of("any|secure|insecure"),
    attribute<&Graphics::share_policy>("sharePolicy").one_of("allow-exclusive|force-shared|ignore"),
    attribute<&Graphics::power_control>("powerControl").yes_no(),
    attribute<&Graphics::password>("passwd").secret(),
    attribute<&Graphics::password_valid_to>("passwdValidTo"),
    attribute<&Graphics::connected>("connected").one_of("fail|disconnect|keep"),
    attribute<&Graphics::display>("display"),
    attribute<&Graphics::xauth>("xauth"),
    attribute<&Graphics::fullscreen>("fullscreen").yes_no(),
    attribute<&Graphics::address>("address"),
    attribute<&Graphics::p2p>("p2p").yes_no(),
    element<&Graphics::listens>("listen", listen_table),
    element<&Graphics::channels>("channel", spice_channel_table),
    leaf<&Graphics::image_compression>("image", "compression").one_of("auto_glz|auto_lz|quic|glz|lz|off"),
    leaf<&Graphics::jpeg_compression>("jpeg", "compression").one_of("auto|never|always"),
    leaf<&Graphics::zlib_compression>("zlib", "compression").one_of("auto|never|always"),
    leaf<&Graphics::playback_compression>("playback", "compression").on_off(),
    leaf<&Graphics::streaming_mode>("streaming", "mode").one_of("filter|all|off"),
    leaf<&Graphics::mouse_mode>("mouse", "mode").one_of("server|client"),
    leaf<&Graphics::clipboard_copypaste>("clipboard", "copypaste").yes_no(),
    leaf<&Graphics::filetransfer_enable>("filetransfer", "enable").yes_no(),
    element<&Graphics::gl>("gl", gl_table),
    leaf<&Graphics::audio_id>("audio", "id"),
};

// ---- video

constexpr Row video_driver_rows[]{
    inlined<&VideoDriver::virtio>(virtio_options_table),
    attribute<&VideoDriver::name>("name").one_of("qemu|vhostuser"),
    attribute<&VideoDriver::vgaconf>("vgaconf").one_of("io|on|off"),
};
constinit const Table video_driver_table = table<VideoDriver>(video_driver_rows);
constexpr Row acceleration_rows[]{
    attribute<&VideoAcceleration::accel3d>("accel3d").yes_no(),
    attribute<&VideoAcceleration::accel2d>("accel2d").yes_no(),
    attribute<&VideoAcceleration::rendernode>("rendernode").host(),
};
constinit const Table acceleration_table = table<VideoAcceleration>(acceleration_rows);
constexpr Row resolution_rows[]{
    attribute<&VideoResolution::x>("x").range(1, UINT32_MAX).required(),
    attribute<&VideoResolution::y>("y").range(1, UINT32_MAX).required(),
};
constinit const Table resolution_table = table<VideoResolution>(resolution_rows);
constexpr Row video_model_rows[]{
    attribute<&VideoModel::type>("type")
        .one_of("default|vga|cirrus|vmvga|xen|vbox|virtio|gop|none|bochs|ramfb|qxl|parallels")
        .required(),
    attribute<&VideoModel::ram>("ram"),
    attribute<&VideoModel::vram>("vram"),
    attribute<&VideoModel::vram64>("vram64"),
    attribute<&VideoModel::vgamem>("vgamem"),
    attribute<&VideoModel::heads>("heads").range(1, UINT32_MAX),
    attribute<&VideoModel::primary>("primary").yes_no(),
    attribute<&VideoModel::blob>("blob").on_off(),
    attribute<&VideoModel::edid>("edid").one_of("on|off"),
    element<&VideoModel::acceleration>("acceleration", acceleration_table),
    element<&VideoModel::resolution>("resolution", resolution_table),
};
constinit const Table video_model_table = table<VideoModel>(video_model_rows);
constexpr Row video_rows[]{
    element<&Video::driver>("driver", video_driver_table),
    element<&Video::model>("model", video_model_table),
    inlined<&Video::info>(device_info_table),
};

// ---- sound

constexpr Row codec_rows[]{attribute<&SoundCodec::type>("type").one_of("duplex|micro|output").required()};
constinit const Table codec_table = table<SoundCodec>(codec_rows);
constexpr Row sound_rows[]{
    attribute<&Sound::model>("model").one_of("sb16|es1370|pcspk|ac97|ich6|ich7|ich9|usb|virtio").required(),
    attribute<&Sound::multichannel>("multichannel").yes_no(),
    attribute<&Sound::streams>("streams"),
    element<&Sound::codecs>("codec", codec_table),
    leaf<&Sound::audio_id>("audio", "id").host(),
    element<&Sound::driver>("driver", virtio_driver_table),
    inlined<&Sound::info>(device_info_table),
};

constexpr Row settings_rows[]{
    attribute<&AudioDirection::frequency>("frequency"),
    attribute<&AudioDirection::channels>("channels"),
    attribute<&AudioDirection::format>("format").one_of("s8|u8|s16|u16|s32|u32|f32"),
};
constexpr Row direction_rows[]{
    attribute<&AudioDirection::mixing_engine>("mixingEngine").yes_no(),
    attribute<&AudioDirection::fixed_settings>("fixedSettings").yes_no(),
    attribute<&AudioDirection::voices>("voices"),
    attribute<&AudioDirection::buffer_length>("bufferLength"),
    attribute<&AudioDirection::dev>("dev"),
    attribute<&AudioDirection::buffer_count>("bufferCount"),
    attribute<&AudioDirection::try_poll>("tryPoll").yes_no(),
    attribute<&AudioDirection::server_name>("serverName"),
    attribute<&AudioDirection::client_name>("clientName"),
    attribute<&AudioDirection::connect_ports>("connectPorts"),
    attribute<&AudioDirection::exact_name>("exactName").yes_no(),
    attribute<&AudioDirection::name>("name"),
    attribute<&AudioDirection::stream_name>("streamName"),
    attribute<&AudioDirection::latency>("latency"),
    group("settings", settings_rows),
};
constinit const Table direction_table = table<AudioDirection>(direction_rows);
constexpr Row audio_rows[]{
    attribute<&Audio::id>("id").range(1, UINT32_MAX).required(),
    attribute<&Audio::type>("type")
        .one_of("none|alsa|coreaudio|jack|oss|pulseaudio|pipewire|sdl|spice|file|dbus")
        .required(),
    attribute<&Audio::timer_period>("timerPeriod"),
    attribute<&Audio::server_name>("serverName"),
    attribute<&Audio::driver>("driver"),
    attribute<&Audio::path>("path"),
    attribute<&Audio::runtime_dir>("runtimeDir"),
    attribute<&Audio::try_mmap>("tryMMap").yes_no(),
    attribute<&Audio::exclusive>("exclusive").yes_no(),
    attribute<&Audio::dsp_policy>("dspPolicy"),
    element<&Audio::input>("input", direction_table),
    element<&Audio::output>("output", direction_table),
};

// ---- input

constexpr Row input_source_rows[]{
    attribute<&InputSource::evdev>("evdev"),
    attribute<&InputSource::dev>("dev"),
    attribute<&InputSource::grab>("grab").one_of("all"),
    attribute<&InputSource::grab_toggle>("grabToggle")
        .one_of("ctrl-ctrl|alt-alt|shift-shift|meta-meta|scrolllock|ctrl-scrolllock"),
    attribute<&InputSource::repeat>("repeat").on_off(),
};
constinit const Table input_source_table = table<InputSource>(input_source_rows);
constexpr Row input_rows[]{
    attribute<&Input::type>("type").one_of("mouse|tablet|keyboard|passthrough|evdev").required(),
    attribute<&Input::bus>("bus").one_of("ps2|usb|xen|parallels|virtio|none"),
    attribute<&Input::model>("model").one_of(virtio_models),
    element<&Input::driver>("driver", virtio_driver_table),
    element<&Input::source>("source", input_source_table).host(),
    inlined<&Input::info>(device_info_table),
};
std::string check_input(const void* object) {
    const auto& input = *static_cast<const Input*>(object);
    if (input.type == "passthrough" && (!input.source || input.source->evdev.empty()))
        return "type='passthrough' needs attribute 'evdev' in <source>";
    if (input.type == "evdev" && (!input.source || input.source->dev.empty()))
        return "type='evdev' needs attribute 'dev' in <source>";
    return "";
}

}  // namespace

constinit const Table graphics_table = table<Graphics>(graphics_rows);
constinit const Table video_table = table<Video>(video_rows);
constinit const Table sound_table = table<Sound>(sound_rows);
constinit const Table audio_table = table<Audio>(audio_rows);
constinit const Table input_table = table<Input>(input_rows, check_input);

}  // namespace virtbus::xml
