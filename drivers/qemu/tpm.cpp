// SPDX-License-Identifier: LGPL-2.1-or-later
#include "qemu/tpm.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <filesystem>

#include "qemu/guest.hpp"
#include "qemu/guest_record.hpp"
#include "qemu/opening.hpp"
#include "qemu/tpm_talk.hpp"

namespace virtbus::qemu {

namespace {

std::string who(const std::string& domain) {
    return fmt::format("the TPM emulator (swtpm) of domain '{}'", domain);
}

bool is_version_2(const Tpm& tpm) {
    return tpm.backend.version != "1.2";
}

bool names_banks(const TpmBackend& backend) {
    return backend.sha1 || backend.sha256 || backend.sha384 || backend.sha512;
}

/// Without a word about them, the one bank that no guest of today does without: each further one is work at every
/// measurement.
TpmBackend wanted_banks(TpmBackend backend) {
    if (!names_banks(backend)) backend.sha256 = true;
    return backend;
}

std::pair<Fd, Fd> socket_pair() {
    std::array<int, 2> ends{};
    if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()) < 0)
        throw Error{Code::internal, fmt::format("no socket for a TPM: {}", std::strerror(errno))};
    return {Fd{ends[0]}, Fd{ends[1]}};
}

std::uint64_t size_of(const Fd& fd) {
    struct stat info{};
    return ::fstat(fd.get(), &info) == 0 ? static_cast<std::uint64_t>(info.st_size) : 0;
}

}  // namespace

const Tpm* emulated_tpm(const DomainConfig& config) {
    for (const auto& tpm : config.devices.tpms)
        if (tpm.backend.type == "emulator") return &tpm;
    return nullptr;
}

std::string tpm_problem(const DomainConfig& config, const TpmProgram& program) {
    const Tpm* tpm = emulated_tpm(config);
    if (tpm && tpm->backend.profile) return "tpm: <profile> is of swtpm 0.10 and newer, which is not served yet";
    if (!tpm || ::access(program.path.c_str(), X_OK) == 0) return {};
    return fmt::format("tpm: the emulator {} is not installed (package swtpm)", program.path);
}

Task<> end_left_tpm(Ports& ports, TpmRecord record) {
    if (record.pid == 0) co_return;
    const auto emulator = std::make_shared<TpmEmulator>(ports, TpmProgram{});
    emulator->adopt(std::move(record));
    co_await emulator->end();
}

TpmEmulator::TpmEmulator(Ports& ports, TpmProgram program) : ports_{ports}, program_{std::move(program)} {}

std::string TpmEmulator::last_words(const TpmRecord& record) {
    return GuestCore::last_words(record.log, record.log_start);
}

/// The state is keyed by the UUID. Above the folder that becomes the emulator's user's is one that nobody else enters,
/// so that guests, who are one user, do not reach each other's; hence the emulator gets it as a descriptor.
Task<TpmEmulator::Place> TpmEmulator::prepare(const Wish& wish) {
    const bool two = is_version_2(wish.tpm);
    const auto& source = wish.tpm.backend.source;
    const bool own = !source || source->path.empty();
    const auto parent = fmt::format("{}/tpm/{}", ports_.folders.state, wish.uuid);
    Place place;
    place.folder = own ? parent + (two ? "/tpm2" : "/tpm1.2") : source->path;
    if (own) {
        const bool there = ports_.files.exists(place.folder);
        if (!there) place.made = ports_.files.exists(parent) ? place.folder : parent;
        made_ = place.made;
        ports_.files.make_folder(parent, 0700);
        if (!there) ports_.files.make_folder(place.folder, 0700);
    }
    place.fresh = !ports_.files.exists(place.folder + (two ? "/tpm2-00.permall" : "/tpm-00.permall"));
    co_return place;
}

