"""Labels from columns or, failing that, from file names (age_gender_race_datetime)."""

from __future__ import annotations

import functools
import hashlib
import re
from pathlib import Path

from training.data.report import Report
from training.data.samples import GENDERS, OLDEST, RACES
from training.data.sources import check_disk

# Three files lack the race in their name; values from the corrections published with Paplham & Franc,
# "A Call to Reflect on Evaluation Practices for Age Estimation", CVPR 2024, arXiv 2307.04570.
_MISSING_RACE = {
    "39_1_20170116174525125": 1,
    "61_1_20170109142408075": 1,
    "61_1_20170109150557335": 3,
}
_GENDER_WORDS = (("man", "men", "boy", "boys"), ("woman", "women", "girl", "girls"))
# Copies are named "20_0_0_2017… (1)" by Windows and "… - Copy" or "… copy" by others.
_NAME = re.compile(r"(\d{1,3})_([01])_([0-4])_(\d+)( ?\(\d+\)| - Copy( \(\d+\))?| copy( \d+)?)?")


class LabelError(ValueError):
    """A label shows that its column can't be used; the message is the end of a sentence that begins with the row."""


def race_names(names: list[str] | None) -> tuple[str, ...]:
    """The races of a dataset that names its classes; UTKFace's if it does not, or names those."""
    if not names or all(_index(name, RACES) >= 0 for name in names):
        return RACES
    return tuple(name.replace("_", " ") for name in names)


def sha256_of_image(picture: dict | None) -> str | None:
    if not picture or (picture["bytes"] is None and not picture["path"]):
        return None
    try:
        content = picture["bytes"] if picture["bytes"] is not None else Path(picture["path"]).read_bytes()
    except OSError as error:
        check_disk(picture["path"], error)
        return None
    return hashlib.sha256(content).hexdigest() if content else None


def stem(path: str) -> str:
    name = path.replace("\\", "/").rsplit("/", 1)[-1]
    return re.sub(r"(\.(jpe?g|png|webp|bmp|hei[cf]|avif|tiff?|gif|chip))+$", "", name, flags=re.IGNORECASE).strip()


def parse_name(name: str, report: Report) -> tuple[float, float, int, int] | None:
    if name in _MISSING_RACE:
        report.corrected.append(name)
        age, gender, _ = name.split("_")
        return int(age), int(age), int(gender), _MISSING_RACE[name]
    match = _NAME.fullmatch(name)
    return parse_label(match[1], match[2], match[3]) if match else None


def is_utkface(name: str) -> bool:
    """Whether a file name comes from UTKFace. Its names end with a timestamp of 2016 or 2017, to the millisecond.

    Other photos may also be named age_gender_race_number.
    """
    match = _NAME.fullmatch(name)
    return name in _MISSING_RACE or bool(match and re.fullmatch(r"201[67]\d{13}", match[4]))


def class_name(value, class_names):
    return class_names[value] if class_names and isinstance(value, int) and 0 <= value < len(class_names) else value


def parse_label(age, gender, race, races: tuple[str, ...] = RACES) -> tuple[float, float, int, int] | None:
    """Labels as numbers or words → (first year, last year, gender, race), or None if age or gender makes no sense.

    Raises:
        LabelError: the value shows that the whole column has another meaning.
    """
    years, gender = _years(str(age)), _gender(gender)
    return (*years, gender, _index(str(race).replace("_", " "), races)) if years and gender >= 0 else None


def unreadable(age, gender) -> str:
    """Why `parse_label` returns None: the value at fault."""
    what, value = ("gender", gender) if _years(str(age)) else ("age", age)
    return f"{what} {str(value)[:40]!r} is missing or can't be read"


def is_number(value) -> bool:
    """Whether a label is given as a number."""
    return bool(re.fullmatch(r"-?\d+(\.0*)?", str(value).strip()))


def _gender(value) -> int:
    """0 for male, 1 for female, -1 for a missing or unknown one."""
    text = str(value).strip().lower()
    if is_number(text):
        if float(text) not in (0, 1):
            raise LabelError(
                f"the gender {value}. Numbers are read as 0 for male and 1 for female. Replace the column's numbers "
                "with these, or with words"
            )
        return int(float(text))
    found = _index(text, GENDERS)
    return found if found >= 0 else next((i for i, words in enumerate(_GENDER_WORDS) if text in words), -1)


@functools.lru_cache(maxsize=256)
def _years(age: str) -> tuple[float, float] | None:
    """`31`, `~31 years`, `1,5`, `20,50`, `30-39`, `30_39`, `(30, 39)` or `more than 70` → first and last year.

    None if it is nothing of the kind or out of range.
    """
    text = re.sub(r"\s*(years?( old)?|yrs?|y/?o)\.?$", "", age.strip().lower()).lstrip("~≈ ")
    text = text[1:-1] if text[:1] + text[-1:] in ("()", "[]") else re.sub(r"^(\d{1,3}),(\d+)$", r"\1.\2", text)
    if re.fullmatch(r"\d{1,2}-[a-z]{3}|[a-z]{3}-\d{1,2}", text):
        raise LabelError(
            f"the age {age!r}, which looks like a range that a spreadsheet has changed into a date. Restore ranges "
            "such as 3-9, for example by importing the column as text"
        )
    if match := re.fullmatch(r"(\d+)\s*[-–,_]\s*(\d+)", text):
        first, last = map(float, match.groups())
    elif match := re.fullmatch(r"more than (\d+)|(\d+)\s*\+", text):
        first, last = float(match[1] or match[2]), float(OLDEST)
    elif re.fullmatch(r"\d+\.?\d*|\.\d+", text):
        first = last = float(text)
    else:
        return None
    return (first, last) if first <= last <= OLDEST else None


@functools.lru_cache(maxsize=256)
def _index(value, names: tuple[str, ...]) -> int:
    """A label given as name (singular or plural, any case) or index → index, -1 if it is neither."""
    text = str(value).strip().lower()
    lowered = [name.lower() for name in names]
    if text in lowered:  # names may be numbers
        return lowered.index(text)
    if re.fullmatch(r"\d+(\.0)?", text):
        number = int(float(text))
        return number if number < len(names) else -1
    return next((i for i, name in enumerate(lowered) if text in (name + "s", name[0])), -1)
