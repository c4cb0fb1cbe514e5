"""What an image installs of pyproject.toml: requirements.py EXTRA.. prints the project's dependencies and these extras.

A list of its own keeps the layers of dependencies as they are when something else in pyproject.toml changes.
"""

import sys
import tomllib
from pathlib import Path


def main() -> None:
    """Read ./pyproject.toml."""
    project = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = [line for name in sys.argv[1:] for line in project["optional-dependencies"][name]]
    sys.stdout.write("".join(f"{line}\n" for line in [*project["dependencies"], *extras]))


if __name__ == "__main__":
    main()
