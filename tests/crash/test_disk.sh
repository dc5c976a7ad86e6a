#!/usr/bin/env bash
# The real program on a real system: C3 (what it touches), K6 (a full disk), K7 (a failing fsync), K8 (order
# of a save). Needs strace; the full disk needs the right to mount.
set -u
spt=${SPT_BIN:?}
dir=$(mktemp -d)
mounted=
trap '[ -n "$mounted" ] && umount "$dir/small"; rm -rf "$dir"' EXIT
bad=0
verdict() { # NAME STATUS
    if [ "$2" -eq 0 ]; then echo "ok $1"; else echo "not ok $1"; bad=1; fi
}
export SPT_CACHE_DIR=$dir/cache
head -n 24 demo/desk/train.tsv >"$dir/train.tsv"
head -n 8 demo/desk/dev.tsv >"$dir/dev.tsv"
args=(train --model demo/t5-mini --train "$dir/train.tsv" --eval "$dir/dev.tsv" --length 5 --steps 4
    --batch 4 --save-every 1 --eval-every 2 --keep 2 --seed 7 --threads 2 --quiet --resume)
"$spt" "${args[@]}" --out "$dir/whole" || exit 1
same() { python3 tests/crash/compare_runs.py "$dir/whole" "$1" >"$dir/verdict" || { cat "$dir/verdict"; false; }; }

# --- K6: every size of a disk that is too small for the run ---
mkdir "$dir/small"
if mount -t tmpfs -o size=16k tmpfs "$dir/small" 2>/dev/null; then
    mounted=1 wrong=0 full=0
    for kb in 4 8 12 16 20 24 28 32 36 40 44 48 52 56 60 64 72 80 88 96 112 128 160; do
        mount -o remount,size=${kb}k "$dir/small"
        "$spt" "${args[@]}" --out "$dir/small/run" 2>"$dir/err"
        rc=$?
        [ $rc -eq 0 ] && break
        full=$((full + 1))
        # 5: input/output error, and it says so.
        { [ $rc -eq 5 ] && grep -q 'No space left' "$dir/err"; } || { wrong=$((wrong + 1)); echo "  $kb KB: exit $rc"; cat "$dir/err"; }
    done
    same "$dir/small/run"
    same_rc=$?
    ls -a "$dir/small/run" | grep -E '^(tmp|trash)\.|\.tmp-' && wrong=$((wrong + 1))
    echo "K6: $full full disks, $wrong wrong; then the same bits: $([ $same_rc -eq 0 ] && echo yes || echo no)"
    verdict full_disk_then_same_bits $((wrong + same_rc + (full < 3)))
    umount "$dir/small" && mounted=
else
    echo "skip full_disk_then_same_bits"
fi

if ! command -v strace >/dev/null || ! strace -o /dev/null true 2>/dev/null; then
    echo "skip failing_fsync"; echo "skip order_of_a_save"; echo "skip only_known_files"
    exit $bad
fi

# The leak check of an address sanitizer build cannot run under a tracer.
traced() { ASAN_OPTIONS="${ASAN_OPTIONS:+$ASAN_OPTIONS:}detect_leaks=0" strace "$@"; }

# --- K7: the n-th fsync fails ---
wrong=0 count=0
nth="1 2 4 6 8 11 15 19 24"
[ -n "${SPT_TEST_FULL:-}" ] && nth=$(seq 1 60)
for n in $nth; do
    rm -rf "$dir/run"
    traced -f -o /dev/null -e trace=fsync -e inject=fsync:error=EIO:when=$n \
        "$spt" "${args[@]}" --out "$dir/run" 2>"$dir/err"
    rc=$?
    [ $rc -eq 0 ] && continue
    count=$((count + 1))
    [ $rc -eq 5 ] || { wrong=$((wrong + 1)); echo "  fsync $n: exit $rc"; cat "$dir/err"; }
    "$spt" "${args[@]}" --out "$dir/run" && same "$dir/run" || { wrong=$((wrong + 1)); echo "  after fsync $n"; }
done
echo "K7: $count failing fsyncs ended a run, $wrong wrong"
verdict failing_fsync $((wrong + (count < 6)))

# --- K8 and C3 from the log of one run ---
rm -rf "$dir/run"
traced -f -y -o "$dir/log" -e trace=%file,%network,%process,write,fsync,ftruncate \
    "$spt" "${args[@]}" --out "$dir/run"
python3 - "$dir/log" <<'PY'
import re, sys
dirty, saves, bad, pending = {}, 0, 0, None
for line in open(sys.argv[1], errors="replace"):
    m = re.search(r"\b(write|ftruncate)\(\d+<([^>]*)>", line)
    if m and "/run/" in m[2]:
        dirty[m[2]] = True
    m = re.search(r"\bfsync\(\d+<([^>]*)>", line)
    if m:
        dirty.pop(m[1], None)
        if pending and m[1] == pending:
            pending = None
    m = re.search(r'\brename\("([^"]*)", "([^"]*)"\)', line)
    if m:
        left = [d for d in dirty if d == m[1] or d.startswith(m[1] + "/")]
        if left or pending:
            bad += 1
            print("  renamed before a sync:", m[1], left, pending)
        for d in left:
            dirty.pop(d)
        pending = m[2].rsplit("/", 1)[0]
        saves += 1
bad += pending is not None
print(f"K8: {saves} renames, {bad} out of order")
sys.exit(bad or saves < 10)
PY
verdict order_of_a_save $?
python3 - "$dir/log" "$dir" <<'PY'
import os, re, sys
log, work = sys.argv[1:]
allowed = ("/lib", "/usr/lib", "/etc/ld.so", "/proc/self", "/proc/cpuinfo", "/proc/meminfo", "/proc/stat",
           "/proc/sys/vm", "/sys/devices/system", "/sys/fs/cgroup", "/sys/kernel/mm", "/dev/null", work,
           os.path.join(os.getcwd(), "demo"), "demo", os.environ["SPT_BIN"])
files, bad = 0, set()
for line in open(log, errors="replace"):
    if re.search(r"\b(socket|connect|bind|execve|fork|vfork)\(", line):
        if "execve(" not in line or os.environ["SPT_BIN"] not in line:
            bad.add(line.strip())
    m = re.search(r'\b(?:open|openat|rename|unlink|mkdir|stat|newfstatat|access|readlink)\((?:AT_FDCWD[^,]*, )?"([^"]+)"', line)
    if m:
        files += 1
        # Parents of the run directory are opened to be synced.
        # A sanitizer looks for the folder of its reports (tools/clean-run).
        if os.environ.get("SPT_TEST_REPORTS", "-").startswith(m[1]):
            continue
        if not m[1].startswith(allowed) and not work.startswith(m[1]) and "ENOENT" not in line:
            bad.add(m[1])
for b in sorted(bad):
    print("  ", b)
print(f"C3: {files} file calls, {len(bad)} outside of libraries, inputs and outputs; no socket, no program")
sys.exit(bool(bad))
PY
verdict only_known_files $?
exit $bad
