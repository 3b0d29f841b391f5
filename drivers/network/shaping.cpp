// SPDX-License-Identifier: LGPL-2.1-or-later
#include "network/shaping.hpp"

#include "network/traffic_control.hpp"

namespace virtbus::network {

namespace {

constexpr std::uint32_t only_class = 1;

}  // namespace

void limit_outbound(int index, const std::string& name, const BandwidthLimit& limit) {
    const Rate rate = rate_of(limit, name, "outbound");
    const Socket socket = connect_route();
    limit_ingress({socket.get(), index, name}, rate, limit.peak ? rate.ceiling : 0);
}

void limit_inbound(int index, const std::string& name, const BandwidthLimit& limit) {
    const Rate rate = rate_of(limit, name, "inbound");
    const Socket socket = connect_route();
    const Shaped device{socket.get(), index, name};
    make_root(device, only_class);
    set_rate_class(device, {only_class, 0, rate});
}

void clear_limits(int index, const std::string& name) {
    const Socket socket = connect_route();
    const Shaped device{socket.get(), index, name};
    remove_root(device);
    remove_ingress(device);
}

void remove_limits(int index) {
    const Socket socket = connect_route();
    remove_intermediate(socket.get(), index);
}

}  // namespace virtbus::network
