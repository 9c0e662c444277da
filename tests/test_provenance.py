"""Provenance says on what and with what, and names nobody."""

import json
import platform
import socket

import torch

from eai import machine


def test_versions_are_those_that_run():
    found = machine.versions()
    assert found["torch"] == torch.__version__
    assert found["python"] == platform.python_version()


def test_a_package_that_is_not_there_is_none(monkeypatch):
    monkeypatch.setattr(machine, "PACKAGES", ("no-such-package",))
    assert machine.versions()["no-such-package"] is None


def test_a_line_is_json_and_names_no_host_user_or_folder():
    text = json.dumps(machine.line(job="j", settings={"blocks": 3}))
    assert socket.gethostname() not in json.loads(text).values()
    assert str(machine.ROOT) not in text
    assert json.loads(text)["settings"] == {"blocks": 3}


def test_the_machine_mark_is_stable_and_short():
    assert machine.machine_mark() == machine.machine_mark()
    assert len(machine.machine_mark()) == 8


def test_memory_is_what_the_kernel_says():
    with open("/proc/meminfo") as file:
        total_kb = int(file.readline().split()[1])
    assert abs(machine.memory_gb() - total_kb * 1024 / 1e9) < 0.1


def test_outside_a_checkout_there_is_no_commit(monkeypatch, tmp_path):
    monkeypatch.setattr(machine, "ROOT", tmp_path)
    assert machine.commit() is None
