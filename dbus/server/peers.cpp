// SPDX-License-Identifier: LGPL-2.1-or-later
#include "dbus/server/peers.hpp"

#include <fmt/format.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <systemd/sd-bus.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "dbus/server/answer.hpp"
#include "dbus/server/bus_source.hpp"
#include "dbus/server/peer_bus.hpp"
#include "polkit/start_time.hpp"
#include "virtbus/error.hpp"
#include "virtbus/ports.hpp"

namespace virtbus::dbus {

namespace {

// What may wait to be sent to a peer: beyond the first it is asked nothing more, beyond the second it is dismissed.
constexpr std::size_t congested_bytes = std::size_t{32} << 20;
constexpr std::uint64_t congested_messages = 256;
constexpr std::uint64_t dismissed_messages = 16384;
constexpr std::size_t dismissed_bytes = std::size_t{128} << 20;

void require(int result, const char* what) {
    if (result < 0) throw Error{Code::internal, fmt::format("cannot {}: {}", what, std::strerror(-result))};
}

/// sd-bus collects any number of descriptors for a message that never gets whole, which no limit of ours sees. So they
/// are taken only from those who could end the service anyway; others hand them over on a bus, which counts them.
bool may_send_descriptors(std::uint32_t uid) {
    return uid == 0 || uid == ::getuid();
}

/// Kernels before 6.16 cannot refuse them; there the connection's end closes them.
void refuse_descriptors(int socket) {
#ifdef SO_PASSRIGHTS
    constexpr int pass_rights = SO_PASSRIGHTS;
#else
    constexpr int pass_rights = 83;  // asm-generic/socket.h
#endif
    const int no = 0;
    (void)::setsockopt(socket, SOL_SOCKET, pass_rights, &no, sizeof no);
}

}  // namespace

class Peers::Peer final : public Connection {
public:
    Peer(Peers& peers, std::uint64_t number, Fd socket, const ucred& kernel)
        : peers_{peers},
          name_{fmt::format("peer:{}", number)},
          uid_{kernel.uid},
          pid_{static_cast<std::uint32_t>(kernel.pid)},
          start_time_{polkit::start_time_of(static_cast<std::uint32_t>(kernel.pid))},
          greeter_{peers.options_.service, number, kernel.uid, static_cast<std::uint32_t>(kernel.pid)} {
        sd_id128_t id{};
        require(sd_id128_randomize(&id), "make an id for a peer");
        require(sd_bus_new(&bus_), "make a connection for a peer");
        sd_bus* const bus = bus_;
        try {
            if (!may_send_descriptors(kernel.uid)) refuse_descriptors(socket.get());
            require(sd_bus_set_fd(bus, socket.get(), socket.get()), "take a peer's socket");
            socket.release();
            require(sd_bus_set_server(bus, 1, id), "serve a peer");
            require(sd_bus_set_sender(bus, PeerBus::own_name), "name the service to a peer");
            require(sd_bus_negotiate_fds(bus, 1), "pass descriptors to a peer");
            const auto filter = [](sd_bus_message* message, void* self, sd_bus_error*) -> int {
                return static_cast<Peer*>(self)->take(message) ? 1 : 0;
            };
            require(sd_bus_add_filter(bus, &slot_, filter, this), "listen to a peer");
            require(sd_bus_start(bus), "start to serve a peer");
        } catch (...) {
            close();
            throw;
        }
        source_.emplace(bus, [&peers, number](int) { peers.dismiss(number); }, [this] { return congested(); });
        deadline_ = peers.loop_.after(peers.options_.patience, [this, &peers, number] {
            if (sd_bus_is_ready(bus_) <= 0) peers.dismiss(number);
        });
        dismiss_ = [&peers, number] { peers.dismiss(number); };
    }
    ~Peer() override { close(); }

    /// No more from or to this peer; calls under way keep the object until they end.
    void close() {
        deadline_.reset();
        source_.reset();
        if (slot_) sd_bus_slot_unref(slot_);
        slot_ = nullptr;
        if (bus_) sd_bus_close(bus_);
        sd_bus_unref(bus_);
        bus_ = nullptr;
    }

    const std::string& name() const { return name_; }
    std::uint32_t uid() const { return uid_; }

    sd_bus* bus() const override { return bus_; }
    std::string sender(sd_bus_message*) const override { return name_; }
    Task<> identify(Caller& caller) override {
        caller.uid = uid_;
        caller.pid = pid_;
        caller.pid_start_time = start_time_;
        caller.on_bus = false;
        co_return;
    }
    bool wants_signals() const override { return sd_bus_is_ready(bus_) > 0 && greeter_.wants_signals(); }

    void sent(std::size_t bytes) override {
        owed_ = (queued() == 0 ? 0 : owed_) + bytes;
        if (queued() > dismissed_messages || owed_ > dismissed_bytes)
            deadline_ = peers_.loop_.after(Duration{0}, dismiss_);
    }
    bool congested() const override {
        const std::uint64_t messages = queued();
        if (messages == 0) owed_ = 0;
        return owed_ > congested_bytes || messages > congested_messages;
    }

private:
    std::uint64_t queued() const {
        std::uint64_t messages = 0;
        return bus_ && sd_bus_get_n_queued_write(bus_, &messages) >= 0 ? messages : 0;
    }

