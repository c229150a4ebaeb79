#!/usr/bin/env python3
"""Checks the words of the project's Markdown files: python3 docs/check.py [FILE…]

Per file: links and anchors lead somewhere, lines of prose and code wrap at 100 columns, no sentence has
more than 25 words, no clause stands in for a noun ("what …", "who that …"). Exits 1 if it finds anything.
Rules and reasons: CONTRIBUTING.md, "Style".
"""

import os
import re
import subprocess
import sys

COLUMNS = 100
WORDS = 25
# Pronouns and clauses that hide the noun which a reader looks for.
HIDDEN_NOUNS = re.compile(
    r"\bwhat (?:\w+ ){0,6}(?:that|who|which)\b|\bwho that\b|\bwhoever\b|\bsomebody\b|\bnobody\b"
    r"|\b(?:of|with|from|by|in|to|for) what (?:it|is|was|the|a|its|they|we)\b|(?:^|[.;:] )What [a-z]"
)


def lines_by_kind(text):
    """Yields (number, line, kind): fence, code, blank, table, head or prose."""
    fenced, before = False, "blank"
    for number, line in enumerate(text.split("\n"), 1):
        if re.match(r"\s*(```|~~~)", line):
            fenced, kind = not fenced, "fence"
        elif fenced:
            kind = "code"
        elif not line.strip():
            kind = "blank"
        elif line.startswith("    ") and not re.match(r"\s*([-*]|\d+\.) ", line) and before in ("blank", "code"):
            kind = "code"
        elif line.lstrip().startswith("|"):
            kind = "table"
        elif line.startswith("#"):
            kind = "head"
        else:
            kind = "prose"
        before = kind
        yield number, line, kind


def paragraphs(text):
    """Yields (number, text) for each paragraph, list item and table cell."""
    start, gathered = 0, []
    for number, line, kind in lines_by_kind(text):
        if kind != "prose" or re.match(r"\s*([-*]|\d+\.) ", line):
            if gathered:
                yield start, " ".join(gathered)
            gathered = []
        if kind == "table":
            yield from ((number, cell) for cell in line.strip().strip("|").split("|"))
        elif kind == "prose":
            start = start if gathered else number
            gathered.append(re.sub(r"^\s*([-*]|\d+\.) ", "", line).strip())
    if gathered:
        yield start, " ".join(gathered)


def sentences(paragraph):
    """Splits at full stops. Code counts as one word, a link as its text."""
    plain = re.sub(r"`[^`]*`", "CODE", paragraph)
    plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", plain)
    return re.split(r"(?<=[.!?])[\"*)]*\s+(?=[A-Z*(`\"0-9])", plain)


def anchors(path):
    """Returns the anchors of a file as GitHub makes them from its headings."""
    with open(path, encoding="utf-8") as file:
        heads = [line.lstrip("#") for _, line, kind in lines_by_kind(file.read()) if kind == "head"]
    plain = (re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", head.replace("`", "")) for head in heads)
    return {re.sub(r"[^\w\- ]", "", head.strip().lower()).replace(" ", "-") for head in plain}


def broken_links(path, text):
    """Yields links to files or headings that do not exist."""
    prose = "\n".join(line for _, line, kind in lines_by_kind(text) if kind != "code")
    for link in re.findall(r"\]\(([^)\s]+)\)", prose):
        if re.match(r"\w+:", link):
            continue
        target, _, anchor = link.partition("#")
        target = os.path.normpath(os.path.join(os.path.dirname(path), target)) if target else path
        if not os.path.exists(target) or (anchor and target.endswith(".md") and anchor not in anchors(target)):
            yield link


def findings(path):
    """Yields what is wrong with a file, as lines of text."""
    with open(path, encoding="utf-8") as file:
        text = file.read()
    for number, line, kind in lines_by_kind(text):
        if kind in ("prose", "code") and len(line) > COLUMNS and "](" not in line:
            yield f"{path}:{number}: a line of {len(line)} columns"
    for number, paragraph in paragraphs(text):
        for sentence in sentences(paragraph):
            words = sum(1 for word in sentence.split() if re.search(r"\w", word))
            if words > WORDS:
                yield f"{path}:{number}: a sentence of {words} words: {sentence[:60]}…"
            hidden = HIDDEN_NOUNS.search(sentence)
            if hidden:
                yield f"{path}:{number}: say the noun: “{hidden.group(0).strip()}”"
    for link in broken_links(path, text):
        yield f"{path}: broken link: {link}"


def main():
    """Checks the files named, or all Markdown files that git knows."""
    os.chdir(os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
    listed = subprocess.run(["git", "ls-files", "*.md"], capture_output=True, text=True, check=True)
    found = [line for path in sys.argv[1:] or listed.stdout.split() for line in findings(path)]
    print("\n".join(found + [f"{len(found)} findings"]))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
