# What every shell test shares: source it, then use expect, check and the like; end with `finish`.
# $spt is the program under test (tools/run-tests sets SPT_BIN), $root the tree, $dir a temporary folder that
# goes with the script.
set -u
root=$PWD
spt=$(realpath "${SPT_BIN:-$PWD/build/release/spt}")
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
fails=0

ok() { echo "ok $1"; }
bad() { # NAME, then what to show
    echo "not ok $1"
    shift
    printf '  %s\n' "$@" | cut -c 1-400
    fails=$((fails + 1))
}
# What was said lately: the end of the newest files of complaints in $dir.
lately() { (cd "$dir" && ls -t err ./*.err ./*.cmp 2>/dev/null | head -n 3 | xargs -r tail -n 8); }
# expect NAME COMMAND...: the command succeeds. Lines that it begins with # are remarks.
expect() {
    local name=$1
    shift
    if "$@" >"$dir/.expect" 2>&1; then
        grep '^#' "$dir/.expect"
        ok "$name"
    else
        bad "$name" "failed: $*" "$(tail -n 5 "$dir/.expect")" "$(lately)"
    fi
}
# Is there one line of error in $dir/err, or none when the code is 0? Warnings count only with one_line=all.
complaints() { # CODE
    local leave=': warning: '
    [ "$one_line" != all ] || leave='^$'
    [ "$(grep '^spt: [a-z]*: ' "$dir/err" | grep -vc -- "$leave")" -eq $(($1 != 0)) ]
}
# check NAME EXIT_CODE PATTERN COMMAND...: the code, and a line on stderr that matches ('' for any); stdout
# is kept in $dir/out, stderr in $dir/err. A script may set one_line=yes (every check asks complaints, too)
# and within=COMMAND (in front of each).
one_line= within=
check() {
    local name=$1 want=$2 pattern=$3
    shift 3
    $within "$@" >"$dir/out" 2>"$dir/err"
    local rc=$?
    if [ $rc -eq "$want" ] && grep -qE -- "$pattern" <(cat "$dir/err"; echo) &&
        { [ -z "$one_line" ] || complaints "$want"; }; then
        ok "$name"
    else
        bad "$name" "exit $rc, wanted $want; stderr, wanted /$pattern/:" "$(cat "$dir/err")"
    fi
}
# refused NAME EXIT_CODE PATTERN COMMAND...: as check, and exactly one line of error.
refused() {
    check "$@"
    expect "$1_one_line" complaints "$2"
}
# equal NAME GOT WANTED
equal() { if [ "$2" = "$3" ]; then ok "$1"; else bad "$1" "got    $2" "wanted $3"; fi; }
finish() { exit $((fails > 0)); }
