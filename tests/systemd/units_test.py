#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""The daemon's unit keeps its security score, and each protection that is off has its reason beside it."""

import pathlib
import re
import shutil
import subprocess
import sys

MOST = 4.0
UNIT = pathlib.Path(sys.argv[1]) / "virtbusd.service"
# Protections a reader of the score would miss; each must be on or be named in a comment.
PROTECTIONS = [
    "PrivateTmp", "PrivateDevices", "PrivateNetwork", "PrivateUsers", "PrivateMounts", "ProtectKernelTunables", "ProtectKernelModules",
    "ProtectKernelLogs", "ProtectControlGroups", "ProtectClock", "ProtectHostname", "ProtectProc", "ProcSubset", "ProtectHome",
    "ProtectSystem", "LockPersonality", "RestrictRealtime", "RestrictSUIDSGID", "RestrictNamespaces", "NoNewPrivileges",
    "MemoryDenyWriteExecute", "SystemCallFilter", "SystemCallArchitectures", "CapabilityBoundingSet", "RestrictAddressFamilies",
    "IPAddressDeny", "KeyringMode", "DevicePolicy",
]

text = UNIT.read_text()
settings = dict(re.findall(r"^(\w+)=(.*)$", text, re.M))
comments = "\n".join(line for line in text.splitlines() if line.startswith("#"))
faults = [name for name in PROTECTIONS if name not in settings and not re.search(rf"\b{name}\b.* off\b", comments)]
faults += [f"{name} is both set and said to be off" for name in PROTECTIONS
           if name in settings and re.search(rf"^# {name} is off", comments, re.M)]
if "@" in text.replace("@system-service", ""):
    faults.append("a place was not filled in")
for needed, value in {"Type": "notify", "BusName": "org.virtbus1", "KillMode": "process", "RuntimeDirectoryPreserve": "yes"}.items():
    if settings.get(needed) != value:
        faults.append(f"{needed}={settings.get(needed)}, not {value}")
if faults:
    sys.exit("\n".join(faults))

if not shutil.which("systemd-analyze"):
    print("SKIP: no systemd-analyze here")
    sys.exit(77)
run = subprocess.run(["systemd-analyze", "security", "--offline=true", "--no-pager", str(UNIT)], capture_output=True, text=True)
score = re.search(r"Overall exposure level for \S+: ([0-9.]+)", run.stdout)
if not score:
    sys.exit("systemd-analyze gave no score: " + run.stdout[-500:] + run.stderr)
print(f"virtbusd.service scores {score[1]}")
sys.exit(float(score[1]) > MOST)
