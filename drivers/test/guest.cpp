// SPDX-License-Identifier: LGPL-2.1-or-later
#include "test/guest.hpp"

#include <fmt/format.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <charconv>

#include "test/picture.hpp"
#include "test/saved_state.hpp"
#include "virtbus/error.hpp"

namespace virtbus::test_driver {

namespace {

constexpr std::string_view record_magic = "test 1 ";

std::vector<std::string_view> words_of(std::string_view text) {
    std::vector<std::string_view> words;
    while (!text.empty()) {
        const auto word = text.substr(0, text.find(' '));
        words.push_back(word);
        text.remove_prefix(std::min(word.size() + 1, text.size()));
    }
    return words;
}

bool is_key(std::string_view key) {
    static constexpr std::array named{
        std::string_view{"ENTER"},     std::string_view{"ESC"},        std::string_view{"TAB"},
        std::string_view{"SPACE"},     std::string_view{"UP"},         std::string_view{"DOWN"},
        std::string_view{"LEFT"},      std::string_view{"RIGHT"},      std::string_view{"HOME"},
        std::string_view{"END"},       std::string_view{"PAGEUP"},     std::string_view{"PAGEDOWN"},
        std::string_view{"INSERT"},    std::string_view{"DELETE"},     std::string_view{"BACKSPACE"},
        std::string_view{"SYSRQ"},     std::string_view{"LEFTCTRL"},   std::string_view{"LEFTALT"},
        std::string_view{"LEFTSHIFT"}, std::string_view{"LEFTMETA"},   std::string_view{"RIGHTCTRL"},
        std::string_view{"RIGHTALT"},  std::string_view{"RIGHTSHIFT"}, std::string_view{"MINUS"},
        std::string_view{"EQUAL"},     std::string_view{"COMMA"},      std::string_view{"DOT"},
        std::string_view{"SLASH"}};
    if (!key.starts_with("KEY_")) return false;
    key.remove_prefix(4);
    if (key.size() == 1) return (key[0] >= 'A' && key[0] <= 'Z') || (key[0] >= '0' && key[0] <= '9');
    if (key.size() <= 3 && key[0] == 'F') {
        int number = 0;
        const auto [end, error] = std::from_chars(key.data() + 1, key.data() + key.size(), number);
        return error == std::errc{} && end == key.data() + key.size() && number >= 1 && number <= 24;
    }
    return std::find(named.begin(), named.end(), key) != named.end();
}

}  // namespace

std::string encode(const GuestRecord& record) {
    auto text = fmt::format("{}{} {} {} {}", record_magic, record.booted_at, record.ends_at, record.paused ? 1 : 0,
                            record.end.reason.empty() ? "-" : record.end.reason);
    for (const auto& [alias, when] : record.leaving) text += fmt::format(" {} {}", alias, when);
    return text;
}

GuestRecord decode_record(const std::string& text) {
    const auto words = words_of(text.starts_with(record_magic) ? std::string_view{text}.substr(record_magic.size())
                                                               : std::string_view{});
    if (words.size() < 4 || words.size() % 2 == 1)
        throw Error{Code::internal, "the recorded state is not of this version of the test driver"};
    const auto number = [](std::string_view word) {
        std::uint64_t value = 0;
        std::from_chars(word.data(), word.data() + word.size(), value);
        return value;
    };
    GuestRecord record;
    record.booted_at = number(words[0]);
    record.ends_at = number(words[1]);
    record.paused = words[2] == "1";
    record.end = {std::string{words[3]}, {}};
    for (std::size_t i = 4; i < words.size(); i += 2)
        record.leaving.emplace(std::string{words[i]}, number(words[i + 1]));
    return record;
}

TestGuest::TestGuest(Loop& loop, Clock& clock, ImageShelf& shelf, GuestEvents& events, DomainConfig config,
                     Behaviour behaviour, GuestRecord record)
    : loop_{loop},
      clock_{clock},
      shelf_{shelf},
      events_{events},
      config_{std::move(config)},
      behaviour_{std::move(behaviour)},
      record_{std::move(record)} {
    follow_chains();
    arm_end();
    for (const auto& [alias, when] : record_.leaving) arm_leaving(alias);
    if (behaviour_.unresponsive) later([this] { events_.responsive_changed(false); });
}

void TestGuest::later(std::function<void()> work) {
    loop_.post([weak = std::weak_ptr{alive_}, work = std::move(work)] {
        if (!weak.expired()) work();
    });
}

void TestGuest::end_at(std::uint64_t when, GuestEnd end) {
    record_.ends_at = when;
    record_.end = std::move(end);
    arm_end();
}

void TestGuest::arm_end() {
    end_timer_.reset();
    if (record_.ends_at == 0) return;
    const auto now = clock_.now();
    const auto left = record_.ends_at > now ? (record_.ends_at - now + 999) / 1000 : 0;
    end_timer_ = loop_.after(Duration{left}, [this] {
        gone_ = true;
        for (auto& hanging : std::exchange(hanging_, {}))
            hanging.fail(Error{Code::hypervisor_failed, fmt::format("test domain '{}' has ended", config_.name)});
        for (auto& [alias, waiting] : std::exchange(waiting_for_device_, {}))
            waiting.fail(Error{Code::hypervisor_failed, fmt::format("test domain '{}' has ended", config_.name)});
        leaving_timers_.clear();
        consoles_.clear();
        saving_.request_stop();
        auto end = record_.end;
        events_.ended(std::move(end));
    });
}

Task<> TestGuest::reach() {
    if (gone_) throw Error{Code::hypervisor_failed, fmt::format("test domain '{}' has ended", config_.name)};
    if (!behaviour_.hang_verbs) co_return;
    Reply<> never{loop_};
    hanging_.push_back(never.promise());
    co_await never.wait("a verb that hangs", std::nullopt);
}

Task<> TestGuest::resume(std::stop_token) {
    co_await reach();
    record_.paused = false;
    later([this, reason = std::exchange(resume_reason_, "user")] { events_.state_changed(State::running, reason); });
}

Task<> TestGuest::suspend(std::stop_token) {
    co_await reach();
    record_.paused = true;
    later([this] { events_.state_changed(State::paused, "user"); });
}

void TestGuest::require_mode(const ShutdownMode& mode) const {
    if (mode == "agent")
        throw Error{Code::agent_unavailable,
                    fmt::format("test domain '{}' has no guest agent; use mode 'acpi'", config_.name)};
}

Task<> TestGuest::shutdown(ShutdownMode mode, std::stop_token) {
    require_mode(mode);
    co_await reach();
    // A guest that does not run sees no button.
    if (behaviour_.hang_shutdown || record_.paused) co_return;
    later([this] { events_.state_changed(State::shutdown, "shutdown"); });
    end_at(clock_.now() + static_cast<std::uint64_t>(behaviour_.shutdown_delay.count()) * 1000, {"shutdown", {}});
}

Task<> TestGuest::reboot(ShutdownMode mode, std::stop_token) {
    require_mode(mode);
    co_await reach();
    if (!record_.paused) later([this] { events_.rebooted(); });
}

Task<> TestGuest::reset(std::stop_token) {
    co_await reach();
    record_.booted_at = clock_.now();
    later([this] { events_.rebooted(); });
}

Task<> TestGuest::inject_nmi(std::stop_token) {
    co_await reach();
}

Task<> TestGuest::save(Fd target, ProgressSink progress, std::stop_token stop, bool live) {
    co_await reach();
    const auto halt = [this] {
        if (!record_.paused) later([this] { events_.state_changed(State::paused, "save"); });
        record_.paused = true;
    };
    if (!live) halt();
    std::stop_source ended;
    const std::stop_callback passed_on{stop, [&ended] { ended.request_stop(); }};
    saving_ = ended;
    auto halted = record_;
    halted.paused = true;
    co_await write_state(loop_, std::move(target), encode(halted), behaviour_, std::move(progress), ended.get_token());
    if (live) halt();
    if (gone_) throw Error{Code::hypervisor_failed, fmt::format("test domain '{}' has ended", config_.name)};
}

Task<> TestGuest::undo_save(bool running) {
    co_await reach();
    if (!running) co_return;
    record_.paused = false;
    later([this] { events_.state_changed(State::running, "save-canceled"); });
}

void TestGuest::kill(bool graceful) {
    if (gone_ || behaviour_.ignore_kill) return;
    if (killed_at_ == 0) killed_at_ = clock_.now();
    constexpr std::uint64_t last_breath = 10'000;
    const auto stays = static_cast<std::uint64_t>(behaviour_.ignore_kill_for.count()) * 1000;
    end_at(killed_at_ + stays + (graceful ? last_breath : 0), {"destroyed", {}});
}

Task<Stats> TestGuest::stats(std::stop_token) {
    if (behaviour_.unresponsive) {
        Reply<> never{loop_};
        hanging_.push_back(never.promise());
        co_await never.wait("the statistics of a guest that does not answer", std::nullopt);
    }
    co_await reach();
    const auto micros = clock_.now() - record_.booted_at;
    Stats stats;
    stats["cpu.time"] = micros * 100;
    stats["cpu.user"] = micros * 60;
    stats["cpu.system"] = micros * 40;
    stats["balloon.current"] = config_.current_memory.value_or(config_.memory.value_or(0));
    stats["balloon.maximum"] = config_.memory.value_or(0);
    stats["block.count"] = static_cast<std::uint32_t>(config_.devices.disks.size());
    for (std::size_t i = 0; i < config_.devices.disks.size(); ++i) {
        stats[fmt::format("block.{}.name", i)] = config_.devices.disks[i].target.dev;
        stats[fmt::format("block.{}.rd.bytes", i)] = micros / 10 * 512;
        stats[fmt::format("block.{}.wr.bytes", i)] = micros / 20 * 512;
    }
    stats["net.count"] = static_cast<std::uint32_t>(config_.devices.interfaces.size());
    for (std::size_t i = 0; i < config_.devices.interfaces.size(); ++i) {
        stats[fmt::format("net.{}.rx.bytes", i)] = micros / 10;
        stats[fmt::format("net.{}.tx.bytes", i)] = micros / 20;
    }
    co_return stats;
}

Task<> TestGuest::send_key(std::vector<std::string> keys, std::stop_token) {
    constexpr std::size_t most_keys = 16;
    if (keys.empty() || keys.size() > most_keys)
        throw Error{Code::invalid_args,
                    fmt::format("{} keys are given; 1 to {} can be pressed at once", keys.size(), most_keys)};
    for (const auto& key : keys)
        if (!is_key(key))
            throw Error{Code::invalid_args,
                        fmt::format("there is no key '{}'; names are like KEY_A, KEY_F1, KEY_ENTER", key)};
    co_await reach();
}

Task<Screenshot> TestGuest::screenshot(std::uint32_t screen, std::stop_token) {
    if (screen != 0)
        throw Error{Code::invalid_args,
                    fmt::format("test domain '{}' has no screen {}; it has screen 0", config_.name, screen)};
    co_await reach();
    co_return Screenshot{test_picture()};
}

std::string TestGuest::console_name(const std::string& name) const {
    std::vector<std::string> names;
    for (const auto& serial : config_.devices.serials) names.push_back(serial.info.alias);
    for (const auto& console : config_.devices.consoles) names.push_back(console.info.alias);
    for (const auto& parallel : config_.devices.parallels) names.push_back(parallel.info.alias);
    for (const auto& channel : config_.devices.channels) {
        if (channel.target && !name.empty() && channel.target->name == name) return channel.info.alias;
        names.push_back(channel.info.alias);
    }
    if (name.empty() && !names.empty()) return names.front();
    if (std::find(names.begin(), names.end(), name) != names.end() && !name.empty()) return name;
    throw Error{Code::no_such_device, fmt::format("test domain '{}' has no console '{}'; it has: {}", config_.name,
                                                  name, fmt::join(names, ", "))};
}

Task<Fd> TestGuest::open_console(std::string name, bool force, std::stop_token) {
    const auto device = console_name(name);
    co_await reach();
    const auto there = consoles_.find(device);
    if (there != consoles_.end() && there->second.open() && !force)
        throw Error{Code::device_in_use,
                    fmt::format("console '{}' of test domain '{}' is open already; 'force' takes it over", device,
                                config_.name)};
    if (there != consoles_.end()) consoles_.erase(there);
    auto [console, fresh] =
        consoles_.emplace(std::piecewise_construct, std::forward_as_tuple(device), std::forward_as_tuple(loop_));
    co_return console->second.connect(fmt::format("Connected to {} of test domain {}\r\n", device, config_.name));
}

Task<Fd> TestGuest::open_display(std::string type, std::stop_token) {
    const auto& graphics = config_.devices.graphics;
    const auto shown = std::find_if(graphics.begin(), graphics.end(),
                                    [&](const Graphics& each) { return type.empty() || word(each.type) == type; });
    if (shown == graphics.end() || shown->type != GraphicsType::vnc)
        throw Error{Code::unsupported,
                    fmt::format("test domain '{}' has no display '{}'; the test driver knows 'vnc', when "
                                "the definition has it",
                                config_.name, type)};
    co_await reach();
    int ends[2];
    if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0)
        throw Error{Code::internal, "no socket pair for the display"};
    const Fd own{ends[0]};
    constexpr std::string_view greeting = "RFB 003.008\n";
    (void)!::write(own.get(), greeting.data(), greeting.size());
    co_return Fd{ends[1]};
}

}  // namespace virtbus::test_driver
