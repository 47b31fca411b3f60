"""Starts the agent runtime on a node: `astromesh.api.main` behind uvicorn, on one address, until SIGTERM.

`astromeshd` is in no PyPI package, so this is what `init` executes, as

    /usr/bin/python3.13 -I -S -B /usr/lib/astromesh/launch.pyc

Start-up is imports, so most of this file is about importing less, later. Astromesh itself is never edited; what is
tuned is tuned here, where a new version of a package can be checked against it.

Environment: ASTROMESH_LISTEN (HOST:PORT, default 127.0.0.1:8000), NOTIFY_FD (a pipe; gets "ready\\n" once the socket
listens). Everything else is Astromesh's own: ASTROMESH_CONFIG_DIR, ASTROMESH_PERSIST_AGENTS, the providers' keys.

Exit status: 0 after SIGTERM or SIGINT, at any time; 1 after a failed start, with the traceback on standard error.
"""

import _thread
import _sre
import collections
import gc
import marshal
import os
import re
import signal
import sys
import types
from importlib.machinery import ExtensionFileLoader, ModuleSpec, PathFinder, SourcelessFileLoader

# Nothing made while importing is ever garbage: collecting it over and over is a sixth of the time to ready.
gc.disable()

HOME = os.path.dirname(os.path.abspath(__file__))
USR = os.path.dirname(os.path.dirname(HOME))
STDLIB = f"{USR}/lib/python3.13"
sys.path[:] = [STDLIB, f"{STDLIB}/lib-dynload", f"{HOME}/site"]

DEFAULT_LISTEN = "127.0.0.1:8000"
# How often to look for orphans, and so how long a subprocess's owner has to collect it first.
REAP_SECONDS = 10


def stop(_signal, _frame):
    """Before the server is up, SIGTERM simply ends; once it is up, uvicorn has its own handler."""
    raise SystemExit(0)


# Imported by Astromesh at the top of its modules and used much later or never: each is loaded by the first access to
# one of its attributes. (Not httpx: a tool derives a class from one of its own as it is imported.)
LAZY = ("psutil", "smtplib", "sqlite3")


class LazyModule(types.ModuleType):
    """A module that loads itself when something that it doesn't have yet is asked of it.

    importlib.util.LazyLoader can't serve here: it loads at the second `import` statement, which asks for `__spec__`.
    """

    def __getattr__(self, name):
        with LOADING:
            if type(self) is LazyModule and not self.__spec__.loader_state:
                # Asked again by the module itself while it loads: it simply isn't there yet.
                self.__spec__.loader_state = "loading"
                self.__spec__.loader.exec_module(self)
                self.__class__ = types.ModuleType
        # Finds it, or raises as any module does.
        return types.ModuleType.__getattribute__(self, name)


# A second thread waits until the first has loaded the module; the loading thread itself may come by again.
LOADING = _thread.RLock()


def load_lazily(name):
    """Puts a module in place that loads itself when it is first used."""
    spec = PathFinder.find_spec(name)
    module = LazyModule(name)
    module.__spec__, module.__loader__, module.__file__ = spec, spec.loader, spec.origin
    if spec.submodule_search_locations is not None:
        module.__path__, module.__package__ = spec.submodule_search_locations, name
    sys.modules[name] = module


def remember():
    """Takes from a file what the same imports found and compiled when the image was made.

    That is where each module is, and the compiled form of regular expressions, of the methods of data classes and named
    tuples, and of annotations in quotes. A name or a text is its own key, so what is not in the file is looked for and
    compiled as ever. `record.py` writes it, from the tree that it goes into; only then, and outside of an image, there
    is none.
    """
    try:
        with open(f"{HOME}/remembered", "rb") as file:
            modules, patterns, executed, evaluated = marshal.load(file)
    except FileNotFoundError:
        modules, patterns, executed, evaluated = {}, {}, {}, {}
    compile_pattern = re._compiler.compile

    class Known:
        """Finds a module without looking: the root never changes."""

        @staticmethod
        def find_spec(name, _path=None, _target=None):
            if name not in modules:
                return None
            place, is_package = modules[name]
            place = f"{USR}/{place}"
            loader = (ExtensionFileLoader if place.endswith(".so") else SourcelessFileLoader)(name, place)
            spec = ModuleSpec(name, loader, origin=place, is_package=is_package)
            spec.has_location = True
            if is_package:
                spec.submodule_search_locations.append(place.rpartition("/")[0])
            return spec

    def pattern(text, flags=0):
        known = patterns.get((text, flags))
        if known is None:
            return compile_pattern(text, flags)
        return _sre.compile(text, *marshal.loads(known))

    def code(text, file, mode):
        known = (executed if mode == "exec" else evaluated).get(text)
        return compile(text, file, mode) if known is None else marshal.loads(known)

    sys.meta_path.insert(sys.meta_path.index(PathFinder), Known)
    re._compiler.compile = pattern
    # Each of these modules calls the builtin of this name on a text that it has put together, once for each class.
    collections.eval = lambda text, *names: eval(code(text, "<string>", "eval"), *names)
    import dataclasses
    import typing

    typing.compile = code
    dataclasses.exec = lambda text, *names: exec(code(text, "<string>", "exec"), *names)


