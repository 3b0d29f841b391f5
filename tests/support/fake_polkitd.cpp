// SPDX-License-Identifier: LGPL-2.1-or-later
// fake_polkitd RULES LOG: owns org.freedesktop.PolicyKit1 on the system bus of the environment and answers from a file
// of rules, read anew for every question. Prints "ready" once it owns the name. A rule is one line, the first that
// matches answers, no match is a denial:
//
//     [challenge|hold] UID|* ACTION|* [DETAIL=VALUE ...]
//
// Plain: allowed. challenge: allowed when the question lets a dialogue appear, else a challenge. hold: answered (as
// allowed) only by the method Release on org.virtbus.FakePolkit; cancelling ends it, too. A line "delay MS" makes every
// answer late. Each question and each cancelling is one line in the log.
#include <glib.h>
#include <sdbus-c++/sdbus-c++.h>

#include <charconv>
#include <fstream>
#include <iostream>
#include <list>
#include <map>
#include <sstream>

#include "systemd/bus_source.hpp"

namespace {

using Details = std::map<std::string, std::string>;
using Subject = sdbus::Struct<std::string, std::map<std::string, sdbus::Variant>>;
using Answer = sdbus::Struct<bool, bool, Details>;
using Result = sdbus::Result<Answer>;

struct Question {
    std::string subject;
    std::uint32_t uid = 0;
    std::string action;
    Details details;
    bool interactive = false;
    std::string cancellation;
};

enum class Ruling { denied, allowed, challenge, held };

struct Rules {
    explicit Rules(const std::string& path) : file{path} {}

    Ruling judge(const Question& question, unsigned& delay) {
        std::string line;
        auto ruling = Ruling::denied;
        bool found = false;
        while (std::getline(file, line)) {
            std::istringstream words{line};
            std::string word;
            if (!(words >> word) || word.front() == '#') continue;
            if (word == "delay") {
                words >> delay;
                continue;
            }
            auto candidate = Ruling::allowed;
            if (word == "challenge") candidate = question.interactive ? Ruling::allowed : Ruling::challenge;
            if (word == "hold") candidate = Ruling::held;
            if (word == "challenge" || word == "hold") words >> word;
            if (!found && matches(question, word, words)) {
                found = true;
                ruling = candidate;
            }
        }
        return ruling;
    }

    static bool matches(const Question& question, const std::string& uid, std::istream& words) {
        std::string action, detail;
        words >> action;
        if (uid != "*" && uid != std::to_string(question.uid)) return false;
        if (action != "*" && action != question.action) return false;
        while (words >> detail) {
            const auto equals = detail.find('=');
            const auto found = question.details.find(detail.substr(0, equals));
            if (found == question.details.end() || found->second != detail.substr(equals + 1)) return false;
        }
        return true;
    }

    std::ifstream file;
};

class FakePolkit {
public:
    FakePolkit(sdbus::IConnection& connection, std::string rules, const std::string& log)
        : rules_{std::move(rules)}, log_{log, std::ios::app} {
        bus_ = sdbus::createProxy(connection, "org.freedesktop.DBus", "/org/freedesktop/DBus");
        object_ = sdbus::createObject(connection, "/org/freedesktop/PolicyKit1/Authority");
        const std::string authority{"org.freedesktop.PolicyKit1.Authority"};
        object_->registerMethod("CheckAuthorization")
            .onInterface(authority)
            .implementedAs([this](Result&& result, Subject subject, std::string action, Details details,
                                  std::uint32_t flags, std::string cancellation) {
                Question question{describe(subject),  uid_of(subject),  std::move(action),
                                  std::move(details), (flags & 1) != 0, std::move(cancellation)};
                answer(std::move(question), std::move(result));
            });
        object_->registerMethod("CancelCheckAuthorization")
            .onInterface(authority)
            .implementedAs([this](std::string id) { cancel(id); });
        object_->registerProperty("BackendName").onInterface(authority).withGetter([] { return std::string{"fake"}; });
        object_->registerProperty("BackendVersion").onInterface(authority).withGetter([] { return std::string{"1"}; });
        object_->registerProperty("BackendFeatures").onInterface(authority).withGetter([] { return std::uint32_t{0}; });
        object_->registerSignal("Changed").onInterface(authority);
        object_->registerMethod("Release").onInterface("org.virtbus.FakePolkit").implementedAs([this] { release(); });
        object_->finishRegistration();
    }

private:
    struct Held {
        std::string cancellation;
        Result result;
    };
    struct Late {
        Result result;
        Answer answer;
    };

