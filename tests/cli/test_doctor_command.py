"""`minillm doctor`: a table for people, JSON for programs, and a command for what is missing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from commands import environment, minillm

from minillm.doctor import Finding, examine, print_findings


def test_it_names_what_is_missing_and_the_command_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MINILLM_HOME", str(tmp_path))
    print_findings(examine())
    lines = capsys.readouterr().out.splitlines()
    missing = [line.split()[1] for line in lines if line.startswith("missing")]
    assert {"smollm2-135m", "all-minilm-l6-v2"} <= set(missing)
    assert "smollm2-135m: minillm weights smollm2-135m" in lines
    assert any(line.startswith("ok") and "tiny-random made" in line for line in lines)


def test_json(tmp_path: Path) -> None:
    done = minillm("doctor", "--json", env=environment(MINILLM_HOME=str(tmp_path)))
    findings = {finding["name"]: finding for finding in json.loads(done.stdout)}
    assert done.returncode == 0  # without models it still runs
    assert done.stderr == b""
    assert {"versions", "processor", "memory", "device", "kernels", "server", "course", "generation"} <= set(findings)
    assert findings["smollm2-135m"]["status"] == "missing"
    assert findings["smollm2-135m"]["remedy"] == "minillm weights smollm2-135m"
    assert str(tmp_path) in findings["smollm2-135m"]["detail"]
    assert findings["generation"]["status"] == "ok"
    assert all(set(finding) == {"name", "status", "detail", "remedy"} for finding in findings.values())


def test_a_command_with_brackets_is_printed_whole(capsys: pytest.CaptureFixture[str]) -> None:
    print_findings([Finding("course", "missing", "without [x]", "pip install -e '.[course]'")])
    printed = capsys.readouterr().out
    assert "without [x]" in printed
    assert "pip install -e '.[course]'" in printed
