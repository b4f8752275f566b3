"""Pages come from the machine, in a process of their own, equal for equal seeds."""

import json
import os
import subprocess
import sys
import time

import pytest

from aiorchctl.demo.pages import (
    LONGEST_PAGE,
    PagesFailed,
    gather_pages,
    module_names,
    page_environment,
    read_pages,
    write_pages,
)


def starter(tmp_path, *prefix):
    environment = page_environment(tmp_path, os.environ)

    def start(arguments):
        return subprocess.Popen(
            [sys.executable, *(prefix or arguments)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
            cwd=tmp_path,
        )

    return start


def test_pages_of_this_machine(tmp_path):
    seen = []
    pages = gather_pages(12, seed=1, start=starter(tmp_path), timeout_s=30, progress=seen.append)
    assert len(pages) == 12
    assert seen[-1] == 12
    assert [page.module for page in pages] == sorted({page.module for page in pages})
    assert {page.module for page in pages} <= set(module_names(1))
    for page in pages:
        assert page.text.startswith("Python Library Documentation: ")
        assert 200 <= len(page.text) <= LONGEST_PAGE
    again = gather_pages(12, seed=1, start=starter(tmp_path), timeout_s=30, progress=seen.append)
    assert [page.module for page in again] == [page.module for page in pages]
    assert list(tmp_path.iterdir()) == []  # importing modules wrote nothing


def test_they_survive_being_written(tmp_path):
    pages = gather_pages(4, seed=2, start=starter(tmp_path), timeout_s=30, progress=lambda done: None)
    write_pages(pages, tmp_path / "pages.json")
    assert read_pages(tmp_path / "pages.json") == pages


def test_modules_with_side_effects_are_left_out():
    names = module_names(3)
    assert not {"antigravity", "this", "idlelib", "turtle", "test", "tkinter"} & set(names)
    assert not [name for name in names if name.startswith("_")]
    assert names == module_names(3)
    assert names != module_names(4)


def test_fewer_pages_are_taken_when_time_runs_out(tmp_path):
    line = json.dumps({"module": "m", "text": "t"})
    slow = ("-c", f"import time\nfor _ in range(6): print({line!r}, flush=True)\ntime.sleep(60)")
    began = time.monotonic()
    pages = gather_pages(10, seed=0, start=starter(tmp_path, *slow), timeout_s=0.8, progress=lambda done: None)
    assert len(pages) == 6
    assert time.monotonic() - began < 30


def test_too_few_pages_are_a_failure(tmp_path):
    crash = ("-c", "import os; os.abort()")
    with pytest.raises(PagesFailed, match="only 0 of 10"):
        gather_pages(10, seed=0, start=starter(tmp_path, *crash), timeout_s=30, progress=lambda done: None)


def test_the_environment_holds_nothing_of_the_users_own(tmp_path):
    given = {"PATH": "/bin", "OPENAI_API_KEY": "sk-secret", "HTTP_PROXY": "http://proxy", "AIORCH__CACHE__TTL_S": "1"}
    environment = page_environment(tmp_path, given)
    assert environment["PATH"] == "/bin"
    assert environment["HOME"] == str(tmp_path)
    assert not {"OPENAI_API_KEY", "HTTP_PROXY", "AIORCH__CACHE__TTL_S"} & environment.keys()
