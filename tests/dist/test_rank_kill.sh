#!/usr/bin/env bash
# K9 in short: five kills of random ranks; `make check-rank-kill N=100` is the long form.
. tests/dist/ranks.sh
SPT_BIN=$PWD/$spt MPIRUN=$mpirun expect five_kills_of_ranks "$python" tests/dist/rank_kills.py --kills 5
finish