def without_signatures():
    """`dataclasses` gives a class without a docstring its signature as one. Here that is each class, and nobody reads it."""
    import dataclasses
    import inspect

    class Inspect:
        def __getattr__(self, name):
            return getattr(inspect, name)

        def signature(self, _callable):
            raise ValueError

    dataclasses.inspect = Inspect()


def without_command_line():
    """`uvicorn` without its `__init__`, which imports the command line; that, and click, are not in the image."""
    package = types.ModuleType("uvicorn")
    package.__path__ = [f"{HOME}/site/uvicorn"]
    sys.modules["uvicorn"] = package
    import uvicorn.config
    import uvicorn.server

    package.Config = uvicorn.config.Config
    package.Server = uvicorn.server.Server


def without_pydantic_v1():
    """FastAPI asks of each annotation whether it is a model of pydantic 1. None is: that half is not even imported."""
    import pydantic

    version_1 = types.ModuleType("pydantic.v1")
    version_1.BaseModel = type("BaseModel", (), {})
    sys.modules["pydantic.v1"] = pydantic.v1 = version_1


def defer_pydantic():
    """Lets pydantic build a validator when it is first used and not when its class is defined.

    Astromesh and FastAPI define some hundreds; a node uses a few of them in its life.
    """
    import warnings

    from pydantic import TypeAdapter
    from pydantic._internal import _config
    from pydantic.warnings import UnsupportedFieldAttributeWarning

    # FastAPI silences this one while it builds its adapters, which is now later.
    warnings.simplefilter("ignore", UnsupportedFieldAttributeWarning)
    # There is no plug-in in the image; looking for one reads the metadata of every package.
    os.environ["PYDANTIC_DISABLE_PLUGINS"] = "__all__"
    _config.config_defaults["defer_build"] = True
    # FastAPI passes no configuration to its adapters, and they look only at what they are passed.
    TypeAdapter._defer_build = True


def defer_openapi():
    """The models of an OpenAPI document refer to each other and are built where they are defined; now by first use."""
    from pydantic import BaseModel

    rebuild = BaseModel.__dict__["model_rebuild"]

    def rebuild_when_used(model, **arguments):
        # A bare call is FastAPI's; the one by first use has arguments, and this function between it and its caller.
        if not arguments:
            return None
        arguments["_parent_namespace_depth"] += 1
        return rebuild.__func__(model, **arguments)

    BaseModel.model_rebuild = classmethod(rebuild_when_used)
    import fastapi.openapi.models

    BaseModel.model_rebuild = rebuild


def websocket_protocol(**arguments):
    """The WebSocket protocol, imported by the first upgrade request: /v1/ws is part of the API, but rarely used."""
    from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

    return WebSocketsSansIOProtocol(**arguments)


