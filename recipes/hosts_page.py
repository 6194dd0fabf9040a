"""Put the tables of what each host offers into docs/hosts.md, from the families themselves.

python recipes/hosts_page.py
"""

from pathlib import Path

from saccade.families.tables import contract, mends, offers

PAGE = Path(__file__).resolve().parents[1] / "docs" / "hosts.md"


def main() -> None:
    """Each table between the page's marks."""
    page = PAGE.read_text()
    for table in (contract, offers, mends):
        before, mark, rest = page.partition(f"<!-- table: {table.__name__} -->\n")
        _, end, after = rest.partition("<!-- end -->")
        page = f"{before}{mark}\n{table()}\n\n{end}{after}"
    PAGE.write_text(page)


if __name__ == "__main__":
    main()
