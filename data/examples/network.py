#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Defines and starts the network of a file, shows it, its leases and what changes: network.py FILE. Ends with Ctrl-C. Needs
system mode; with VIRTBUS_SESSION=1 the session bus is asked and the network is only defined."""

import os
import sys

from gi.repository import Gio, GLib

ROOT, NETWORK = "/org/virtbus1", "org.virtbus1.Network"
session = bool(os.environ.get("VIRTBUS_SESSION"))
bus = Gio.bus_get_sync(Gio.BusType.SESSION if session else Gio.BusType.SYSTEM)


def call(path, method, arguments):
    return bus.call_sync("org.virtbus1", path, *method.rsplit(".", 1), arguments, None,
                         Gio.DBusCallFlags.ALLOW_INTERACTIVE_AUTHORIZATION, -1).unpack()


with open(sys.argv[1], encoding="utf-8") as file:
    path, = call(ROOT, "org.virtbus1.Manager.DefineNetwork", GLib.Variant("(sa{sv})", (file.read(), {})))
network, = call(path, "org.freedesktop.DBus.Properties.GetAll", GLib.Variant("(s)", (NETWORK,)))
print(f"{network['Name']}: {network['ForwardMode']} on {network['Bridge']}, {', '.join(network['Addresses'])}", flush=True)
if session:
    sys.exit()
if not network["Active"]:
    call(path, f"{NETWORK}.Start", GLib.Variant("(a{sv})", ({},)))
for lease in call(path, f"{NETWORK}.GetLeases", GLib.Variant("(a{sv})", ({},)))[0]:
    print(lease["mac"], lease["address"], lease["hostname"])


def changed(_bus, _sender, _path, _interface, _signal, arguments):
    print("now", arguments[1], flush=True)


bus.signal_subscribe("org.virtbus1", "org.freedesktop.DBus.Properties", "PropertiesChanged", path, None,
                     Gio.DBusSignalFlags.NONE, changed)
GLib.MainLoop().run()
