// SPDX-License-Identifier: LGPL-2.1-or-later
// A D-Bus message as an owned thing, and the two ends of its body: Writer appends basic values and containers and
// counts the bytes they take, Reader takes them out again. How C++ types map to the wire is wire.hpp's work.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

#include "virtbus/fd.hpp"

struct sd_bus;
struct sd_bus_message;

namespace virtbus::dbus {

class Message {
public:
    Message() = default;
    /// Takes over the reference.
    explicit Message(sd_bus_message* owned) noexcept : message_{owned} {}
    static Message share(sd_bus_message* borrowed);
    Message(Message&& other) noexcept : message_{std::exchange(other.message_, nullptr)} {}
    Message& operator=(Message&& other) noexcept {
        std::swap(message_, other.message_);
        return *this;
    }
    ~Message();

    static Message signal(sd_bus* bus, const std::string& path, const char* interface, const char* member);
    static Message reply_to(sd_bus_message* call);

    sd_bus_message* get() const noexcept { return message_; }
    explicit operator bool() const noexcept { return message_; }

private:
    sd_bus_message* message_ = nullptr;
};

/// What no answer may exceed: a bus takes 32 MiB, clients less.
inline constexpr std::size_t largest_answer = std::size_t{24} << 20;

class Writer {
public:
    /// A body of more than `limit` bytes is LimitsExceeded.
    explicit Writer(sd_bus_message* message, std::size_t limit = largest_answer) : message_{message}, limit_{limit} {}

    void boolean(bool value);
    void int32(std::int32_t value) { number('i', &value, 4); }
    void uint32(std::uint32_t value) { number('u', &value, 4); }
    void int64(std::int64_t value) { number('x', &value, 8); }
    void uint64(std::uint64_t value) { number('t', &value, 8); }
    void real(double value) { number('d', &value, 8); }
    /// Bytes that are no UTF-8 are replaced: a bus disconnects whoever sends them.
    void string(std::string_view value);
    void path(const std::string& value);
    /// The message gets a duplicate.
    void descriptor(int fd);

    void open(char container, const char* contents);
    void close();
    void open_variant(const char* contents) { open('v', contents); }

    std::size_t bytes() const { return bytes_; }

private:
    void number(char type, const void* value, std::size_t size);
    void text(char type, const char* value, std::size_t size);
    void grow(std::size_t alignment, std::size_t size);

    sd_bus_message* message_;
    std::size_t limit_;
    std::size_t bytes_ = 0;
};

/// Reads a body whose signature has been checked; what does not fit is InvalidArgs.
class Reader {
public:
    explicit Reader(sd_bus_message* message) : message_{message} {}

    bool boolean();
    std::int32_t int32();
    std::uint32_t uint32();
    std::int64_t int64();
    std::uint64_t uint64();
    double real();
    /// LimitsExceeded when longer than `limit` bytes; `what` names it then.
    std::string string(std::size_t limit, std::string_view what);
    /// A duplicate of its own. InvalidArgs when the message carries none for it.
    Fd descriptor(std::string_view what);

    /// False at the end of the container that is open.
    bool enter(char container, const char* contents);
    void leave();
    /// The signature inside the variant that comes next.
    std::string variant_contents();
    bool at_end();

private:
    template <class T>
    T basic(char type);
    sd_bus_message* message_;
};

}  // namespace virtbus::dbus
