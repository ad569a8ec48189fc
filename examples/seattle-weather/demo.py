"""The whole story in one session: train, register, promote, improve, heal, roll back; the daemon; then it is watched.

`python demo.py [FOLDER]` copies this example into a git repository of its own (default: `demo-run/` in the
checkout) and runs the commands a team would run, each printed first; lines that begin with `┆` are the daemon's
log. A command that fails ends the demo with that command's exit code. Needs `mlops` installed beside the Python
that runs this, and git.
"""

import contextlib
import json
import os
import pty
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

EXAMPLE = Path(__file__).resolve().parent
sys.path.insert(0, str(EXAMPLE.parent))

from narrated import Folder, colour, fresh, say, show, surroundings  # noqa: E402

STORE = "sqlite:///.mlops/mlflow.db"
BY_HAND = f"""
import mlflow
client = mlflow.MlflowClient("{STORE}")
client.set_registered_model_alias("seattle-weather", "production", "1")
print("production is now version 1")
"""
VERSION_1_1_0 = """\
---
apiVersion: mlops/v1
kind: ModelVersion
metadata: {name: seattle-weather-1.1.0}
spec:
  model: seattle-weather
  version: 1.1.0
  source: {experiment: weather-ridge, artifact: model}
"""
REPORT = "report.html"
PROPOSED = "mlops/promotion/seattle-weather-production/1.2.0"
MADE = (".mlops", "arrived", "record", "scored", REPORT)  # by whoever ran the example where it lies
PATIENCE = 300  # seconds for the daemon to say what it is waited for


