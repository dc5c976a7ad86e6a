# What the tests of the field cases share: source it, then use check, expect, py and score_as;
# end with `finish`. Runs SPT_BIN (tools/run-tests sets it); needs python3 with numpy, which makes the
# inputs of a case: fixture CASE writes them to $dir/CASE.
set -u
spt=${SPT_BIN:-$PWD/build/release/spt}
fields=tests/fixtures/field model=demo/t5-mini desk=demo/desk
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
fails=0

python=
for p in "${PYTHON:-python3}" /usr/bin/python3; do
    if command -v "$p" >/dev/null && "$p" -c 'import numpy' 2>/dev/null; then
        python=$p
        break
    fi
done
if [ -z "$python" ]; then
    echo "skip $(basename "$0" .sh): python3 with numpy is missing (Debian: python3-numpy)"
    exit 0
fi

ok() { echo "ok $1"; }
bad() { # NAME, then what to show
    echo "not ok $1"
    shift
    printf '  %s\n' "$@"
    fails=$((fails + 1))
}
# expect NAME COMMAND...: the command succeeds.
expect() {
    local name=$1
    shift
    if "$@" >"$dir/expect.out" 2>&1; then ok "$name"; else bad "$name" "failed: $*" "$(tail -n 5 "$dir/expect.out")"; fi
}
# check NAME EXIT_CODE PATTERN COMMAND...: the code, and a line on stderr that matches; stdout is
# kept in $dir/out, stderr in $dir/err. An error is one line without half-written control characters.
check() {
    local name=$1 want=$2 pattern=$3
    shift 3
    "$@" >"$dir/out" 2>"$dir/err"
    local rc=$?
    if [ $rc -eq "$want" ] && grep -qE -- "$pattern" "$dir/err"; then
        ok "$name"
    else
        bad "$name" "exit $rc, wanted $want; stderr, wanted /$pattern/:" "$(cat "$dir/err")"
    fi
}
# told NAME PATTERN, untold NAME PATTERN: about the stderr of the last check.
told() { expect "$1" grep -qE -- "$2" "$dir/err"; }
untold() {
    if grep -E -- "$2" "$dir/err" >"$dir/found"; then bad "$1" "$(cat "$dir/found")"; else ok "$1"; fi
}
# refused NAME EXIT_CODE PATTERN COMMAND...: as check, and exactly one line of error.
refused() {
    check "$@"
    expect "$1_one_line" test "$(grep -c '^spt: [a-z]*: ' "$dir/err")" -eq \
        "$(($(grep -c '^spt: [a-z]*: warning: ' "$dir/err") + 1))"
}
# py NAME [ARGUMENT...] <<'EOF' program EOF: a Python program that exits 0.
py() {
    local name=$1
    shift
    if "$python" - "$@" >"$dir/py.out" 2>&1; then ok "$name"; else bad "$name" "$(tail -n 8 "$dir/py.out")"; fi
}
fixture() { # CASE (a number): the folder with what its gen.py writes
    mkdir -p "$dir/$1"
    "$python" "$fields/$1"-*/gen.py "$dir/$1" || bad "fixture_$1"
}
# score_as NAME MODEL EXPECTED.json KEY TOLERANCE [OPTION...]: scores of common/pairs.tsv.
# A tolerance below 1e-3 with the suffix r is relative.
score_as() {
    local name=$1 at=$2 json=$3 key=$4 tol=$5
    shift 5
    "$spt" score --model "$at" --data "$fields/common/pairs.tsv" "$@" >"$dir/scores" 2>"$dir/err" ||
        { bad "$name" "$(cat "$dir/err")"; return; }
    py "$name" "$dir/scores" "$json" "$key" "$tol" <<'EOF'
import json, sys
got = [json.loads(l)["score"] for l in open(sys.argv[1])]
want = json.load(open(sys.argv[2]))[sys.argv[3]]
tol = sys.argv[4]
bound = (lambda w: float(tol[:-1]) * abs(w)) if tol.endswith("r") else (lambda w: float(tol))
assert len(got) == len(want), (got, want)
for g, w in zip(got, want):
    assert abs(g - w) <= bound(w), (got, want)
EOF
}
# Options of a training run that is about its data and messages, not about what it learns.
quick="--steps 1 --length 2 --batch 4 --seed 1 --threads 2"
train() { "$spt" train --model "$model" $quick "$@"; }
# inspect FILE KEY: a value of a prompt's metadata.
meta() { "$spt" inspect "$1" --json | "$python" -c 'import json,sys; print(json.load(sys.stdin)["metadata"].get(sys.argv[1], ""))' "$2"; }
finish() { exit $((fails > 0)); }
