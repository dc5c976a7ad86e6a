#!/usr/bin/env bash
# Installs what is missing, builds, and runs every test. The last line is "N passed, N failed";
# the exit code is 0 only when nothing failed.
set -eu
cd "$(dirname "$0")"
tools/install-packages tests
make -j"$(nproc)" all tests WERROR=1
exec make --no-print-directory test WERROR=1
