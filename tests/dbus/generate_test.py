#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""The generator refuses interface files that leave something unsaid, in one sentence: generate_test.py GENERATOR ERRORS FILE..."""

import pathlib
import subprocess
import sys
import tempfile
import unittest
import xml.etree.ElementTree as ET

GENERATOR, ERRORS, *FILES = sys.argv[1:]

GOOD = """<node>
<!-- A lamp. -->
<interface name="org.example.Lamp">
<annotation name="org.virtbus1.View" value="LampView lamp.hpp"/>
<!-- Switches it. -->
<method name="Switch">
<annotation name="org.virtbus1.Action" value="lamp.switch"/>
<annotation name="org.virtbus1.Option.gently" value="b"/>
<arg name="options" type="a{sv}" direction="in"/>
</method>
<!-- Lit. -->
<property name="Lit" type="b" access="read"/>
<!-- Switched. -->
<signal name="Switched"/>
</interface>
</node>"""
ACTION = '<annotation name="org.virtbus1.Action" value="lamp.switch"/>'


class Generator(unittest.TestCase):
    def generate(self, text):
        with tempfile.TemporaryDirectory() as folder:
            source = pathlib.Path(folder, "lamp.xml")
            source.write_text(text)
            done = subprocess.run([sys.executable, GENERATOR, source, "--errors", ERRORS, "--header", f"{folder}/l.hpp",
                                   "--source", f"{folder}/l.cpp", "--include", "l.hpp"], capture_output=True, text=True)
            made = pathlib.Path(folder, "l.cpp").exists()
        self.assertEqual(made, done.returncode == 0)
        return done

    def refused(self, old, new, sentence):
        self.assertIn(old, GOOD)
        done = self.generate(GOOD.replace(old, new))
        self.assertNotEqual(done.returncode, 0)
        self.assertIn(sentence, done.stderr)
        self.assertNotIn("Traceback", done.stderr)

    def test_what_is_complete_is_taken(self):
        done = self.generate(GOOD)
        self.assertEqual((done.returncode, done.stderr), (0, ""))

    def test_a_method_needs_its_action(self):
        self.refused(ACTION, "", "org.example.Lamp.Switch has no annotation org.virtbus1.Action")
        self.refused("lamp.switch", "Lamp", "which is no action's name")

    def test_everything_needs_documentation(self):
        for comment in ("<!-- A lamp. -->", "<!-- Switches it. -->", "<!-- Lit. -->", "<!-- Switched. -->"):
            self.refused(comment, "", "has no comment before it")

    def test_options_and_their_actions_must_fit(self):
        self.refused('value="b"', 'value="q"', "it must be one of")
        self.refused('value="b"', 'value="b yes no"', "lists words but is no string")
        self.refused('value="b"', 'value="b limit=9"', "lists words but is no string")
        self.refused('type="a{sv}"', 'type="s"', "its last argument is no a{sv}")
        self.refused(ACTION, ACTION + '<annotation name="org.virtbus1.Action.loudly" value="lamp.noise"/>',
                     "which is none of its boolean options")

    def test_errors_must_exist(self):
        self.refused(ACTION, ACTION + '<annotation name="org.virtbus1.Errors" value="Darkness"/>', "Darkness")

    def test_annotations_must_be_known(self):
        self.refused(ACTION, ACTION + '<annotation name="org.virtbus1.Acton" value="lamp.switch"/>', "is not known there")

    def test_subjects_must_be_known(self):
        arg = '<arg name="options" type="a{sv}" direction="in"/>'
        name = '<arg name="name" type="s"><annotation name="org.virtbus1.Subject" value="network"/></arg>'
        self.refused(arg, name + arg, "argument name of org.example.Lamp.Switch has the subject 'network'")

    def test_properties_are_read_only(self):
        self.refused('access="read"', 'access="readwrite"', "changes are methods")

    def test_broken_xml_is_a_sentence(self):
        self.refused("</node>", "", "no element found")


class InterfaceFiles(unittest.TestCase):
    def test_they_are_well_formed_and_have_their_licence(self):
        for name in FILES:
            text = pathlib.Path(name).read_text()
            self.assertIn("SPDX-License-Identifier: LGPL-2.1-or-later", text)
            self.assertEqual(ET.fromstring(text).tag, "node")


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
