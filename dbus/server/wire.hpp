// SPDX-License-Identifier: LGPL-2.1-or-later
// Which C++ type stands for which D-Bus type, and how a value is appended to a message. The generator checks the types
// of views and handlers against the signatures of the interface files with Wire<T>::signature.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>
#include <variant>
#include <vector>

#include "dbus/server/message.hpp"
#include "virtbus/fd.hpp"

namespace virtbus::dbus {

struct ObjectPath {
    std::string text = "/";
    bool operator==(const ObjectPath&) const = default;
};

/// What a dictionary of an answer may hold.
using Value = std::variant<bool, std::int32_t, std::uint32_t, std::int64_t, std::uint64_t, double, std::string,
                           std::vector<std::string>>;
using Dictionary = std::vector<std::pair<std::string, Value>>;

/// A signature put together at compile time.
template <std::size_t N>
struct Signature {
    std::array<char, N + 1> text{};
    constexpr Signature() = default;
    constexpr Signature(const char (&literal)[N + 1]) {
        for (std::size_t i = 0; i < N; i++) text[i] = literal[i];
    }
    constexpr operator std::string_view() const { return {text.data(), N}; }
    constexpr const char* c_str() const { return text.data(); }
};
template <std::size_t N>
Signature(const char (&)[N]) -> Signature<N - 1>;

template <std::size_t... N>
constexpr auto join(const Signature<N>&... parts) {
    Signature<(N + ... + 0)> all;
    std::size_t at = 0;
    (
        [&] {
            for (std::size_t i = 0; i < N; i++) all.text[at++] = parts.text[i];
        }(),
        ...);
    return all;
}

template <class T>
struct Wire;

template <>
struct Wire<bool> {
    static constexpr Signature signature{"b"};
    static void put(Writer& out, bool value) { out.boolean(value); }
};
template <>
struct Wire<std::int32_t> {
    static constexpr Signature signature{"i"};
    static void put(Writer& out, std::int32_t value) { out.int32(value); }
};
template <>
struct Wire<std::uint32_t> {
    static constexpr Signature signature{"u"};
    static void put(Writer& out, std::uint32_t value) { out.uint32(value); }
};
template <>
struct Wire<std::int64_t> {
    static constexpr Signature signature{"x"};
    static void put(Writer& out, std::int64_t value) { out.int64(value); }
};
template <>
struct Wire<std::uint64_t> {
    static constexpr Signature signature{"t"};
    static void put(Writer& out, std::uint64_t value) { out.uint64(value); }
};
template <>
struct Wire<double> {
    static constexpr Signature signature{"d"};
    static void put(Writer& out, double value) { out.real(value); }
};
template <>
struct Wire<std::string> {
    static constexpr Signature signature{"s"};
    static void put(Writer& out, std::string_view value) { out.string(value); }
};
template <>
struct Wire<ObjectPath> {
    static constexpr Signature signature{"o"};
    static void put(Writer& out, const ObjectPath& value) { out.path(value.text); }
};
template <>
struct Wire<Fd> {
    static constexpr Signature signature{"h"};
    static void put(Writer& out, const Fd& value) { out.descriptor(value.get()); }
};
/// Enumerations travel as their words.
template <class T>
    requires std::is_enum_v<T>
struct Wire<T> {
    static constexpr Signature signature{"s"};
    static void put(Writer& out, T value) { out.string(word(value)); }
};

template <class... T>
struct Wire<std::variant<T...>> {
    static constexpr Signature signature{"v"};
    static void put(Writer& out, const std::variant<T...>& value) {
        std::visit(
            [&out]<class V>(const V& held) {
                out.open_variant(Wire<V>::signature.c_str());
                Wire<V>::put(out, held);
                out.close();
            },
            value);
    }
};

/// A pair stands for an entry of a dictionary, so a vector of pairs is one.
template <class K, class V>
struct Wire<std::pair<K, V>> {
    static constexpr auto inner = join(Wire<K>::signature, Wire<V>::signature);
    static constexpr auto signature = join(Signature{"{"}, inner, Signature{"}"});
    static void put(Writer& out, const std::pair<K, V>& value) {
        out.open('e', inner.c_str());
        Wire<K>::put(out, value.first);
        Wire<V>::put(out, value.second);
        out.close();
    }
};

template <class... T>
struct Wire<std::tuple<T...>> {
    static constexpr auto inner = join(Wire<T>::signature...);
    static constexpr auto signature = join(Signature{"("}, inner, Signature{")"});
    static void put(Writer& out, const std::tuple<T...>& value) {
        out.open('r', inner.c_str());
        std::apply([&out](const T&... member) { (Wire<T>::put(out, member), ...); }, value);
        out.close();
    }
};

template <class T>
struct Wire<std::vector<T>> {
    static constexpr auto inner = Wire<T>::signature;
    static constexpr auto signature = join(Signature{"a"}, inner);
    static void put(Writer& out, const std::vector<T>& values) {
        out.open('a', inner.c_str());
        for (const auto& value : values) Wire<T>::put(out, value);
        out.close();
    }
};

template <class T>
void put(Writer& out, const T& value) {
    Wire<T>::put(out, value);
}

}  // namespace virtbus::dbus
