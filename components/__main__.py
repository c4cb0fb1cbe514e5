"""Run a component as a step: `python -m components EXECUTOR --function_to_execute NAME --executor_input JSON`.

EXECUTOR is kfp's own module, which wants to know the component's file: another place in each image and checkout.
"""

from __future__ import annotations

import os
import runpy
import sys
from pathlib import Path


def main() -> None:
    """Hand the arguments to kfp's executor, with the component's file."""
    os.environ["_KFP_RUNTIME"] = "true"  # kfp is then imported without its compiler and client: 0.5 s, 70 MB
    os.environ.setdefault("SEGOPS_ENGINE", "kfp")
    executor, *arguments = sys.argv[1:]
    name = arguments[arguments.index("--function_to_execute") + 1]
    sys.argv[1:] = ["--component_module_path", str(Path(__file__).parent / name / "component.py"), *arguments]
    runpy.run_module(executor, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
