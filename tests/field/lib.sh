# What the tests of the field cases share besides tests/support/checks.sh: py, score_as, fixture; needs
# python3 with numpy, which makes the inputs of a case: fixture CASE writes them to $dir/CASE.
. tests/support/checks.sh
fields=tests/fixtures/field model=demo/t5-mini desk=demo/desk

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

# told NAME PATTERN, untold NAME PATTERN: about the stderr of the last check.
told() { expect "$1" grep -qE -- "$2" "$dir/err"; }
untold() {
    if grep -E -- "$2" "$dir/err" >"$dir/found"; then bad "$1" "$(cat "$dir/found")"; else ok "$1"; fi
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
