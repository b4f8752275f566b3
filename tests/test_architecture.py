"""The shape of the house is a test: who may import whom, where state and barriers may be, what must be documented."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = {
    "aiorch": ROOT / "client" / "aiorch",
    "aiorchd": ROOT / "daemon" / "aiorchd",
    "aiorchctl": ROOT / "daemon" / "aiorchctl",
    "aiorchsim": ROOT / "daemon" / "aiorchsim",
}

# Room -> rooms it may import (itself always). Downward only; read it from top to bottom.
ROOMS: dict[str, set[str]] = {
    "aiorchd.__main__": {"aiorchd.app", "aiorchd.config", "aiorch"},
    "aiorchd.app": {
        "aiorchd.pipeline",
        "aiorchd.doors",
        "aiorchd.insight",
        "aiorchd.runtime",
        "aiorchd.config",
        "aiorchd.store",
        "aiorchd.likeness",
        "aiorchd.providers",
        "aiorchd.calls",
        "aiorchd.core",
        "aiorch",
    },
    "aiorchd.pipeline": {
        "aiorchd.stages",
        "aiorchd.runtime",
        "aiorchd.config",
        "aiorchd.calls",
        "aiorchd.core",
        "aiorch",
    },
    "aiorchd.doors": {"aiorchd.calls", "aiorchd.insight", "aiorchd.runtime", "aiorch"},
    "aiorchd.insight": {"aiorchd.calls", "aiorchd.core", "aiorchd.store", "aiorch"},
    "aiorchd.stages": {"aiorchd.calls", "aiorchd.core", "aiorch"},
    "aiorchd.providers": {"aiorchd.calls", "aiorch", "aiorchsim.textwork"},
    "aiorchd.store": {"aiorchd.calls", "aiorchd.core", "aiorch"},
    "aiorchd.runtime": {"aiorchd.calls", "aiorchd.core", "aiorchd.config", "aiorch"},
    "aiorchd.config": set(),
    "aiorchd.likeness": {"aiorchd.core"},
    "aiorchd.calls": {"aiorch"},
    "aiorchd.core": set(),
    "aiorch": set(),
    "aiorchctl": {
        "aiorch",
        "aiorchd.config",
        "aiorchd.store.examine",
        "aiorchd.app.options",
        "aiorchsim.process",
        "aiorchsim.options",
    },
    "aiorchsim": set(),
}

# Single modules that others than their room's may import: what they need is little, and told below.
ROOMS_WITHIN = (
    "aiorchsim.textwork",
    "aiorchsim.process",
    "aiorchsim.options",
    "aiorchd.store.examine",
    "aiorchd.app.options",
)

# Third-party packages a room may import; the standard library is open to all but core's ban below.
LIBRARIES: dict[str, set[str]] = {
    "aiorchd.core": set(),
    "aiorchd.calls": {"msgpack", "msgspec"},
    "aiorchd.config": {"msgspec", "jinja2"},
    "aiorch": {"msgpack", "trio", "outcome"},
    "aiorchsim": {"msgspec"},
    # Arrays have a room of their own, so that core stays without them and a daemon that does not use them never loads them.
    "aiorchd.likeness": {"numpy", "tokenizers"},
    "aiorchd.stages": {"trio", "msgpack", "msgspec", "jsonschema", "referencing"},
}
HTTP_LIBRARIES = {"httpx", "httpx2", "httpcore", "httpcore2", "h11", "h2", "requests", "aiohttp"}
CORE_BANNED = {"time", "random", "datetime", "asyncio", "threading", "socket", "os", "sqlite3", "trio"}

# `except Exception` stands only here, each with the words `barrier: …` beside it.
BARRIERS: dict[str, int] = {
    "aiorch/hosting.py": 1,  # a function of the host
    "aiorch/on_trio.py": 1,
    "aiorchd/doors/work.py": 1,  # one request
    "aiorchd/doors/unix.py": 1,  # one connection
    "aiorchd/likeness/embedder.py": 1,  # a library that raises nothing narrower for files
    "aiorchd/stages/batch/stage.py": 1,  # a shared flight
    "aiorchd/stages/coalesce.py": 1,
    "aiorchd/stages/hedge.py": 1,  # a second try, in the nursery of its generation
    "aiorchd/stages/question_vectors.py": 1,  # vectors that nobody waits for any more
    "aiorchd/stages/refresh.py": 1,  # a refresh nobody waits for
    "aiorchd/stages/repeats.py": 1,  # a call that may outlive its caller
    "aiorchd/store/database.py": 1,  # a transaction is undone whatever ends it
    "aiorchd/store/ledger.py": 1,
    "aiorchd/store/writer.py": 1,  # the supervised long-lived task
}


def modules() -> Iterator[tuple[str, Path]]:
    for package, folder in PACKAGES.items():
        for path in sorted(folder.rglob("*.py")):
            parts = path.relative_to(folder).with_suffix("").parts
            name = ".".join((package, *parts))
            yield name.removesuffix(".__init__"), path


MODULES = dict(modules())
PARSED = {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in MODULES.items()}


def room_of(module: str) -> str | None:
    best = None
    for room in (*ROOMS, *ROOMS_WITHIN):
        if (module == room or module.startswith(room + ".")) and (best is None or len(room) > len(best)):
            best = room
    return best


def imports(tree: ast.AST, *, runtime_only: bool = False) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: relative import"
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                yield node.lineno, full if full in MODULES else str(node.module)


def test_every_module_belongs_to_a_room() -> None:
    homeless = [name for name in MODULES if room_of(name) is None and name != "aiorchd"]
    assert not homeless, f"no room in the import table for {homeless}"


@pytest.mark.parametrize("module", sorted(MODULES))
def test_imports_point_down(module: str) -> None:
    room = room_of(module)
    if room is None:
        room = "aiorchd.core"  # the bare package imports nothing
    allowed = ROOMS.get(room, set()) | {room}
    if (
        room == "aiorchd.store.examine"
    ):  # a room by itself only for `aiorchctl doctor`, which looks at nothing else there
        allowed = ROOMS["aiorchd.store"] | {"aiorchd.store", room}
    if room == "aiorchd.app.options":  # a room by itself only for the manual pages, which are made from it
        allowed = {"aiorch", room}
    if room == "aiorchd.app":
        allowed |= {"aiorchd.app.options"}
    if room.startswith("aiorchsim."):
        allowed = {"aiorchsim", room}
    if room == "aiorchsim":
        allowed |= {name for name in ROOMS_WITHIN if name.startswith("aiorchsim.")}
    for line, name in imports(PARSED[module]):
        if name.split(".")[0] not in PACKAGES:
            continue
        target = room_of(name) or name
        assert target in allowed, (
            f"{MODULES[module]}:{line}: {room} may not import {name}; it may import {sorted(allowed)}"
        )


@pytest.mark.parametrize("module", sorted(MODULES))
def test_stages_and_dialects_do_not_import_each_other(module: str) -> None:
    if room_of(module) != "aiorchd.stages":
        return
    own = ".".join(module.split(".")[:3])  # a stage may be a package
    for line, name in imports(PARSED[module]):
        assert not name.startswith("aiorchd.stages.") or name == own or name.startswith(f"{own}."), (
            f"{MODULES[module]}:{line}: a stage imports the stage {name}"
        )


@pytest.mark.parametrize("module", sorted(MODULES))
def test_libraries(module: str) -> None:
    import sys

    room = room_of(module) or "aiorchd.core"
    for line, name in imports(PARSED[module]):
        top = name.split(".")[0]
        where = f"{MODULES[module]}:{line}"
        if room == "aiorchd.core":
            assert top not in CORE_BANNED, f"{where}: core is handed the time and does no I/O; it imports {top}"
        if top in PACKAGES or top in sys.stdlib_module_names:
            continue
        if top in HTTP_LIBRARIES:
            assert module.startswith("aiorchd.providers.transport"), (
                f"{where}: {top} is imported in providers/transport only"
            )
        for prefix, libraries in LIBRARIES.items():
            if room == prefix:
                assert top in libraries, f"{where}: {room} may import {sorted(libraries)} and not {top}"


@pytest.mark.parametrize("module", sorted(MODULES))
def test_no_mutable_state_at_module_level(module: str) -> None:
    for node in PARSED[module].body:
        value = getattr(node, "value", None)
        if not isinstance(node, ast.Assign | ast.AnnAssign) or value is None:
            continue
        where = f"{MODULES[module]}:{node.lineno}"
        names = [ast.unparse(target) for target in (node.targets if isinstance(node, ast.Assign) else [node.target])]
        if names == ["__all__"]:
            continue
        # A literal table is read-only by its type: Final Mapping, tuple, frozenset. What can be appended to is not.
        annotation = ast.unparse(node.annotation) if isinstance(node, ast.AnnAssign) else ""
        frozen_table = "Final" in annotation and "Mapping" in annotation
        mutable = isinstance(value, ast.List | ast.Set | ast.ListComp | ast.SetComp) or (
            isinstance(value, ast.Dict | ast.DictComp) and not frozen_table
        )
        if isinstance(value, ast.Call):
            made = ast.unparse(value.func)
            mutable = made in {
                "list",
                "dict",
                "set",
                "deque",
                "defaultdict",
                "Counter",
                "OrderedDict",
                "itertools.count",
            }
        assert not mutable, f"{where}: {names[0]} is mutable state of the module; give it an owner or a frozen type"
    for node in ast.walk(PARSED[module]):
        assert not isinstance(node, ast.Global), f"{MODULES[module]}:{node.lineno}: global statement"


def test_broad_excepts_only_at_named_barriers() -> None:
    found: dict[str, int] = {}
    for module, path in MODULES.items():
        lines = path.read_text(encoding="utf-8").splitlines()
        for node in ast.walk(PARSED[module]):
            if not isinstance(node, ast.ExceptHandler):
                continue
            caught = "everything" if node.type is None else ast.unparse(node.type)
            if caught in ("everything", "Exception", "BaseException"):
                place = str(path.relative_to(PACKAGES[module.split(".")[0]].parent))
                assert "barrier:" in lines[node.lineno - 1], (
                    f"{path}:{node.lineno}: `except {caught}` without `# barrier: …`"
                )
                found[place] = found.get(place, 0) + 1
    assert found == BARRIERS


@pytest.mark.parametrize("module", sorted(MODULES))
def test_public_things_are_documented(module: str) -> None:
    tree = PARSED[module]
    assert ast.get_docstring(tree), f"{MODULES[module]}: no module docstring"
    for node in tree.body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and not node.name.startswith("_"):
            assert ast.get_docstring(node), f"{MODULES[module]}:{node.lineno}: {node.name} has no docstring"
            if isinstance(node, ast.ClassDef):
                for inner in node.body:
                    if isinstance(inner, ast.FunctionDef | ast.AsyncFunctionDef) and not inner.name.startswith("_"):
                        assert ast.get_docstring(inner), f"{MODULES[module]}:{inner.lineno}: {node.name}.{inner.name}"


def test_no_vague_file_names() -> None:
    vague = {"utils", "util", "helpers", "helper", "common", "misc", "manager", "managers", "base"}
    bad = [name for name in MODULES if name.split(".")[-1] in vague]
    assert not bad, f"a file is named after its one idea, not {bad}"


def test_the_client_needs_only_the_standard_library_and_msgpack() -> None:
    for module in MODULES:
        if module.split(".")[0] != "aiorch":
            continue
        for node in PARSED[module].body:  # trio may be imported inside functions, when the host runs on it
            for line, name in imports(node) if isinstance(node, ast.Import | ast.ImportFrom) else ():
                top = name.split(".")[0]
                assert top not in ("trio", "outcome"), f"{MODULES[module]}:{line}: {top} at import time"
