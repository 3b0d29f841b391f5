// SPDX-License-Identifier: LGPL-2.1-or-later
#include "network/dnsmasq_process.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <csignal>
#include <cstring>
#include <sstream>

#include "network/dnsmasq_config.hpp"
#include "network/folder_watch.hpp"
#include "virtbus/error.hpp"

namespace virtbus::network {

namespace {

using namespace std::string_view_literals;

constexpr std::string_view errors_place = "/errors";
constexpr std::size_t words_limit = 300;
constexpr Duration patience{5000};
// Of <linux/capability.h>: privileged ports; ARP entries for clients without an address and binding to a device; ICMP.
constexpr std::uint64_t bind_service = 1U << 10U, net_admin = 1U << 12U, net_raw = 1U << 13U;

/// Short files that are not trusted: no link, nothing that blocks.
std::string read_short(const std::string& path) {
    const Fd file{::open(path.c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC)};
    struct stat facts{};
    if (!file || ::fstat(file.get(), &facts) != 0 || !S_ISREG(facts.st_mode)) return {};
    std::array<char, 8192> buffer{};
    const auto got = ::read(file.get(), buffer.data(), buffer.size());
    return got > 0 ? std::string{buffer.data(), static_cast<std::size_t>(got)} : std::string{};
}

std::string proc_file(std::uint32_t pid, std::string_view name) {
    return read_short(fmt::format("/proc/{}/{}", pid, name));
}

/// Field 22 of its stat; the second is the program's name in brackets and may hold anything.
std::uint64_t start_time_of(std::uint32_t pid) {
    const auto stat = proc_file(pid, "stat");
    const auto name_end = stat.rfind(')');
    if (name_end == std::string::npos) return 0;
    std::istringstream rest{stat.substr(name_end + 1)};
    std::string word;
    for (int field = 3; field < 22; ++field) rest >> word;
    std::uint64_t time = 0;
    rest >> time;
    return time;
}

std::string config_word(const std::string& folder) {
    return fmt::format("--conf-file={}{}", folder, dnsmasq_place::config);
}

/// The unit it runs in, when its manager has put it in one of ours.
std::string unit_of(std::uint32_t pid) {
    std::istringstream lines{proc_file(pid, "cgroup")};
    for (std::string line; std::getline(lines, line);) {
        const auto name = line.substr(line.rfind('/') + 1);
        if (name.starts_with("virtbus-network-") && name.ends_with(".service")) return name;
    }
    return {};
}

/// What the folder says, if that process really serves from it.
DnsmasqRecord recorded_in(const std::string& folder) {
    const auto text = read_short(folder + std::string{dnsmasq_place::pid_file});
    DnsmasqRecord record;
    std::from_chars(text.data(), text.data() + text.size(), record.pid);
    if (record.pid == 0) return {};
    const auto command = proc_file(record.pid, "cmdline");
    if (command.find('\0' + config_word(folder) + '\0') == std::string::npos) return {};
    record.start_time = start_time_of(record.pid);
    record.unit = unit_of(record.pid);
    return record;
}

std::string last_words(const std::string& folder) {
    std::istringstream lines{read_short(folder + std::string{errors_place})};
    std::string last;
    for (std::string line; std::getline(lines, line);)
        if (!line.empty()) last = line.substr(0, words_limit);
    constexpr std::string_view itself = "dnsmasq: ";
    if (last.starts_with(itself)) last.erase(0, itself.size());
    for (char& c : last)
        if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = '?';
    return last;
}

/// Of its exit codes, for what it only says where nobody here listens: after its start it talks to syslog.
std::string_view meaning_of(int code) {
    constexpr std::array meanings{""sv, ": its configuration is wrong"sv, ": a port or address cannot be had"sv,
                                  ": a file or folder cannot be used"sv, ": no memory"sv};
    return code > 0 && static_cast<std::size_t>(code) < meanings.size() ? meanings[static_cast<std::size_t>(code)]
                                                                        : ""sv;
}

/// It says so only to syslog, and late.
void require_folders(const std::string& network, const std::vector<std::string>& folders) {
    for (const auto& path : folders) {
        struct stat facts{};
        if (::stat(path.c_str(), &facts) != 0 || !S_ISDIR(facts.st_mode))
            throw Error{Code::unsupported_configuration,
                        fmt::format("Network '{}': the TFTP root {} is no folder of this host", network, path)};
    }
}

/// Ends when the files have been read, or without them its pid file is written. Both come after its sockets are bound;
/// the files are read when it has become who it will be and answers.
class Serving {
public:
    Serving(Loop& loop, const std::string& folder, const std::string& read_last)
        : reply_{loop},
          watch_{loop, read_last.empty() ? folder + std::string{dnsmasq_place::run} : folder,
                 [promise = reply_.promise(), read_last](const std::string& file, unsigned events) {
                     const bool read = !read_last.empty() && file == read_last && (events & file_read);
                     if (read || (read_last.empty() && file == "pid" && (events & file_closed))) promise.set();
                 }} {}
    Reply<>& reply() { return reply_; }

private:
    Reply<> reply_;
    FolderWatch watch_;
};

UnitRequest request_of(const DnsmasqOrder& order, int output) {
    UnitRequest request;
    request.driver = "network";
    request.id = order.id;
    request.name = order.name;
    request.description = fmt::format("DHCP and DNS of the network {}", order.name);
    request.argv = {order.program, "--keep-in-foreground", config_word(order.folder)};
    request.output = output;
    request.network = true;
    request.account = order.account;
    if (!order.account.empty()) request.capabilities = bind_service | net_admin | net_raw;
    request.writable = {order.folder + std::string{dnsmasq_place::run}};
    request.shared = order.readable;
    return request;
}

}  // namespace

Task<std::shared_ptr<DnsmasqProcess>> DnsmasqProcess::start(Ports& ports, DnsmasqOrder order, Deadline deadline,
                                                            std::stop_token stop) {
    if (!order.readable.empty())
        co_await ports.workers.run(
            "looking for the TFTP root",
            [name = order.name, folders = order.readable] { require_folders(name, folders); }, deadline, stop);
    ports.files.remove_volatile(order.folder + std::string{dnsmasq_place::pid_file});
    const auto path = order.folder + std::string{errors_place};
    Fd errors{::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_NOFOLLOW | O_CLOEXEC, 0600)};
    if (!errors) throw Error{Code::internal, fmt::format("opening {}: {}", path, std::strerror(errno))};
    Serving serving{ports.loop, order.folder, order.read_last};
    auto unit = co_await ports.units.start(request_of(order, errors.get()), deadline, stop);
    const auto process = std::make_shared<DnsmasqProcess>(ports, order.folder, std::move(unit));
    process->waiting_.push_back(serving.reply().promise());
    std::exception_ptr failure;
    try {
        co_await serving.reply().wait(fmt::format("The start of dnsmasq for network '{}'", order.name), deadline, stop);
    } catch (const Error&) {
        failure = std::current_exception();
    }
    if (!failure && !process->gone_) co_return process;
    if (failure) {
        co_await process->end(false, in(patience));
        std::rethrow_exception(failure);
    }
    throw Error{Code::hypervisor_failed, fmt::format("dnsmasq of network '{}' ended at its start: {}", order.name,
                                                     co_await process->how_it_ended(in(patience)))};
}

