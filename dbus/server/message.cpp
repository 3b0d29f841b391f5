// SPDX-License-Identifier: LGPL-2.1-or-later
#include "dbus/server/message.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <glib.h>
#include <systemd/sd-bus.h>

#include <cerrno>
#include <cstring>

#include "virtbus/error.hpp"

namespace virtbus::dbus {

namespace {

void written(int result, const char* what) {
    if (result >= 0) return;
    if (result == -EOPNOTSUPP) throw Error{Code::unsupported, "this connection cannot pass file descriptors"};
    throw Error{Code::internal, fmt::format("cannot write {} into a message: {}", what, std::strerror(-result))};
}

[[noreturn]] void unreadable(const char* what) {
    throw Error{Code::invalid_args, fmt::format("the message has no {} where one belongs", what)};
}

std::size_t alignment_of(char type) {
    switch (type) {
        case 'x':
        case 't':
        case 'd':
        case '(':
        case '{':
            return 8;
        case 'v':
        case 'g':
        case 'y':
            return 1;
        default:
            return 4;
    }
}

}  // namespace

Message Message::share(sd_bus_message* borrowed) {
    return Message{sd_bus_message_ref(borrowed)};
}

Message::~Message() {
    if (message_) sd_bus_message_unref(message_);
}

Message Message::signal(sd_bus* bus, const std::string& path, const char* interface, const char* member) {
    sd_bus_message* made = nullptr;
    written(sd_bus_message_new_signal(bus, &made, path.c_str(), interface, member), "a signal");
    return Message{made};
}

Message Message::reply_to(sd_bus_message* call) {
    sd_bus_message* made = nullptr;
    written(sd_bus_message_new_method_return(call, &made), "a reply");
    return Message{made};
}

void Writer::grow(std::size_t alignment, std::size_t size) {
    bytes_ = (bytes_ + alignment - 1) / alignment * alignment + size;
    if (bytes_ > limit_)
        throw Error{Code::limits_exceeded, fmt::format("the answer would have more than {} bytes", limit_)};
}

void Writer::number(char type, const void* value, std::size_t size) {
    grow(size, size);
    written(sd_bus_message_append_basic(message_, type, value), "a number");
}

void Writer::boolean(bool value) {
    const int wide = value;
    number('b', &wide, 4);
}

void Writer::text(char type, const char* value, std::size_t size) {
    grow(4, 4 + size + 1);
    written(sd_bus_message_append_basic(message_, type, value), "a string");
}

void Writer::string(std::string_view value) {
    const std::string copy{value.substr(0, value.find('\0'))};
    if (g_utf8_validate(copy.data(), static_cast<gssize>(copy.size()), nullptr))
        return text('s', copy.c_str(), copy.size());
    char* valid = g_utf8_make_valid(copy.data(), static_cast<gssize>(copy.size()));
    const std::string mended{valid};
    g_free(valid);
    text('s', mended.c_str(), mended.size());
}

void Writer::path(const std::string& value) {
    text('o', value.c_str(), value.size());
}

void Writer::descriptor(int fd) {
    grow(4, 4);
    written(sd_bus_message_append_basic(message_, 'h', &fd), "a file descriptor");
}

void Writer::open(char container, const char* contents) {
    switch (container) {
        case 'a':
            grow(4, 4);
            grow(alignment_of(contents[0]), 0);
            break;
        case 'v':
            grow(1, 2 + std::strlen(contents));
            break;
        default:
            grow(8, 0);
            break;
    }
    written(sd_bus_message_open_container(message_, container, contents), "a container");
}

void Writer::close() {
    written(sd_bus_message_close_container(message_), "the end of a container");
}

template <class T>
T Reader::basic(char type) {
    T value{};
    if (sd_bus_message_read_basic(message_, type, &value) <= 0) unreadable("number");
    return value;
}

bool Reader::boolean() {
    return basic<int>('b') != 0;
}
std::int32_t Reader::int32() {
    return basic<std::int32_t>('i');
}
std::uint32_t Reader::uint32() {
    return basic<std::uint32_t>('u');
}
std::int64_t Reader::int64() {
    return basic<std::int64_t>('x');
}
std::uint64_t Reader::uint64() {
    return basic<std::uint64_t>('t');
}
double Reader::real() {
    return basic<double>('d');
}

std::string Reader::string(std::size_t limit, std::string_view what) {
    const char* text = nullptr;
    if (sd_bus_message_read_basic(message_, 's', &text) <= 0) unreadable("string");
    const std::size_t size = std::strlen(text);
    if (size > limit)
        throw Error{Code::limits_exceeded, fmt::format("{} has {} bytes; at most {} are taken", what, size, limit)};
    return {text, size};
}

Fd Reader::descriptor(std::string_view what) {
    int fd = -1;  // the message's
    if (sd_bus_message_read_basic(message_, 'h', &fd) <= 0) unreadable("file descriptor");
    Fd own{::fcntl(fd, F_DUPFD_CLOEXEC, 0)};
    if (!own) throw Error{Code::limits_exceeded, fmt::format("{} cannot be kept: {}", what, std::strerror(errno))};
    return own;
}

bool Reader::enter(char container, const char* contents) {
    const int result = sd_bus_message_enter_container(message_, container, contents);
    if (result < 0) unreadable("container");
    return result > 0;
}

void Reader::leave() {
    if (sd_bus_message_exit_container(message_) < 0) unreadable("end of a container");
}

std::string Reader::variant_contents() {
    char type = 0;
    const char* contents = nullptr;
    if (sd_bus_message_peek_type(message_, &type, &contents) <= 0 || type != 'v') unreadable("variant");
    return contents;
}

bool Reader::at_end() {
    const int result = sd_bus_message_at_end(message_, 0);
    if (result < 0) unreadable("end of a container");
    return result > 0;
}

}  // namespace virtbus::dbus