def spare_the_others():
    """An agent that can't be used never keeps the others from serving: it stays a draft, with its reason.

    Astromesh itself sees to that where an agent is built. But a document that can't be read, one of another shape, two
    agents that call each other and a chain that leads nowhere end its whole start. So while it starts, each document is
    judged by itself; what is registered later through the API is refused as ever.
    """
    from astromesh.runtime import engine

    yaml, log, runtime = engine.yaml, engine.logger, engine.AgentRuntime
    bootstrap, detect = runtime.bootstrap, runtime._detect_circular_refs

    class Yaml:
        def __getattr__(self, name):
            return getattr(yaml, name)

        def safe_load(self, text):
            try:
                return yaml.safe_load(text)
            except Exception as error:
                log.error("a document can't be read: %s", error)
                return None

    async def bootstrap_each(self):
        def leave_out(config, error):
            name = config["metadata"]["name"]
            log.error("agent %s is left out: %s", name, error)
            self._agents.pop(name, None)
            self._agent_configs[name] = config
            self._agent_status[name] = "draft"
            self._agent_errors.setdefault(name, f"{type(error).__name__}: {error}")

        def detect_circular_refs(configs):
            named = []
            for config in configs:
                try:
                    named.append((config["metadata"]["name"], config))
                except (KeyError, TypeError):
                    log.error("an agent is left out, it has no name")
            configs.clear()
            for _, config in sorted(named, key=lambda named: str(named[0])):
                try:
                    detect(self, [*configs, config])
                except Exception as error:
                    leave_out(config, error)
                else:
                    configs.append(config)

        def compile_chains():
            self._compiled_chains = {}
            for name, config in list(self._agent_configs.items()):
                try:
                    chain = engine.compile_chain(name, self._agent_configs)
                except Exception as error:
                    leave_out(config, error)
                else:
                    if chain is not None:
                        self._compiled_chains[engine.chain_workflow_name(name)] = chain

        self._detect_circular_refs, self._compile_chains = detect_circular_refs, compile_chains
        engine.yaml = Yaml()
        try:
            await bootstrap(self)
        finally:
            engine.yaml = yaml
            del self._detect_circular_refs, self._compile_chains

    runtime.bootstrap = bootstrap_each


def parse_listen(text):
    """HOST:PORT, an IPv6 address in brackets."""
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdecimal() or int(port) > 65535:
        raise ValueError(f"ASTROMESH_LISTEN={text!r} is not HOST:PORT")
    return host.removeprefix("[").removesuffix("]") or "127.0.0.1", int(port)


def notify_ready():
    """Tells `init` that the socket listens."""
    fd = os.environ.pop("NOTIFY_FD", "")
    if fd:
        os.write(int(fd), b"ready\n")
        os.close(int(fd))


async def reap_orphans():
    """Collects processes that were left to this one because it is PID 1 of its namespace.

    A zombie that is still there a whole period after it was first seen belongs to nobody here: asyncio and subprocess
    collect their own at once. Until then it is only looked at (WNOWAIT), so no exit status is ever taken from them.
    """
    import asyncio

    seen = None
    while True:
        await asyncio.sleep(REAP_SECONDS)
        try:
            state = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            state = None
        pid = state.si_pid if state else None
        if pid is not None and pid == seen:
            os.waitpid(pid, os.WNOHANG)
            pid = None
        seen = pid


def main():
    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    host, port = parse_listen(os.environ.get("ASTROMESH_LISTEN") or DEFAULT_LISTEN)

    remember()
    without_signatures()
    for name in LAZY:
        load_lazily(name)
    without_pydantic_v1()
    defer_pydantic()
    defer_openapi()
    without_command_line()
    import asyncio

    import uvicorn
    from astromesh.api.main import app

    spare_the_others()

    class Server(uvicorn.Server):
        async def startup(self, sockets=None):
            await super().startup(sockets)
            # What is here now stays: no collection will look at it again.
            gc.freeze()
            gc.enable()
            notify_ready()

    server = Server(
        uvicorn.Config(
            app,
            host=host,
            port=port,
            # The standard library's loop: uvloop starts no faster, and what an agent does is wait for a model.
            loop="none",
            http="httptools",
            ws=websocket_protocol,
            lifespan="on",
            interface="asgi3",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
        )
    )

    async def serve():
        reaper = asyncio.create_task(reap_orphans()) if os.getpid() == 1 else None
        await server.serve()
        if reaper:
            reaper.cancel()

    # uvicorn raises the signals that it was stopped by once more when it is done.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    asyncio.run(serve())


try:
    main()
except SystemExit as end:
    # uvicorn's own status for a failed start is 3.
    code = 1 if end.code else 0
except BaseException:
    import traceback

    traceback.print_exc()
    code = 1
else:
    code = 0
sys.stdout.flush()
sys.stderr.flush()
# Skips tearing the interpreter down object by object: everything is closed, and the process is about to be gone.
os._exit(code)
