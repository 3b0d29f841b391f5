// SPDX-License-Identifier: LGPL-2.1-or-later
#include "qemu/keys.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <utility>

#include "qemu/json.hpp"
#include "virtbus/error.hpp"

namespace virtbus::qemu {

namespace {

constexpr std::string_view qcodes[] = {
    "0",
    "1",
    "2",
    "3",
    "4",
    "5",
    "6",
    "7",
    "8",
    "9",
    "a",
    "b",
    "c",
    "d",
    "e",
    "f",
    "g",
    "h",
    "i",
    "j",
    "k",
    "l",
    "m",
    "n",
    "o",
    "p",
    "q",
    "r",
    "s",
    "t",
    "u",
    "v",
    "w",
    "x",
    "y",
    "z",
    "f1",
    "f2",
    "f3",
    "f4",
    "f5",
    "f6",
    "f7",
    "f8",
    "f9",
    "f10",
    "f11",
    "f12",
    "shift",
    "shift_r",
    "alt",
    "alt_r",
    "ctrl",
    "ctrl_r",
    "menu",
    "esc",
    "minus",
    "equal",
    "backspace",
    "tab",
    "ret",
    "spc",
    "bracket_left",
    "bracket_right",
    "semicolon",
    "apostrophe",
    "grave_accent",
    "backslash",
    "comma",
    "dot",
    "slash",
    "asterisk",
    "less",
    "caps_lock",
    "num_lock",
    "scroll_lock",
    "kp_0",
    "kp_1",
    "kp_2",
    "kp_3",
    "kp_4",
    "kp_5",
    "kp_6",
    "kp_7",
    "kp_8",
    "kp_9",
    "kp_divide",
    "kp_multiply",
    "kp_subtract",
    "kp_add",
    "kp_enter",
    "kp_decimal",
    "kp_comma",
    "kp_equals",
    "sysrq",
    "print",
    "home",
    "pgup",
    "pgdn",
    "end",
    "left",
    "up",
    "down",
    "right",
    "insert",
    "delete",
    "pause",
    "compose",
    "meta_l",
    "meta_r",
    "stop",
    "again",
    "props",
    "undo",
    "front",
    "copy",
    "open",
    "paste",
    "find",
    "cut",
    "lf",
    "help",
    "ro",
    "hiragana",
    "henkan",
    "yen",
    "muhenkan",
    "katakanahiragana",
    "power",
    "sleep",
    "wake",
    "audionext",
    "audioprev",
    "audiostop",
    "audioplay",
    "audiomute",
    "volumeup",
    "volumedown",
    "mediaselect",
    "mail",
    "calculator",
    "computer",
    "ac_home",
    "ac_back",
    "ac_forward",
    "ac_refresh",
    "ac_bookmarks",
    "lang1",
    "lang2",
};

/// Linux's names that are not QEMU's in capitals.
constexpr std::pair<std::string_view, std::string_view> linux_names[] = {
    {"LEFTSHIFT", "shift"},
    {"RIGHTSHIFT", "shift_r"},
    {"LEFTALT", "alt"},
    {"RIGHTALT", "alt_r"},
    {"LEFTCTRL", "ctrl"},
    {"RIGHTCTRL", "ctrl_r"},
    {"LEFTMETA", "meta_l"},
    {"RIGHTMETA", "meta_r"},
    {"ENTER", "ret"},
    {"SPACE", "spc"},
    {"LEFTBRACE", "bracket_left"},
    {"RIGHTBRACE", "bracket_right"},
    {"GRAVE", "grave_accent"},
    {"CAPSLOCK", "caps_lock"},
    {"NUMLOCK", "num_lock"},
    {"SCROLLLOCK", "scroll_lock"},
    {"102ND", "less"},
    {"PAGEUP", "pgup"},
    {"PAGEDOWN", "pgdn"},
    {"KPASTERISK", "kp_multiply"},
    {"KPSLASH", "kp_divide"},
    {"KPMINUS", "kp_subtract"},
    {"KPPLUS", "kp_add"},
    {"KPENTER", "kp_enter"},
    {"KPDOT", "kp_decimal"},
    {"KPCOMMA", "kp_comma"},
    {"KPJPCOMMA", "kp_comma"},
    {"KPEQUAL", "kp_equals"},
    {"KP0", "kp_0"},
    {"KP1", "kp_1"},
    {"KP2", "kp_2"},
    {"KP3", "kp_3"},
    {"KP4", "kp_4"},
    {"KP5", "kp_5"},
    {"KP6", "kp_6"},
    {"KP7", "kp_7"},
    {"KP8", "kp_8"},
    {"KP9", "kp_9"},
    {"LINEFEED", "lf"},
    {"WAKEUP", "wake"},
    {"NEXTSONG", "audionext"},
    {"PREVIOUSSONG", "audioprev"},
    {"STOPCD", "audiostop"},
    {"PLAYPAUSE", "audioplay"},
    {"MUTE", "audiomute"},
    {"MEDIA", "mediaselect"},
    {"CALC", "calculator"},
    {"HOMEPAGE", "ac_home"},
    {"BACK", "ac_back"},
    {"FORWARD", "ac_forward"},
    {"REFRESH", "ac_refresh"},
    {"BOOKMARKS", "ac_bookmarks"},
    {"HANGEUL", "lang1"},
    {"HANGUEL", "lang1"},
    {"HANJA", "lang2"},
};

bool is_qcode(std::string_view name) {
    return std::ranges::find(qcodes, name) != std::end(qcodes);
}

}  // namespace

std::string qcode_of(std::string_view key) {
    if (is_qcode(key)) return std::string{key};
    if (key.starts_with("KEY_")) {
        const auto name = key.substr(4);
        for (const auto& [theirs, qcode] : linux_names)
            if (theirs == name) return std::string{qcode};
        std::string lower{name};
        for (char& c : lower) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
        if (is_qcode(lower) && lower != name) return lower;
        if (name.size() == 1 && is_qcode(name) && name[0] <= '9') return std::string{name};
    }
    throw Error{Code::invalid_args,
                fmt::format("\"{}\" is no key; keys are named as Linux does (KEY_LEFTCTRL, KEY_A) or "
                            "as QEMU does (ctrl, a)",
                            excerpt(key))};
}

std::vector<std::string> qcodes_of(const std::vector<std::string>& keys) {
    if (keys.empty() || keys.size() > most_keys)
        throw Error{Code::invalid_args,
                    fmt::format("{} keys were given; 1 to {} can be pressed at once", keys.size(), most_keys)};
    std::vector<std::string> result;
    for (const auto& key : keys) result.push_back(qcode_of(key));
    return result;
}

}  // namespace virtbus::qemu
