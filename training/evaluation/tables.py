"""Figures as rows and tables of text."""

from __future__ import annotations


def rows(metrics: dict) -> list[tuple[str, ...]]:
    """The figures as rows of text, the header first, an empty row between groups; 95% intervals in brackets."""
    binned = "age_band" in metrics

    def cell(figure: dict, factor: float = 1.0, digits: int = 1) -> str:
        value = f"{factor * figure['value']:.{digits}f}"
        if figure["low"] is None:
            return value
        low, high = (f"{factor * figure[bound]:.{digits}f}" for bound in ("low", "high"))
        return f"{value} [{low}, {high}]"

    def row(name: str, group: dict) -> tuple[str, ...]:
        gender = cell(group["gender_accuracy"], 100)
        inside, width = group.get("interval_coverage"), group.get("interval_width")
        held = f"{100 * inside['value']:.1f} in ± {width['value'] / 2:.1f}" if inside and width else "–"
        if binned:
            bands = (cell(group["age_band"], 100), cell(group["age_band_or_next"], 100))
            return (name, str(group["n"]), *bands, held, gender)
        return (
            name,
            str(group["n"]),
            cell(group["age_mae"], digits=2),
            cell(group["cs5"], 100),
            f"{group['age_bias']['value']:+.2f}",
            held,
            gender,
        )

    base = metrics["baseline"]
    commoner = f"{100 * base['gender_accuracy']:.1f}"
    header: tuple[str, ...]
    baseline: tuple[str, ...]
    if binned:
        header = ("", "n", "age band correct, %", "correct or adjacent band, %", "% in interval", "gender, %")
        constant = f"{100 * base['age_band_share']:.1f} (always {base['age_band']})"
        baseline = ("baseline", "", constant, "", "", commoner)
    else:
        header = ("", "n", "age MAE, years", "CS@5, %", "bias, years", "% in interval", "gender, %")
        constant = f"{base['age_mae']:.2f} (always {base['median_age']:.0f})"
        baseline = ("baseline", "", constant, "", "", "", commoner)
    empty = ("",) * len(header)
    lines = [header, row("all", metrics)]
    for members in metrics["by"].values():
        lines += [empty] + [row(name, group) for name, group in members.items()]
    return [*lines, empty, baseline]


def gate_rows(gates: dict) -> list[tuple[str, ...]]:
    """People of 14 to 17 years who are estimated 18 or 25 and older, as rows of text, the header first."""
    if not gates["n"]:
        return []

    def row(name: str, group: dict) -> tuple[str, ...]:
        cells = []
        for figure in (group["over_18"], group["over_25"]):
            value, low, high = (100 * figure[key] for key in ("value", "low", "high"))
            cells.append(f"{value:.0f} [{low:.0f}, {high:.0f}]")
        return (name, str(group["n"]), *cells)

    lines = [("aged 14 to 17", "n", "estimated 18 or older, %", "estimated 25 or older, %"), row("all", gates)]
    return lines + [row(name, group) for members in gates["by"].values() for name, group in members.items()]


def gender_line(metrics: dict) -> str:
    """The figures of gender that have no groups."""
    auc = metrics["gender_auc"]
    return (
        f"Gender: balanced accuracy {100 * metrics['gender_balanced_accuracy']:.1f}%"
        + (f", AUC {auc:.4f}" if auc is not None else "")
        + f", expected calibration error {100 * metrics['gender_ece']:.1f}%"
    )


def table(metrics: dict) -> str:
    """The figures as text tables."""
    text = [_aligned(rows(metrics)), gender_line(metrics)]
    gates = gate_rows(metrics.get("age_gates") or {"n": 0})
    return "\n".join([*text, "", _aligned(gates)] if gates else text)


def _aligned(lines: list[tuple[str, ...]]) -> str:
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    text = ["  ".join(c.ljust(width) for c, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    return "\n".join(text)


def compare(metrics: dict, recorded: dict) -> str:
    """One line that says whether a bundle's recorded figures are those just measured."""
    names = {"age_mae": 0.01, "cs5": 0.001, "gender_accuracy": 0.001}
    same = metrics["n"] == recorded["n"] and all(
        abs(metrics[name]["value"] - recorded[name]["value"]) <= tolerance for name, tolerance in names.items()
    )
    if same:
        return "The results match those recorded in the bundle."
    return (
        f"The bundle records different results: n {recorded['n']}, age MAE {recorded['age_mae']['value']:.3f}, "
        f"CS@5 {100 * recorded['cs5']['value']:.1f}%, gender {100 * recorded['gender_accuracy']['value']:.1f}%."
    )
