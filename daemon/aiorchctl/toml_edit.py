"""One key of a TOML set or taken out, with everything else in the text left as it was: comments, order, blank lines.

tomlkit reads and writes the text. Where a new key goes is decided here (tomlkit would put it below the comment that
introduces the next table), and what comes out is read again and must differ from what went in by this one key, or
nothing is handed back.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import tomlkit
from tomlkit.container import Container
from tomlkit.exceptions import TOMLKitError
from tomlkit.items import AoT, Array, Comment, Item, Table, Whitespace

Path: TypeAlias = tuple[str, ...]


class EditError(Exception):
    """The text cannot be edited so that only this key changes; the message says why."""


def with_key(text: str, path: Path, value: Any) -> str:
    """Set the key at ``path`` (its section and name; providers and models by their names) to a plain value.

    A model must exist; a missing section or provider is begun at the end. Raises `EditError`.
    """
    if text and not text.endswith("\n"):
        text += "\n"
    expected = _expected(tomllib.loads(text), path, value)
    return _first_that_says(expected, path, lambda: _set(text, path, value), lambda: _plainly_set(text, path, value))


def without_key(text: str, path: Path) -> str:
    """Take the key at ``path`` out, so that what lies below holds. Gives the text back as it is when it is not there."""
    old = tomllib.loads(text)
    expected = _expected(old, path, None)
    if expected == old:
        return text

    def take_out() -> str:
        document = tomlkit.parse(text)
        del _find(document, path[:-1])[path[-1]]
        return tomlkit.dumps(document)

    return _first_that_says(expected, path, take_out)


def _first_that_says(expected: Mapping[str, Any], path: Path, *ways: Callable[[], str]) -> str:
    """Try one way of editing after the other; the first whose text says what it should is taken."""
    why = ""
    for way in ways:
        try:
            new = way()
            if tomllib.loads(new) == expected:
                return new
            why = f"more than {'.'.join(path)} would change"
        except (TOMLKitError, tomllib.TOMLDecodeError, TypeError, KeyError, AttributeError, ValueError) as error:
            why = f"{type(error).__name__}: {error}"
    raise EditError(f"the way it is laid out, {'.'.join(path)} cannot be changed alone ({why}); use an editor")


def _set(text: str, path: Path, value: Any) -> str:
    document = tomlkit.parse(text)
    for depth in range(len(path) - 1, -1, -1):
        try:
            table = _find(document, path[:depth])
        except KeyError:
            continue
        named = 2 if path[0] == "models" else _header_parts(path)
        if depth < named and len(path) > 1:
            break  # not even the table is there
        _put(table, path[depth], _nested(path[depth + 1 :], value))
        return tomlkit.dumps(document)
    named = _header_parts(path)
    header = ".".join(tomlkit.key(part).as_string() for part in path[:named])
    line = f"{tomlkit.key(path[named]).as_string()} = {_item(_nested(path[named + 1 :], value)).as_string()}"
    return text + ("\n" if text else "") + f"[{header}]\n{line}\n"


def _header_parts(path: Path) -> int:
    """Count the parts that stand in the header of a key's table."""
    return 2 if path[0] in ("providers", "callers", "operations") or path[:2] == ("cache", "semantic") else 1


def _plainly_set(text: str, path: Path, value: Any) -> str:
    """Leave the place to tomlkit: for layouts such as dotted keys, where it knows more."""
    document = tomlkit.parse(text)
    _find(document, path[:-1])[path[-1]] = _item(value)
    return tomlkit.dumps(document)


def _find(document: Any, path: Path) -> Any:
    """Find a table, a model by its name. Raises `KeyError`."""
    table = document
    for depth, name in enumerate(path):
        is_model = depth == 1 and path[0] == "models"
        table = next(model for model in table if _is_named(model, name)) if is_model else table[name]
    return table


def _put(table: Any, name: str, value: Any) -> None:
    """Set a key of a table that is there."""
    item = _item(value)
    if name in table:
        before = table[name]
        if isinstance(before, Array) and isinstance(item, Array) and "\n" in before.as_string():
            item.multiline(True)
        table[name] = item  # its comment stays
        return
    container = table.value if isinstance(table, Table) else table
    if isinstance(container, Container):
        _place(container, name, item)
    else:
        table[name] = item


def _place(container: Container, name: str, item: Item) -> None:
    """Add a key where a person would have written it: below its own commented default, else below the last key of its
    table and the comments that hang on that, above those that introduce what follows.
    """
    body = container.body
    entry = (tomlkit.key(name), item)
    commented = re.compile(rf"#\s*{re.escape(name)}\s*=")
    for index, (_, other) in enumerate(body):
        if isinstance(other, Comment) and commented.match(other.trivia.comment):
            body.insert(index + 1, entry)
            return
    keys = [index for index, (key, other) in enumerate(body) if key is not None and not isinstance(other, Table | AoT)]
    at = keys[-1] + 1 if keys else 0
    hanging = at
    while hanging < len(body) and isinstance(body[hanging][1], Comment):
        hanging += 1
    # Comments that no blank line parts from what follows belong to that.
    if hanging < len(body) and isinstance(body[hanging][1], Whitespace):
        at = hanging
    blank = (None, Whitespace("\n"))
    if not keys and isinstance(
        container, tomlkit.TOMLDocument
    ):  # it begins the file, or stands below its opening words
        below = body[at : at + 1]
        body[at:at] = [*([blank] if at else []), entry]
        if below and not isinstance(below[0][1], Whitespace):
            body.insert(at + (2 if at else 1), blank)
        return
    body.insert(at, entry)


def _nested(below: Path, value: Any) -> Any:
    """Put a value into as many tables as are missing around it; they are written in line."""
    for name in reversed(below):
        value = {name: value}
    return value


def _item(value: Any) -> Item:
    if isinstance(value, dict):
        table = tomlkit.inline_table()
        for name, one in value.items():
            table.append(name, _item(one))
        return table
    if isinstance(value, list):
        array = tomlkit.array()
        for one in value:
            array.append(_item(one))
        return array
    item: Item = tomlkit.item(value)
    return item


def _expected(old: Mapping[str, Any], path: Path, value: Any) -> dict[str, Any]:
    """What the text must say afterwards; None stands for a key that is taken out."""
    first, *rest = path
    changed = dict(old)
    if not rest:
        if value is None:
            changed.pop(first, None)
        else:
            changed[first] = value
        return changed
    below = changed.get(first)
    if below is None and value is None:
        return changed
    if first == "models":
        name, *inner = rest
        if not isinstance(below, list) or not any(_is_named(model, name) for model in below):
            raise EditError(f'there is no model "{name}" in it')
        changed[first] = [_expected(model, tuple(inner), value) if _is_named(model, name) else model for model in below]
    elif below is None or isinstance(below, dict):
        changed[first] = _expected({} if below is None else below, tuple(rest), value)
    else:
        raise EditError(f"{first} is no table")
    return changed


def _is_named(model: Any, name: str) -> bool:
    return isinstance(model, dict) and model.get("name") == name
