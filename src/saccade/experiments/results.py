"""What an experiment found: tables of rows, with the settings, the machine and the versions they were made with.

Kept as one compact file for each device, `docs/results/NAME/DEVICE.json`: a table is its column names and its rows, or
its columns where there are many rows, and numbers are rounded to more digits than any interval over seeds carries.
A column whose values recur is kept as those values and which of them each row has.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import floor, isfinite, log10
from pathlib import Path
from typing import Any, Self

Row = dict[str, Any]
MANY = 100  # rows from which a table is kept by columns
DIGITS = 6  # figures are shown with three or four: rounded twice, fewer would now and then change the last


@dataclass(kw_only=True, eq=False)
class Results:
    """Tables by name; rows are plain values by column name.

    settings  of the experiment, as plain values
    seconds   spent by each part
    """

    device: str
    date: str
    versions: Mapping[str, str]
    settings: Mapping[str, Any] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    tables: dict[str, list[Row]] = field(default_factory=dict)

    def rows(self, table: str, **where: Any) -> list[Row]:
        """The rows of a table whose columns have these values.

        Raises ValueError for a table there is not, naming those there are.
        """
        if table not in self.tables:
            raise ValueError(f"table='{table}' is not among the results ({', '.join(self.tables)}); run its part first")
        return [row for row in self.tables[table] if all(row.get(name) == value for name, value in where.items())]

    def values(self, column: str, **where: Any) -> list[float]:
        """The figures of `table.column`, in the order of its rows."""
        table, _, name = column.partition(".")
        return [row[name] for row in self.rows(table, **where) if row.get(name) is not None]

    def by(self, column: str, key: str = "seed", **where: Any) -> dict[Any, float]:
        """Means of `table.column` by another column, sorted by it: what is paired."""
        table, _, name = column.partition(".")
        found: dict[Any, list[float]] = {}
        for row in self.rows(table, **where):
            if row.get(name) is not None:
                found.setdefault(row[key], []).append(row[name])
        return {each: sum(values) / len(values) for each, values in sorted(found.items())}

    def distinct(self, column: str, **where: Any) -> list[Any]:
        """The values of `table.column`, each once, in order of appearance."""
        table, _, name = column.partition(".")
        return list(dict.fromkeys(row[name] for row in self.rows(table, **where)))

    def save(self, path: Path) -> None:
        """Write the file; a row stands on one line, or a column where there are many rows."""
        about = {name: getattr(self, name) for name in ("device", "date", "versions", "settings", "seconds")}
        lines = [f" {json.dumps(name)}: {_plain(value)}" for name, value in about.items()]
        tables = ",\n".join(f"  {json.dumps(name)}: {_table(rows)}" for name, rows in self.tables.items())
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("{\n" + ",\n".join(lines) + ',\n "tables": {\n' + tables + "\n }\n}\n")

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what `save` wrote."""
        found = json.loads(path.read_text())
        tables = {name: _rows(table) for name, table in found.pop("tables").items()}
        return cls(tables=tables, **found)


def file_of(folder: Path, name: str, device: str, date: str = "") -> Path:
    """Where the results of an experiment on a device are kept; those of a date where there are several."""
    return folder / name / f"{re.sub(r'[^a-z0-9]+', '-', f'{date} {device}'.lower()).strip('-')}.json"


def newest(folder: Path, name: str) -> Results:
    """The results of an experiment with the latest date.

    Raises FileNotFoundError where there are none.
    """
    found = [Results.load(path) for path in sorted((folder / name).glob("*.json"))]
    if not found:
        raise FileNotFoundError(f"{folder / name} holds no results; run saccade reproduce {name} --page")
    return max(found, key=lambda results: results.date)


def rounded(value: Any, digits: int = DIGITS) -> Any:
    """Plain values with their numbers rounded to significant digits; NaN and infinity become None."""
    if isinstance(value, Mapping):
        return {str(key): rounded(each, digits) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(each, digits) for each in value]
    if not isinstance(value, float):
        return value
    if not isfinite(value):
        return None
    if value == 0 or value.is_integer() and abs(value) < 10**digits:
        return int(value)
    return round(value, digits - 1 - floor(log10(abs(value))))


def _table(rows: list[Row]) -> str:
    names = list(dict.fromkeys(name for row in rows for name in row))
    columns = [[row.get(name) for row in rows] for name in names]
    by_row = len(rows) < MANY
    lines = [_plain(row) for row in zip(*columns, strict=True)] if by_row else [_column(values) for values in columns]
    kept = ",\n".join(f"   {line}" for line in lines)
    return f'{{"columns": {json.dumps(names)}, "{"rows" if by_row else "values"}": [\n{kept}\n  ]}}'


def _column(values: list[Any]) -> str:
    """All values, or each of them once and the number of the one that a row has, whichever is shorter."""
    texts = [_plain(value) for value in values]
    number = {text: i for i, text in enumerate(dict.fromkeys(texts))}
    whole = f"[{','.join(texts)}]"
    coded = f'{{"of":[{",".join(number)}],"at":{_plain([number[text] for text in texts])}}}'
    return min(whole, coded, key=len)


def _rows(table: Mapping[str, Any]) -> list[Row]:
    """What `_table` wrote, as rows."""
    names = table["columns"]
    if "rows" in table:
        return [dict(zip(names, row, strict=True)) for row in table["rows"]]
    columns = [c if isinstance(c, list) else [c["of"][i] for i in c["at"]] for c in table["values"]]
    return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]


def _plain(value: Any) -> str:
    return json.dumps(rounded(value), separators=(",", ":"), allow_nan=False)
