"""Asks a server program and prints its answer."""

import subprocess
import sys

import messages


def ask(server: str) -> str:
    answer = subprocess.run([server, messages.WORD], check=True, capture_output=True, text=True).stdout.strip()
    return f"{messages.PREFIX} {answer}"


if __name__ == "__main__":
    print(messages.GREETING if sys.argv[1] == "--greeting" else ask(sys.argv[1]))
