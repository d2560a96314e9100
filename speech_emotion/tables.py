"""Tables and bars for people."""

import sys
from collections.abc import Sequence

WIDTH = 20
WIDTH_OF_FILES = 1_000
PARTS = " ▏▎▍▌▋▊▉█"


def bar(share: float, width: int = WIDTH) -> str:
    """A bar of a share 0 to 1, in eighths of a character, or of `#` where output has no blocks."""
    eighths = round(min(max(share, 0.0), 1.0) * width * 8)
    whole, rest = divmod(eighths, 8)
    text = "█" * whole + (PARTS[rest] if rest else "")
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        text = "#" * round(eighths / 8)
    return text.ljust(width)


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]], title: str = "") -> None:
    """Columns on standard output; text to the left, numbers to the right, nothing cut off."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, show_header=any(header), title_justify="left")
    for place, name in enumerate(header):
        numbers = bool(rows) and all(_is_number(row[place]) for row in rows)
        # Files have names with brackets, which are no markup.
        table.add_column(
            Text(name), justify="right" if numbers else "left", overflow="fold", no_wrap=False
        )
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    console = Console(highlight=False)
    if not console.is_terminal:
        # Nobody folds a file.
        console.width = WIDTH_OF_FILES
    if title:
        console.print(Text(title), style="bold")
    console.print(table)


def _is_number(text: str) -> bool:
    return text.replace(".", "").replace("-", "").replace("+", "").isdigit()
