"""The benchmarks measure what they say: order, memory, generated projects, the page they write."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import generate
import harness
import pytest
import yaml


def blank(seconds: float = 1.0) -> harness.Sample:
    return harness.Sample(seconds, 0.5, 10_000_000)


def test_cases_take_turns_and_every_round_starts_with_the_next_one() -> None:
    called: list[str] = []

    def case(label: str) -> harness.Sample:
        called.append(label)
        return blank()

    rows = harness.alternate({"a": lambda: case("a"), "b": lambda: case("b")}, rounds=3)
    assert "".join(called) == "ba" + "ab" + "ba" + "ab"
    assert {label: len(samples) for label, samples in rows.items()} == {"a": 3, "b": 3}


def test_peak_memory_is_that_of_the_measured_process(tmp_path: Path) -> None:
    # Measured from a small process: a child's peak holds what its parent had when it was forked.
    code = f"""
import sys
sys.path.insert(0, {str(Path(harness.__file__).parent)!r})
from pathlib import Path
import harness
for program in ("pass", "b'x' * 200_000_000"):
    print(harness.measure([sys.executable, "-c", program], cwd=Path(".")).peak_bytes)
"""
    told = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, check=True, capture_output=True, text=True
    )
    small, large = map(int, told.stdout.split())
    assert large > 200_000_000
    assert large > small


def test_a_command_that_fails_ends_the_benchmark_with_its_output(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"exited with 3, not 0:\nno such thing"):
        harness.measure(
            [sys.executable, "-c", "import sys; print('no such thing'); sys.exit(3)"], cwd=tmp_path
        )


def test_settings_of_the_caller_do_not_reach_what_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://mlflow.example.com")
    monkeypatch.setenv("MLOPS_API_TOKEN", "x")
    assert not {"MLFLOW_TRACKING_URI", "MLOPS_API_TOKEN"} & set(harness.environment())


def test_a_missed_promise_says_so() -> None:
    slow = harness.Claim("start", 4, 3, "×")
    fast = harness.Claim("rate", 80, 50, "/s", more_is_better=True)
    assert (slow.met, fast.met) == (False, True)
    text = harness.render(harness.Report("x", "X", {"run": [blank(0.5), blank(2), blank(1)]}, [slow, fast]))
    assert re.search(r"\| start +\| 4 × +\| at most 3 × +\| \*\*missed\*\* \|", text)
    assert re.search(r"\| run +\| 1\.00 s +\| 500 ms to 2\.00 s +\|", text)


def test_writing_replaces_its_own_section_and_nothing_else(tmp_path: Path) -> None:
    page = tmp_path / "benchmarks.md"
    page.write_text("# Benchmarks\n\nHow to run them.\n")
    for name, seconds in (("one", 1.0), ("two", 2.0), ("one", 3.0)):
        harness.write(harness.Report(name, name.title(), {"run": [blank(seconds)]}, []), page)
    text = page.read_text()
    assert text.startswith("# Benchmarks\n\nHow to run them.\n")
    assert text.count("## One") == text.count("## Two") == 1
    assert ("3.00 s" in text, "1.00 s" in text) == (True, False)
    assert text.index("## One") < text.index("## Two")


@pytest.mark.parametrize("name", sorted(generate.SETS))
def test_generated_projects_are_the_same_bytes_each_time_and_valid(name: str, tmp_path: Path) -> None:
    for folder in (tmp_path / "a", tmp_path / "b"):
        generate.SETS[name](folder, 5)
        harness.commit(folder, "generated")
    files = {
        path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*") if ".git" not in path.parts
    }
    for path in files:
        if (tmp_path / "a" / path).is_file():
            assert (tmp_path / "a" / path).read_bytes() == (tmp_path / "b" / path).read_bytes()
    done = subprocess.run(
        [harness.MLOPS, "validate"],
        cwd=tmp_path / "a",
        env=harness.environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_mixed_set_has_five_resources_in_a_file(tmp_path: Path) -> None:
    generate.mixed(tmp_path, 3)
    files = sorted((tmp_path / "resources").glob("team-*/*.yaml"))
    kinds = [[document["kind"] for document in yaml.safe_load_all(path.read_text())] for path in files]
    assert kinds == [["Dataset", "Experiment", "Model", "ModelVersion", "Promotion"]] * 3
