#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Runs what the README shows, as it stands there, against a real daemon on a private bus: readme.py VIRTBUSD CXX..."""

import os
import pathlib
import re
import shlex
import subprocess
import sys
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
PATIENCE = 120
virtbusd, compiler = sys.argv[1], sys.argv[2:]


def snippet(name):
    text = (ROOT / "README.md").read_text()
    found = re.search(rf"<!-- run: {name} -->\n```\w+\n(.*?)```", text, re.S)
    if not found:
        raise AssertionError(f"README.md has no snippet marked '{name}'")
    return found.group(1)


class Readme(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory(prefix="virtbus-readme-")
        folder = cls.folder.name
        cls.bus = subprocess.Popen(["dbus-daemon", "--session", "--nofork", "--nopidfile", "--print-address=1"],
                                   stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        cls.environment = dict(os.environ, DBUS_SESSION_BUS_ADDRESS=cls.bus.stdout.readline().strip())
        for kind in ("CONFIGURATION", "STATE", "RUNTIME", "CACHE", "LOGS"):
            cls.environment[f"{kind}_DIRECTORY"] = f"{folder}/{kind.lower()}"
        with open(f"{folder}/log", "w") as log:
            cls.daemon = subprocess.Popen([virtbusd, "--user"], env=cls.environment, stderr=log)
        cls.run_text(["gdbus", "wait", "--session", "--timeout", "60", "org.virtbus1"])

    @classmethod
    def tearDownClass(cls):
        for process in (cls.daemon, cls.bus):
            process.terminate()
            process.wait(PATIENCE)
        cls.bus.stdout.close()
        cls.folder.cleanup()

    @classmethod
    def run_text(cls, argv, text=None):
        done = subprocess.run(argv, input=text, env=cls.environment, cwd=cls.folder.name, capture_output=True, text=True,
                              timeout=PATIENCE)
        if done.returncode != 0:
            raise AssertionError(f"{argv[0]} ended with {done.returncode}: {done.stdout}{done.stderr}")
        return done.stdout

    def define(self, name):
        xml = f"<domain type='test'><name>{name}</name><memory>65536</memory><os><type>hvm</type></os></domain>"
        return self.run_text(["gdbus", "call", "--session", "--dest", "org.virtbus1", "--object-path", "/org/virtbus1",
                              "--method", "org.virtbus1.Manager.DefineDomain", xml, "{}"]).split("'")[1]

    def call(self, path, method):
        self.run_text(["gdbus", "call", "--session", "--dest", "org.virtbus1", "--object-path", path,
                       "--method", f"org.virtbus1.Domain.{method}", "{}"])

    def test_tour(self):
        output = self.run_text(["bash", "-euo", "pipefail", "-s"], snippet("tour"))
        self.assertIn('"running"', output)
        self.assertIn("<name>demo</name>", output)
        self.assertIn("2", output)

    def test_python(self):
        self.define("from-python")
        self.assertIn("from-python shutoff 1 64", self.run_text(["/usr/bin/python3", "-"], snippet("python")))

    def test_network(self):
        output = self.run_text(["bash", "-euo", "pipefail", "-s"], snippet("network"))
        self.assertIn('"lan"', output)

    def test_the_network_example_defines_its_network(self):
        examples = ROOT / "data/examples"
        text = (examples / "network.xml").read_text().replace("<name>lan<", "<name>example<")
        pathlib.Path(self.folder.name, "example.xml").write_text(text)
        self.environment["VIRTBUS_SESSION"] = "1"
        output = self.run_text(["/usr/bin/python3", str(examples / "network.py"), "example.xml"])
        self.assertRegex(output, r"example: nat on virbr\d+, 192.168.150.1/24, fd00:150::1/64")

    def test_cpp(self):
        self.define("from-cpp")
        source, program = f"{self.folder.name}/client.cpp", f"{self.folder.name}/client"
        pathlib.Path(source).write_text(snippet("cpp"))
        flags = shlex.split(subprocess.check_output(["pkg-config", "--cflags", "--libs", "sdbus-c++"], text=True))
        self.run_text([*compiler, "-std=c++20", source, "-o", program, *flags])
        self.assertIn("from-cpp shutoff", self.run_text([program]))

    def test_the_list_example_follows_changes(self):
        path = self.define("watched")
        watcher = subprocess.Popen(["/usr/bin/python3", str(ROOT / "data/examples/list.py"), "2"], env=self.environment,
                                   stdout=subprocess.PIPE, text=True)
        for line in watcher.stdout:
            if line.startswith("watching"):
                break
        self.call(path, "Start")
        self.call(path, "Stop")
        output, _ = watcher.communicate(timeout=PATIENCE)
        self.assertIn("running", output)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
