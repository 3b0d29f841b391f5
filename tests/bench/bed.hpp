// SPDX-License-Identifier: LGPL-2.1-or-later
// What the measurements share: a client that can keep calls in flight, times and their medians, the printed table.
#pragma once

#include <fmt/format.h>
#include <systemd/sd-bus.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <functional>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

namespace virtbus::bench {

using Milliseconds = std::chrono::duration<double, std::milli>;
using Steady = std::chrono::steady_clock;

inline constexpr const char* service = "org.virtbus1";
inline constexpr const char* root = "/org/virtbus1";
inline constexpr const char* manager = "org.virtbus1.Manager";
inline constexpr const char* domain_interface = "org.virtbus1.Domain";
inline constexpr std::uint64_t call_timeout_us = 300'000'000;

inline void require(int result, const char* what) {
    if (result < 0) throw std::runtime_error{fmt::format("{}: {}", what, std::strerror(-result))};
}

inline double since(Steady::time_point start) {
    return Milliseconds{Steady::now() - start}.count();
}

inline double median(std::vector<double> values) {
    std::sort(values.begin(), values.end());
    return values.empty() ? 0 : values[values.size() / 2];
}

inline double timed(const std::function<void()>& work) {
    const auto start = Steady::now();
    work();
    return since(start);
}

inline std::vector<double> repeated(int times, const std::function<void()>& work) {
    std::vector<double> all;
    for (int i = 0; i < times; ++i) all.push_back(timed(work));
    return all;
}

struct Unref {
    void operator()(sd_bus_message* message) const { sd_bus_message_unref(message); }
};
using Message = std::unique_ptr<sd_bus_message, Unref>;

class Client {
public:
    /// "" is the system bus.
    explicit Client(const std::string& address) {
        if (address.empty()) {
            require(sd_bus_open_system(&bus_), "system bus");
            return;
        }
        require(sd_bus_new(&bus_), "sd_bus_new");
        require(sd_bus_set_address(bus_, address.c_str()), "address");
        require(sd_bus_set_bus_client(bus_, 1), "client");
        require(sd_bus_start(bus_), "connect");
    }
    Client(const Client&) = delete;
    Client& operator=(const Client&) = delete;
    ~Client() { sd_bus_flush_close_unref(bus_); }

    template <class... Args>
    Message prepare(const std::string& path, const char* interface, const char* member, const char* types,
                    Args... args) {
        sd_bus_message* call = nullptr;
        require(sd_bus_message_new_method_call(bus_, &call, service, path.c_str(), interface, member), member);
        Message owned{call};
        if (*types) require(sd_bus_message_append(call, types, args...), "append");
        return owned;
    }
    template <class... Args>
    Message call(const std::string& path, const char* interface, const char* member, const char* types, Args... args) {
        return send(prepare(path, interface, member, types, args...));
    }
    Message send(const Message& call) {
        sd_bus_error error{};
        sd_bus_message* reply = nullptr;
        if (sd_bus_call(bus_, call.get(), call_timeout_us, &error, &reply) < 0) {
            const std::string text =
                fmt::format("{}: {}: {}", sd_bus_message_get_member(call.get()), error.name, error.message);
            sd_bus_error_free(&error);
            throw std::runtime_error{text};
        }
        return Message{reply};
    }

    /// Keeps `width` of the calls in flight until all are answered.
    void pipeline(std::vector<Message> calls, std::size_t width) {
        std::size_t sent = 0, answered = 0, failed = 0;
        struct Tally {
            std::size_t &answered, &failed;
        } tally{answered, failed};
        const auto on_reply = [](sd_bus_message* reply, void* data, sd_bus_error*) {
            auto& counts = *static_cast<Tally*>(data);
            ++counts.answered;
            if (sd_bus_message_is_method_error(reply, nullptr)) ++counts.failed;
            return 0;
        };
        while (answered < calls.size()) {
            while (sent < calls.size() && sent - answered < width)
                require(sd_bus_call_async(bus_, nullptr, calls[sent++].get(), on_reply, &tally, call_timeout_us),
                        "call");
            turn();
        }
        if (failed) throw std::runtime_error{fmt::format("{} of {} calls failed", failed, calls.size())};
    }

    /// Processes messages until the predicate, fed with each signal, says yes.
    void wait_for_signal(const char* match, const std::function<bool(sd_bus_message*)>& wanted,
                         const std::function<void()>& cause) {
        struct State {
            const std::function<bool(sd_bus_message*)>& wanted;
            bool seen = false;
        } state{wanted};
        sd_bus_slot* slot = nullptr;
        require(sd_bus_add_match(
                    bus_, &slot, match,
                    [](sd_bus_message* message, void* data, sd_bus_error*) {
                        auto& waiting = *static_cast<State*>(data);
                        waiting.seen = waiting.seen || waiting.wanted(message);
                        return 0;
                    },
                    &state),
                "match");
        cause();
        while (!state.seen) turn();
        sd_bus_slot_unref(slot);
    }

private:
    void turn() {
        const int did = sd_bus_process(bus_, nullptr);
        require(did, "process");
        if (did == 0) require(sd_bus_wait(bus_, call_timeout_us), "wait");
    }
    sd_bus* bus_ = nullptr;
};

inline std::string definition(int number, const std::string& extra = "") {
    return fmt::format(
        "<domain type='qemu'><name>bench-{0}</name><uuid>00000000-0000-4000-8000-{0:012x}</uuid>"
        "<memory unit='MiB'>64</memory><vcpu>1</vcpu><os><type arch='x86_64' machine='q35'>hvm</type></os>"
        "<devices>{1}</devices></domain>",
        number, extra);
}

inline const std::string bare_devices = "<controller type='usb' model='none'/><memballoon model='none'/>";

inline std::string path_of(int number) {
    return fmt::format("{}/domain/00000000_0000_4000_8000_{:012x}", root, number);
}

class Table {
public:
    void head() {
        fmt::print("| {:<58} | {:>12} | {:<34} |\n|{:-<60}|{:->13}:|{:-<36}|\n", "what", "measured", "beside", "", "",
                   "");
    }
    void row(const std::string& what, const std::string& figure, const std::string& floor = "") {
        fmt::print("| {:<58} | {:>12} | {:<34} |\n", what, figure, floor);
        std::fflush(stdout);
    }
};

inline std::string ms(double value) {
    return fmt::format("{:.2f} ms", value);
}

}  // namespace virtbus::bench