    static std::string describe(const Subject& subject) {
        const auto& details = subject.get<1>();
        if (subject.get<0>() == "system-bus-name") return "bus:" + details.at("name").get<std::string>();
        return "process:" + std::to_string(details.at("pid").get<std::uint32_t>()) + "@" +
               std::to_string(details.at("start-time").get<std::uint64_t>());
    }

    std::uint32_t uid_of(const Subject& subject) {
        const auto& details = subject.get<1>();
        if (subject.get<0>() != "system-bus-name")
            return static_cast<std::uint32_t>(details.at("uid").get<std::int32_t>());
        std::uint32_t uid = 0;
        bus_->callMethod("GetConnectionUnixUser")
            .onInterface("org.freedesktop.DBus")
            .withArguments(details.at("name").get<std::string>())
            .storeResultsTo(uid);
        return uid;
    }

    void answer(Question question, Result&& result) {
        unsigned delay = 0;
        const auto ruling = Rules{rules_}.judge(question, delay);
        static constexpr const char* words[]{"denied", "allowed", "challenge", "held"};
        log_ << "check uid=" << question.uid << " subject=" << question.subject << " action=" << question.action
             << " interactive=" << question.interactive << " ruling=" << words[static_cast<int>(ruling)];
        for (const auto& [key, value] : question.details) log_ << ' ' << key << '=' << value;
        log_ << std::endl;
        if (ruling == Ruling::held) {
            held_.push_back({std::move(question.cancellation), std::move(result)});
            return;
        }
        const Answer said{ruling == Ruling::allowed, ruling == Ruling::challenge, Details{}};
        if (!delay) {
            result.returnResults(said);
            return;
        }
        g_timeout_add_full(
            G_PRIORITY_DEFAULT, delay,
            [](void* data) -> gboolean {
                auto& late = *static_cast<Late*>(data);
                late.result.returnResults(late.answer);
                return G_SOURCE_REMOVE;
            },
            new Late{std::move(result), said}, [](void* data) { delete static_cast<Late*>(data); });
    }

    void cancel(const std::string& id) {
        log_ << "cancel" << std::endl;
        for (auto held = held_.begin(); held != held_.end();) {
            if (held->cancellation != id) {
                ++held;
                continue;
            }
            held->result.returnError(sdbus::Error{"org.freedesktop.PolicyKit1.Error.Cancelled", "Cancelled"});
            held = held_.erase(held);
        }
    }

    void release() {
        for (auto& held : held_) held.result.returnResults(Answer{true, false, Details{}});
        held_.clear();
    }

    std::string rules_;
    std::ofstream log_;
    std::unique_ptr<sdbus::IProxy> bus_;
    std::unique_ptr<sdbus::IObject> object_;
    std::list<Held> held_;
};

}  // namespace

int main(int argc, char** argv) {
    if (argc != 3) {
        std::cerr << "usage: fake_polkitd RULES LOG\n";
        return 2;
    }
    auto connection = sdbus::createSystemBusConnection();
    FakePolkit polkit{*connection, argv[1], argv[2]};
    const virtbus::systemd::BusSource source{*connection};
    connection->requestName("org.freedesktop.PolicyKit1");
    std::cout << "ready" << std::endl;
    auto* loop = g_main_loop_new(nullptr, FALSE);
    g_main_loop_run(loop);
}
