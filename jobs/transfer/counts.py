"""What an import changed: features and labels, each counted once."""

from dataclasses import dataclass


@dataclass
class Counts:
    new: int = 0
    changed: int = 0
    same: int = 0

    def add(self, *, new: bool) -> None:
        if new:
            self.new += 1
        else:
            self.changed += 1

    def columns(self) -> dict[str, int]:
        return {"n_new": self.new, "n_changed": self.changed, "n_same": self.same}
