"""Writes messages.h and messages.py from a file of name=text lines."""

import json
import pathlib
import sys

source, folder = sys.argv[1:]
pairs = [line.split("=", 1) for line in pathlib.Path(source).read_text().splitlines()]
out = pathlib.Path(folder)
(out / "messages.h").write_text("".join(f"#define {name.upper()} {json.dumps(text)}\n" for name, text in pairs))
(out / "messages.py").write_text("".join(f"{name.upper()} = {json.dumps(text)}\n" for name, text in pairs))
print(f"generated {len(pairs)} messages for C and Python")