class Letterbox:
    """The team's chat, as far as the demo has one: a loopback server that keeps what is posted to it."""

    def __init__(self) -> None:
        letters: list[dict[str, str]] = []

        class Taking(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                letters.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                self.send_response(204)
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                """Say nothing: what came is shown when the story comes to it."""

        self.letters = letters
        self._server = HTTPServer(("127.0.0.1", 0), Taking)
        self.url = f"json://127.0.0.1:{self._server.server_port}"  # the generic webhook of Apprise
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        """Take no more."""
        self._server.shutdown()
        self._server.server_close()


class Session(Folder):
    """The folder of the project, its daemon, and the mail of its team."""

    def __init__(self, path: Path) -> None:
        self.team = Letterbox()
        told = {"WEATHER_TEAM": self.team.url, "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}
        super().__init__(path, surroundings() | told)
        self.daemon: subprocess.Popen[bytes] | None = None
        self._log, self._seen = "", 0

    def read_mail(self) -> None:
        """Print what the team was told since."""
        letters = self.team.letters
        if not letters:
            self.failed("waiting for an alert", 1)
        while letters:
            letter = letters.pop(0)
            kept = [line for line in letter["message"].splitlines() if line.startswith(("- ", "Note: "))]
            print(
                colour("33", "\n".join((f"✉ {letter['title']}", *(f"    {line}" for line in kept)))),
                flush=True,
            )

    def start_daemon(self) -> None:
        """Run `mlops daemon` beside what follows, on a terminal of its own, its log going straight through."""
        show("mlops daemon &")
        ours, theirs = pty.openpty()
        self.daemon = subprocess.Popen(
            self.found(("mlops", "daemon")),
            cwd=self.path,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=theirs,
            stderr=theirs,
        )
        os.close(theirs)
        self._log, self._seen = "", 0
        threading.Thread(target=self._pass_on, args=(ours,), daemon=True).start()

    def until(self, said: str) -> None:
        """Wait until the daemon's log holds `said`, after what was waited for before."""
        deadline = time.monotonic() + PATIENCE
        while (at := self._log.find(said, self._seen)) < 0:
            if self.daemon is None or self.daemon.poll() is not None or time.monotonic() > deadline:
                self.failed(f"mlops daemon, which was to say {said!r},", 1)
            time.sleep(0.05)
        self._seen = at + len(said)

    def stop_daemon(self, number: int) -> None:
        """Send the daemon a signal, as a person would, and wait for its end."""
        assert self.daemon is not None
        show(f"kill -9 {self.daemon.pid}" if number == signal.SIGKILL else f"kill {self.daemon.pid}")
        self.daemon.send_signal(number)
        code = self.daemon.wait(PATIENCE)
        self.daemon = None
        if code != (-number if number == signal.SIGKILL else 0):
            self.failed("mlops daemon", code or 1)

    def close(self) -> None:
        """Leave no daemon behind, however the demo ends."""
        if self.daemon is not None:
            self.daemon.kill()
            self.daemon.wait()
        self.team.close()

    def _pass_on(self, terminal: int) -> None:
        with open(terminal, encoding="utf-8", errors="replace") as lines, contextlib.suppress(OSError):
            for line in lines:  # Linux ends a terminal that nobody has open any more with an error
                print(colour("2", f"┆ {line.rstrip()}"), flush=True)
                self._log += line


def tell(session: Session) -> None:
    """The story."""
    say("A project is a git repository: what should be is in YAML, beside the code and the data.")
    session.run("git", "init", "--quiet", "--initial-branch=main")
    settings = {"user.name": "Demo", "user.email": "demo@example.com", "commit.gpgSign": "false"}
    for name, value in settings.items():
        session.run("git", "config", name, value)
    session.run("git", "add", ".")
    session.run("git", "commit", "--quiet", "--message", "Forecast tomorrow's maximum temperature")

    say("Is the YAML right? This asks neither MLflow nor the network.")
    session.run("mlops", "validate")
    say("What would happen? Nothing is there yet: train a sweep of four trials, register 1.0.0, promote it.")
    session.run("mlops", "plan")
    say("Do it. Two trials run at a time; then the best one becomes 1.0.0 and goes through the gates.")
    session.run("mlops", "apply")

    say("What depends on what, and how does it stand?")
    session.run("mlops", "tree")
    session.run("mlops", "get")
    say('The trials. `skill` says how much better than "tomorrow is like today" each one is.')
    session.run("mlops", "runs", "weather-ridge")

    say("The season should help, and the strong penalty did not: two words of the experiment change, and its best run\n"
        "shall be 1.1.0. The stages dev and staging take the latest version that passes their gates; production\n"
        "stays.")  # fmt: skip
    session.edit("resources/experiments.yaml", "features: weather\n", "features: weather+season\n")
    session.edit("resources/experiments.yaml", "alpha: [1, 100]", "alpha: [1]")
    session.append("resources/model.yaml", VERSION_1_1_0)
    session.commit("Teach the model the season, as 1.1.0")
    session.run("mlops", "plan")
    session.run("mlops", "apply")
    session.run("mlops", "runs", "weather-ridge")

    say("It is better. A release is a change of one number in git; the plan shows what that will do.")
    session.edit("resources/promotions.yaml", "version: 1.0.0", "version: 1.1.0")
    session.commit("Release 1.1.0 to production")
    session.run("mlops", "plan")
    session.run("mlops", "apply")
    say("Again? There is nothing to do: git and MLflow agree.")
    session.run("mlops", "apply")

    say("Now someone moves the production alias in MLflow by hand. The plan notices, and apply heals it.")
    session.run("python", "-c", BY_HAND)
    session.run("mlops", "plan")
    session.run("mlops", "apply")

    say("1.1.0 disappoints its users. Rolling back is reverting the commit that released it.")
    session.run("git", "revert", "--no-edit", "HEAD")
    session.run("mlops", "plan")
    session.run("mlops", "apply")
    session.run("mlops", "tree")

    say("Nobody has to call apply. From here on a daemon keeps MLflow as the branch says.")
    keep(session)

    say("A model in production meets weather that it has not seen. From here on it is watched.")
    watch(session)

    say("Who promoted what, where, when and at which commit: all of it is kept.")
    session.run("mlops", "history", "seattle-weather")


def keep(session: Session) -> None:
    """The story goes on with the daemon."""
    production = "Promotion/seattle-weather-production"
    session.start_daemon()
    session.until("Leading")
    say("1.1.0 was not to blame after all: release it again. The commit is all there is to do.")
    session.run("git", "revert", "--no-edit", "HEAD")
    session.run("mlops", "wait", production)

    say(
        "Someone moves the production alias by hand again. It is put back, and the event says what was found."
    )
    session.run("python", "-c", BY_HAND)
    session.until("Healed")
    session.run("mlops", "describe", production)

    say(
        "A commit with a typo: it names file and line, production stays as it was, and so does everything else."
    )
    session.edit(
        "resources/promotions.yaml", "stage: production, version: 1.1.0", "stage: prodution, version: 1.1.0"
    )
    session.commit("Release with a typo")
    session.until("Invalid")
    session.run("mlops", "get", "Promotion", expect=1)
    say("The commit that mends it mends it; no hand is laid on.")
    session.run("git", "revert", "--no-edit", "HEAD")
    session.run("mlops", "wait", production)

    say("Cubic terms in place of linear ones are one more trial. While it trains, the daemon is killed. The training\n"
        "goes on without it, and the next daemon takes it up: no second run, no lost minute.")  # fmt: skip
    session.edit("resources/experiments.yaml", "degree: [1, 2]", "degree: [2, 3]")
    session.commit("Try cubic terms")
    session.until("Begun")
    time.sleep(2)  # in the middle of it, to be worth something
    session.stop_daemon(signal.SIGKILL)
    session.run("mlops", "get", "Experiment")
    session.start_daemon()
    session.run("mlops", "wait", "Experiment/weather-ridge")
    session.run("mlops", "runs", "weather-ridge")

    say("SIGTERM stops it within seconds. Jobs, if there are any, would go on.")
    session.stop_daemon(signal.SIGTERM)


def watch(session: Session) -> None:
    """The story ends with half a year of new weather, and what the monitoring policy makes of it."""
    say("2015 arrives week by week, and the model in production forecasts each of its days.")
    session.run("python", "data/arrive.py", "2015-07-13")
    session.run("python", "score.py")
    say(
        "How that is watched is declared and reviewed like everything else: monitoring/forecast.yaml. One line more."
    )
    session.edit("mlops.yaml", "  resources: [resources/]\n", "  resources: [resources/, monitoring/]\n")
    session.commit("Watch the forecasts in production")
    session.run("mlops", "apply")
    say("From winter to summer, and nobody was called: June is compared with Junes of the training years. A naive\n"
        "monitor compares it with whole years. Replay what it would have said, beside the one in force:")  # fmt: skip
    session.run("git", "switch", "--quiet", "--create", "naive")
    session.edit("monitoring/forecast.yaml", "season: month", "season: none")
    session.edit("monitoring/forecast.yaml", ", thresholds: calibrated", "")
    session.commit("Watch naively")
    session.run("git", "switch", "--quiet", "main")
    session.run("mlops", "monitor", "backtest", "forecast", "--revision", "naive")
    say("It sees drift in every window, with nothing wrong. The branch is not merged.")

    say("SIMULATED: from 20 July on a sensor sends °F instead of °C.")
    session.run("python", "data/arrive.py", "2015-08-17", "--fahrenheit", "2015-07-20")
    session.run("python", "score.py")
    session.run("mlops", "monitor", "run", "forecast")
    say("The team is told what happened, by its name. The forecasts are wrong, too, but a retraining is blocked: it\n"
        "would teach the model the fault.")  # fmt: skip
    session.read_mail()

    say("The sensor is mended, and the station delivers those weeks again. Files that changed are read again, their\n"
        "window is judged anew, and the team hears that it is over.")  # fmt: skip
    session.run("python", "data/arrive.py", "2015-09-14")
    session.run("python", "score.py")
    session.run("mlops", "monitor", "run", "forecast")
    session.read_mail()

    say("SIMULATED: from 15 September on the outcome is read at another station, where it is 5 °C warmer. No input\n"
        "moves; what follows from it does. That is what retraining is for.")  # fmt: skip
    session.run("python", "data/arrive.py", "2015-10-12", "--warmer", "2015-09-15")
    session.run("python", "score.py")
    session.run("mlops", "apply")
    session.read_mail()
    session.run("mlops", "monitor", "report", "forecast", "-o", REPORT)
    say("A model trained on fresh data asks to come in: a branch with the smallest edit of the YAML, its data pinned\n"
        "to what they were, and its numbers in the message.")  # fmt: skip
    session.run("git", "--no-pager", "log", "-1", "--format=%s%n%n%b", PROPOSED)
    session.run("git", "--no-pager", "diff", "-U0", f"main...{PROPOSED}")
    say("Merging it is the approval. What was reviewed is what ships: nothing is trained again.")
    session.run("git", "merge", "--quiet", "--no-edit", PROPOSED)
    session.run("mlops", "apply")

    say("The next weeks are forecast by the new version, and the policy follows it.")
    session.run("python", "data/arrive.py", "2015-12-07", "--warmer", "2015-09-15")
    session.run("python", "score.py")
    session.run("mlops", "monitor", "run", "forecast")


def main() -> None:
    """Run the demo in the folder named on the command line."""
    if sys.argv[1:] in (["-h"], ["--help"]):
        print(__doc__)
        return
    if len(sys.argv) > 2:
        sys.exit("One folder at most. `--help` says more.")
    began = time.monotonic()
    home = Path(sys.argv[1]) if len(sys.argv) == 2 else EXAMPLE.parents[1] / "demo-run"
    project = fresh(home.absolute()) / EXAMPLE.name
    shutil.copytree(EXAMPLE, project, ignore=shutil.ignore_patterns("demo.py", "__pycache__", *MADE))
    print(colour("1", f"Seattle weather, in {project}"), flush=True)
    with contextlib.closing(Session(project)) as session:
        tell(session)
    say(f"Done in {time.monotonic() - began:.0f} seconds. Look at the runs, the versions and their aliases:")
    mlflow = Path(sys.executable).parent / "mlflow"
    print(f"\n  cd {shlex.quote(str(project))} && {mlflow} ui --backend-store-uri {STORE}")
    print(f"\nAnd at what the monitor saw, in a browser: {project / REPORT}")


if __name__ == "__main__":
    main()
