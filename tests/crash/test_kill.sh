#!/usr/bin/env bash
# Bars K1, K5 and K10, short forms (`make check-kill`, `make check-term` run the long ones).
set -u
run() { # NAME ARGUMENTS...
    local name=$1
    shift
    if python3 tests/crash/kill_runs.py "$@"; then echo "ok $name"; else echo "not ok $name"; bad=1; fi
}
bad=0
run kill_and_resume_same_bits --kills "${SPT_KILLS:-50}" --seed "${SEED:-11}"
run signals_save_and_resume --signals "${SPT_SIGNALS:-10}" --seed "${SEED:-11}"
exit $bad
