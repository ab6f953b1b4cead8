"""A snapshot as a file: one signed archive that stands alone."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from django.contrib.staticfiles import finders
from django.template.loader import render_to_string
from django.utils.safestring import SafeString

from features.models import Snapshot
from features.sharing import bundle, freezing, rendering
from features.sharing.freezing import Chain
from features.sharing.signing import signer

MOST = 50
"""Freezings that an archive's record names: the last of them. Whatever they are called, they fit into a manifest."""
STYLES = ("css/site.css", "css/features.css", "css/run.css", "css/evidence.css")


def archive_of(snapshot: Snapshot, site: str) -> bytes:
    """The archive that this site signs; of a snapshot that was only brought here, the one that came, as it came."""
    chain = freezing.chain_of(snapshot)
    frozen = freezing.read(snapshot)
    if not chain.freezings and chain.received:
        return freezing.as_it_came(chain.received[0])
    body = freezing.body_of(snapshot)
    figures = {name: svg.encode() for name, svg in rendering.figures_of(frozen).items()}
    record = record_of(chain) | {"site": site, "exported_at": _utc(datetime.now(UTC))}
    return bundle.make_bundle(body, page_of(snapshot, chain).encode(), figures, record, signer())


def page_of(snapshot: Snapshot, chain: Chain) -> str:
    """One HTML file that asks for nothing: its styles are in it, and it runs no script."""
    styles = SafeString("\n".join(_style(name) for name in STYLES))
    ctx = {"snapshot": snapshot, "chain": chain, "styles": styles, "evidence": freezing.page_of(snapshot)}
    return render_to_string("sharing/page.html", ctx)


def record_of(chain: Chain) -> dict[str, Any]:
    """Who froze it, when, and what it took the place of: beside the content, and signed with it."""
    return {
        "frozen": [
            {
                "by": freezing.by_name,
                "at": _utc(freezing.at),
                "subject": freezing.subject,
                "supersedes": freezing.supersedes.digest if freezing.supersedes else None,
            }
            for freezing in reversed(chain.freezings[:MOST])
        ],
        "superseded_by": [{"digest": f.snapshot.digest, "at": _utc(f.at)} for f in chain.after[:MOST]],
    }


def _utc(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _style(name: str) -> str:
    found = finders.find(name)
    return Path(str(found)).read_text(encoding="utf-8")
