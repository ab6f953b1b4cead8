"""When pages are first seen in a browser, and how far what is seen jumps afterwards. It needs Debian's chromium."""

import json
import subprocess
import sys
from typing import Any

from django.conf import settings

MEASURER = "tests.scale.paint"  # it lives with the tests, whose site and browser it shares


def measure() -> dict[str, Any]:
    """By page, what ``tests.scale.paint.measure`` tells of it on a site of a few SAEs."""
    done = subprocess.run([sys.executable, "-m", MEASURER], cwd=settings.BASE_DIR, check=True, stdout=subprocess.PIPE)
    found: dict[str, Any] = json.loads(done.stdout)
    return found
