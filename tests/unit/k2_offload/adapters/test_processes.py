"""A process is found again, and no other one is taken for it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from k2_offload.adapters.processes import has_ended, own_process

NAME = "from k2_offload.adapters.processes import own_process; print(own_process(), flush=True)"


def test_a_process_lives_until_it_has_ended(monkeypatch):
    plugins = str(Path(__file__).parents[4] / "plugins")
    monkeypatch.setenv("PYTHONPATH", plugins)
    command = [sys.executable, "-c", f"{NAME}; input()"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        name = other.stdout.readline().strip()
        assert has_ended(name) is False
        other.kill()
        other.wait()
        assert has_ended(name) is True
    assert has_ended(own_process()) is False


def test_another_process_with_the_same_id_is_not_mistaken_for_it():
    kernel, pid, started = own_process().rsplit("/", 2)
    assert has_ended(f"{kernel}/{pid}/{int(started) - 1}") is True


@pytest.mark.parametrize("name", [None, "", "no process", "another-machine/pid:[1]/1/1"])
def test_what_cannot_be_known_here_is_not_claimed(name):
    assert has_ended(name) is None


def test_a_process_that_may_not_be_looked_at_is_not_said_to_have_ended(tmp_path):
    """As with `hidepid`: of another user's process, /proc shows nothing, and it lives."""
    hiding = tmp_path / "proc"
    for file in ("sys/kernel/random/boot_id", "self/ns/pid"):
        (hiding / file).parent.mkdir(parents=True)
    (hiding / "sys/kernel/random/boot_id").write_text(Path("/proc/sys/kernel/random/boot_id").read_text())
    (hiding / "self/ns/pid").symlink_to(Path("/proc/self/ns/pid").readlink())
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        kernel, _, started = own_process().rsplit("/", 2)
        name = f"{kernel}/{other.pid}/{started}"
        assert has_ended(name, hiding) is None
        other.kill()
        other.wait()
        assert has_ended(name, hiding) is True


def test_where_the_kernel_does_not_tell_no_process_is_named(tmp_path):
    assert own_process(tmp_path) is None