    bool take(sd_bus_message* message) {
        std::uint8_t type = 0;
        if (sd_bus_message_get_type(message, &type) < 0 || type != SD_BUS_MESSAGE_METHOD_CALL) return true;
        try {
            if (greeter_.take(message)) return true;
        } catch (...) {
            answer_error(message, std::current_exception(), peers_.log_);
            return true;
        }
        return peers_.dispatcher_.take(*this, message);
    }

    Peers& peers_;
    std::string name_;
    std::uint32_t uid_, pid_;
    std::uint64_t start_time_;
    PeerBus greeter_;
    sd_bus* bus_ = nullptr;
    sd_bus_slot* slot_ = nullptr;
    mutable std::size_t owed_ = 0;
    std::function<void()> dismiss_;
    Registration deadline_;
    std::optional<BusSource> source_;
};

Peers::Peers(Dispatcher& dispatcher, Signals& signals, Loop& loop, Log& log, PeerOptions options)
    : dispatcher_{dispatcher}, signals_{signals}, loop_{loop}, log_{log}, options_{std::move(options)} {}

Peers::~Peers() {
    close();
}

void Peers::close() {
    stop_listening();
    while (!peers_.empty()) dismiss(peers_.begin()->first);
}

void Peers::listen(Fd socket) {
    listening_ = std::move(socket);
    watch();
}

void Peers::listen(const std::string& path, unsigned mode) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    if (path.size() >= sizeof address.sun_path)
        throw Error{Code::internal, fmt::format("the path of the socket is too long: {}", path)};
    path.copy(address.sun_path, path.size());
    Fd socket{::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)};
    // Whoever listened here is gone: the daemon's lock on the name or the folder let us come so far.
    ::unlink(path.c_str());
    if (!socket || ::bind(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) < 0 ||
        ::chmod(path.c_str(), mode) < 0 || ::listen(socket.get(), 128) < 0)
        throw Error{Code::internal, fmt::format("cannot listen on {}: {}", path, std::strerror(errno))};
    made_path_ = path;
    listen(std::move(socket));
}

void Peers::stop_listening() {
    watch_.reset();
    pause_.reset();
    listening_ = Fd{};
    if (!made_path_.empty()) ::unlink(std::exchange(made_path_, {}).c_str());
}

void Peers::watch() {
    pause_.reset();
    watch_ = loop_.watch(listening_.get(), readable, [this](unsigned) { accept_some(); });
}

void Peers::accept_some() {
    constexpr int most_at_once = 16;
    for (int i = 0; i < most_at_once; i++) {
        Fd socket{::accept4(listening_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK)};
        if (socket) {
            try {
                admit(std::move(socket));
            } catch (const std::exception& error) {
                log_.warning(error.what());
            }
            continue;
        }
        if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
            // The socket stays readable: without a pause the loop would spin until descriptors are free again.
            log_.warning(fmt::format("cannot accept a connection, waiting a second: {}", std::strerror(errno)));
            pause_ = loop_.after(std::chrono::seconds{1}, [this] { watch(); });
            watch_.reset();
        }
        return;
    }
}

void Peers::admit(Fd socket) {
    ucred kernel{};
    socklen_t size = sizeof kernel;
    if (::getsockopt(socket.get(), SOL_SOCKET, SO_PEERCRED, &kernel, &size) < 0) require(-errno, "tell who a peer is");
    if (options_.only_uid && kernel.uid != *options_.only_uid && kernel.uid != 0)
        throw Error{Code::access_denied,
                    fmt::format("uid {} was refused on the socket of uid {}", kernel.uid, *options_.only_uid)};
    const auto same_uid =
        std::count_if(peers_.begin(), peers_.end(), [&](const auto& one) { return one.second->uid() == kernel.uid; });
    if (static_cast<std::size_t>(same_uid) >= options_.most_per_uid || peers_.size() >= options_.most)
        throw Error{
            Code::limits_exceeded,
            fmt::format("a connection was refused: uid {} has {} of at most {}, all together have {} of at most {}",
                        kernel.uid, same_uid, options_.most_per_uid, peers_.size(), options_.most)};
    const std::uint64_t number = ++last_number_;
    auto peer = std::make_shared<Peer>(*this, number, std::move(socket), kernel);
    dispatcher_.presence().arrived(peer->name());
    signals_.join(*peer);
    peers_.emplace(number, std::move(peer));
}

void Peers::dismiss(std::uint64_t number) {
    const auto node = peers_.extract(number);
    if (!node) return;
    signals_.leave(*node.mapped());
    node.mapped()->close();
    dispatcher_.left(node.mapped()->name());
}

}  // namespace virtbus::dbus
