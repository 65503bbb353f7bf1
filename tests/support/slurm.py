"""A real Slurm of four nodes on this machine, from Debian's packages, for as long as it is needed.

Needs root, and `apt-get install slurm-wlm munge`.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from tests.support.runs import until

NODES = ("n1", "n2", "n3", "n4")
START_S = 60.0
MUNGE_KEY = Path("/etc/munge/munge.key")
# Two partitions over the same nodes: a job in `urgent` preempts one in `gpu`, which gets SIGTERM,
# KillWait seconds (by default 30), and its place in the queue again.
CONFIGURATION = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool/%n
SlurmctldPidFile={folder}/ctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/ctld.log
SlurmdLogFile={folder}/%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=sched_interval=1,sched_min_interval=0,bf_interval=1
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
ReturnToService=2
KillWait=15
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
NodeName={nodes} NodeAddr=127.0.0.1 NodeHostname={host} Port=[{first}-{last}] CPUs=2 RealMemory=4000
PartitionName=gpu Nodes=ALL Default=YES MaxTime=INFINITE State=UP PriorityTier=1
PartitionName=urgent Nodes=ALL MaxTime=INFINITE State=UP PriorityTier=10 PreemptMode=off
"""


def missing() -> str | None:
    """Why no Slurm can be started here; None if it can."""
    programs = ("slurmctld", "slurmd", "munged", "sbatch", "squeue", "scancel", "scontrol")
    absent = [name for name in programs if not shutil.which(name, path=_path())]
    if absent:
        return (
            f"needs a real Slurm: {', '.join(absent)} not found (apt-get install slurm-wlm munge)"
        )
    if os.geteuid():
        return "needs root, to start a Slurm"
    return None


def _path() -> str:
    return os.environ.get("PATH", "") + ":/usr/sbin:/sbin"


