"""A simulator in a process of its own, as an object: for tests, demos and benchmarks.

    with start_simulator(profile_toml) as simulator:
        ask(simulator.base_url)
        print(simulator.stats()["calls"]["received"])

Standard library only, blocking. The process ends with `stop()`, with the `with` block, and also when its parent dies
in whatever way.
"""

import json
import os
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Final, Self

_READY: Final = "aiorchsim listening on "
_ENDING_S: Final = 5.0


class SimulatorFailed(RuntimeError):
    """The process did not start or did not answer; the message holds what it said."""


class Simulator:
    """A running simulator. `url` is its root, `base_url` what clients of OpenAI call so (it ends in /v1)."""

    def __init__(self, process: "subprocess.Popen[str]", url: str, errors: IO[bytes]) -> None:
        self._process = process
        self._errors = errors
        self.url = url
        self.base_url = f"{url}/v1"
        host, _, port = url.removeprefix("http://").rpartition(":")
        self.host = host.strip("[]")
        self.port = int(port)
        self.pid = process.pid

    def stats(self) -> dict[str, Any]:
        """Everything it counted: the answer of GET /sim/stats."""
        return self._asked("GET", "/sim/stats")

    def wait_until(self, condition: Callable[[dict[str, Any]], bool], *, timeout_s: float = 10.0) -> dict[str, Any]:
        """Ask for the statistics until they fulfil a condition; the statistics that did. Raises TimeoutError."""
        deadline = time.monotonic() + timeout_s
        while not condition(stats := self.stats()):
            if time.monotonic() > deadline:
                raise TimeoutError(f"not within {timeout_s:g} s; the statistics are {stats}")
            time.sleep(0.005)
        return stats

    def reset(self) -> None:
        """Count anew, with full limits."""
        self._asked("POST", "/sim/reset")

    def set_faults(self, *rules: Mapping[str, Any]) -> None:
        """Put these rules in force in place of all others (`{"fault": "error_503", "for_s": 60}`); none: all goes well
        from now on. Raises SimulatorFailed with what is wrong with them.
        """
        self._asked("POST", "/sim/faults", {"faults": list(rules)})

    def set_limits(
        self, *, model: str = "*", requests_per_minute: int | None = None, tokens_per_minute: int | None = None
    ) -> None:
        """Allow a model of the profile that has limits other ones from now on."""
        wanted: dict[str, Any] = {"model": model, "requests_per_minute": requests_per_minute}
        wanted["tokens_per_minute"] = tokens_per_minute
        self._asked("POST", "/sim/limits", {key: value for key, value in wanted.items() if value is not None})

    def take_down(self, for_s: float) -> None:
        """Refuse connections and drop those there are; it listens again after so many seconds."""
        self._asked("POST", "/sim/down", {"for_s": for_s})

    def stop(self) -> None:
        """End the process and wait until it is gone; again is harmless. Raises SimulatorFailed when it had
        crashed.
        """
        process = self._process
        if self._errors.closed:
            return
        crashed = process.poll()
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.close()
        if crashed is None:
            process.terminate()
            try:
                process.wait(_ENDING_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        process.stdout.close()
        said = _said(self._errors)
        self._errors.close()
        if crashed is not None:
            raise SimulatorFailed(f"aiorchsim ended by itself with code {crashed}: {said}")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _asked(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        from http.client import HTTPConnection, HTTPException

        connection = HTTPConnection(self.host, self.port, timeout=10.0)
        try:
            connection.request(method, path, None if body is None else json.dumps(body))
            response = connection.getresponse()
            answer = json.loads(response.read())
        except (OSError, HTTPException, ValueError) as error:
            raise SimulatorFailed(f"aiorchsim at {self.url} does not answer {path}: {error}") from error
        finally:
            connection.close()
        assert isinstance(answer, dict)
        if response.status != 200:
            raise SimulatorFailed(f"aiorchsim at {self.url} refuses {path}: {answer['error']['message']}")
        return answer


def start_simulator(
    config_text: str | None = None,
    *,
    config: Path | None = None,
    seed: int | None = None,
    listen: str = "127.0.0.1:0",
    cpu: int | None = None,
    environment: Mapping[str, str] | None = None,
    ready_timeout_s: float = 10.0,
) -> Simulator:
    """Start a simulator and wait until it listens.

    Its profile is `config_text` (TOML; a `replay` in it needs an absolute path) or the file `config`. `cpu` pins it
    to one CPU. Raises SimulatorFailed with what it printed when it does not come up.
    """
    if config_text is not None and config is not None:
        raise ValueError("give config_text or config, not both")
    command = [sys.executable, "-m", "aiorchsim", "--listen", listen, "--until-stdin-closes"]
    if seed is not None:
        command += ["--seed", str(seed)]
    variables = dict(os.environ if environment is None else environment)
    home = str(Path(__file__).resolve().parent.parent)
    variables["PYTHONPATH"] = os.pathsep.join([home, *filter(None, [variables.get("PYTHONPATH")])])
    with tempfile.TemporaryDirectory(prefix="aiorchsim-") as folder:
        if config_text is not None:
            config = Path(folder, "profile.toml")
            config.write_text(config_text, encoding="utf-8")
        if config is not None:
            command += ["--config", str(config)]
        errors = tempfile.TemporaryFile()  # noqa: SIM115 (it lives as long as the process)
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, env=variables, text=True
        )
        if cpu is not None:
            os.sched_setaffinity(process.pid, {cpu})
        line = _first_line(process, ready_timeout_s)
    if not line.startswith(_READY):
        process.kill()
        code = process.wait()
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.close()
        process.stdout.close()
        said = _said(errors)
        errors.close()
        raise SimulatorFailed(f"aiorchsim did not start (code {code}): {said or line or 'it printed nothing in time'}")
    return Simulator(process, line.removeprefix(_READY).strip(), errors)


def _first_line(process: "subprocess.Popen[str]", timeout_s: float) -> str:
    assert process.stdout is not None
    deadline = time.monotonic() + timeout_s
    while (left_s := deadline - time.monotonic()) > 0:
        if select.select([process.stdout], [], [], left_s)[0]:
            return process.stdout.readline()
    return ""


def _said(errors: IO[bytes]) -> str:
    errors.seek(0)
    return errors.read()[-4000:].decode("utf-8", "replace").strip()
