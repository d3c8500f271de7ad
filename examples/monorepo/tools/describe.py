"""Prints the messages as a Markdown table."""

import pathlib
import sys

print("| name | text |\n|---|---|")
for line in pathlib.Path(sys.argv[1]).read_text().splitlines():
    name, text = line.split("=", 1)
    print(f"| {name} | {text} |")
