#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Who may include what, and a licence line in every source file. The table below is the house rule."""

import pathlib
import re
import subprocess
import sys

# room -> (rooms of the project it may include, system headers only it and its like may include)
ROOMS = {
    "include": ["include"],
    "service/xml": ["include", "service/xml"],
    "service/host": ["include", "service/host"],
    "service": ["include", "service", "service/xml"],
    "drivers/common": ["include", "drivers/common"],
    "drivers/qemu": ["include", "drivers/common", "drivers/qemu"],
    "drivers/network": ["include", "drivers/common", "drivers/network"],
    "drivers/test": ["include", "drivers/common", "drivers/test"],
    "polkit": ["include", "polkit"],
    "systemd": ["include", "systemd"],
    "dbus": ["include", "service", "polkit", "dbus"],
}
WIRES_ALL = "service/main.cpp"
FOREIGN = {
    r"libxml/": ["service/xml"],
    r"sdbus-c\+\+/|systemd/sd-bus\.h": ["dbus", "systemd"],
    r"systemd/sd-": ["dbus", "systemd"],
    r"polkit/polkit": ["polkit"],
    r"netlink/|nftables/": ["drivers/common", "drivers/network"],
    r"nlohmann/": ["drivers/common", "drivers/qemu", "drivers/network", "drivers/test"],
    r"glib|gio/": ["service/host", "polkit", "systemd", "dbus"],
}
# include/ has the standard library and the few system headers that hold no policy.
STANDARD_ONLY = {"include": {"unistd.h"}}
SOURCE = (".cpp", ".hpp", ".h", ".py", ".sh", ".build")
ROOT = pathlib.Path(__file__).resolve().parents[2]


def room_of(path):
    parts = path.split("/")
    for depth in (2, 1):
        if "/".join(parts[:depth]) in ROOMS:
            return "/".join(parts[:depth])
    return None


def target_of(name, path):
    """The project file that an include line means, as seen from `path`; None for a foreign header."""
    for base in (pathlib.Path(path).parent, pathlib.Path("include"), pathlib.Path("."), pathlib.Path("drivers")):
        if (ROOT / base / name).is_file():
            return str(pathlib.Path(*(ROOT / base / name).resolve().relative_to(ROOT).parts))
    return None


def check_includes(path, text):
    room = room_of(path)
    if room is None or path == WIRES_ALL:
        return
    for number, line in enumerate(text.splitlines(), 1):
        match = re.match(r'\s*#\s*include\s*([<"])([^>"]+)[>"]', line)
        if not match:
            continue
        quote, name = match.groups()
        where = f"{path}:{number}"
        target = target_of(name, path) if quote == '"' else None
        if target:
            if room_of(target) not in ROOMS[room]:
                yield f"{where}: {room}/ may not include {target} (allowed: {', '.join(ROOMS[room])})"
            continue
        for pattern, rooms in FOREIGN.items():
            if re.match(pattern, name) and room not in rooms:
                yield f"{where}: <{name}> belongs to {', '.join(rooms)}"
        if room in STANDARD_ONLY and "." in name and quote == "<" and name not in STANDARD_ONLY[room]:
            yield f"{where}: {room}/ includes only the standard library, not <{name}>"


def main():
    names = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True)
    if names.returncode == 0 and names.stdout:
        files = [name for name in names.stdout.splitlines() if (ROOT / name).is_file()]
    else:
        files = [str(path.relative_to(ROOT)) for path in ROOT.rglob("*") if path.is_file() and "build" not in str(path.relative_to(ROOT)).split("/")[0]]
    faults, looked = [], 0
    for path in files:
        script = path.startswith(("tools/", "tests/")) and "." not in pathlib.Path(path).name
        if not path.endswith(SOURCE) and not script:
            continue
        text = (ROOT / path).read_text(errors="replace")
        looked += 1
        if "SPDX-License-Identifier: LGPL-2.1-or-later" not in "\n".join(text.splitlines()[:3]):
            faults.append(f"{path}:1: no SPDX licence line")
        if path.endswith((".cpp", ".hpp")):
            faults.extend(check_includes(path, text))
    print("\n".join(faults) if faults else f"{looked} files keep the house rules")
    if looked < 30:
        sys.exit("the lint found hardly any file: it looks in the wrong place")
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