/// One run of the program. What it is told on its control socket is up to the caller.
Task<Fd> TpmEmulator::run(const Wish& wish, const Place& place, std::string helper) {
    const auto state = co_await wish.resources.open_file(place.folder, Access::read);
    const auto log = co_await wish.resources.open_log(wish.log);
    record_ = {.alias = wish.tpm.info.alias,
               .pid = 0,
               .start_time = 0,
               .unit = {},
               .log = wish.log,
               .log_start = size_of(log)};
    auto [ours, theirs] = socket_pair();
    UnitRequest request;
    request.driver = "qemu";
    request.id = wish.id;
    request.name = wish.domain;
    request.uuid = wish.uuid;
    request.helper = std::move(helper);
    request.description = fmt::format("TPM of virtual machine {}", wish.domain);
    request.argv = {
        program_.path, "socket", "--ctrl", "type=unixio,clientfd=3", "--tpmstate", "dir=/proc/self/fd/4,mode=0600",
        "--terminate"};
    if (is_version_2(wish.tpm)) request.argv.emplace_back("--tpm2");
    if (const auto debug = wish.tpm.backend.debug.value_or(0))
        request.argv.insert(request.argv.end(), {"--log", fmt::format("fd=1,level={}", std::min(debug, 20u))});
    request.fds = {{theirs.get(), 3}, {state.get(), 4}};
    std::array<Fd, 2> passwords;  // each is read once
    if (const auto& secret = wish.tpm.backend.encryption_secret; !secret.empty()) {
        const auto bytes = co_await wish.resources.secret(SecretRef{.type = {}, .uuid = secret, .usage = {}});
        int number = 5;
        for (const char* option : {"--key", "--migration-key"}) {
            auto& password = passwords[static_cast<std::size_t>(number - 5)];
            password = sealed_memory(bytes);
            // It is read from where the descriptor stands, and an empty password would be taken too.
            if (bytes.empty() || ::lseek(password.get(), 0, SEEK_SET) != 0)
                throw Error{Code::unsupported_configuration,
                            fmt::format("the secret {} of {} is empty or cannot be read", secret, who(wish.domain))};
            request.fds.emplace_back(password.get(), number);
            request.argv.insert(request.argv.end(), {option, fmt::format("pwdfd={},mode=aes-256-cbc", number++)});
        }
    }
    request.output = log.get();
    request.slice = wish.slice;
    // A folder that the definition names keeps its owner.
    if (place.folder.starts_with(ports_.folders.state + "/tpm/")) request.writable = {place.folder};
    take(co_await ports_.units.start(std::move(request), wish.deadline, wish.stop));
    co_return std::move(ours);
}

/// Runs a conversation on a worker; what goes wrong in it is told with the program's last words.
template <class Say>
Task<> TpmEmulator::converse(const Wish& wish, const Fd& control, Say say) {
    std::string why;
    try {
        co_await ports_.workers.run(
            fmt::format("The first answer of {}", who(wish.domain)),
            [fd = duplicate(control), say = std::move(say)] { say(fd); }, wish.deadline, wish.stop);
        co_return;
    } catch (const Error& error) {
        if (error.code() != Code::hypervisor_failed) throw;
        why = error.what();
    }
    why += co_await how_it_ended();
    const auto words = co_await ports_.workers.run(
        "reading the log", [record = record_] { return last_words(record); }, in(program_.times.kill));
    throw Error{Code::hypervisor_failed, fmt::format("{} cannot be used: {}{}{}", who(wish.domain), why,
                                                     words.empty() ? "" : "; its last words: ", words)};
}

/// For programs that die without a word; "" while it runs.
Task<std::string> TpmEmulator::how_it_ended() {
    try {
        co_await wait_gone(in(program_.times.notice));
        const auto status = co_await ports_.units.exit_status(record_.unit, record_.pid, in(program_.times.kill));
        if (status.known && status.signal != 0) co_return fmt::format(" (killed by signal {})", status.signal);
        if (status.known) co_return fmt::format(" (exit code {})", status.code);
    } catch (const Error&) {
        co_return std::string{};
    }
    co_return std::string{};
}

