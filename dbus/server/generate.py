#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Makes the C++ of one interface from its introspection file: handler class, argument and option parsing, permission
questions, property and permission tables, signal emitters, introspection text. What the annotations mean is written in
data/dbus/org.virtbus1.Manager.xml. Refuses, in one sentence, a file that leaves something unsaid."""

import argparse
import re
import sys
import xml.etree.ElementTree as ET

PREFIX = "org.virtbus1."
EMITS = "org.freedesktop.DBus.Property.EmitsChangedSignal"
KNOWN = {
    "interface": {"View"},
    "method": {"Action", "Errors"},
    "arg": {"Subject", "Limit"},
    "property": {"Field", "Computed"},
    "signal": set(),
}
OPTION_TYPES = {"b": ("bool", " = false"), "u": ("std::uint32_t", " = 0"), "t": ("std::uint64_t", " = 0"),
                "s": ("std::string", ""), "as": ("std::vector<std::string>", "")}
BASIC = {"b": "bool", "i": "std::int32_t", "u": "std::uint32_t", "x": "std::int64_t", "t": "std::uint64_t",
         "d": "double", "s": "std::string", "o": "ObjectPath", "h": "Fd", "v": "Value"}
EMIT_WORDS = {"true": "changes", "invalidates": "invalidation", "const": "constant", "false": "nothing"}
KEYWORDS = {"new", "delete", "class", "default", "register", "switch", "this", "operator", "private", "public", "break",
            "continue", "union", "explicit", "export", "import", "template", "typename", "namespace", "using"}
SUBJECTS = ("xml", "name", "network-xml", "network-name", "handler")
DEFAULT_LIMIT = 65536


class Unfit(Exception):
    pass


def snake(name):
    name = name.replace("VCpu", "Vcpu")
    name = re.sub(r"([A-Z]+)([A-Z][a-z])", r"\1_\2", name)
    name = re.sub(r"([a-z0-9])([A-Z])", r"\1_\2", name)
    return name.replace("-", "_").lower()


def identifier(name):
    name = snake(name)
    return name + "_" if name in KEYWORDS else name


def cpp_type(signature):
    """The C++ type of one complete type, and what follows it in the signature."""
    if signature[0] in BASIC:
        return BASIC[signature[0]], signature[1:]
    if signature.startswith("a{"):
        key, rest = cpp_type(signature[2:])
        value, rest = cpp_type(rest)
        return f"std::vector<std::pair<{key}, {value}>>", rest[1:]
    if signature[0] == "a":
        inner, rest = cpp_type(signature[1:])
        return f"std::vector<{inner}>", rest
    if signature[0] == "(":
        members, rest = [], signature[1:]
        while rest[0] != ")":
            member, rest = cpp_type(rest)
            members.append(member)
        return f"std::tuple<{', '.join(members)}>", rest[1:]
    raise Unfit(f"the type '{signature}' has no C++ counterpart")


def whole_type(signature):
    name, rest = cpp_type(signature)
    if rest:
        raise Unfit(f"'{signature}' is not one complete type")
    return name


def parameter(signature):
    name = whole_type(signature)
    return name if signature in "biuxtd" else f"const {name}&"


class Arg:
    def __init__(self, element, owner):
        self.name = element.get("name")
        self.type = element.get("type")
        if not self.name or not self.type:
            raise Unfit(f"an argument of {owner} has no name or no type")
        notes = annotations(element, "arg", f"argument {self.name} of {owner}")
        self.subject = notes.get("Subject")
        if self.subject not in (None, *SUBJECTS):
            raise Unfit(f"argument {self.name} of {owner} has the subject '{self.subject}'; it must be one of {' '.join(SUBJECTS)}")
        self.limit = int(notes.get("Limit", DEFAULT_LIMIT))
        self.cpp = identifier(self.name)


class Option:
    def __init__(self, name, value, owner):
        self.name, self.cpp = name, identifier(name)
        self.type, *words = value.split()
        if self.type not in OPTION_TYPES:
            raise Unfit(f"option {name} of {owner} has the type '{self.type}'; it must be one of {' '.join(OPTION_TYPES)}")
        limits = [int(w[len("limit="):]) for w in words if w.startswith("limit=")]
        self.limit = limits[0] if limits else 0
        words = [w for w in words if not w.startswith("limit=")]
        if (words or limits) and self.type != "s":
            raise Unfit(f"option {name} of {owner} lists words but is no string")
        self.words = " ".join(words)


class Method:
    def __init__(self, element, interface, errors):
        self.name, self.cpp = element.get("name"), identifier(element.get("name"))
        owner = f"{interface}.{self.name}"
        notes = annotations(element, "method", owner)
        args = element.findall("arg")
        self.ins = [Arg(a, owner) for a in args if a.get("direction", "in") == "in"]
        self.outs = [Arg(a, owner) for a in args if a.get("direction") == "out"]
        if "Action" not in notes:
            raise Unfit(f"{owner} has no annotation {PREFIX}Action: say which polkit action it needs")
        self.actions = notes["Action"].split()
        for action in self.actions:
            require_action(action, owner)
        self.options = [Option(k[len("Option."):], v, owner) for k, v in notes.items() if k.startswith("Option.")]
        self.more_actions = {k[len("Action."):]: v for k, v in notes.items() if k.startswith("Action.")}
        self.takes_options = bool(self.ins) and self.ins[-1].type == "a{sv}"
        if self.options and not self.takes_options:
            raise Unfit(f"{owner} has options but its last argument is no a{{sv}}")
        telling = {o.name for o in self.options if o.type in ("b", "s")}
        for option, action in self.more_actions.items():
            if option not in telling:
                raise Unfit(f"{owner} has an action for {option}, which is none of its boolean options or strings")
            require_action(action, owner)
        for error in notes.get("Errors", "").split():
            if error not in errors:
                raise Unfit(f"{owner} declares the error {error}, which does not exist")
        self.errors = notes.get("Errors", "").split()
        self.subject = next((a for a in self.ins if a.subject), None)
        self.handler_asks = self.subject is not None and self.subject.subject == "handler"
        if self.handler_asks:
            self.subject = None
        self.in_signature = "".join(a.type for a in self.ins)
        self.out_signature = "".join(a.type for a in self.outs)
        self.plain = self.ins[:-1] if self.takes_options else self.ins


class Property:
    def __init__(self, element, interface):
        self.name, self.type = element.get("name"), element.get("type")
        owner = f"{interface}.{self.name}"
        if element.get("access") != "read":
            raise Unfit(f"{owner} can be written; changes are methods, so that permission can be asked for")
        notes = annotations(element, "property", owner)
        self.field = notes.get("Field", snake(self.name))
        self.computed = notes.get("Computed") == "true"
        emits = {a.get("name"): a.get("value") for a in element.findall("annotation")}.get(EMITS, "true")
        if emits not in EMIT_WORDS:
            raise Unfit(f"{owner} has EmitsChangedSignal '{emits}'")
        self.emits = EMIT_WORDS[emits]


class Signal:
    def __init__(self, element, interface):
        self.name, self.cpp = element.get("name"), identifier(element.get("name"))
        annotations(element, "signal", f"{interface}.{self.name}")
        self.args = [Arg(a, f"{interface}.{self.name}") for a in element.findall("arg")]


def require_action(action, owner):
    if action != "of-object" and not re.fullmatch(r"[a-z]+\.[a-z]+(-[a-z]+)*", action):
        raise Unfit(f"{owner} names the action '{action}', which is no action's name")


def annotations(element, kind, owner):
    notes = {}
    for note in element.findall("annotation"):
        name = note.get("name", "")
        if not name.startswith(PREFIX):
            continue
        name = name[len(PREFIX):]
        family = name.split(".")[0] + "." if "." in name else ""
        if name not in KNOWN[kind] and not (kind == "method" and family in ("Option.", "Action.")):
            raise Unfit(f"{owner} has the annotation {PREFIX}{name}, which is not known there")
        notes[name] = note.get("value", "")
    return notes


def require_documentation(parent, interface):
    comment = None
    for child in parent:
        if child.tag is ET.Comment:
            comment = child.text.strip()
            continue
        if child.tag in ("interface", "method", "property", "signal") and not comment:
            name = child.get("name") if child.tag == "interface" else f"{interface}.{child.get('name')}"
            raise Unfit(f"{name} has no comment before it that documents it")
        comment = None


def introspection(interface):
    """The interface as the daemon shows it: without comments and without what only the generator reads."""
    def attributes(element):
        return "".join(f' {k}="{v}"' for k, v in element.attrib.items())

    def public(note):
        return note.get("name").startswith("org.freedesktop.") or note.get("name") in (PREFIX + "Action", PREFIX + "Errors")

    lines = [f' <interface name="{interface.get("name")}">']
    for member in interface:
        if member.tag not in ("method", "signal", "property"):
            continue
        inner = [f"<{c.tag}{attributes(c)}/>" for c in member
                 if c.tag == "arg" or (c.tag == "annotation" and public(c))]
        head = f"  <{member.tag}{attributes(member)}"
        lines.append(f"{head}/>" if not inner else f"{head}>{''.join(inner)}</{member.tag}>")
    lines.append(" </interface>")
    return "\n".join(lines) + "\n"


class Interface:
    def __init__(self, text, errors):
        builder = ET.TreeBuilder(insert_comments=True)
        root = ET.fromstring(text, parser=ET.XMLParser(target=builder))
        interfaces = root.findall("interface")
        if len(interfaces) != 1:
            raise Unfit("the file must have one interface")
        element = interfaces[0]
        self.name = element.get("name")
        require_documentation(root, self.name)
        require_documentation(element, self.name)
        notes = annotations(element, "interface", self.name)
        if "View" not in notes:
            raise Unfit(f"{self.name} has no annotation {PREFIX}View: say which struct its properties show")
        self.view, self.view_header = notes["View"].split()
        self.short = self.name.rsplit(".", 1)[1]
        self.cpp = snake(self.short)
        self.methods = [Method(m, self.name, errors) for m in element.findall("method")]
        self.properties = [Property(p, self.name) for p in element.findall("property")]
        self.signals = [Signal(s, self.name) for s in element.findall("signal")]
        self.introspection = introspection(element)

    # ---- names ----
    def options_struct(self, method):
        return f"{self.short}{method.name}Options"

    def result_type(self, method):
        if not method.outs:
            return "Task<>"
        if len(method.outs) == 1:
            return f"Task<{whole_type(method.outs[0].type)}>"
        return f"Task<{self.short}{method.name}Result>"

    def handler_parameters(self, method):
        parameters = ["Call& call"] + (["std::vector<std::string> actions"] if method.handler_asks else []) + [f"{whole_type(a.type)} {a.cpp}" for a in method.plain]
        if method.options:
            parameters.append(f"{self.options_struct(method)} options")
        return ", ".join(parameters)

    def subject_call(self, method):
        if method.subject:
            return f"self.subject_of_{snake(method.subject.subject)}(call, {method.subject.cpp})"
        return "self.subject(call)"

    # ---- the header ----
    def header(self):
        out = [f"// Made from {self.name}.xml by dbus/server/generate.py.", "#pragma once", "",
               "#include <cstdint>", "#include <span>", "#include <string>", "#include <tuple>", "#include <utility>",
               "#include <vector>", "", '#include "dbus/server/call.hpp"', '#include "dbus/server/wire.hpp"',
               f'#include "{self.view_header}"', "", "namespace virtbus::dbus {", "", "class Signals;", ""]
        for method in self.methods:
            out += self.structs(method)
        out += self.handler_class()
        out += [f"extern const Interface {self.cpp}_interface;",
                f"extern const std::span<const Permission> {self.cpp}_permissions;", ""]
        for prop in self.properties:
            if prop.computed:
                out.append(f"{whole_type(prop.type)} {self.cpp}_{snake(prop.name)}(const {self.view}& view);")
        if self.signals:
            out += ["", f"namespace {self.cpp}_signals {{"]
            out += [f"{self.signal_head(s)};" for s in self.signals]
            out.append(f"}}  // namespace {self.cpp}_signals")
        out += ["", "}  // namespace virtbus::dbus"]
        return "\n".join(out) + "\n"

    def structs(self, method):
        out = []
        if method.options:
            out.append(f"struct {self.options_struct(method)} {{")
            for option in method.options:
                cpp, default = OPTION_TYPES[option.type]
                out.append(f"    {cpp} {option.cpp}{default};")
            out += ["};", ""]
        if len(method.outs) > 1:
            out.append(f"struct {self.short}{method.name}Result {{")
            out += [f"    {whole_type(a.type)} {a.cpp};" for a in method.outs]
            out += ["};", ""]
        return out

    def handler_class(self):
        out = [f"/// The methods of {self.name}. Permission has been given when they are called; the object may be gone.",
               f"class {self.short}Methods {{", "public:", f"    virtual ~{self.short}Methods() = default;"]
        if any(not m.subject and not m.handler_asks for m in self.methods):
            out.append("    virtual Subject subject(const Call& call) = 0;")
        for kind in sorted({snake(m.subject.subject) for m in self.methods if m.subject}):
            out.append(f"    virtual Subject subject_of_{kind}(const Call& call, const std::string& {kind}) = 0;")
        if any("of-object" in m.actions for m in self.methods):
            out.append("    virtual std::string action_of_object(const Call& call) = 0;")
        for method in self.methods:
            out.append(f"    virtual {self.result_type(method)} {method.cpp}({self.handler_parameters(method)}) = 0;")
        return out + ["};", ""]

    def signal_head(self, signal):
        parameters = ["Signals& out", "const std::string& path"]
        parameters += [f"{parameter(a.type)} {a.cpp}" for a in signal.args]
        return f"void {signal.cpp}({', '.join(parameters)})"

    # ---- the source ----
    def source(self, include):
        out = [f"// Made from {self.name}.xml by dbus/server/generate.py.", f'#include "{include}"', "",
               '#include "dbus/server/options.hpp"', '#include "dbus/server/signals.hpp"', "",
               "namespace virtbus::dbus {", "", "namespace {", ""]
        for method in self.methods:
            out += self.option_table(method)
            out += self.trampoline(method)
        out += self.method_table() + self.property_table() + self.permission_table()
        out += ["}  // namespace", "",
                f"const Interface {self.cpp}_interface{{\"{self.name}\", {self.cpp}_methods, {self.cpp}_properties,",
                f'    R"xml({self.introspection})xml"}};',
                f"const std::span<const Permission> {self.cpp}_permissions{{{self.cpp}_permission_rows}};", ""]
        if self.signals:
            out.append(f"namespace {self.cpp}_signals {{")
            for signal in self.signals:
                out += self.signal_body(signal)
            out.append(f"}}  // namespace {self.cpp}_signals")
        out += ["", "}  // namespace virtbus::dbus"]
        return "\n".join(out) + "\n"

    def option_table(self, method):
        if not method.options:
            return []
        struct = self.options_struct(method)
        out = [f"constexpr Option {method.cpp}_options[] = {{"]
        for o in method.options:
            limit = f", {o.limit}" if o.limit else ""
            out.append(f'    {{"{o.name}", "{o.type}", "{o.words}", Store<&{struct}::{o.cpp}>::to{limit}}},')
        return out + ["};", ""]

    def read_argument(self, method, arg):
        what = f'"argument {arg.name} of {method.name}"'
        if arg.type == "s":
            out = [f"    std::string {arg.cpp} = in.string({arg.limit}, {what});"]
            return out + ([f"    call.hold({arg.cpp}.size());"] if arg.limit > DEFAULT_LIMIT else [])
        if arg.type == "as":
            return [f"    std::vector<std::string> {arg.cpp} = read_strings(in, {what});"]
        if arg.type == "h":
            return [f"    Fd {arg.cpp} = in.descriptor({what});"]
        readers = {"b": "boolean", "i": "int32", "u": "uint32", "x": "int64", "t": "uint64", "d": "real"}
        if arg.type not in readers:
            raise Unfit(f"{what} has the type '{arg.type}', which the generator cannot read")
        return [f"    const {BASIC[arg.type]} {arg.cpp} = in.{readers[arg.type]}();"]

    def trampoline(self, method):
        out = [f"Task<> run_{method.cpp}(void* handler, Call& call) {{",
               f"    auto& self = *static_cast<{self.short}Methods*>(handler);"]
        if method.ins:
            out.append("    Reader in = call.arguments();")
        for arg in method.plain:
            out += self.read_argument(method, arg)
        if method.options:
            out += [f"    {self.options_struct(method)} options;",
                    f'    read_options(in, "{method.name}", {method.cpp}_options, &options);']
            out += [f"    call.hold(options.{o.cpp}.size());" for o in method.options if o.limit > DEFAULT_LIMIT]
        elif method.takes_options:
            out.append(f'    read_options(in, "{method.name}", {{}}, nullptr);')
        named = ", ".join("self.action_of_object(call)" if a == "of-object" else f'"{a}"' for a in method.actions)
        out.append(f"    std::vector<std::string> actions{{{named}}};")
        for option, action in method.more_actions.items():
            kind = next(o.type for o in method.options if o.name == option)
            given = f"!options.{identifier(option)}.empty()" if kind == "s" else f"options.{identifier(option)}"
            out.append(f'    if ({given}) actions.emplace_back("{action}");')
        subject = self.subject_call(method)
        if method.subject and method.subject.subject in ("xml", "network-xml"):  # a text says the same for ever
            out.append(f"    const Subject about = {subject};")
            subject = "about"
        if not method.handler_asks:
            out.append(f"    co_await call.permit(std::move(actions), [&] {{ return {subject}; }});")
        handed = ["call"] + (["std::move(actions)"] if method.handler_asks else []) + [f"std::move({a.cpp})" if a.type in ("s", "as", "h") else a.cpp for a in method.plain]
        handed += ["std::move(options)"] if method.options else []
        invoke = f"co_await self.{method.cpp}({', '.join(handed)})"
        out.append(f"    const auto result = {invoke};" if method.outs else f"    {invoke};")
        if not method.outs:
            out.append("    call.answer([](Writer&) {});")
        elif len(method.outs) == 1:
            out.append("    call.answer([&result](Writer& out) { put(out, result); });")
        else:
            puts = " ".join(f"put(out, result.{a.cpp});" for a in method.outs)
            out.append(f"    call.answer([&result](Writer& out) {{ {puts} }});")
        return out + ["}", ""]

    def method_table(self):
        rows = [f'    {{"{m.name}", "{m.in_signature}", "{m.out_signature}", run_{m.cpp}}},' for m in self.methods]
        if not rows:
            return [f"constexpr std::span<const Method> {self.cpp}_methods;", ""]
        return [f"constexpr Method {self.cpp}_methods[] = {{"] + rows + ["};", ""]

    def property_table(self):
        rows, checks = [], []
        for p in self.properties:
            field = f"static_cast<const {self.view}*>(view)->{p.field}"
            other = f"static_cast<const {self.view}*>(other)->{p.field}"
            value = f"{self.cpp}_{snake(p.name)}(*static_cast<const {self.view}*>(view))" if p.computed else field
            rows += [f'    {{"{p.name}", "{p.type}", Emits::{p.emits},',
                     f"     [](Writer& out, const void* view) {{ put(out, {value}); }},",
                     f"     [](const void* view, const void* other) {{ return {field} == {other}; }}}},"]
            if not p.computed:
                checks.append(f"static_assert(std::string_view{{Wire<decltype({self.view}::{p.field})>::signature}} == "
                              f'"{p.type}", "{p.name} has another type than its field");')
        if not rows:
            return [f"constexpr std::span<const Property> {self.cpp}_properties;", ""]
        return checks + ["", f"constexpr Property {self.cpp}_properties[] = {{"] + rows + ["};", ""]

    def permission_table(self):
        rows = []
        for m in self.methods:
            rows += [f'    {{"{self.name}", "{m.name}", "{a}", ""}},' for a in m.actions]
            rows += [f'    {{"{self.name}", "{m.name}", "{a}", "{o}"}},' for o, a in m.more_actions.items()]
        if not rows:
            return [f"constexpr std::span<const Permission> {self.cpp}_permission_rows;", ""]
        return [f"constexpr Permission {self.cpp}_permission_rows[] = {{"] + rows + ["};", ""]

    def signal_body(self, signal):
        puts = " ".join(f"put(to, {a.cpp});" for a in signal.args)
        fill = f"[&](Writer& to) {{ {puts} }}" if signal.args else "[](Writer&) {}"
        return [f"{self.signal_head(signal)} {{",
                f'    out.emit(path, "{self.name}", "{signal.name}", {fill});', "}"]


def error_words(path):
    with open(path, encoding="utf-8") as file:
        return set(re.findall(r'std::string_view\{"(\w+)"\}', file.read()))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("input")
    parser.add_argument("--errors", required=True, help="the header with the words of the error codes")
    parser.add_argument("--header", required=True)
    parser.add_argument("--source", required=True)
    parser.add_argument("--include", required=True, help="how the source includes the header")
    arguments = parser.parse_args()
    try:
        with open(arguments.input, encoding="utf-8") as file:
            interface = Interface(file.read(), error_words(arguments.errors))
        header, source = interface.header(), interface.source(arguments.include)
    except (Unfit, ET.ParseError) as error:
        sys.exit(f"{arguments.input}: {error}.")
    with open(arguments.header, "w", encoding="utf-8") as file:
        file.write(header)
    with open(arguments.source, "w", encoding="utf-8") as file:
        file.write(source)


if __name__ == "__main__":
    main()
