"""Writes what the launcher's `remember` reads: runs the launcher until it would listen, and keeps what was compiled.

    python3.13 record.py LAUNCHER OUTPUT

Never in the image; the image's build runs it. The same tree gives the same bytes: hash randomization must be off, each
entry is marshalled by itself without references, and entries are sorted.
"""

import _sre
import builtins
import marshal
import os
import re
import sys

LAUNCHER, OUTPUT = sys.argv[1:]
# Without references between objects, whose marks depend on what else the process holds.
FORMAT = 2

patterns, executed, evaluated = {}, {}, {}
compile_text, compile_pattern, make_pattern = builtins.compile, re._compiler.compile, _sre.compile


def record_text(text, file, mode, *arguments, **named):
    code = compile_text(text, file, mode, *arguments, **named)
    kept = {"exec": executed, "eval": evaluated}.get(mode)
    if kept is not None and type(text) is str and file == "<string>" and not arguments and not named:
        kept[text] = marshal.dumps(code, FORMAT)
    return code


class Sre:
    """`_sre` as `re._compiler` sees it."""

    def __getattr__(self, name):
        return getattr(_sre, name)

    def compile(self, *arguments):
        self.made = arguments
        return make_pattern(*arguments)


def record_pattern(text, flags=0):
    compiled = compile_pattern(text, flags)
    if type(text) in (str, bytes):
        _, all_flags, code, groups, names, indices = sre.made
        plain = (int(all_flags), [int(word) for word in code], groups, dict(names), indices)
        patterns[text, int(flags)] = marshal.dumps(plain, FORMAT)
    return compiled


def modules():
    """Where each module is that was loaded from a file, below /usr, and whether it is a package."""
    usr = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(LAUNCHER)))) + "/"
    found = {}
    for name, module in sys.modules.items():
        spec = getattr(module, "__spec__", None)
        if name != "__main__" and spec is not None and spec.has_location and spec.name == name:
            place, parents = spec.origin, spec.submodule_search_locations
            if place.startswith(usr) and (parents is None or parents == [os.path.dirname(place)]):
                found[name] = (place.removeprefix(usr), parents is not None)
    return found


async def write(*_arguments, **_named):
    """In the place of listening: all is imported, and the agents are up."""
    tables = (modules(), patterns, executed, evaluated)
    tables = tuple(dict(sorted(table.items(), key=lambda entry: repr(entry[0]))) for table in tables)
    with open(OUTPUT, "wb") as file:
        file.write(marshal.dumps(tables, FORMAT))
    os._exit(0)


re._compiler._sre = sre = Sre()
builtins.compile, re._compiler.compile = record_text, record_pattern
sys.path[:] = [os.path.dirname(os.path.dirname(os.path.abspath(LAUNCHER))) + "/python3.13"] + sys.path
import asyncio.base_events

asyncio.base_events.BaseEventLoop.create_server = write
with open(LAUNCHER, "rb") as file:
    code = marshal.loads(file.read()[16:])
exec(code, {"__name__": "__main__", "__file__": LAUNCHER})
