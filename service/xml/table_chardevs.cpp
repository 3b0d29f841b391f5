// SPDX-License-Identifier: LGPL-2.1-or-later
// Tables of character devices and of what uses their back ends: serial, parallel, console, channel, smartcard,
// redirdev, rng.
#include "service/xml/tables.hpp"
#include "virtbus/model/redirdev.hpp"
#include "virtbus/model/rng.hpp"
#include "virtbus/model/smartcard.hpp"

namespace virtbus::xml {

namespace {

constexpr Row clipboard_rows[]{attribute<&ChardevSource::clipboard_copypaste>("copypaste").yes_no()};
constexpr Row source_rows[]{
    attribute<&ChardevSource::mode>("mode").one_of("bind|connect|client|server"),
    attribute<&ChardevSource::path>("path"),
    attribute<&ChardevSource::host>("host"),
    attribute<&ChardevSource::service>("service"),
    attribute<&ChardevSource::channel>("channel"),
    attribute<&ChardevSource::master>("master"),
    attribute<&ChardevSource::slave>("slave"),
    attribute<&ChardevSource::append>("append").on_off(),
    attribute<&ChardevSource::tls>("tls").yes_no(),
    element<&ChardevSource::reconnect>("reconnect", reconnect_table),
    element<&ChardevSource::security_labels>("seclabel", source_seclabel_table),
    group("clipboard", clipboard_rows),
    leaf<&ChardevSource::mouse_mode>("mouse", "mode").one_of("client|server"),
};
constinit const Table source_table = table<ChardevSource>(source_rows);

constexpr Row log_rows[]{
    attribute<&ChardevLog::file>("file").required(),
    attribute<&ChardevLog::append>("append").on_off(),
};
constinit const Table log_table = table<ChardevLog>(log_rows);

constexpr Row backend_rows[]{
    element<&ChardevBackend::sources>("source", source_table),
    leaf<&ChardevBackend::protocol>("protocol", "type").one_of("raw|telnet|telnets|tls"),
    element<&ChardevBackend::log>("log", log_table),
};

constexpr Row serial_target_rows[]{
    attribute<&SerialTarget::type>("type").one_of(
        "isa-serial|usb-serial|pci-serial|spapr-vio-serial|system-serial|sclp-serial|isa-debug"),
    attribute<&SerialTarget::port>("port"),
    leaf<&SerialTarget::model>("model", "name")
        .one_of("isa-serial|usb-serial|pci-serial|spapr-vty|pl011|16550a|sclpconsole|sclplmconsole|isa-debugcon"),
};
constinit const Table serial_target_table = table<SerialTarget>(serial_target_rows);
constexpr Row serial_rows[]{
    attribute<&Serial::type>("type").required().host(),
    inlined<&Serial::backend>(chardev_backend_table).host(),
    element<&Serial::target>("target", serial_target_table),
    inlined<&Serial::info>(device_info_table),
};

constexpr Row parallel_target_rows[]{
    attribute<&ParallelTarget::type>("type"),
    attribute<&ParallelTarget::port>("port"),
};
constinit const Table parallel_target_table = table<ParallelTarget>(parallel_target_rows);
constexpr Row parallel_rows[]{
    attribute<&Parallel::type>("type").required().host(),
    inlined<&Parallel::backend>(chardev_backend_table).host(),
    element<&Parallel::target>("target", parallel_target_table),
    inlined<&Parallel::info>(device_info_table),
};

constexpr Row console_target_rows[]{
    attribute<&ConsoleTarget::type>("type").one_of("serial|virtio|xen|uml|lxc|openvz|sclp|sclplm"),
    attribute<&ConsoleTarget::port>("port"),
};
constinit const Table console_target_table = table<ConsoleTarget>(console_target_rows);
constexpr Row console_rows[]{
    attribute<&Console::type>("type").host(),
    attribute<&Console::tty>("tty").host(),
    inlined<&Console::backend>(chardev_backend_table).host(),
    element<&Console::target>("target", console_target_table),
    inlined<&Console::info>(device_info_table),
};

constexpr Row channel_target_rows[]{
    attribute<&ChannelTarget::type>("type").one_of("virtio|guestfwd|xen").required(),
    attribute<&ChannelTarget::address>("address"),
    attribute<&ChannelTarget::port>("port").range(0, 65535),
    attribute<&ChannelTarget::name>("name"),
    attribute<&ChannelTarget::state>("state").one_of("connected|disconnected").host(),
};
std::string check_channel_target(const void* object) {
    const auto& target = *static_cast<const ChannelTarget*>(object);
    if (target.type == "guestfwd" && (target.address.empty() || !target.port))
        return "guestfwd needs 'address' and 'port'";
    return "";
}
constinit const Table channel_target_table = table<ChannelTarget>(channel_target_rows, check_channel_target);
constexpr Row channel_rows[]{
    attribute<&Channel::type>("type").required().host(),
    inlined<&Channel::backend>(chardev_backend_table).host(),
    element<&Channel::target>("target", channel_target_table),
    inlined<&Channel::info>(device_info_table),
};

constexpr Row smartcard_rows[]{
    attribute<&Smartcard::mode>("mode").one_of("host|host-certificates|passthrough").required(),
    attribute<&Smartcard::type>("type").host(),
    leaf<&Smartcard::certificates>("certificate").host(),
    leaf<&Smartcard::database>("database").host(),
    inlined<&Smartcard::backend>(chardev_backend_table).host(),
    inlined<&Smartcard::info>(device_info_table),
};
std::string check_smartcard(const void* object) {
    const auto& card = *static_cast<const Smartcard*>(object);
    if (card.mode == "host-certificates" && card.certificates.size() != 3)
        return "mode='host-certificates' needs three <certificate>s";
    if (card.mode == "passthrough" && !card.type) return "mode='passthrough' needs attribute 'type'";
    return "";
}

constexpr Row redirdev_rows[]{
    attribute<&Redirdev::bus>("bus").one_of("usb").required(),
    attribute<&Redirdev::type>("type").required().host(),
    inlined<&Redirdev::backend>(chardev_backend_table).host(),
    inlined<&Redirdev::info>(device_info_table),
};

constexpr Row usb_filter_rows[]{
    attribute<&UsbFilter::device_class>("class").range(-1, 0xff).hex(2),
    attribute<&UsbFilter::vendor>("vendor").range(-1, 0xffff).hex(4),
    attribute<&UsbFilter::product>("product").range(-1, 0xffff).hex(4),
    attribute<&UsbFilter::version>("version"),
    attribute<&UsbFilter::allow>("allow").yes_no().required(),
};
constinit const Table usb_filter_table = table<UsbFilter>(usb_filter_rows);
constexpr Row redirfilter_rows[]{element<&Redirfilter::usbdevs>("usbdev", usb_filter_table)};

constexpr Row rate_rows[]{
    attribute<&RngRate::bytes>("bytes").range(1, UINT32_MAX).required(),
    attribute<&RngRate::period>("period").range(1, UINT32_MAX),
};
constinit const Table rate_table = table<RngRate>(rate_rows);
constexpr Row rng_backend_rows[]{
    attribute<&RngBackend::model>("model").one_of("random|egd|builtin").required(),
    attribute<&RngBackend::type>("type"),
    text<&RngBackend::path>(),
    inlined<&RngBackend::chardev>(chardev_backend_table),
};
std::string check_rng_backend(const void* object) {
    const auto& backend = *static_cast<const RngBackend*>(object);
    return backend.model == "egd" && !backend.type ? "model='egd' needs attribute 'type'" : "";
}
constinit const Table rng_backend_table = table<RngBackend>(rng_backend_rows, check_rng_backend);
constexpr Row rng_rows[]{
    attribute<&Rng::model>("model").one_of(virtio_models).required(),
    element<&Rng::rate>("rate", rate_table).host(),
    element<&Rng::backend>("backend", rng_backend_table).required().host(),
    element<&Rng::driver>("driver", virtio_driver_table),
    inlined<&Rng::info>(device_info_table),
};

}  // namespace

constinit const Table chardev_backend_table = inner_table(backend_rows);
constinit const Table serial_table = table<Serial>(serial_rows);
constinit const Table parallel_table = table<Parallel>(parallel_rows);
constinit const Table console_table = table<Console>(console_rows);
constinit const Table channel_table = table<Channel>(channel_rows);
constinit const Table smartcard_table = table<Smartcard>(smartcard_rows, check_smartcard);
constinit const Table redirdev_table = table<Redirdev>(redirdev_rows);
constinit const Table redirfilter_table = table<Redirfilter>(redirfilter_rows);
constinit const Table rng_table = table<Rng>(rng_rows);

}  // namespace virtbus::xml
