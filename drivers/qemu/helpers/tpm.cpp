// SPDX-License-Identifier: LGPL-2.1-or-later
#include "qemu/helpers/tpm.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <filesystem>

#include "qemu/helpers/tpm_talk.hpp"
#include "qemu/opening.hpp"

namespace virtbus::qemu {

namespace {

/// The start of a state in a single file.
constexpr std::string_view state_magic = "nilmptws";

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

TpmEmulator::TpmEmulator(Ports& ports, TpmProgram program)
    : HelperUnit{ports, program.times}, path_{std::move(program.path)} {}

/// The state is keyed by the UUID. Above the folder that becomes the emulator's user's is one that nobody else enters,
/// so that guests, who are one user, do not reach each other's; hence the emulator gets it as a descriptor.
Task<TpmEmulator::Place> TpmEmulator::prepare(const HelperOrder& order, const Tpm& tpm) {
    const bool two = is_version_2(tpm);
    const auto& source = tpm.backend.source;
    const bool own = !source || source->path.empty();
    if (source && source->type == "file") co_return co_await prepare_file(order, source->path);
    const auto parent = fmt::format("{}/tpm/{}", ports_.folders.state, order.uuid);
    Place place;
    place.path = own ? parent + (two ? "/tpm2" : "/tpm1.2") : source->path;
    if (own) {
        const bool there = ports_.files.exists(place.path);
        if (!there) place.made = ports_.files.exists(parent) ? place.path : parent;
        made_ = place.made;
        ports_.files.make_folder(parent, 0700);
        if (!there) ports_.files.make_folder(place.path, 0700);
    }
    place.fresh = !ports_.files.exists(place.path + (two ? "/tpm2-00.permall" : "/tpm-00.permall"));
    co_return place;
}

/// It is not made here: it would not be the guests' user's, who has to open it.
Task<TpmEmulator::Place> TpmEmulator::prepare_file(const HelperOrder& order, std::string path) {
    if (!ports_.files.exists(path))
        throw Error{Code::unsupported_configuration,
                    fmt::format("the state '{}' of {} is not there; make an empty file that the guests' user may write",
                                path, who(order.domain))};
    const auto file = co_await order.resources->open_file(path, Access::read_write);
    struct stat info{};
    if (::fstat(file.get(), &info) != 0 || !S_ISREG(info.st_mode))
        throw Error{Code::unsupported_configuration,
                    fmt::format("the state '{}' of {} is no plain file", path, who(order.domain))};
    // It would write a new state over whatever else stands there.
    std::array<char, state_magic.size()> start{};
    if (info.st_size != 0 && (::pread(file.get(), start.data(), start.size(), 0) != state_magic.size() ||
                              std::string_view{start.data(), start.size()} != state_magic))
        throw Error{Code::unsupported_configuration,
                    fmt::format("the file '{}' is no state of {} and would be overwritten; name the file of one, or an "
                                "empty one for a new TPM",
                                path, who(order.domain))};
    co_return Place{.path = std::move(path), .single = true, .made = {}, .fresh = info.st_size == 0};
}

/// What it is told on its control socket is up to the caller.
Task<Fd> TpmEmulator::run_on(const HelperOrder& order, const Tpm& tpm, const Place& place, std::string unit) {
    const auto state = co_await order.resources->open_file(place.path, Access::read);
    auto [ours, theirs] = helper_socket_pair();
    UnitRequest request;
    request.helper = std::move(unit);
    request.description = fmt::format("TPM of virtual machine {}", order.domain);
    request.argv = {path_,        "socket",
                    "--ctrl",     "type=unixio,clientfd=3",
                    "--tpmstate", place.single ? "backend-uri=file:///proc/self/fd/4" : "dir=/proc/self/fd/4,mode=0600",
                    "--terminate"};
    if (is_version_2(tpm)) request.argv.emplace_back("--tpm2");
    if (const auto debug = tpm.backend.debug.value_or(0))
        request.argv.insert(request.argv.end(), {"--log", fmt::format("fd=1,level={}", std::min(debug, 20u))});
    request.fds = {{theirs.get(), 3}, {state.get(), 4}};
    std::array<Fd, 2> passwords;  // each is read once
    if (const auto& secret = tpm.backend.encryption_secret; !secret.empty()) {
        const auto bytes = co_await order.resources->secret(SecretRef{.type = {}, .uuid = secret, .usage = {}});
        int number = 5;
        for (const char* option : {"--key", "--migration-key"}) {
            auto& password = passwords[static_cast<std::size_t>(number - 5)];
            password = sealed_memory(bytes);
            // It is read from where the descriptor stands, and an empty password would be taken too.
            if (bytes.empty() || ::lseek(password.get(), 0, SEEK_SET) != 0)
                throw Error{Code::unsupported_configuration,
                            fmt::format("the secret {} of {} is empty or cannot be read", secret, who(order.domain))};
            request.fds.emplace_back(password.get(), number);
            request.argv.insert(request.argv.end(), {option, fmt::format("pwdfd={},mode=aes-256-cbc", number++)});
        }
    }
    // A folder that the definition names keeps its owner.
    if (place.path.starts_with(ports_.folders.state + "/tpm/")) request.writable = {place.path};
    co_await run(order, {.program = "swtpm", .alias = tpm.info.alias}, std::move(request));
    co_return std::move(ours);
}

/// A new TPM makes its seeds by itself when it is switched on first; what is left to do is to choose its PCR banks.
/// It gets no endorsement certificate: one signed by a CA that this host made up for itself is believed by nobody, and
/// the key of that CA would have to lie where the emulator's user can read it. Guests make their endorsement key from
/// the seed, as they do where the maker has left none.
Task<> TpmEmulator::manufacture(const HelperOrder& order, const Tpm& tpm, const Place& place) {
    auto control = co_await run_on(order, tpm, place, "swtpm_setup");
    co_await converse(order, control, [banks = wanted_banks(tpm.backend), patience = times_.answer](const Fd& fd) {
        allocate_pcr_banks(fd, banks, patience);
    });
    control = Fd{};
    co_await end();
}

Task<Fd> TpmEmulator::run_answering(const HelperOrder& order, const Tpm& tpm) {
    const auto place = co_await prepare(order, tpm);
    if (is_version_2(tpm) && (place.fresh || names_banks(tpm.backend))) co_await manufacture(order, tpm, place);
    auto control = co_await run_on(order, tpm, place, "swtpm");
    co_await converse(order, control, [patience = times_.answer](const Fd& fd) { require_tpm_answers(fd, patience); });
    co_return std::move(control);
}

Task<Fd> TpmEmulator::start(HelperOrder order, Tpm tpm) {
    co_return co_await or_undo(run_answering(order, tpm));
}

Task<> TpmEmulator::undo() {
    co_await HelperUnit::undo();
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
            in(times_.kill));
    } catch (const Error& error) {
        ports_.log.warning(fmt::format("the state {} of a TPM stays: {}", made, error.what()));
    }
}

}  // namespace virtbus::qemu
