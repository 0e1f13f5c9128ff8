"""Check that every relative link and anchor in the Markdown files leads somewhere. No network.

Usage: check_links.py [repository root]
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

FENCE = re.compile(r"^(```|~~~).*?^\1[^\n]*$", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"`[^`\n]*`")
COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
LINK = re.compile(r"!?\[[^\]]*\]\(\s*<?([^)\s>]+)>?[^)]*\)")
HEADING = re.compile(r"^#{1,6}\s+(.*?)\s*#*$", re.MULTILINE)


def anchors(text: str) -> set[str]:
    """The anchors that GitHub makes of a page's headings: lower case, punctuation dropped, blanks to dashes."""
    found: set[str] = set()
    for heading in HEADING.findall(FENCE.sub("", text)):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        slug = re.sub(r"[^\w\- ]", "", plain.lower()).replace(" ", "-")
        count = 0
        while (unique := f"{slug}-{count}" if count else slug) in found:
            count += 1
        found.add(unique)
    return found


def broken_links(page: Path) -> list[str]:
    """Targets of `page` that do not exist, as written there."""
    text = page.read_text(encoding="utf-8")
    broken: list[str] = []
    for target in LINK.findall(CODE.sub("", FENCE.sub("", COMMENT.sub("", text)))):
        if re.match(r"[a-z][a-z0-9+.-]*:", target):
            continue
        path, _, anchor = target.partition("#")
        file = page if not path else page.parent / path
        missing_anchor = anchor and file.suffix == ".md" and file.is_file() and anchor not in anchors(file.read_text())
        if not file.exists() or missing_anchor:
            broken.append(target)
    return broken


def main(arguments: list[str]) -> int:
    root = Path(arguments[0]) if arguments else Path(__file__).resolve().parent.parent
    pages = sorted([*root.glob("*.md"), *(root / "docs").rglob("*.md"), *(root / "examples").rglob("*.md")])
    if not pages:
        print(f"check_links: no Markdown under {root}", file=sys.stderr)
        return 1
    failures = [f"{page.relative_to(root)}: {target}" for page in pages for target in broken_links(page)]
    for failure in failures:
        print(f"broken link in {failure}", file=sys.stderr)
    print(f"links: {len(pages)} pages, {len(failures)} broken")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
