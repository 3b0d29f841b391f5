#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Trees of snapshots as chance makes them, beside a model of them: after each verb the tree, which one is current, the
bytes that the machine sees and those that every snapshot keeps must be as the model has them; of a verb in which the
daemon was killed all or nothing. A refusal must change nothing.

snapshot_trees.py BUILD SEED STEPS KILLS: KILLS is how probable it is that the daemon is killed in a verb, 0 to 1. With
VIRTBUS_TEST_LONG in the environment another seed and eight times the steps. Where the daemon is killed depends on the
machine, too, so a seed does not tell all."""

import copy
import dataclasses
import hashlib
import json
import os
import pathlib
import subprocess
import sys
import uuid
import xml.etree.ElementTree as ET

from bed import MANAGER, Bed, Refused, options

DOMAIN, SNAPSHOT = "org.virtbus1.Domain", "org.virtbus1.Snapshot"
SIZE, CLUSTER = 1 << 20, 1 << 16


def tool(*words, check=True):
    return subprocess.run(words, check=check, capture_output=True, text=True)


@dataclasses.dataclass
class Kept:
    parent: str | None
    content: tuple


@dataclasses.dataclass
class Model:
    snapshots: dict
    current: str | None
    content: tuple

    def children(self, name):
        return [each for each, kept in self.snapshots.items() if kept.parent == name]

    def below(self, name):
        return [one for child in self.children(name) for one in [child, *self.below(child)]]

    def add(self, name):
        self.snapshots[name] = Kept(self.current, self.content)
        self.current = name

    def revert(self, name):
        self.current, self.content = name, self.snapshots[name].content

    def remove(self, name, scope):
        kept = self.snapshots[name]
        gone = {"": [name], "children": [name, *self.below(name)], "children-only": self.below(name)}[scope]
        if not scope:
            for child in self.children(name):
                self.snapshots[child].parent = kept.parent
        if self.current in gone:
            self.current = name if scope == "children-only" else kept.parent
        for each in gone:
            del self.snapshots[each]

    def tree(self):
        return {name: kept.parent for name, kept in self.snapshots.items()}


class Machine:
    """The domain as its clients and its images show it."""

    def __init__(self, bed, disks):
        self.bed = bed
        identity = str(uuid.UUID(int=bed.chance.getrandbits(128), version=4))
        self.path = "/org/virtbus1/domain/" + identity.replace("-", "_")
        self.first = [f"{bed.images}/{disk}.qcow2" for disk in disks]
        for image in self.first:
            tool("qemu-img", "create", "-q", "-f", "qcow2", image, str(SIZE))
        devices = "".join(
            f"<disk type='file'><driver name='qemu' type='qcow2'/><source file='{image}'/>"
            f"<target dev='{disk}' bus='virtio'/></disk>" for disk, image in zip(disks, self.first))
        bed.call(*MANAGER, "DefineDomain", "(sa{sv})",
                 f"<domain type='qemu'><name>chance</name><uuid>{identity}</uuid><memory unit='MiB'>32</memory>"
                 f"<os><type>hvm</type></os><devices>{devices}<memballoon model='none'/></devices></domain>", {})

    def call(self, method, signature, *arguments):
        return self.bed.call(self.path, DOMAIN, method, signature, *arguments)

    def is_off(self):
        return self.bed.get(self.path, DOMAIN, "State") == "shutoff"

    def snapshot(self, name):
        return f"{self.path}/snapshot/" + "".join(c if c.isalnum() else f"_{ord(c):02x}" for c in name)

    def tree(self):
        """Parents by name, and which one is current."""
        objects = self.bed.call(self.path, "org.freedesktop.DBus.ObjectManager", "GetManagedObjects", "()")
        found = {path: each[SNAPSHOT] for path, each in objects.items() if SNAPSHOT in each}
        names = {path: each["Name"] for path, each in found.items()}
        parents = {each["Name"]: names.get(each["Parent"]) for each in found.values()}
        return parents, [each["Name"] for each in found.values() if each["Current"]]

    @staticmethod
    def images_of(element):
        return [disk.find("source").get("file") for disk in element.findall("devices/disk")]

    def images(self):
        return self.images_of(ET.fromstring(self.call("GetXML", "(a{sv})", {})))

    def content(self):
        return tuple(self.bytes_of(image) for image in self.images())

    def kept(self, name):
        """What a snapshot keeps of each disk."""
        path = self.snapshot(name)
        definition = ET.fromstring(self.bed.call(path, SNAPSHOT, "GetXML", "(a{sv})", {}))
        inside = self.bed.get(path, SNAPSHOT, "Kind") == "internal"
        words = ["-l", f"snapshot.name={name}"] if inside else []
        return tuple(self.bytes_of(image, *words) for image in self.images_of(definition.find("domain")))

    def bytes_of(self, image, *words):
        seen = f"{self.bed.folder}/seen"
        run = tool("qemu-img", "convert", "-U", "-t", "unsafe", "-f", "qcow2", *words, "-O", "raw", image, seen,
                   check=False)
        return hashlib.md5(pathlib.Path(seen).read_bytes()).hexdigest() if run.returncode == 0 else run.stderr

    def used_images(self):
        chains = (json.loads(tool("qemu-img", "info", "--backing-chain", "-U", "--output=json", image).stdout)
                  for image in self.images())
        return {each["filename"] for chain in chains for each in chain}


class Walk:
    def __init__(self, bed, kills):
        self.bed = bed
        self.kills = kills
        self.chance = bed.chance
        self.disks = ["vda", "vdb"][:self.chance.choice([1, 2])]
        self.machine = Machine(bed, self.disks)
        self.model = Model({}, None, self.machine.content())
        self.history = []
        self.number = 0
        self.killing = False

    # ---- verbs: each says what it did

    def write(self):
        if not self.machine.is_off():
            return "not while it runs"
        for image in self.machine.images():
            self.number += 1
            start = self.chance.randrange(15) * CLUSTER
            length = min(self.chance.randrange(1, 5) * CLUSTER, SIZE - start)
            tool("qemu-io", "-t", "unsafe", "-f", "qcow2", "-c", f"write -P {self.number % 250 + 1} {start} {length}", image)
        self.model.content = self.machine.content()
        return ""

    def create(self):
        self.number += 1
        name = f"s{self.number}"
        kind = self.chance.choice(["internal", "external", "disk-only", "memory"])
        inner = {"external": "<disks>" + "".join(f"<disk name='{disk}' snapshot='external'/>" for disk in self.disks) +
                             "</disks>",
                 "memory": f"<memory snapshot='external' file='{self.bed.images}/{name}.memory'/>"}.get(kind, "")
        wishes = ["disk-only"] if kind == "disk-only" else []
        if self.chance.random() < 0.1 and not self.machine.is_off():
            wishes.append("halt")
        self.ask(self.machine.path, DOMAIN, "CreateSnapshot", "(sa{sv})",
                 f"<domainsnapshot><name>{name}</name>{inner}</domainsnapshot>", options(*wishes))
        self.model.add(name)
        return f"{name} {kind} {wishes}"

    def revert(self):
        if not self.model.snapshots:
            return "nothing"
        name = self.chance.choice(list(self.model.snapshots))
        wishes = [wish for wish, probable in (("running", 0.1), ("force", 0.3)) if self.chance.random() < probable]
        self.ask(self.machine.snapshot(name), SNAPSHOT, "Revert", "(a{sv})", options(*wishes))
        self.model.revert(name)
        return f"{name} {wishes}"

    def delete(self):
        if not self.model.snapshots:
            return "nothing"
        name = self.chance.choice(list(self.model.snapshots))
        scope = self.chance.choice(["", "", "", "children", "children-only"])
        if scope:
            self.killing = False  # these may stop between two snapshots, and say so
        self.ask(self.machine.snapshot(name), SNAPSHOT, "Delete", "(a{sv})", options(*[scope] if scope else []))
        self.model.remove(name, scope)
        return f"{name} {scope}"

    def power(self):
        verb = "Start" if self.machine.is_off() else "Stop"
        self.machine.call(verb, "(a{sv})", {})
        return verb

    def pause(self):
        state = self.bed.get(self.machine.path, DOMAIN, "State")
        verb = {"running": "Suspend", "paused": "Resume"}.get(state)
        if verb:
            self.machine.call(verb, "(a{sv})", {})
        return str(verb)

    def another_daemon(self):
        self.bed.restart()
        return ""

    def ask(self, *call):
        (self.bed.call_killed if self.killing else self.bed.call)(*call)

    # ---- the walk

    VERBS = {write: 6, create: 6, revert: 3, delete: 3, power: 2, pause: 1, another_daemon: 1}

    def step(self):
        verb = self.chance.choices(list(self.VERBS), list(self.VERBS.values()))[0]
        before = copy.deepcopy(self.model)
        self.killing = verb in (Walk.create, Walk.revert, Walk.delete) and self.chance.random() < self.kills
        try:
            told = verb(self)
        except Refused as refusal:
            told = f"-> {refusal}"
            self.model = before
            if refusal.code in ("Internal", "HypervisorFailed", "NoReply", "Timeout"):
                self.fail(f"{verb.__name__} {told}")
        self.history.append(f"{verb.__name__} {told}" + (" KILLED" if self.killing else ""))
        if self.killing:
            # What the new daemon has to finish or undo goes before any verb that it is asked for.
            self.machine.call("SetMetadata", "(ssssa{sv})", "title", "", "", str(len(self.history)), {})
            after = self.model
            self.model = next((each for each in (after, before) if self.fits(each)), None)
            if not self.model:
                self.fail("neither done nor undone")
        self.check()

    def fits(self, model):
        parents, current = self.machine.tree()
        return parents == model.tree() and current == ([model.current] if model.current else []) and \
            self.machine.content() == model.content

    def check(self):
        parents, current = self.machine.tree()
        self.expect("the tree", parents, self.model.tree())
        self.expect("which one is current", current, [self.model.current] if self.model.current else [])
        for name, kept in self.model.snapshots.items():
            self.expect(f"what snapshot {name} keeps", self.machine.kept(name), kept.content)
        if not self.machine.is_off():
            return
        self.expect("what the machine sees", self.machine.content(), self.model.content)
        for image in self.bed.images.iterdir():
            if image.suffix == ".memory":
                continue
            run = tool("qemu-img", "check", "-q", "-f", "qcow2", str(image), check=False)
            if run.returncode not in (0, 3):  # 3: leaked clusters, of a machine that was stopped
                self.fail(f"{image}: {run.stdout} {run.stderr}")

    def expect(self, what, found, wanted):
        if found != wanted:
            self.fail(f"{what}: {found}, not {wanted}")

    def fail(self, why):
        raise AssertionError(why + "\n" + "\n".join(self.history[-40:]))

    def go_back_to_all(self):
        for name in list(self.model.snapshots):
            try:
                self.bed.call(self.machine.snapshot(name), SNAPSHOT, "Revert", "(a{sv})", options("force"))
            except Refused as refusal:
                self.history.append(f"back to {name} -> {refusal}")
                continue
            self.model.revert(name)
            self.shut()
            self.expect(f"what the machine sees at {name}", self.machine.content(), self.model.content)

    def remove_all(self):
        """Some have to wait for others."""
        while self.model.snapshots:
            before, refusals = len(self.model.snapshots), []
            for name in self.chance.sample(list(self.model.snapshots), len(self.model.snapshots)):
                try:
                    self.bed.call(self.machine.snapshot(name), SNAPSHOT, "Delete", "(a{sv})", {})
                except Refused as refusal:
                    refusals.append(f"{name}: {refusal}")
                    continue
                self.model.remove(name, "")
                self.check()
            if len(self.model.snapshots) == before:
                self.fail("these cannot be deleted:\n" + "\n".join(refusals))
        left = set(map(str, self.bed.images.iterdir())) - self.machine.used_images() - set(self.machine.first)
        self.expect("images that are left", left, set())

    def shut(self):
        if not self.machine.is_off():
            self.power()

    def run(self, steps):
        for _ in range(steps):
            self.step()
        self.shut()
        self.go_back_to_all()
        self.remove_all()


def main():
    build, seed, steps, kills = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])
    if os.environ.get("VIRTBUS_TEST_LONG"):
        seed, steps = int.from_bytes(os.urandom(4)), steps * 8
    print("seed", seed, flush=True)
    bed = Bed(build, seed)
    walk, good = None, False
    try:
        walk = Walk(bed, kills)
        walk.run(steps)
        good = True
    finally:
        if walk:
            try:
                walk.shut()
            except Refused as refusal:
                print(refusal)
        bed.close(keep=not good)
    print(f"{steps} verbs, {sum('->' in each for each in walk.history)} of them refused")


if __name__ == "__main__":
    main()
