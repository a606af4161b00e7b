"""``python -m benchmarks.publish``: see the package."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

import benchmarks.publish
from benchmarks.publish.arenas import arenas
from benchmarks.publish.figures import figures
from benchmarks.publish.page import section
from scoresde.bench.results import SUFFIX, load, merge, pack
from scoresde.bench.store import write_atomically

HERE = Path(__file__).resolve().parent.parent
MEASURED = HERE.parent / "docs" / "measured"
_SECTION = re.compile(r"(<!-- begin ([\w-]+) -->\n).*?(<!-- end \2 -->)", re.DOTALL)


def publish(folder: Path, measured: Path = MEASURED) -> dict[Path, str]:
    """All files that follow from the packed results in ``folder``/results: their paths and their content.

    Those are ``folder``/README.md, with what stands between its markers made anew, and ``folder``/figures. What has no
    packed results is what another script ``measured`` under that name; a section that has neither says so.
    """
    files: dict[Path, str] = {}

    def made(match: re.Match[str]) -> str:
        name, path = match[2], folder / "results" / f"{match[2]}{SUFFIX}"
        if path.exists():
            results = load(path)
            found = arenas(results)
            text = section(name, results, found)
            files.update({folder / "figures" / file: svg for file, svg in figures(name, found).items()})
        else:
            text = "\n".join(map(_measured, sorted(measured.glob(f"{name}*.md"))))
        return f"{match[1]}\n{text or 'Not run yet.'}\n\n{match[3]}"

    page = folder / "README.md"
    return {page: _SECTION.sub(made, page.read_text(encoding="utf-8")), **files}


def _measured(path: Path) -> str:
    return f"**{path.stem.replace('-', ' ').capitalize()}**\n\n{path.read_text(encoding='utf-8')}"


def main() -> None:
    """Regenerate the page, or pack results for it."""
    parser = argparse.ArgumentParser(
        description=benchmarks.publish.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command")
    packing = commands.add_parser("pack", help="results folders into one packed file")
    packing.add_argument("folders", nargs="+", type=Path, help="results folders of one suite")
    packing.add_argument("name", help="of the file, and of the section of the page that shows it")
    asked = parser.parse_args()
    if asked.command == "pack":
        results, conflicts = merge(load(folder) for folder in asked.folders)
        for conflict in conflicts:
            print(f"warning: {conflict}")
        path = HERE / "results" / f"{asked.name}{SUFFIX}"
        shown = {metric for arena in arenas(results) for metric in arena.headlines}
        write_atomically(path, pack(results, left=shown))
        print(f"{path}: {len(results.rows)} cells, {path.stat().st_size / 1000:.0f} kB")
        return
    files = publish(HERE)
    for old in set((HERE / "figures").glob("*.svg")) - set(files):
        old.unlink()
    for path, text in files.items():
        write_atomically(path, text.encode())
        print(path)


if __name__ == "__main__":
    main()
