"""Clients that are not ours: Neovim's rpcrequest and pynvim's session, against a real daemon."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from processes import daemon

SCRIPT = """
let s:channel = sockconnect('pipe', $AIORCH_SOCKET, {'rpc': v:true})
let s:seen = {}
let s:seen.ping = rpcrequest(s:channel, 'ping')
let s:seen.health = rpcrequest(s:channel, 'status').health
let s:seen.reply = rpcrequest(s:channel, 'complete', {'prompt': 'What is 6 * 7?', 'timeout_s': 20})
let s:seen.again = rpcrequest(s:channel, 'complete', {'prompt': 'What is 6 * 7?', 'timeout_s': 20})
try
  call rpcrequest(s:channel, 'complete', {'promt': 'x'})
catch
  let s:seen.error = v:exception
endtry
try
  call rpcrequest(s:channel, 'no_such_method')
catch
  let s:seen.unknown = v:exception
endtry
let g:pieces = []
function! Piece(delta)
  call add(g:pieces, a:delta)
endfunction
let s:seen.streamed = rpcrequest(s:channel, 'complete', {'prompt': 'Say: one two three four', 'stream': v:true,
      \\ 'call_id': 'c', 'timeout_s': 20, 'notify': ['nvim_call_function', 'Piece']})
let s:seen.odd = rpcrequest(s:channel, 'complete', {'prompt': "caf\\xe9", 'timeout_s': 20}).finish_reason
let s:seen.pieces = g:pieces
call writefile([json_encode(s:seen)], $OUT)
qall!
"""


@pytest.mark.skipif(shutil.which("nvim") is None, reason="neovim is not installed")
def test_neovim_calls_and_reads_errors(tmp_path: Path) -> None:
    script, out = tmp_path / "probe.vim", tmp_path / "out.json"
    script.write_text(SCRIPT, encoding="utf-8")
    with daemon(tmp_path) as running:
        done = subprocess.run(
            ["nvim", "--headless", "--clean", "-S", str(script)],
            env={"AIORCH_SOCKET": str(running.socket), "OUT": str(out), "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)},
            timeout=60,
            capture_output=True,
            check=False,
        )
        assert out.exists(), done.stderr.decode(errors="replace") + running.said()
    seen = json.loads(out.read_text(encoding="utf-8"))
    assert seen["ping"] == "pong"
    assert seen["health"] == "ok"
    assert "42" in seen["reply"]["text"]
    assert seen["reply"]["simulated"] is True
    assert seen["again"]["cache"] == "exact"
    assert seen["again"]["id"] != seen["reply"]["id"]
    assert "invalid_request: promt: no such argument; did you mean prompt?" in seen["error"]
    assert "unknown_method: " in seen["unknown"]
    assert seen["streamed"]["finish_reason"] == "stop"
    assert "".join(piece["text"] for piece in seen["pieces"]) == seen["streamed"]["text"]
    assert [piece["index"] for piece in seen["pieces"]] == list(range(len(seen["pieces"])))
    assert seen["odd"] == "stop"


PYNVIM = """
import json, sys
from pynvim.msgpack_rpc import socket_session

session = socket_session(sys.argv[1])
seen = {"ping": session.request("ping"), "health": session.request("status")["health"]}
seen["text"] = session.request("complete", {"prompt": "What is 6 * 7?", "timeout_s": 20})["text"]
try:
    session.request("complete", {})
except Exception as error:
    seen["error"] = str(error)
print(json.dumps(seen))
"""


def test_pynvims_session_layer(tmp_path: Path) -> None:
    # In a process of its own: its event loop leaves sockets to the garbage collector, which warns.
    with daemon(tmp_path) as running:
        done = subprocess.run(
            [sys.executable, "-c", PYNVIM, str(running.socket)], timeout=60, capture_output=True, check=False
        )
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    seen = json.loads(done.stdout)
    assert (seen["ping"], seen["health"]) == ("pong", "ok")
    assert "42" in seen["text"]
    assert "prompt: missing" in seen["error"]
