// SPDX-License-Identifier: LGPL-2.1-or-later
// BusSource: lets a client connection of sdbus-c++ run on the default GLib main context. What is said over it is left
// to others.
#pragma once

#include <memory>

namespace sdbus {
class IConnection;
}
typedef struct _GSource GSource;

namespace virtbus::systemd {

class BusSource {
public:
    explicit BusSource(sdbus::IConnection& connection);
    ~BusSource();
    BusSource(const BusSource&) = delete;
    BusSource& operator=(const BusSource&) = delete;

private:
    GSource* source_;
};

}  // namespace virtbus::systemd