class Cluster:
    """A running Slurm; `environment` is what its commands need."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = {"SLURM_CONF": str(folder / "slurm.conf"), "PATH": _path()}
        self._processes: list[subprocess.Popen[bytes]] = []

    def command(self, *words: str, check: bool = True, cwd: Path | None = None) -> str:
        """What one of Slurm's commands prints."""
        result = subprocess.run(
            words,
            cwd=cwd,
            env={**os.environ, **self.environment},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert not check or result.returncode == 0, (words, result.stdout + result.stderr)
        return result.stdout

    def queue(self) -> list[tuple[str, str, str]]:
        """Every job that has not ended: id, state, node."""
        text = self.command("squeue", "--noheader", "--array", "--format=%i|%T|%N")
        return [tuple(line.split("|")) for line in text.splitlines()]  # type: ignore[misc]

    def running(self) -> list[str]:
        """The nodes that run jobs."""
        return [node for _, state, node in self.queue() if state == "RUNNING"]

    def _configuration(self) -> str:
        ports = _free_ports(1 + len(NODES))
        return CONFIGURATION.format(
            host=socket.gethostname().split(".")[0],
            folder=self.folder,
            port=ports[0],
            first=ports[1],
            last=ports[-1],
            nodes=f"n[1-{len(NODES)}]",
        )

    def start(self) -> None:
        """Start all daemons, and wait until the nodes are idle."""
        for name in ("state", "spool"):
            (self.folder / name).mkdir()
        (self.folder / "slurm.conf").write_text(self._configuration())
        self._daemon("slurmctld", "-D")
        # Nodes that find no controller try again only after a long time.
        self._wait(lambda: "UP" in self.command("scontrol", "ping", check=False))
        for node in NODES:
            self.start_node(node)
        self._wait(lambda: self._states() == ["idle"] * len(NODES))

    def _wait(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + START_S
        while not condition():
            logs = "\n".join(file.read_text()[-2000:] for file in self.folder.glob("*.log"))
            assert time.monotonic() < deadline, logs
            time.sleep(0.2)

    def _states(self) -> list[str]:
        text = self.command(
            "sinfo", "--noheader", "--Node", "--partition=gpu", "--format=%t", check=False
        )
        return text.split()

    def start_node(self, node: str) -> None:
        """Start a node's daemon."""
        self._daemon("slurmd", "-D", "-N", node)

    def _daemon(self, name: str, *options: str) -> None:
        program = shutil.which(name, path=_path())
        assert program is not None
        with open(self.folder / f"{name}.out", "ab") as out:
            self._processes.append(
                subprocess.Popen(
                    [program, *options],
                    env={**os.environ, **self.environment},
                    stdout=out,
                    stderr=out,
                    start_new_session=True,
                )
            )

    def kill_node(self, node: str) -> None:
        """A node loses its power: its daemon, its jobs and their processes are gone."""
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if self._runs_on(node, process):
                    process.kill()
        self.command("scontrol", "update", f"nodename={node}", "state=down", "reason=power")

    def _runs_on(self, node: str, process: psutil.Process) -> bool:
        environment, words = process.environ(), process.cmdline()
        if environment.get("SLURM_CONF") != self.environment["SLURM_CONF"]:
            return False  # another Slurm's
        return (
            environment.get("SLURMD_NODENAME") == node
            or (process.name() == "slurmd" and node in words)
            or any(f"{self.folder}/spool/{node}" in word for word in words)
        )

    def revive(self, node: str) -> None:
        """A node that lost its power starts, and takes jobs again."""
        # What its jobs' processes left there would have it wait for them.
        shutil.rmtree(self.folder / "spool" / node)
        self.start_node(node)
        # Refused if it has been taken back already.
        self.command("scontrol", "update", f"nodename={node}", "state=resume", check=False)
        self._wait(lambda: self._states() == ["idle"] * len(NODES))

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """The controller stands still, as on a machine that has no memory left: it takes what it is
        asked, and does not answer."""
        controller = self._processes[0]
        controller.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            controller.send_signal(signal.SIGCONT)

    def clear(self) -> None:
        """End all jobs."""
        self.command("scancel", "--user=root", check=False)
        deadline = time.monotonic() + START_S
        while self.queue():
            assert time.monotonic() < deadline, self.queue()
            time.sleep(0.2)

    def stop(self) -> None:
        """End all daemons."""
        for process in reversed(self._processes):
            process.terminate()
        for process in self._processes:
            with suppress(subprocess.TimeoutExpired):
                process.wait(10)
            process.kill()


def _free_ports(count: int) -> range:
    """A range of ports that nobody listens on."""
    used = {c.laddr.port for c in psutil.net_connections() if c.status == psutil.CONN_LISTEN}
    first = next(n for n in range(17000, 30000, 10) if not used & set(range(n, n + count)))
    return range(first, first + count)


def _start_munge() -> None:
    """Munge vouches for users among Slurm's daemons; one serves the whole machine."""
    if Path("/run/munge/munge.socket.2").exists() and _munge_works():
        return
    if not MUNGE_KEY.exists():
        MUNGE_KEY.write_bytes(os.urandom(1024))
    shutil.chown(MUNGE_KEY, "munge", "munge")
    MUNGE_KEY.chmod(0o400)
    run = Path("/run/munge")
    run.mkdir(exist_ok=True)
    shutil.chown(run, "munge", "munge")
    start = "munged --force"
    subprocess.run(["su", "-s", "/bin/sh", "munge", "-c", f"/usr/sbin/{start}"], check=True)


def _munge_works() -> bool:
    return subprocess.run(["munge", "-n"], capture_output=True, check=False).returncode == 0


@contextmanager
def slurm(folder: Path) -> Iterator[Cluster]:
    """A Slurm for as long as the context lasts."""
    _start_munge()
    cluster = Cluster(folder)
    try:
        cluster.start()
        yield cluster
        cluster.clear()
    finally:
        cluster.stop()


def starts_now(cluster: Cluster, key: str) -> None:
    """Have a job that was put into the queue again start at once.

    Slurm would let it wait for two minutes.
    """
    until(lambda: (key, "PENDING", "") in cluster.queue())
    # Within the second in which it was ended, its node would refuse it ("Job credential revoked").
    time.sleep(2)
    cluster.command("scontrol", "update", f"jobid={key}", "starttime=now")
