"""A real git and DVC repository with a DVC remote, made by their command lines."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

AUTHOR = {
    "GIT_AUTHOR_NAME": "n",
    "GIT_AUTHOR_EMAIL": "n@localhost",
    "GIT_COMMITTER_NAME": "n",
    "GIT_COMMITTER_EMAIL": "n@localhost",
    "GIT_CONFIG_GLOBAL": "/dev/null",
}


@dataclass(frozen=True)
class DvcRepo:
    """A repository in `folder` whose default remote is the folder `store`."""

    folder: Path
    store: Path

    @classmethod
    def make(cls, folder: Path, store: Path) -> DvcRepo:
        """An empty one, on the branch main."""
        folder.mkdir(parents=True)
        repo = cls(folder, store)
        repo.run("git", "init", "-q", "-b", "main")
        repo.run("dvc", "init", "-q")
        repo.run("dvc", "remote", "add", "-q", "-d", "store", str(store))
        return repo

    def run(self, *command: str) -> str:
        """Run a command in the repository; returns what it printed."""
        environment = {name: value for name, value in os.environ.items() if name != "DVC_ROOT"}
        made = subprocess.run(
            command, cwd=self.folder, env=environment | AUTHOR, check=True, capture_output=True, text=True
        )
        return made.stdout.strip()

    def commit(self, tag: str, *tracked: str, push: bool = True) -> str:
        """`dvc add` paths, push them, commit all and tag it; returns the commit."""
        self.run("dvc", "add", "-q", *tracked)
        if push:
            self.run("dvc", "push", "-q")
        self.run("git", "add", "-A")
        self.run("git", "commit", "-q", "-m", tag)
        self.run("git", "tag", tag)
        return self.run("git", "rev-parse", "HEAD")
