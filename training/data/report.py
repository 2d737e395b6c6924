"""What became of the rows of a source."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field


@dataclass
class Report:
    """How many rows of a source were used, rejected or dropped, and why."""

    source: str
    policy: str
    revision: str | None = None  # commit of a Hub dataset
    collection: str | None = None  # "UTKFace" or "FairFace", where labels or names show that; None for other faces
    similar: str | None = (
        None  # the collection that labels or the folder's name alone suggest: these faces may be a copy
    )
    rows: int = 0
    used: int = 0
    rejected: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))  # reason -> names
    corrected: list[str] = field(default_factory=list)
    duplicate_groups: int = 0
    duplicate_files: int = 0  # files beyond the first of their group
    conflicting_groups: int = 0  # byte-identical pictures whose age or gender disagree
    dropped: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)  # sentences without a period

    def __str__(self) -> str:
        source = f"{self.source}@{self.revision}" if self.revision else self.source
        lines = [f"{source}: {self.rows} rows, {self.used} used (policy {self.policy})"]
        for reason, names in self.rejected.items():
            shown = ", ".join(names[:5]) + (f", and {len(names) - 5} more" if len(names) > 5 else "")
            lines.append(f"  rejected {len(names)}: {reason}: {shown}")
        if self.corrected:
            lines.append(f"  corrected {len(self.corrected)}: race missing in the name: {', '.join(self.corrected)}")
        lines.append(
            f"  byte-identical: {self.duplicate_groups} groups, {self.duplicate_files} extra files; "
            f"{self.conflicting_groups} groups disagree on age or gender"
        )
        lines += [f"  dropped {count}: {reason}" for reason, count in self.dropped.items()]
        lines += [f"  {note}" for note in self.notes]
        return "\n".join(lines)

    def as_dict(self) -> dict:
        """The same as plain values, for JSON."""
        return {
            "source": self.source,
            "revision": self.revision,
            "collection": self.collection,
            "policy": self.policy,
            "rows": self.rows,
            "used": self.used,
            "rejected": {reason: len(names) for reason, names in self.rejected.items()},
            "corrected": len(self.corrected),
            "duplicate_groups": self.duplicate_groups,
            "duplicate_files": self.duplicate_files,
            "conflicting_groups": self.conflicting_groups,
            "dropped": dict(self.dropped),
        }
