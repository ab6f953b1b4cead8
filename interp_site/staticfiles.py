"""Serve Plotly's JavaScript from the installed package: no copy in the repository, no import of the package."""

from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from django.contrib.staticfiles.finders import BaseFinder
from django.core.checks import CheckMessage, Error
from django.core.files.storage import FileSystemStorage

NAME = "plotly/plotly.min.js"


class PlotlyFinder(BaseFinder):
    """Finds ``plotly/plotly.min.js`` in the installed plotly package."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        spec = find_spec("plotly")  # looks the package up without running it
        self.folder = Path(spec.origin).parent / "package_data" if spec and spec.origin else None
        super().__init__(*args, **kwargs)

    def check(self, **kwargs: Any) -> list[CheckMessage]:
        if self.folder and (self.folder / "plotly.min.js").is_file():
            return []
        return [Error("Plotly's JavaScript is not installed.", hint="Run `make install`.", id="interp_site.E001")]

    def find(self, path: str, find_all: bool = False, **kwargs: Any) -> Any:
        found = self.folder / "plotly.min.js" if self.folder and path == NAME else None
        if find_all:
            return [str(found)] if found else []
        return str(found) if found else None

    def list(self, ignore_patterns: Iterable[str] | None) -> Iterable[Any]:
        if self.folder:
            storage = FileSystemStorage(location=self.folder)
            storage.prefix = "plotly"  # type: ignore[attr-defined]
            yield "plotly.min.js", storage
