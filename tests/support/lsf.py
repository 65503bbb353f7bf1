"""A strict stand-in for IBM LSF 10.1, which cannot be had: bsub, bjobs and bkill.

The three commands pass their words on to a thread of the tests, which takes what IBM's command
reference documents, refuses everything else as LSF does, and runs the jobs on this machine.
"""

from __future__ import annotations

import fnmatch
import json
import os
import re
import shlex
import signal
import socketserver
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support.lsf_options import RefusedError, parse_options

CLIENT = """#!{python} -IS
import json, os, socket, sys
with socket.socket(socket.AF_UNIX) as server:
    server.connect({address!r})
    words = dict(command=os.path.basename(sys.argv[0]), words=sys.argv[1:], cwd=os.getcwd())
    stdin = sys.stdin.read() if words["command"] == "bsub" else ""
    text = json.dumps(dict(words, stdin=stdin, environment=dict(os.environ)))
    server.sendall(text.encode() + b"\\n")
    code, out, err = json.loads(server.makefile().readline())
sys.stdout.write(out)
sys.stderr.write(err)
sys.exit(code)
"""
NOISE = "Cannot connect to LSF. Please wait ...\n"
QUEUES = ("normal", "gpu")
LARGEST_INDEX = 1000
# A job that is to end gets SIGINT, SIGTERM and SIGKILL, so far apart (LSF: 10 s,
# JOB_TERMINATE_INTERVAL); one of several cores SIGKILL alone (LSB_USE_SEQUENTIAL_SIGNAL=N).
TERMINATE_S = 2.0
FIELDS = ("jobid", "jobindex", "stat", "exit_code", "exec_host", "job_name", "queue")


@dataclass
class Element:
    """An element of a job array."""

    job: int
    index: int
    options: dict[str, list[str]]
    script: str
    environment: dict[str, str]
    cwd: str
    limit: int
    state: str = "PEND"
    code: int | None = None
    host: str = ""
    process: subprocess.Popen[bytes] | None = None
    told: float | None = None
    signals: list[signal.Signals] = field(default_factory=list)
    requeue: bool = False

    @property
    def name(self) -> str:
        return self.options["-J"][-1].partition("[")[0]

    @property
    def id(self) -> str:
        return f"{self.job}[{self.index}]"

    def option(self, name: str, default: str = "") -> str:
        return self.options.get(name, [default])[-1]

    @property
    def full_name(self) -> str:
        return f"{self.name}[{self.index}]"


