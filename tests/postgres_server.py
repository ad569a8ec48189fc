"""A PostgreSQL server for tests, where its programs are installed."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path


def binaries() -> Path | None:
    """The folder of the newest server's programs."""
    found = shutil.which("initdb")
    if found:
        return Path(found).resolve().parent
    folders = sorted(
        Path("/usr/lib/postgresql").glob("*/bin"), key=lambda p: int(p.parent.name.split(".")[0])
    )
    return next((folder for folder in reversed(folders) if (folder / "initdb").exists()), None)


class PostgresServer:
    """A PostgreSQL server on a loopback port, stopped and started at will."""

    def __init__(self, programs: Path, folder: Path) -> None:
        self._binaries = programs
        self._folder = folder
        self._data = folder / "data"
        self._log = folder / "log"
        self._server: subprocess.Popen[bytes] | None = None
        self._schemas = 0
        # The server refuses to run as root.
        self._as = {"user": "nobody", "group": "nogroup", "extra_groups": []} if os.getuid() == 0 else {}
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        password = folder / "password"
        password.write_text("correct horse")
        if self._as:
            for path in (folder, password):
                shutil.chown(path, "nobody", "nogroup")
        subprocess.run(
            [
                *(str(programs / "initdb"), "--no-sync", "--encoding=UTF8", "--locale=C", "--username=mlops"),
                *("--auth=scram-sha-256", f"--pwfile={password}", "--pgdata", str(self._data)),
            ],
            check=True,
            capture_output=True,
            **self._as,
        )
        self.start()

    def start(self) -> None:
        settings = {
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": str(self._folder),
            "fsync": "off",
            "shared_buffers": "16MB",
        }
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        with self._log.open("ab") as log:
            self._server = subprocess.Popen(
                [str(self._binaries / "postgres"), "-D", str(self._data), "-p", str(self.port), *options],
                stdout=log,
                stderr=log,
                **self._as,
            )
        import psycopg

        for _ in range(600):
            try:
                psycopg.connect(self.uri()).close()
                return
            except psycopg.OperationalError:
                time.sleep(0.05)
        raise RuntimeError(self._log.read_text())

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """Shut down in the server's fast mode, or without a checkpoint by SIGQUIT."""
        if self._server is not None:
            self._server.send_signal(how)
            self._server.wait()
        self._server = None

    def uri(self, database: str = "postgres") -> str:
        return f"postgresql://mlops:correct%20horse@127.0.0.1:{self.port}/{database}"

    def new_schema(self) -> str:
        """The URI of an empty schema, which is made much faster than a database."""
        import psycopg

        self._schemas += 1
        name = f"test{self._schemas}"
        with psycopg.connect(self.uri(), autocommit=True) as connection:
            connection.execute(f"CREATE SCHEMA {name}")
        return f"{self.uri()}?options=-csearch_path%3D{name}"
