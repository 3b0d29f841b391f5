// SPDX-License-Identifier: LGPL-2.1-or-later
#include "service/host/seal.hpp"

#include <glib.h>
#include <sys/random.h>

#include "virtbus/error.hpp"

namespace virtbus::host {

namespace {
constexpr std::size_t key_size = 32, seal_size = 32;
}

void KeySeal::load_key() {
    if (!key_.empty()) return;
    key_ = files_.read(path_, 4096).value_or("");
    if (key_.size() == key_size) return;
    key_.assign(key_size, '\0');
    if (::getrandom(key_.data(), key_.size(), 0) != static_cast<ssize_t>(key_size)) {
        key_.clear();
        throw Error{Code::internal, "the kernel gave no random bytes for a key"};
    }
    // A key lost in a power cut costs a question for permission, not an image.
    files_.write_volatile(path_, key_, 0600);
}

std::string KeySeal::of(std::string_view text) {
    load_key();
    std::string digest(seal_size, '\0');
    gsize length = digest.size();
    auto* hmac = g_hmac_new(G_CHECKSUM_SHA256, reinterpret_cast<const guchar*>(key_.data()), key_.size());
    g_hmac_update(hmac, reinterpret_cast<const guchar*>(text.data()), static_cast<gssize>(text.size()));
    g_hmac_get_digest(hmac, reinterpret_cast<guint8*>(digest.data()), &length);
    g_hmac_unref(hmac);
    return digest;
}

}  // namespace virtbus::host
