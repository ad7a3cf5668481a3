"""A process that has imported torch and forks: its children start at once, a new interpreter takes seconds.

Run as a script, it is the server: a JSON line on stdin starts a child or waits for one, a line on stdout answers.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
MAX_SECONDS = 120
"""A child that hangs is ended by a signal, so that its test fails."""


@dataclass(frozen=True)
class Child:
    """A running child of the server, and the file that its output goes to."""

    server: ForkServer
    pid: int
    log: Path

    def poll(self) -> int | None:
        """Exit code, or None while it runs."""
        return self.server.ask(wait=self.pid, options=os.WNOHANG)

    def wait(self) -> int:
        """Exit code, that of a signal negative."""
        return self.server.ask(wait=self.pid, options=0)


class ForkServer:
    """The server, from the side of the tests."""

    def __init__(self) -> None:
        command = [sys.executable, "-m", __spec__.name]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT, bufsize=1
        )

    def start(self, function: Callable[..., None], *arguments: str, log: Path, **environment: str) -> Child:
        """A function of a module and its arguments -> the child that calls it."""
        job = {"module": function.__module__, "function": function.__name__, "arguments": arguments}
        pid = self.ask(**job, log=str(log), environment={**os.environ, **environment})
        return Child(self, pid, log)

    def start_ranks(self, function: Callable[..., None], *arguments: str, folder: Path, count: int = 2) -> list[Child]:
        """As many children, with the environment that torchrun gives its processes."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}
        ranks = [{"RANK": str(i), "LOCAL_RANK": str(i), "WORLD_SIZE": str(count), **address} for i in range(count)]
        return [self.start(function, *arguments, log=folder / f"rank{rank['RANK']}.log", **rank) for rank in ranks]

    def ask(self, **question: Any) -> Any:
        assert self._process.stdin and self._process.stdout
        self._process.stdin.write(json.dumps(question) + "\n")
        return json.loads(self._process.stdout.readline())

    def close(self) -> None:
        self._process.communicate()


def run_command(*words: str) -> None:
    """In a child: the command line."""
    from featherpose.cli import main

    sys.argv = ["featherpose", *words]
    main()


def _answer(question: dict[str, Any]) -> int | None:
    if "wait" in question:
        pid, status = os.waitpid(question["wait"], question["options"])
        return os.waitstatus_to_exitcode(status) if pid else None
    pid = os.fork()
    if not pid:
        _become_child(**question)
    return pid


def _become_child(module: str, function: str, arguments: list[str], log: str, environment: Mapping[str, str]) -> None:
    """Call the function, then end the process without returning into the server's loop."""
    code = 1
    try:
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(output, 1)
        os.dup2(output, 2)
        os.environ.clear()
        os.environ.update(environment)
        signal.alarm(MAX_SECONDS)
        getattr(import_module(module), function)(*arguments)
        code = 0
    except SystemExit as error:
        code = int(error.code or 0)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def main() -> None:
    import torch
    import torch._dynamo  # which an optimizer imports at its first step

    import featherpose.api
    import featherpose.training.loop  # noqa: F401 - so that no child has to

    torch.set_num_threads(1)
    for line in sys.stdin:
        print(json.dumps(_answer(json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