std::shared_ptr<DnsmasqProcess> DnsmasqProcess::find(Ports& ports, const std::string& folder,
                                                     const DnsmasqRecord& record) {
    auto unit = ports.units.adopt(record.pid, record.start_time, record.unit);
    if (!unit) {
        const auto other = recorded_in(folder);
        unit = ports.units.adopt(other.pid, other.start_time, other.unit);
    }
    return unit ? std::make_shared<DnsmasqProcess>(ports, folder, std::move(*unit)) : nullptr;
}

DnsmasqProcess::DnsmasqProcess(Ports& ports, std::string folder, Unit unit)
    : ports_{ports},
      folder_{std::move(folder)},
      unit_{std::move(unit)},
      record_{unit_.pid, start_time_of(unit_.pid), unit_.name} {
    watch_ = ports_.loop.watch(unit_.pidfd.get(), readable, [this](unsigned) {
        const auto self = shared_from_this();
        self->watch_.reset();
        self->gone_ = true;
        for (const auto& waiting : std::exchange(self->waiting_, {})) waiting.set();
        if (self->when_gone_) std::exchange(self->when_gone_, nullptr)();
    });
}

Task<> DnsmasqProcess::wait_gone(Deadline deadline) {
    if (gone_) co_return;
    Reply<> reply{ports_.loop};
    waiting_.push_back(reply.promise());
    co_await reply.wait(fmt::format("The end of dnsmasq, process {},", record_.pid), deadline);
}

Task<> DnsmasqProcess::reload(std::string read_last, Deadline deadline) {
    if (read_last.empty()) co_return;
    const auto self = shared_from_this();
    Serving serving{ports_.loop, folder_, read_last};
    waiting_.push_back(serving.reply().promise());
    ::syscall(SYS_pidfd_send_signal, unit_.pidfd.get(), SIGHUP, nullptr, 0);
    co_await serving.reply().wait(fmt::format("The reload of dnsmasq, process {},", record_.pid), deadline);
    if (gone_) throw Error{Code::hypervisor_failed, "dnsmasq ended when it was to read its files again"};
}

void DnsmasqProcess::kill() {
    if (!gone_) ports_.units.kill(unit_, false);
}

Task<> DnsmasqProcess::end(bool graceful, Deadline deadline) {
    const auto self = shared_from_this();
    if (!gone_) ports_.units.kill(unit_, graceful);
    co_await wait_gone(deadline);
    co_await ports_.units.exit_status(record_.unit, record_.pid, deadline);
}

Task<std::string> DnsmasqProcess::how_it_ended(Deadline deadline) {
    const auto self = shared_from_this();
    std::string how;
    try {
        const auto status = co_await ports_.units.exit_status(record_.unit, record_.pid, deadline);
        if (status.known)
            how = status.signal ? fmt::format("killed by signal {}", status.signal)
                                : fmt::format("exit code {}{}", status.code, meaning_of(status.code));
    } catch (const Error&) {
        // Its manager does not say; its own words have to do.
    }
    const auto words = last_words(folder_);
    if (how.empty()) how = "nobody knows how";
    co_return words.empty() ? how : fmt::format("{} ({})", words, how);
}

}  // namespace virtbus::network
