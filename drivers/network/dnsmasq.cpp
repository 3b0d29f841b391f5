// SPDX-License-Identifier: LGPL-2.1-or-later
#include "network/dnsmasq.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <pwd.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <deque>
#include <filesystem>
#include <optional>

#include "network/dnsmasq_config.hpp"
#include "network/dnsmasq_process.hpp"
#include "network/leases.hpp"
#include "virtbus/error.hpp"

namespace virtbus::network {

namespace {

using Moment = std::chrono::steady_clock::time_point;

constexpr std::array accounts{"virtbus-dnsmasq", "dnsmasq", "nobody"};
constexpr std::size_t file_limit = 16 << 20;
constexpr std::size_t ends_allowed = 3;
constexpr std::chrono::minutes ends_window{1};
constexpr Duration start_patience{10000}, end_patience{5000}, graceful_patience{1000};

/// Whose rights it gets: nobody changes but root, and the best of those there are.
std::string find_account() {
    if (::geteuid() != 0) return {};
    for (const auto* name : accounts)
        if (::getpwnam(name)) return name;
    return {};
}

std::string in_folder(const std::string& folder, std::string_view place) {
    return folder + std::string{place};
}

bool may_pass(const std::string& folder) {
    struct stat facts{};
    return ::stat(folder.c_str(), &facts) != 0 || (facts.st_mode & S_IXOTH);
}

/// The folder's own parent may be the daemon's alone; dnsmasq has to get through it. Those above are others'.
void open_way_to(const std::string& folder, const std::string& account) {
    auto parent = folder.substr(0, folder.rfind('/'));
    struct stat facts{};
    if (!may_pass(parent) && ::stat(parent.c_str(), &facts) == 0) ::chmod(parent.c_str(), facts.st_mode | 0011);
    for (; !parent.empty(); parent.erase(parent.rfind('/')))
        if (!may_pass(parent))
            throw Error{
                Code::unsupported_configuration,
                fmt::format("dnsmasq runs as user {}, who cannot get to its files in {}: others must be allowed "
                            "to pass through {} (chmod o+x)",
                            account, folder, parent)};
}

}  // namespace

struct Dnsmasq::Parts : std::enable_shared_from_this<Parts> {
    explicit Parts(Setting given) : setting{std::move(given)} {}

    const Setting setting;
    std::string account;
    NetworkConfig config;
    DnsmasqFiles files;
    DnsmasqRecord record;
    std::shared_ptr<DnsmasqProcess> process;
    std::optional<LeaseWatch> lease_watch;
    std::vector<DhcpLease> leases;
    std::string problem;
    std::deque<Moment> ends;  ///< those that nobody asked for
    bool busy = false;        ///< somebody here starts or ends it and sees himself what becomes of it
    std::stop_source reviving;
    std::vector<Reply<>::Promise> revived;
    std::optional<Scope> scope{std::in_place};

    std::string place(std::string_view what) const { return in_folder(setting.folder, what); }
    void prepare();
    void write(const DnsmasqFiles& what);
    DnsmasqFiles read_files();
    std::string read_last() const;
    Task<> run(Deadline deadline, std::stop_token stop);
    Task<> end(bool graceful, Deadline deadline);
    Task<> restart(DnsmasqFiles next, NetworkConfig next_config, Deadline deadline);
    Task<> put_back(DnsmasqFiles earlier, NetworkConfig earlier_config);
    void take(std::shared_ptr<DnsmasqProcess> next);
    void watch_leases();
    void look_at_leases();
    void set_problem(std::string text);
    void died();
    Task<> revive(std::shared_ptr<Parts> self, std::stop_token stop);
    Task<std::string> try_again(std::stop_token stop);
    Task<> be_alone();
    void free();
    void tell_moved();
    void find_process();
    Task<> remove(Deadline deadline);
    Log::Fields fields() const { return {{"NETWORK", setting.name}, {"NETWORK_UUID", setting.uuid}}; }

