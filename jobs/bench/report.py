"""The measurements as tables for people."""

from collections.abc import Callable, Iterator
from typing import Any


def lines(found: dict[str, Any]) -> Iterator[str]:
    """Whatever was measured, a table after the other."""
    machine = found["machine"]
    yield f"{machine['platform']}, {machine['cpus']} CPUs, Python {machine['python']}, torch {machine['torch']}"
    yield f"device {machine['device']}, {machine['threads']} threads, commit {machine['commit'] or 'unknown'}"
    tables: dict[str, Callable[[dict[str, Any]], Iterator[str]]] = {
        "extraction": _extraction,
        "width": _width,
        "ingest": _ingest,
        "pages": _pages,
        "web": _web,
        "paint": _paint,
        "shared": _shared,
    }
    for part, table in tables.items():
        if part in found:
            yield ""
            yield from table(found[part])


def _extraction(e: dict[str, Any]) -> Iterator[str]:
    hook, layer = e["hook"]
    yield f"extraction: {e['model']} ({e['dtype']}), {hook} of layer {layer}, {e['n_features']:,} features"
    yield f"{format(e['n_tokens'], ',') + ' tokens':44}{'tokens/s':>10}{'of limit':>10}"
    limit = e["forward_encode_tokens_per_s"]
    for name, key in (
        ("forward pass to the hook", "forward_tokens_per_s"),
        ("forward pass and encoder (the limit)", "forward_encode_tokens_per_s"),
        ("reading: everything counted and kept", "reading_tokens_per_s"),
        ("whole extraction, with logits and ingest", "tokens_per_s"),
    ):
        yield f"{name:44}{e[key]:10,.0f}{e[key] / limit:10.1%}"
    yield "seconds: " + ", ".join(f"{name} {seconds:.1f}" for name, seconds in e["seconds"].items())
    yield "reading beside the limit, shard by shard: " + ", ".join(f"{r:.0%}" for r in e["ratios_by_shard"])
    if e["peak_extra_mb"] is not None:
        yield (
            f"peak memory: {e['peak_forward_mb']:,.0f} MiB for the bare forward pass, {e['peak_mb']:,.0f} MiB for all "
            f"({e['peak_extra_mb']:+,.0f}); at 10x the tokens {e['peak_growth_at_10x']:.3f}x"
        )


def _width(w: dict[str, Any]) -> Iterator[str]:
    narrow, wide = w["widths"]
    yield f"{'width: ms per 2,048 tokens':44}{narrow:>12,}{wide:>12,}{'growth':>10}"
    for name, (low, high) in w["ms"].items():
        yield f"{name:44}{low:12.1f}{high:12.1f}{w['growth'][name]:9.1f}x"
    low, high = w["keep_ms"]
    yield f"{'count and keep, reducing included':44}{low:12.1f}{high:12.1f}{high / low:9.1f}x"
    low, high = w["state_mb"]
    yield f"{'state at the end, MiB':44}{low:12.1f}{high:12.1f}{high / low:9.1f}x"
    for name, (low, high) in w["weights_s"].items():
        yield f"{name + ', s':44}{low:12.1f}{high:12.1f}{high / low:9.1f}x"


def _ingest(ingest: dict[str, Any]) -> Iterator[str]:
    first = next(iter(ingest.values()))
    head = format(first["n_features"], ",") + " features, 24 top examples each"
    yield f"{'ingest: ' + head:56}" + "".join(f"{vendor:>12}" for vendor in ingest)
    rows: dict[str, Callable[[dict[str, Any]], str]] = {
        "seconds": lambda i: f"{i['seconds']:.1f}",
        "rows/s": lambda i: f"{i['rows_per_s']:,.0f}",
        "bytes a feature: activity and contexts, indexes in it": lambda i: f"{i['bytes_per_feature']:,.0f}",
        "bytes a feature: the SAE's own rows and labels": lambda i: f"{i['sae_bytes_per_feature']:,.0f}",
    }
    for name, cell in rows.items():
        yield f"{name:56}" + "".join(f"{cell(i):>12}" for i in ingest.values())


def _pages(pages: dict[str, Any]) -> Iterator[str]:
    yield f"{'page':44}{'ms':>10}{'queries':>10}{'KiB':>10}"
    for name, page in pages.items():
        yield f"{name:44}{page['ms']:10.1f}{page['queries']:10}{page['kib']:10.1f}"


def _paint(pages: dict[str, Any]) -> Iterator[str]:
    yield f"{'in a browser, nothing cached':44}{'first paint, ms':>18}{'shift':>10}{'KiB gzipped':>14}"
    for name, page in pages.items():
        yield f"{name:44}{page['fcp_ms']:18.0f}{page['cls']:10.3f}{page['kib']:14.1f}"


def _web(web: dict[str, Any]) -> Iterator[str]:
    for name in ("sqlite", "postgres"):
        if name in web:
            yield from _site(name, web[name])
    if both := web.get("neuronpedia"):
        size, ms = both["bytes"], both["ms"]
        head = format(both["n_features"], ",") + " features in one PostgreSQL"
        yield f"{head:44}{'ours':>12}{'Neuronpedia':>14}{'ratio':>10}"
        yield f"{'MiB':44}{size['ours'] / 2**20:12,.0f}{size['theirs'] / 2**20:14,.0f}{both['size_ratio']:9.1f}x"
        yield f"{'reading a feature, ms':44}{ms['ours']:12.1f}{ms['theirs']:14.1f}{both['feature_query_ratio']:9.1f}x"


def _site(name: str, site: dict[str, Any]) -> Iterator[str]:
    yield f"{site['n_features']:,} features, {site['bytes'] / 2**20:,.0f} MiB"
    yield f"{name + ': ms':24}{'p50':>10}{'p95':>10}{'max':>10}{'first p95':>12}{'queries':>10}{'KiB gzipped':>14}"
    for kind, page in site["kinds"].items():
        figures = f"{page['p50']:10.1f}{page['p95']:10.1f}{page['max']:10.1f}{page['first_p95']:12.1f}"
        yield f"{kind:24}{figures}{page['queries']:10}{page['kib']:14.1f}"
    yield ""


def _shared(shared: dict[str, Any]) -> Iterator[str]:
    first = next(iter(shared.values()))
    yield f"{'shared evidence: ' + format(first['n_snapshots'], ',') + ' snapshots':44}" + "".join(
        f"{vendor:>12}" for vendor in shared
    )
    rows: dict[str, Callable[[dict[str, Any]], str]] = {
        "page that a link opens, p50 ms": lambda one: f"{one['page']['p50']:.1f}",
        "p95 ms": lambda one: f"{one['page']['p95']:.1f}",
        "queries": lambda one: f"{one['page']['queries']}",
        "KiB gzipped": lambda one: f"{one['page']['kib']:.1f}",
        "freezing a feature, ms": lambda one: f"{one['freeze_p50_ms']:.1f}",
        "exporting it, ms": lambda one: f"{one['export_p50_ms']:.1f}",
        "its archive, KiB": lambda one: f"{one['archive_kib']:.0f}",
        "bytes in the database": lambda one: f"{one['bytes_per_snapshot']:,.0f}",
    }
    for name, cell in rows.items():
        yield f"{name:44}" + "".join(f"{cell(one):>12}" for one in shared.values())