@dataclass
class LSF:
    """The stand-in's mbatchd: so many `slots`, whatever a job asks for."""

    folder: Path
    slots: int = 4
    elements: list[Element] = field(default_factory=list)
    submissions: list[list[str]] = field(default_factory=list)
    lock: threading.RLock = field(default_factory=threading.RLock)
    stopping: bool = False
    jobs: int = 100

    def answer(self, request: dict[str, Any]) -> tuple[int, str, str]:
        """Exit code, output and error output of a command."""
        with self.lock:
            try:
                command: Callable[..., str] = getattr(self, request["command"])
                return 0, command(request), NOISE if request["command"] != "bsub" else ""
            except RefusedError as error:
                return 255, "", f"{error}\n"

    def bsub(self, request: dict[str, Any]) -> str:
        self.submissions.append(request["words"])
        given, rest = parse_options(request["words"])
        script = request["stdin"]
        if rest or not script:
            raise RefusedError("the stand-in takes scripts from the standard input alone")
        embedded: dict[str, list[str]] = {}
        for line in re.findall(r"^#BSUB[ \t]+(.*)$", script, re.MULTILINE):
            found, words = parse_options(shlex.split(line))
            if words:
                raise RefusedError(f"{words[0]}: unexpected in a #BSUB line. Job not submitted.")
            embedded = {**found, **embedded}
        # An option on the command line takes the place of all such lines of the script.
        options = {**embedded, **given}
        queue = options.get("-q", ["normal"])[-1]
        if queue not in QUEUES:
            raise RefusedError(f"{queue}: No such queue. Job not submitted.")
        found = re.fullmatch(r"[^\[]+\[(\d+)-(\d+)\](?:%(\d+))?", options["-J"][-1])
        first, last, limit = (int(part or 0) for part in found.groups()) if found else (1, 1, 0)
        if not 1 <= first <= last <= LARGEST_INDEX:
            raise RefusedError("Job array index too large. Job not submitted.")
        self.jobs += 1
        for index in range(first, last + 1):
            cwd, environment = request["cwd"], request["environment"]
            self.elements.append(
                Element(self.jobs, index, options, script, environment, cwd, limit or last)
            )
        where = f"queue <{queue}>" if "-q" in options else f"default queue <{queue}>"
        if "BSUB_QUIET" in request["environment"]:
            return ""
        return f"{NOISE}Job <{self.jobs}> is submitted to {where}.\nHave a nice day!\n"

    def bjobs(self, request: dict[str, Any]) -> str:
        words = list(request["words"])
        chosen = {}
        for flag in ("-a", "-noheader"):
            if flag not in words:
                raise RefusedError(f"the stand-in answers bjobs with {flag} only")
            words.remove(flag)
        for name in ("-J", "-o"):
            place = words.index(name)
            chosen[name] = words[place + 1]
            del words[place : place + 2]
        if words:
            raise RefusedError(f"{words[0]}: Illegal option")
        form = re.fullmatch(r"([\w ]+) delimiter='(.)'", chosen["-o"])
        if form is None or not set(form[1].split()) <= set(FIELDS):
            raise RefusedError(f"{chosen['-o']}: bad output format")
        found = self._named(chosen["-J"])
        if not found:
            raise RefusedError(f"Job <{chosen['-J']}> is not found")
        rows = [[self._field(element, name) for name in form[1].split()] for element in found]
        return NOISE + "".join(form[2].join(row) + "\n" for row in rows)

    def _field(self, element: Element, name: str) -> str:
        cores = int(element.option("-n", "1"))
        values = {
            "jobid": str(element.job),
            "jobindex": str(element.index),
            "stat": element.state,
            "exit_code": "-" if not element.code else str(element.code),
            "exec_host": (f"{cores}*" if cores > 1 else "") + element.host or "-",
            "job_name": element.full_name,
            "queue": element.option("-q", "normal"),
        }
        return values[name]

    def _named(self, pattern: str) -> list[Element]:
        # `*` does not reach into the brackets of an index, but over all of them.
        whole = pattern.replace("[", "[[]")
        return [e for e in self.elements if fnmatch.fnmatchcase(e.full_name, whole)]

    def bkill(self, request: dict[str, Any]) -> str:
        words = request["words"]
        if words[:1] == ["-J"] and words[2:] == ["0"]:
            chosen = [e for e in self._named(words[1]) if e.state not in ("DONE", "EXIT")]
            if not chosen:
                raise RefusedError(f"Job <{words[1]}>: No matching job found")
        else:
            chosen = [e for e in self.elements if e.id in words]
            absent = set(words) - {e.id for e in chosen}
            if absent:
                raise RefusedError(f"Job <{absent.pop()}>: No matching job found")
        said, refused = [], []
        for element in chosen:
            if element.state in ("DONE", "EXIT"):
                refused.append(f"Job <{element.id}>: Job has already finished")
                continue
            said.append(f"Job <{element.id}> is being terminated")
            self._terminate(element)
        if refused:
            raise RefusedError("\n".join([*said, *refused]))
        return "\n".join(said) + "\n"

    def _terminate(self, element: Element) -> None:
        if element.process is None:
            # It has not begun: there is no exit code.
            element.state = "EXIT"
            return
        element.told = time.monotonic()
        one = element.option("-n", "1") == "1"
        element.signals = [signal.SIGINT, signal.SIGTERM] if one else []

    def preempt(self, identifier: str) -> None:
        """Take a job's host away: it is warned, killed soon, and waits for its turn again."""
        with self.lock:
            element = next(e for e in self.elements if e.id == identifier)
            assert "-r" in element.options, "not rerunnable"
            element.requeue = True
            self._terminate(element)

    def warn(self, identifier: str) -> None:
        """A job's time is nearly up: it gets the signal that it wants then."""
        with self.lock:
            element = next(e for e in self.elements if e.id == identifier)
            assert element.process is not None
            os.killpg(element.process.pid, signal.Signals[f"SIG{element.option('-wa')}"])

    def serve(self) -> None:
        """Start and end jobs, until told to stop."""
        while not self.stopping:
            with self.lock:
                for element in self.elements:
                    self._look_at(element)
            time.sleep(0.05)

    def _look_at(self, element: Element) -> None:
        if element.state == "PEND" and element.process is None:
            running = [e for e in self.elements if e.process is not None]
            siblings = [e for e in running if e.job == element.job]
            if len(running) < self.slots and len(siblings) < element.limit:
                self._start(element)
        elif element.process is not None:
            if element.told is not None and time.monotonic() >= element.told:
                number = element.signals.pop(0) if element.signals else signal.SIGKILL
                element.told = time.monotonic() + TERMINATE_S
                with suppress(ProcessLookupError):
                    os.killpg(element.process.pid, number)
            if element.process.poll() is not None:
                self._ended(element, element.process.returncode)

    def _out(self, element: Element, name: str) -> Path:
        path = element.option(name).replace("%J", str(element.job))
        return Path(element.cwd) / path.replace("%I", str(element.index))

    def _start(self, element: Element) -> None:
        element.state, element.host = "RUN", f"host{element.index % 3}"
        spooled = self.folder / f"{element.job}.{element.index}.script"
        spooled.write_text(element.script)
        own = {
            "LSB_JOBID": str(element.job),
            "LSB_JOBINDEX": str(element.index),
            "LSB_JOBNAME": element.full_name,
            "LSB_DJOB_NUMPROC": element.option("-n", "1"),
        }
        with open(self.folder / f"{element.job}.{element.index}.out", "wb") as out:
            element.process = subprocess.Popen(
                # LSF has a shell of its own around the script, which TERM ends at once.
                ["bash", "-c", f"bash {shlex.quote(str(spooled))}; exit $?"],
                cwd=element.cwd,
                env={**element.environment, **own},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )

    def _ended(self, element: Element, code: int) -> None:
        assert element.process is not None
        # Nothing of a job is left when its first process has ended.
        with suppress(ProcessLookupError):
            os.killpg(element.process.pid, signal.SIGKILL)
        element.process = None
        if element.requeue:
            element.requeue, element.told, element.state = False, None, "PEND"
            element.signals.clear()
            return
        element.code = 128 - code if code < 0 else code
        if element.told is not None:
            element.code = 130
        element.state = "EXIT" if element.code else "DONE"
        # What the job said comes only now.
        said = (self.folder / f"{element.job}.{element.index}.out").read_text()
        with suppress(OSError), open(self._out(element, "-o"), "a") as out:
            out.write(f"Sender: LSF System\nExited with exit code {element.code}.\n\n{said}")


@contextmanager
def lsf(folder: Path, slots: int = 4) -> Iterator[LSF]:
    """A stand-in whose commands are in `folder/bin`."""
    (folder / "bin").mkdir()
    address = str(folder / "lsf")
    client = folder / "bin" / "bsub"
    client.write_text(CLIENT.format(python=sys.executable, address=address))
    client.chmod(0o755)
    for name in ("bjobs", "bkill"):
        (folder / "bin" / name).symlink_to(client)
    standing = LSF(folder, slots)

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            answer = standing.answer(json.loads(self.rfile.readline()))
            self.wfile.write(json.dumps(answer).encode() + b"\n")

    with socketserver.ThreadingUnixStreamServer(address, Handler) as server:
        threads = [threading.Thread(target=work) for work in (server.serve_forever, standing.serve)]
        for thread in threads:
            thread.start()
        try:
            yield standing
        finally:
            server.shutdown()
            standing.stopping = True
            for thread in threads:
                thread.join()
            for element in standing.elements:
                if element.process is not None:
                    os.killpg(element.process.pid, signal.SIGKILL)