/// A new TPM makes its seeds by itself when it is switched on first; what is left to do is to choose its PCR banks.
/// It gets no endorsement certificate: one signed by a CA that this host made up for itself is believed by nobody, and
/// the key of that CA would have to lie where the emulator's user can read it. Guests make their endorsement key from
/// the seed, as they do where the maker has left none.
Task<> TpmEmulator::manufacture(const Wish& wish, const Place& place) {
    auto control = co_await run(wish, place, "swtpm_setup");
    co_await converse(wish, control,
                      [banks = wanted_banks(wish.tpm.backend), patience = program_.times.answer](const Fd& fd) {
                          allocate_pcr_banks(fd, banks, patience);
                      });
    control = Fd{};
    co_await end();
}

Task<Fd> TpmEmulator::start(Wish wish) {
    std::exception_ptr failure;
    Fd control;
    try {
        const auto place = co_await prepare(wish);
        if (is_version_2(wish.tpm) && (place.fresh || names_banks(wish.tpm.backend))) co_await manufacture(wish, place);
        control = co_await run(wish, place, "swtpm");
        co_await converse(wish, control,
                          [patience = program_.times.answer](const Fd& fd) { require_tpm_answers(fd, patience); });
    } catch (...) {
        failure = std::current_exception();
    }
    if (failure) {
        control = Fd{};
        co_await undo();
        std::rethrow_exception(failure);
    }
    co_return std::move(control);
}

void TpmEmulator::adopt(TpmRecord record) {
    record_ = std::move(record);
    if (auto unit = ports_.units.adopt(record_.pid, record_.start_time, record_.unit)) {
        take(std::move(*unit));
    } else {
        gone_ = true;
    }
}

void TpmEmulator::take(Unit unit) {
    unit_ = std::move(unit);
    gone_ = ending_ = false;
    record_.pid = unit_.pid;
    record_.unit = unit_.name;
    record_.start_time = process_start_time(unit_.pid);
    watch_ = ports_.loop.watch(unit_.pidfd.get(), readable, [weak = weak_from_this()](unsigned) {
        const auto self = weak.lock();
        if (!self) return;
        self->watch_.reset();
        self->gone_ = true;
        for (const auto& waiting : std::exchange(self->waiting_, {})) waiting.set();
        if (!self->ending_ && self->died_) Died{self->died_}();
    });
}

void TpmEmulator::when_dead(Died died) {
    died_ = std::move(died);
    if (gone_ && !ending_) ports_.loop.post([died = died_] { died(); });
}

Task<> TpmEmulator::wait_gone(Deadline deadline) {
    if (gone_) co_return;
    Reply<> reply{ports_.loop};
    waiting_.push_back(reply.promise());
    co_await reply.wait("the end of a TPM emulator", deadline);
}

/// Its unit is kept by the manager until somebody has asked how it ended.
Task<> TpmEmulator::clear() {
    const auto pid = record_.pid;
    if (pid != 0) co_await ports_.units.exit_status(record_.unit, pid, in(program_.times.kill));
    record_.pid = 0;
    unit_ = Unit{};
}

Task<> TpmEmulator::end() {
    const auto self = shared_from_this();
    ending_ = true;
    bool late = false;
    try {
        if (unit_.pid != 0) co_await wait_gone(in(program_.times.leave));
    } catch (const Error&) {
        late = true;
    }
    try {
        if (late) ports_.units.kill(unit_, false);
        if (late) co_await wait_gone(in(program_.times.kill));
        co_await clear();
    } catch (const Error& error) {
        ports_.log.warning(fmt::format("process {} of a TPM emulator: {}", record_.pid, error.what()));
    }
}

Task<> TpmEmulator::undo() {
    if (is_running()) ports_.units.kill(unit_, false);
    co_await end();
    co_await remove_made();
}

Task<> TpmEmulator::remove_made() {
    const auto made = std::exchange(made_, {});
    if (made.empty()) co_return;
    try {
        co_await ports_.workers.run(
            "removing the state of a TPM",
            [made] {
                std::error_code ignored;
                std::filesystem::remove_all(made, ignored);
            },
            in(program_.times.kill));
    } catch (const Error& error) {
        ports_.log.warning(fmt::format("the state {} of a TPM stays: {}", made, error.what()));
    }
}

void TpmEmulator::detach() {
    watch_.reset();
    died_ = nullptr;
}

}  // namespace virtbus::qemu
