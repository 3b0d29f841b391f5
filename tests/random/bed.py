# SPDX-License-Identifier: LGPL-2.1-or-later
"""A daemon of a test's own on a private bus, which may be killed in the middle of a verb, for tests that go where chance
leads them. What they do and what has to come out of it is theirs."""

import os
import pathlib
import random
import shutil
import signal
import subprocess
import tempfile
import threading
import time

from gi.repository import Gio, GLib

NAME = "org.virtbus1"
MANAGER = ("/org/virtbus1", "org.virtbus1.Manager")
PATIENCE = 120


class Refused(Exception):
    """What the daemon answered instead of a result."""

    def __init__(self, error):
        self.code = (Gio.DBusError.get_remote_error(error) or "").rsplit(".", 1)[-1]
        Gio.DBusError.strip_remote_error(error)
        super().__init__(f"{self.code}: {error.message}")


def options(*names, **values):
    return {name.replace("_", "-"): GLib.Variant("b", True) for name in names} | \
           {name.replace("_", "-"): GLib.Variant("s", value) for name, value in values.items()}


def eventually(condition):
    """Its first true value; None when patience ends."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if value := condition():
            return value
        time.sleep(0.05)
    return None


class Bed:
    def __init__(self, build, seed):
        self.chance = random.Random(seed)
        self.folder = tempfile.mkdtemp(prefix="virtbus-random-")
        self.images = pathlib.Path(self.folder, "images")
        self.images.mkdir()
        self._bus = subprocess.Popen(["dbus-daemon", "--session", "--nofork", "--nopidfile", "--print-address=1"],
                                     stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        address = self._bus.stdout.readline().strip()
        self._environment = dict(os.environ, DBUS_SESSION_BUS_ADDRESS=address)
        for kind in ("CONFIGURATION", "STATE", "RUNTIME", "CACHE", "LOGS"):
            self._environment[f"{kind}_DIRECTORY"] = f"{self.folder}/{kind.lower()}"
        self._program = [f"{build}/virtbusd", "--user"]
        self._environment["VIRTBUS_LAUNCHER"] = f"{build}/systemd/virtbus-launch"
        flags = Gio.DBusConnectionFlags
        self._connection = Gio.DBusConnection.new_for_address_sync(
            address, flags.AUTHENTICATION_CLIENT | flags.MESSAGE_BUS_CONNECTION, None, None)
        self._daemon = None
        self._start()

    def close(self, keep):
        self._daemon.terminate()
        self._daemon.wait()
        self._bus.terminate()
        self._bus.wait()
        if keep:
            print("what is left lies in", self.folder)
        else:
            shutil.rmtree(self.folder, ignore_errors=True)

    def _start(self):
        with open(f"{self.folder}/log", "a") as log:
            self._daemon = subprocess.Popen(self._program, env=self._environment, stderr=log, stdout=log)
        if not eventually(self._answers):
            raise AssertionError("the daemon does not come up")

    def _answers(self):
        if self._daemon.poll() is not None:
            raise AssertionError(f"the daemon ended with {self._daemon.returncode}")
        try:
            self.call(*MANAGER, "ListDomains", "(a{sv})", {})
            return True
        except Refused:
            return False

    def restart(self):
        self._daemon.kill()
        self._daemon.wait()
        self._start()

    def call(self, path, interface, method, signature, *arguments):
        """The result, alone when there is but one."""
        try:
            answer = self._connection.call_sync(NAME, path, interface, method, GLib.Variant(signature, arguments), None,
                                                Gio.DBusCallFlags.NONE, PATIENCE * 1000, None).unpack()
        except GLib.Error as error:
            raise Refused(error) from None
        return answer[0] if len(answer) == 1 else answer

    def get(self, path, interface, name):
        return self.call(path, "org.freedesktop.DBus.Properties", "Get", "(ss)", interface, name)

    def call_killed(self, *call):
        """The verb, with the daemon killed at some moment of it, and another daemon after that."""
        moment = self.chance.random() ** 2 * 0.25
        killer = threading.Timer(moment, lambda: os.kill(self._daemon.pid, signal.SIGKILL))
        killer.start()
        try:
            self.call(*call)
        except Refused:
            pass
        killer.join()
        self._daemon.wait()
        self._start()