    /// While it lives the end of the process is nobody else's business; at its end that is looked at.
    struct Busy {
        Parts& parts;
        explicit Busy(Parts& of) : parts{of} { parts.busy = true; }
        ~Busy() { parts.free(); }
        Busy(const Busy&) = delete;
        Busy& operator=(const Busy&) = delete;
    };
};

void Dnsmasq::Parts::prepare() {
    account = find_account();
    auto& files_port = setting.ports.files;
    files_port.make_folder(setting.folder, 0755);
    if (!account.empty()) open_way_to(setting.folder, account);
    if (files_port.exists(place(dnsmasq_place::run))) return;
    files_port.make_folder(place(dnsmasq_place::run), 0700);
    // Before the folder is given away, so that this is given away with it.
    const Fd made{
        ::open(place(dnsmasq_place::lease_file).c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600)};
}

void Dnsmasq::Parts::write(const DnsmasqFiles& what) {
    for (const auto& [at, text] : {std::pair{dnsmasq_place::config, &what.config},
                                   {dnsmasq_place::hosts, &what.hosts},
                                   {dnsmasq_place::leases, &what.leases}}) {
        const auto path = place(at);
        setting.ports.files.write_volatile(path, *text, 0600);
        // Whatever the service's umask is: dnsmasq is another user. The folder is ours, so this is the file.
        if (::chmod(path.c_str(), 0644) != 0)
            throw Error{Code::internal, fmt::format("making {} readable: {}", path, std::strerror(errno))};
    }
}

/// What an earlier daemon has written, and so what the process serves.
DnsmasqFiles Dnsmasq::Parts::read_files() {
    const auto read = [this](std::string_view at) {
        return setting.ports.files.read(place(at), file_limit).value_or(std::string{});
    };
    return {read(dnsmasq_place::config), read(dnsmasq_place::hosts), read(dnsmasq_place::leases)};
}

std::string Dnsmasq::Parts::read_last() const {
    const auto at = gives_addresses(config) ? dnsmasq_place::leases : dnsmasq_place::hosts;
    return gives_addresses(config) || answers_names(config) ? std::string{at.substr(1)} : std::string{};
}

void Dnsmasq::Parts::take(std::shared_ptr<DnsmasqProcess> next) {
    process = std::move(next);
    record = process->record();
    process->when_gone([weak = weak_from_this()] {
        if (const auto self = weak.lock()) self->died();
    });
}

Task<> Dnsmasq::Parts::run(Deadline deadline, std::stop_token stop) {
    DnsmasqOrder order{setting.program, setting.folder, account, setting.id, setting.name, {}, read_last()};
    for (const auto& ip : config.ips)
        if (!ip.tftp_root.empty()) order.readable.push_back(ip.tftp_root);
    take(co_await DnsmasqProcess::start(setting.ports, std::move(order), deadline, std::move(stop)));
}

Task<> Dnsmasq::Parts::end(bool graceful, Deadline deadline) {
    const auto ending = std::exchange(process, nullptr);
    if (!ending) co_return;
    ending->when_gone(nullptr);
    bool late = false;
    try {
        co_await ending->end(graceful, graceful ? std::min(deadline, in(graceful_patience)) : deadline);
    } catch (const Error&) {
        if (!graceful) throw;
        late = true;
    }
    if (late) co_await ending->end(false, deadline);
}

void Dnsmasq::Parts::watch_leases() {
    lease_watch.emplace(setting.ports.loop, place(dnsmasq_place::run),
                        std::string{dnsmasq_place::lease_file.substr(dnsmasq_place::run.size() + 1)},
                        [this] { look_at_leases(); });
    leases = parse_leases(read_leases(place(dnsmasq_place::lease_file)), config);
}

void Dnsmasq::Parts::look_at_leases() {
    auto now = parse_leases(read_leases(place(dnsmasq_place::lease_file)), config);
    if (now == leases) return;
    leases = std::move(now);
    if (setting.leases_changed) setting.leases_changed();
}

void Dnsmasq::Parts::set_problem(std::string text) {
    if (text == problem) return;
    problem = std::move(text);
    setting.ports.loop.post([weak = weak_from_this()] {
        const auto self = weak.lock();
        if (self && self->setting.problem) self->setting.problem(self->problem);
    });
}

/// Its end, which nobody asked for.
void Dnsmasq::Parts::died() {
    if (busy) return;
    busy = true;
    reviving = std::stop_source{};
    scope->spawn(revive(shared_from_this(), reviving.get_token()));
}

/// Starts it again until it runs, or has ended once too often within the window.
Task<> Dnsmasq::Parts::revive(std::shared_ptr<Parts> self, std::stop_token stop) {
    auto& log = self->setting.ports.log;
    auto how = co_await self->process->how_it_ended(in(end_patience));
    self->process.reset();
    while (!how.empty() && !stop.stop_requested()) {
        const auto now = std::chrono::steady_clock::now();
        self->ends.push_back(now);
        while (now - self->ends.front() > ends_window) self->ends.pop_front();
        if (self->ends.size() > ends_allowed) {
            auto text = fmt::format(
                "dnsmasq of network '{}' ended {} times within a minute and is not started again; "
                "its last words: {}",
                self->setting.name, self->ends.size(), how);
            log.error(text, self->fields());
            self->set_problem(std::move(text));
            break;
        }
        log.warning(fmt::format("dnsmasq of network '{}' ended and is started again: {}", self->setting.name, how),
                    self->fields());
        how = co_await self->try_again(stop);
    }
    self->free();
}

void Dnsmasq::Parts::free() {
    busy = false;
    for (const auto& waiting : std::exchange(revived, {})) waiting.set();
    // It may have ended while that was nobody's business.
    if (process && process->is_gone() && scope) died();
}

void Dnsmasq::Parts::tell_moved() {
    // Not from inside: the owner may let go of all of this.
    setting.ports.loop.post([weak = weak_from_this()] {
        const auto self = weak.lock();
        if (self && self->setting.moved) self->setting.moved();
    });
}

/// "" when it serves, or nobody wants it any more.
Task<std::string> Dnsmasq::Parts::try_again(std::stop_token stop) {
    std::string why;
    try {
        co_await run(in(start_patience), std::move(stop));
    } catch (const Cancelled&) {
        co_return why;
    } catch (const Error& error) {
        why = error.what();
        co_return why;
    }
    tell_moved();
    co_return why;
}

/// Those who start, change or end it wait until nobody else does.
Task<> Dnsmasq::Parts::be_alone() {
    while (busy) {
        reviving.request_stop();
        Reply<> reply{setting.ports.loop};
        revived.push_back(reply.promise());
        co_await reply.wait("another change of dnsmasq", in(start_patience));
    }
}

Task<> Dnsmasq::Parts::restart(DnsmasqFiles next, NetworkConfig next_config, Deadline deadline) {
    co_await end(true, deadline);
    const auto earlier = std::exchange(files, std::move(next));
    auto earlier_config = std::exchange(config, std::move(next_config));
    std::exception_ptr failure;
    try {
        write(files);
        co_await run(deadline, {});
    } catch (const Error&) {
        failure = std::current_exception();
    }
    if (!failure) co_return;
    co_await put_back(earlier, std::move(earlier_config));
    std::rethrow_exception(failure);
}

Task<> Dnsmasq::Parts::put_back(DnsmasqFiles earlier, NetworkConfig earlier_config) {
    files = std::move(earlier);
    config = std::move(earlier_config);
    try {
        write(files);
        co_await run(in(start_patience), {});
        if (setting.moved) setting.moved();
    } catch (const Error& error) {
        set_problem(fmt::format("dnsmasq of network '{}' could not be started again after a change that failed: {}",
                                setting.name, error.what()));
        setting.ports.log.error(problem, fields());
    }
}

Dnsmasq::Dnsmasq(Setting setting) : parts_{std::make_shared<Parts>(std::move(setting))} {}

Dnsmasq::~Dnsmasq() {
    // A restart under way is left where it is: whoever looks at the folder next finds what it started.
    parts_->lease_watch.reset();
    if (parts_->process) parts_->process->when_gone(nullptr);
    const auto keep = parts_;
    keep->scope.reset();
}

Task<> Dnsmasq::start(const NetworkConfig& config, Deadline deadline, std::stop_token stop) {
    const auto parts = parts_;
    co_await parts->be_alone();
    const Parts::Busy busy{*parts};
    parts->ends.clear();
    std::exception_ptr failure;
    try {
        if (const auto left = DnsmasqProcess::find(parts->setting.ports, parts->setting.folder, parts->record))
            co_await left->end(false, deadline);
        parts->prepare();
        parts->config = config;
        parts->files = dnsmasq_files(config, parts->setting.folder, parts->account);
        parts->write(parts->files);
        parts->watch_leases();
        co_await parts->run(deadline, std::move(stop));
        if (parts->setting.moved) parts->setting.moved();
    } catch (...) {
        failure = std::current_exception();
    }
    if (!failure) co_return parts->set_problem({});
    co_await parts->remove(in(end_patience));
    std::rethrow_exception(failure);
}

Task<> Dnsmasq::adopt(const NetworkConfig& config, DnsmasqRecord record, Deadline deadline) {
    const auto parts = parts_;
    co_await parts->be_alone();
    const Parts::Busy busy{*parts};
    parts->config = config;
    parts->record = record;
    try {
        parts->prepare();
        parts->watch_leases();
        if (auto found = DnsmasqProcess::find(parts->setting.ports, parts->setting.folder, record)) {
            parts->files = parts->read_files();
            parts->take(std::move(found));
        } else {
            parts->files = dnsmasq_files(config, parts->setting.folder, parts->account);
            parts->write(parts->files);
            co_await parts->run(deadline, {});
        }
    } catch (const Error& error) {
        parts->setting.ports.log.error(error.what(), parts->fields());
        parts->set_problem(error.what());
    }
    if (parts->record != record) parts->tell_moved();
}

Task<> Dnsmasq::update(const NetworkConfig& config, Deadline deadline) {
    const auto parts = parts_;
    auto next = dnsmasq_files(config, parts->setting.folder, parts->account);
    co_await parts->be_alone();
    const Parts::Busy busy{*parts};
    const bool runs = parts->process && !parts->process->is_gone();
    if (!runs) parts->ends.clear();
    bool reloaded = runs && next == parts->files;
    if (reloaded) {
        parts->config = config;
    } else if (runs && next.config == parts->files.config) {
        try {
            parts->write(next);
            co_await parts->process->reload(parts->read_last(), deadline);
            parts->files = next;
            parts->config = config;
            reloaded = true;
        } catch (const Error& error) {
            parts->setting.ports.log.warning(
                fmt::format("dnsmasq of network '{}' is started again: {}", parts->setting.name, error.what()),
                parts->fields());
        }
    }
    if (!reloaded) {
        co_await parts->restart(std::move(next), config, deadline);
        if (parts->setting.moved) parts->setting.moved();
        parts->set_problem({});
    }
    parts->look_at_leases();
}

void Dnsmasq::begin_stop() {
    parts_->reviving.request_stop();
    if (parts_->busy) return;
    parts_->find_process();
    if (!parts_->process) return;
    parts_->process->when_gone(nullptr);
    parts_->process->kill();
}

Task<> Dnsmasq::stop(Deadline deadline) {
    const auto parts = parts_;
    co_await parts->be_alone();
    const Parts::Busy busy{*parts};
    co_await parts->remove(deadline);
}

/// Also the one that only a record speaks of.
void Dnsmasq::Parts::find_process() {
    if (process) return;
    if (auto found = DnsmasqProcess::find(setting.ports, setting.folder, record)) take(std::move(found));
}

Task<> Dnsmasq::Parts::remove(Deadline deadline) {
    find_process();
    co_await end(false, deadline);
    lease_watch.reset();
    record = {};
    leases.clear();
    co_await setting.ports.workers.run(
        "removing " + setting.folder,
        [folder = setting.folder] {
            std::error_code failure;
            std::filesystem::remove_all(folder, failure);
            if (failure) throw Error{Code::internal, fmt::format("removing {}: {}", folder, failure.message())};
        },
        deadline);
}

void Dnsmasq::set_record(DnsmasqRecord record) {
    parts_->record = std::move(record);
}

DnsmasqRecord Dnsmasq::record() const {
    return parts_->record;
}

const std::vector<DhcpLease>& Dnsmasq::leases() const {
    return parts_->leases;
}

const std::string& Dnsmasq::problem() const {
    return parts_->problem;
}

}  // namespace virtbus::network
