// SPDX-License-Identifier: LGPL-2.1-or-later
#include "polkit/authority.hpp"

#include <fmt/format.h>
#include <polkit/polkit.h>

#include "polkit/start_time.hpp"
#include "virtbus/error.hpp"
#include "virtbus/reply.hpp"

namespace virtbus::polkit {

namespace {

template <class T>
std::shared_ptr<T> owned(T* object) {
    return {object, [](T* held) {
                if (held) g_object_unref(held);
            }};
}

/// Withdraws the question when the waiting frame goes, however it goes.
class Cancellable {
public:
    Cancellable() : cancellable_{g_cancellable_new()} {}
    ~Cancellable() {
        g_cancellable_cancel(cancellable_);
        g_object_unref(cancellable_);
    }
    Cancellable(const Cancellable&) = delete;
    Cancellable& operator=(const Cancellable&) = delete;
    GCancellable* get() const { return cancellable_; }

private:
    GCancellable* cancellable_;
};

Error from(GError* error) {
    Error result{Code::internal, error->message};
    g_error_free(error);
    return result;
}

/// The asynchronous functions of GIO call this with the promise they were given, also after a cancelling.
template <class T, class Finish>
void finish(void* data, Finish finish) {
    using Promise = typename Reply<std::shared_ptr<T>>::Promise;
    const std::unique_ptr<Promise> promise{static_cast<Promise*>(data)};
    GError* error = nullptr;
    auto result = owned<T>(finish(&error));
    if (result)
        promise->set(std::move(result));
    else
        promise->fail(from(error));
}

std::shared_ptr<PolkitSubject> subject_of(const Caller& caller) {
    if (caller.on_bus) return owned(polkit_system_bus_name_new(caller.name.c_str()));
    return owned(polkit_unix_process_new_for_owner(static_cast<gint>(caller.pid), caller.pid_start_time,
                                                   static_cast<gint>(caller.uid)));
}

/// The pid of a peer may be another process's by now.
bool still_there(const Caller& caller) {
    return caller.on_bus || (caller.pid && caller.pid_start_time && start_time_of(caller.pid) == caller.pid_start_time);
}

}  // namespace

SystemAuthority::SystemAuthority(Loop& loop, Log& log, PolkitOptions options)
    : loop_{loop}, log_{log}, options_{options} {}

SystemAuthority::~SystemAuthority() = default;

Task<Verdict> SystemAuthority::check(Caller caller, std::string action, std::map<std::string, std::string> details,
                                     std::stop_token stop) {
    if (caller.uid == 0 && !options_.ask_about_root) co_return Verdict::allowed;
    const auto deadline = in(caller.interactive ? options_.patience_with_dialogue : options_.patience);
    try {
        if (!authority_) co_await connect(deadline, stop);
        co_return co_await ask(caller, action, std::move(details), deadline, stop);
    } catch (const Cancelled&) {
        throw;
    } catch (const Error& error) {
        log_.warning(fmt::format("{} is denied to {} (user {}), as polkit gave no answer: {}", action, caller.name,
                                 caller.uid, error.what()));
    }
    co_return Verdict::denied;
}

Task<> SystemAuthority::connect(Deadline deadline, std::stop_token stop) {
    const Cancellable cancellable;
    {
        Reply<std::shared_ptr<GDBusConnection>> reply{loop_};
        g_bus_get(
            G_BUS_TYPE_SYSTEM, cancellable.get(),
            [](GObject*, GAsyncResult* result, void* data) {
                finish<GDBusConnection>(data, [&](GError** error) { return g_bus_get_finish(result, error); });
            },
            new auto(reply.promise()));
        const auto bus = co_await reply.wait("The connection to the system bus", deadline, stop);
        g_dbus_connection_set_exit_on_close(bus.get(), FALSE);  // guests outlive the bus, and so does their daemon
    }
    Reply<std::shared_ptr<::PolkitAuthority>> reply{loop_};
    polkit_authority_get_async(
        cancellable.get(),
        [](GObject*, GAsyncResult* result, void* data) {
            finish<::PolkitAuthority>(data, [&](GError** error) { return polkit_authority_get_finish(result, error); });
        },
        new auto(reply.promise()));
    const auto authority = co_await reply.wait("The connection to polkit", deadline, stop);
    authority_ = static_cast<::PolkitAuthority*>(g_object_ref(authority.get()));
}

Task<Verdict> SystemAuthority::ask(Caller caller, std::string action, std::map<std::string, std::string> details,
                                   Deadline deadline, std::stop_token stop) {
    if (!still_there(caller)) co_return Verdict::denied;
    const auto subject = subject_of(caller);
    const auto words = owned(polkit_details_new());
    for (const auto& [key, value] : details) polkit_details_insert(words.get(), key.c_str(), value.c_str());
    const auto flags = caller.interactive ? POLKIT_CHECK_AUTHORIZATION_FLAGS_ALLOW_USER_INTERACTION
                                          : POLKIT_CHECK_AUTHORIZATION_FLAGS_NONE;
    const Cancellable cancellable;
    Reply<std::shared_ptr<PolkitAuthorizationResult>> reply{loop_};
    polkit_authority_check_authorization(
        authority_, subject.get(), action.c_str(), words.get(), flags, cancellable.get(),
        [](GObject* authority, GAsyncResult* result, void* data) {
            finish<PolkitAuthorizationResult>(data, [&](GError** error) {
                return polkit_authority_check_authorization_finish(POLKIT_AUTHORITY(authority), result, error);
            });
        },
        new auto(reply.promise()));
    const auto answer = co_await reply.wait("polkit's answer", deadline, stop);
    if (!still_there(caller)) co_return Verdict::denied;
    if (polkit_authorization_result_get_is_authorized(answer.get())) co_return Verdict::allowed;
    // Where a dialogue was allowed and could not be shown, allowing one again helps nobody.
    const bool could_help = polkit_authorization_result_get_is_challenge(answer.get()) && !caller.interactive;
    co_return could_help ? Verdict::challenge : Verdict::denied;
}

Task<Verdict> OwnerAuthority::check(Caller caller, std::string, std::map<std::string, std::string>, std::stop_token) {
    co_return caller.uid == owner_ || caller.uid == 0 ? Verdict::allowed : Verdict::denied;
}

}  // namespace virtbus::polkit
