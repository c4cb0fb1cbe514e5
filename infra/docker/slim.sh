#!/bin/sh
# slim FOLDER: removes tests that packages bring along from a virtual environment.
set -eu
find "$1" -type d -regex '.*/site-packages/\(matplotlib\|networkx\|numpy\|pandas\|pyarrow\|scipy\|sklearn\|sympy\)\(/.*\)?/tests' \
  -prune -exec rm -rf {} +
