#!/usr/bin/env bash
# Every option that `spt help COMMAND` lists: what it does, case by case (options.txt, options.py), and that the
# command's parser knows it: without its value, or (a switch) with one that it does not take, it is refused by
# name with exit code 2; an unknown one is, too.
. tests/support/checks.sh
unset GOOGLE_APPLICATION_CREDENTIALS CLOUDSDK_CONFIG GCE_METADATA_HOST TFDS_DATA_DIR SPT_CACHE_SIZE http_proxy https_proxy all_proxy
export HOME=$dir/user HF_HOME=$dir/hub SPT_CACHE_DIR=$dir/cache NO_GCE_CHECK=true HF_HUB_OFFLINE=1
mkdir -p "$dir/user" "$dir/in" "$dir/bare"
model=demo/t5-mini
awk -F'\t' '++n[$2] < 3' demo/desk/train.tsv | head -n 12 >"$dir/t.tsv"
head -n 8 demo/desk/dev.tsv >"$dir/d.tsv"
cut -f 1 "$dir/d.tsv" >"$dir/texts"
printf 'name\tlr\nfirst\t0.1\nsecond\t0.3\n' >"$dir/runs.tsv"
printf 'sentence\tlabel\nA fine film.\t1\nA waste.\t0\n' >"$dir/sst2.tsv"
for i in 1 2 3 4; do awk -F'\t' '{for (i = 0; i < 5; i++) printf "%s ", $1; print "\t" $2}' "$dir/t.tsv"; done >"$dir/long.tsv"
hub=$dir/hub/hub/models--org--mini
mkdir -p "$hub/refs" "$hub/snapshots"
printf %040d 1 >"$hub/refs/main"
cp -r $model "$hub/snapshots/$(printf %040d 1)"
head -n 1 "$dir/t.tsv" >"$dir/one.tsv"
printf 'zebra\nthe parcel was damaged on the way\n' >"$dir/words"
sed 's/\t.*/\tzebra/' "$dir/d.tsv" >"$dir/word.tsv"
(printf 'text\tlabel\textra\n' && sed 's/$/\tyes/' "$dir/t.tsv") >"$dir/h.tsv"
tr '\t' ';' <"$dir/t.tsv" | sed 's/;.*;/ /' >"$dir/semicolon.csv"
for f in config.json model.safetensors; do ln -s "$root/$model/$f" "$dir/bare/$f"; done
made() {
    python3 tests/support/tiny_t5x.py "$dir/tiny" &&
        python3 tests/support/mini_archives.py "$dir/mini" 8 &&
        "$spt" data prepare glue/sst2 --from "$dir/mini/dl.fbaipublicfiles.com/glue/data/SST-2.zip" --no-verify \
            --out "$dir/tfds" --quiet &&
        "$spt" init --model $model --length 4 --seed 1 --out "$dir/p.npy" --quiet &&
        "$spt" init --model $model --length 4 --seed 2 --init vocab --out "$dir/q.npy" --quiet &&
        "$spt" train --model $model --train "$dir/t.tsv" --eval "$dir/d.tsv" --length 4 --steps 2 --batch 4 --seed 1 \
            --out "$dir/run" --quiet &&
        "$spt" eval --model $model --data "$dir/d.tsv" --output "$dir/ev.jsonl" --quiet >/dev/null &&
        cp -r "$dir/run" "$dir/moved" && sed -i "s|'demo/t5-mini'|'nowhere'|" "$dir/moved/config.gin" &&
        cp -r $model "$dir"/{mini,tfds,t.tsv,d.tsv,p.npy,texts} "$dir/in/" && cp -r "$dir/tiny/checkpoint_100" "$dir/in/" &&
        cp "$dir/mini/dl.fbaipublicfiles.com/glue/data/SST-2.zip" "$dir" &&
        "$spt" sweep --model $model --train "$dir/t.tsv" --length 4 --steps 2 --batch 4 --seeds 1,2 --out "$dir/sweep" \
            --quiet >/dev/null &&
        "$spt" init --model "$dir/tiny/checkpoint_100" --vocab bytes --max-distance 16 --length 4 --seed 1 \
            --out "$dir/tiny.npy" --quiet &&
        "$spt" tokenize --model $model --quiet "$dir/texts" >"$dir/ids" &&
        "$spt" infer --model $model --prompt "$dir/p.npy" --max-output 6 --quiet "$dir/texts" | paste "$dir/texts" - >"$dir/said.tsv" &&
        make -s -C examples/plugin OUT="$dir/shout"
}
expect made made
python3 - "$dir" <<'P'
import pathlib, struct, sys
d = pathlib.Path(sys.argv[1])
# The rows of p.npy as an array of opaque 2-byte values, as numpy writes bfloat16.
data = (d / "p.npy").read_bytes()
n = struct.unpack_from("<H", data, 8)[0]
head = data[10:10 + n].replace(b"<f4", b"|V2")
rows = data[10 + n:]
(d / "v2.npy").write_bytes(data[:10] + head + b"".join(rows[i + 2:i + 4] for i in range(0, len(rows), 4)))
rows = (d / "d.tsv").read_text().splitlines()
(d / "which.tsv").write_text("text\tlabel\twhich\n" + "".join(f"{r}\t{'pq'[i % 2]}\n" for i, r in enumerate(rows)))
P
. tests/server/lib.sh
server_start --files "$dir/in" --bucket in="$dir/in" --empty-bucket out
export STORAGE_EMULATOR_HOST=http://127.0.0.1:$port
python3 tests/cli/options.py "$spt" "$dir" "$port" "$@" || fails=1
python3 - "$spt" <<'P'
import re, subprocess, sys
spt = sys.argv[1]
run = lambda *a: subprocess.run([spt, *a], capture_output=True, text=True, stdin=subprocess.DEVNULL)
fails = known = 0
commands = re.findall(r"^  ([a-z-]+)  +\S", run("help").stdout.split("Concepts")[0], re.M)
for c in commands:
    wrong = []
    for o, rest in re.findall(r"^  --([a-z0-9-]+)(.*)", run("help", c).stdout.split(f"\n{c}: ")[0], re.M):
        value = re.match(r" (\S+)", rest)
        if value and value[1].startswith("["):
            continue  # the value may be left out
        # an argument in front, so that what is missing is the option's value
        r = run(c, f"--{o}") if value else run(c, f"--{o}=maybe")
        words = f"--{o} wants a value" if value else f'--{o}: "maybe" is none of yes|no'
        known += 1
        if r.returncode != 2 or words not in r.stderr or r.stdout:
            wrong.append(f"--{o}: exit {r.returncode}, {r.stderr.strip()[:100]!r}")
    r = run(c, "--no-such-option", "x")
    if r.returncode != 2 or "--no-such-option" not in r.stderr:
        wrong.append(f"an unknown option: exit {r.returncode}, {r.stderr.strip()[:100]!r}")
    fails += bool(wrong)
    print(f"{'not ok' if wrong else 'ok'} {c}")
    for w in wrong:
        print("  " + w)
ok = known > 450 and len(commands) >= 21
print(f"{'ok' if ok else 'not ok'} {known}_options_of_{len(commands)}_commands")
sys.exit(fails > 0 or not ok)
P
[ $? -eq 0 ] || fails=1
finish
