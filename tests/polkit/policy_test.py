#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""The policy file has exactly the actions that the daemon knows, with the agreed defaults; the interface files ask for
no other."""

import pathlib
import re
import sys
import xml.etree.ElementTree as ET

ROOT = pathlib.Path(__file__).resolve().parents[2]
PREFIX = "org.virtbus1."
READ = ("yes", "yes", "yes")
ADMIN = ("auth_admin", "auth_admin", "auth_admin")
KEEP = ("auth_admin", "auth_admin", "auth_admin_keep")


def defaults_of(name):
    verb = name.split(".")[1]
    if verb == "read":
        return READ
    return ADMIN if verb in ("configure", "delete", "read-secure", "dump", "migrate") else KEEP


known = set(re.findall(r'"((?:domain|network)\.[a-z-]+)"', (ROOT / "polkit/access.hpp").read_text().split("actions{")[1].split("};")[0]))
faults = [] if len(known) >= 18 else ["the list in polkit/access.hpp was not found"]

shipped = set()
for action in ET.parse(ROOT / "data/polkit/org.virtbus1.policy").iter("action"):
    name = action.get("id").removeprefix(PREFIX)
    shipped.add(name)
    found = tuple(action.findtext(f"defaults/allow_{who}") for who in ("any", "inactive", "active"))
    if name in known and found != defaults_of(name):
        faults.append(f"{name}: the defaults are {found}, not {defaults_of(name)}")
    for text in ("description", "message"):
        if len(action.findtext(text) or "") < 10:
            faults.append(f"{name}: no {text} for a person")
faults += [f"{name}: known to the daemon, not in the policy" for name in sorted(known - shipped)]
faults += [f"{name}: in the policy, not known to the daemon" for name in sorted(shipped - known)]

asked = set()
for path in sorted((ROOT / "data/dbus").glob("*.xml")):
    for note in ET.parse(path).iter("annotation"):
        if "olkit" in note.get("name") or "ction" in note.get("name"):
            asked |= set(re.findall(r"\b((?:domain|network)\.[a-z-]+)", note.get("value")))
faults += [f"{name}: asked for by an interface file, not in the policy" for name in sorted(asked - shipped)]

print("\n".join(faults) if faults else f"{len(shipped)} actions, {len(asked)} of them asked for by interface files")
sys.exit(bool(faults))
