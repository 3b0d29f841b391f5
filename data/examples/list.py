#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Shows every domain with one call, then says what changes until the given number of changes has been seen."""

import sys

from gi.repository import Gio, GLib

bus = Gio.bus_get_sync(Gio.BusType.SESSION)


def show(path, properties):
    print(f"{properties['Name']:20} {properties['State']:10} {properties['VCpus']} CPUs, {properties['Memory'] >> 20} MiB")


objects = bus.call_sync("org.virtbus1", "/org/virtbus1", "org.freedesktop.DBus.ObjectManager", "GetManagedObjects",
                        None, None, Gio.DBusCallFlags.NONE, -1).unpack()[0]
for path, interfaces in objects.items():
    if "org.virtbus1.Domain" in interfaces:
        show(path, interfaces["org.virtbus1.Domain"])

changes = int(sys.argv[1]) if len(sys.argv) > 1 else 0
loop = GLib.MainLoop()


def changed(_bus, _sender, path, _interface, _signal, arguments):
    global changes
    print(path.rsplit("/", 1)[1], "is now", arguments[1], f"({arguments[2]})", flush=True)
    changes -= 1
    if changes == 0:
        loop.quit()


bus.signal_subscribe("org.virtbus1", "org.virtbus1.Domain", "StateChanged", None, None, Gio.DBusSignalFlags.NONE, changed)
if changes:
    print("watching", flush=True)
    loop.run()
