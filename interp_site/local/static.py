"""Collect the static files, unless what is collected is what there is."""

import hashlib
from importlib.metadata import version

from django.conf import settings
from django.contrib.staticfiles.finders import get_finders
from django.core.management import call_command


def collect_static() -> None:
    """Compressing Plotly's JavaScript takes seconds, so a second launch does not do it again."""
    stamp = settings.VAR_DIR / "static.collected"
    now = fingerprint()
    if settings.STATIC_ROOT.exists() and stamp.exists() and stamp.read_text() == now:
        return
    call_command("collectstatic", verbosity=0, interactive=False, clear=True)
    stamp.write_text(now)


def fingerprint() -> str:
    """Changes when any static file, its compressor or its name does."""
    lines = [version("whitenoise"), version("Django")]
    for finder in get_finders():
        for path, storage in finder.list(None):
            time = storage.get_modified_time(path).timestamp()
            lines.append(f"{getattr(storage, 'prefix', '')} {path} {storage.size(path)} {time}")
    return hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()
