#!/usr/bin/env bash
# Decoding, scoring, several prompts, and the reference's outputs, on the command line.
. tests/support/checks.sh
report() { # NAME, then its exit status
    if [ "$2" -eq 0 ]; then ok "$1"; else bad "$1"; fi
}
# refused NAME EXIT_CODE PATTERN OPTIONS...: infer says why, and reads no weights.
refused() {
    local name=$1 want=$2 pattern=$3
    shift 3
    "$spt" infer --model $model --data "$dir/some.tsv" "$@" >"$dir/out" 2>"$dir/err"
    local rc=$?
    [ $rc -eq "$want" ] && grep -qE -- "$pattern" "$dir/err" && [ ! -s "$dir/out" ]
    local ok=$?
    [ $ok -eq 0 ] || sed "s/^/  exit $rc: /" "$dir/err"
    report "$name" $ok
}
# json NAME FILE CONDITION: over the list d of the file's lines.
json() {
    python3 - "$2" "$3" <<'EOF'
import json, math, sys
d = [json.loads(line) for line in open(sys.argv[1])]
sys.exit(0 if eval(sys.argv[2]) else 1)
EOF
    local ok=$?
    [ $ok -eq 0 ] || head -3 "$2"
    report "$1" $ok
}
model=demo/t5-mini desk=demo/desk
head -12 $desk/dev.tsv >"$dir/some.tsv"
train() { # NAME LENGTH SEED
    "$spt" train --model $model --train $desk/train.tsv --length "$2" --steps 12 --batch 16 --seed "$3" \
        --out "$dir/$1" --quiet 2>"$dir/err" || cat "$dir/err"
}
train a 4 1
train b 4 2
train c 7 3
infer() { "$spt" infer --model $model --prompt "$dir/a" --data "$dir/some.tsv" --quiet --max-output 6 "$@"; }

# --- refusals -----------------------------------------------------------------------------------
refused top_p_zero 3 'top-p' --top-p 0
refused negative_temperature 2 'temperature' --temperature -1
refused max_output_zero 2 'max-output' --max-output 0
refused beams_beyond_vocabulary 2 'beams' --beams 5000
refused n_best_beyond_beams 3 'beams' --beams 2 --n-best 3
refused beams_with_greedy 2 'means nothing' --decode greedy --beams 2
refused prefix_with_beam_hf 2 'means nothing' --decode beam-hf --force-prefix x
refused prefix_too_long 3 'force-prefix has' --force-prefix 'one two three four' --max-output 3
refused out_and_output 2 'one of them' --out "$dir/o" --output "$dir/p"
refused score_without_search 2 'decodes nothing' --mode score --beams 2
refused bad_shard 2 'shard' --out "$dir/o" --shard 2/2
python3 - "$dir" <<'EOF'
import struct, sys
def npy(path, rows, width):
    h = "{'descr': '<f4', 'fortran_order': False, 'shape': (%d, %d), }" % (rows, width)
    h = h.ljust(117) + "\n"
    open(path, "wb").write(b"\x93NUMPY\x01\x00" + struct.pack("<H", 118) + h.encode() + b"\0\0\x80?" * (rows * width))
npy(sys.argv[1] + "/good.npy", 3, 256)
npy(sys.argv[1] + "/wide.npy", 3, 257)
EOF
refused wrong_width_in_a_list 4 'wide.npy.*257' --labels billing,praise --prompts "$dir/good.npy,$dir/wide.npy,$dir/a"
long=$(printf 'word %.0s' $(seq 40))
printf '%s\tbilling\n' "$long" >"$dir/long.tsv"
"$spt" convert "$dir/a" "$dir/a.npy" --quiet 2>/dev/null # names no length, so that only the cut is strange
"$spt" infer --model $model --prompt "$dir/a.npy" --labels billing,praise --data "$dir/long.tsv" --max-input 20 --strict >"$dir/out" 2>"$dir/err"
[ $? -eq 1 ] && grep -q 'line 1.*--max-input 20' "$dir/err" && [ ! -s "$dir/out" ]
report strict_refuses_long_inputs $?
"$spt" infer --model $model --prompt "$dir/a" --data "$dir/long.tsv" --max-input 20 --quiet >"$dir/out" 2>"$dir/err"
[ $? -eq 0 ] && grep -q '1 inputs were cut' "$dir/err"
report long_inputs_are_cut_and_counted $?

# --- searches -------------------------------------------------------------------------------------
infer --json --decode greedy --ids >"$dir/greedy"
infer --json --beams 1 >"$dir/beam1"
infer --json --beams 4 --n-best 4 >"$dir/beam4"
infer --json --decode beam-hf --n-best 3 --length-penalty 0 >"$dir/hf"
infer --json --samples 3 --seed 7 --temperature 1.5 >"$dir/sample"
infer --json --decode sample-t5x --samples 3 --top-k 20 --batch 4 >"$dir/sample-t5x"
json greedy_json "$dir/greedy" 'len(d) == 12 and all(list(x)[:2] == ["inputs", "prediction"] and x["prediction_tokens"] and x["score"] <= 0 for x in d)'
json beam_keeps_order "$dir/beam4" 'all(len(x["predictions"]) == 4 and x["predictions"][0]["text"] == x["prediction"] and [p["score"] for p in x["predictions"]] == sorted((p["score"] for p in x["predictions"]), reverse=True) for x in d)'
json hf_without_penalty_scores_sums "$dir/hf" 'all(len(x["predictions"]) == 3 for x in d)'
json samples_are_there "$dir/sample" 'all(len(x["predictions"]) == 3 for x in d) and len({p["text"] for x in d for p in x["predictions"]}) > 3'
infer --json --samples 3 --seed 7 --temperature 1.5 --batch 5 --threads 1 >"$dir/sample2"
expect samples_do_not_depend_on_batches cmp "$dir/sample" "$dir/sample2"
infer --json --samples 3 --seed 8 --temperature 1.5 >"$dir/sample3"
expect another_seed_another_sample bash -c "! cmp -s '$dir/sample' '$dir/sample3'"
infer --json --decode sample-t5x --samples 3 --top-k 20 --batch 4 --threads 1 >"$dir/sample-t5x2"
expect reference_sampling_repeats cmp "$dir/sample-t5x" "$dir/sample-t5x2"
infer --json --decode sample-t5x --samples 3 --top-k 20 --batch 6 >"$dir/sample-t5x3"
expect reference_sampling_draws_over_the_batch bash -c "! cmp -s '$dir/sample-t5x' '$dir/sample-t5x3'"
infer --decode greedy --force-prefix 'can' >"$dir/forced"
expect forced_prefix bash -c "! grep -vq '^can' '$dir/forced'"
infer --decode greedy --stop e >"$dir/stopped"
expect stop_text_is_cut_off bash -c "! grep -q e '$dir/stopped'"
printf 'e\nz\n' >"$dir/stops"
infer --decode greedy --stop "@$dir/stops" | cmp - "$dir/stopped"
report stop_texts_from_a_file $?
infer --json --decode greedy --min-length 4 --ids >"$dir/long"
json min_length "$dir/long" 'all(1 not in x["prediction_tokens"][:3] for x in d)'
infer --json --decode greedy --min-length 6 --no-repeat-ngram 1 --ids >"$dir/norepeat"
json no_repeat "$dir/norepeat" 'all(len(set(x["prediction_tokens"])) == len(x["prediction_tokens"]) for x in d)'
# A pad id that the model chose is part of the answer (ours); the reference's output_ids end before it.
infer --json --seed 2 --temperature 50 --samples 40 --max-output 16 --min-length 16 --ids >"$dir/pads"
json ids_are_all_of_the_answer "$dir/pads" 'all(len(p["ids"]) == p["tokens"] for x in d for p in x["predictions"]) and any(0 in p["ids"][:-1] for x in d for p in x["predictions"]) and all(x["prediction_tokens"] in [p["ids"] for p in x["predictions"]] for x in d)'
infer --mode predict --temperature 50 --samples 40 --max-output 16 --min-length 16 --ids >"$dir/pads-ref"
cat "$dir/pads" >>"$dir/pads-ref"
json reference_ids_end_before_a_pad "$dir/pads-ref" 'len(d) == 24 and all(0 not in x["prediction_tokens"] for x in d[:12])'

# --- score ------------------------------------------------------------------------------------------
score() { "$spt" score --model $model --prompt "$dir/a" --data "$dir/some.tsv" --quiet "$@"; }
score --rank >"$dir/score"
json score_keys "$dir/score" 'all(list(x)[:4] == ["inputs", "targets", "score", "tokens"] for x in d) and len(d) == 12'
json probabilities_are_a_softmax "$dir/score" 'all(abs(sum(l["probability"] for l in x["labels"].values()) - 1) < 1e-5 and all(abs(l["probability"] - math.exp(l["score"]) / sum(math.exp(m["score"]) for m in x["labels"].values())) < 1e-5 for l in x["labels"].values()) for x in d)'
json target_is_one_of_the_labels "$dir/score" 'all(abs(x["labels"][x["targets"]]["score"] - x["score"]) < 1e-4 for x in d)'
score --rank --length-normalize >"$dir/score-per-token"
json per_token_probabilities "$dir/score-per-token" 'all(x["prediction"] == max(x["labels"], key=lambda l: x["labels"][l]["per_token"]) for x in d)'
score --summary >"$dir/summary"
cat "$dir/score" >>"$dir/summary"
json perplexity "$dir/summary" 'd[0]["examples"] == 12 and abs(d[0]["perplexity"] - math.exp(-sum(x["score"] for x in d[1:]) / sum(x["tokens"] for x in d[1:]))) < 1e-4'

# --- several prompts ----------------------------------------------------------------------------------
for p in a b c; do
    "$spt" infer --model $model --prompt "$dir/$p" --data "$dir/some.tsv" --json --quiet >"$dir/alone-$p"
done
"$spt" infer --model $model --prompts "$dir/a,$dir/b,$dir/c" --data "$dir/some.tsv" --json --quiet >"$dir/all"
python3 - "$dir" <<'EOF'
import json, sys
dir = sys.argv[1]
alone = {p: open(f"{dir}/alone-{p}").read().splitlines() for p in "abc"}
lines = open(f"{dir}/all").read().splitlines()
assert len(lines) == 36
for i, line in enumerate(lines):
    x = json.loads(line)
    p = x.pop("prompt")
    assert p == f"{dir}/{'abc'[i % 3]}", p
    assert json.dumps(x) == json.dumps(json.loads(alone[p[-1]][i // 3])), (line, alone[p[-1]][i // 3])
EOF
report all_prompts_equal_single_runs $?
awk 'BEGIN { split("a b c", p, " "); print "text\tlabel\twhich" } { print $0 "\t" p[(NR * 7) % 3 + 1] }' "$dir/some.tsv" >"$dir/named.tsv"
"$spt" infer --model $model --prompts "$dir/a,$dir/b,$dir/c" --prompt-column which --data "$dir/named.tsv" --json --quiet >"$dir/named"
python3 - "$dir" <<'EOF'
import json, sys
dir = sys.argv[1]
alone = {p: [json.loads(l) for l in open(f"{dir}/alone-{p}")] for p in "abc"}
for i, line in enumerate(open(f"{dir}/named")):
    x = json.loads(line)
    p = "abc"[((i + 1) * 7) % 3]
    assert x.pop("prompt") == f"{dir}/{p}"
    assert x == alone[p][i], (x, alone[p][i])
assert i == 11
EOF
report a_column_names_the_prompt $?
sed 's/\ta$/\tzzz/' "$dir/named.tsv" >"$dir/unknown.tsv"
"$spt" infer --model $model --prompts "$dir/a,$dir/b,$dir/c" --prompt-column which --data "$dir/unknown.tsv" --quiet >"$dir/out" 2>"$dir/err"
[ $? -eq 4 ] && grep -q 'line .*zzz' "$dir/err"
report unknown_prompt_name $?
"$spt" eval --model $model --ensemble "$dir/a" "$dir/b" "$dir/c" --data $desk/dev.tsv --json --quiet --output "$dir/votes" >"$dir/ensemble"
for p in a b c; do
    "$spt" eval --model $model --prompt "$dir/$p" --data $desk/dev.tsv --json --quiet --output "$dir/votes-$p" >>"$dir/ensemble"
done
json members_equal_single_evaluations "$dir/ensemble" '[m["accuracy"] for m in d[0]["members"]] == [x["accuracy"] for x in d[1:]]'
python3 - "$dir" <<'EOF'
import collections, json, sys
dir = sys.argv[1]
rows = [[json.loads(l) for l in open(f"{dir}/votes-{p}")] for p in "abc"]
right = 0
for i, line in enumerate(open(f"{dir}/votes")):
    x = json.loads(line)
    said = [r[i]["prediction"] for r in rows]
    top = collections.Counter(said).most_common()
    n = top[0][1]
    mean = {k: sum(r[i]["scores"][k] for r in rows) / 3 for k in x["scores"]}
    assert all(abs(mean[k] - x["scores"][k]) < 1e-4 for k in mean)
    tied = [l for l, c in top if c == n]
    assert x["prediction"] == max(tied, key=lambda l: mean[l]), (x, said)
    assert abs(x["agreement"] - n / 3) < 1e-6
    right += x["prediction"] == x["target"]
figures = json.loads(open(f"{dir}/ensemble").readline())
assert abs(figures["accuracy"] - 100 * right / (i + 1)) < 1e-9
EOF
report votes_recomputed $?

# --- the reference's outputs ------------------------------------------------------------------------
infer --mode predict_with_aux >"$dir/aux"
json aux_lines "$dir/aux" 'all(list(x) == ["inputs", "prediction", "aux"] and list(x["inputs"]) == ["inputs_pretokenized", "targets_pretokenized"] and list(x["aux"]) == ["scores"] for x in d)'
out() { "$spt" infer --model $model --prompt "$dir/a" --data $desk/dev.tsv --quiet --max-output 6 --batch 8 --chunk 2 "$@"; }
out --out "$dir/whole"
final=dev-predict.jsonl-00000-of-00001
expect final_and_marker test -s "$dir/whole/$final" -a -e "$dir/whole/$final.COMPLETED" -a ! -e "$dir/whole/tmp-dev-predict-00000-of-00001"
out --mode predict >"$dir/stream"
expect chunks_equal_the_stream cmp "$dir/whole/$final" "$dir/stream"
for i in 0 1 2; do out --out "$dir/shards" --shard $i/3; done
python3 - "$dir" <<'EOF'
import sys
dir = sys.argv[1]
whole = open(f"{dir}/stream").read().splitlines()
for i in range(3):
    part = open(f"{dir}/shards/dev-predict.jsonl-{i:05d}-of-00003").read().splitlines()
    assert part == whole[i::3], i
EOF
report shards_split_the_data $?
mkdir -p "$dir/other/tmp-dev-predict-00000-of-00001"
echo other >"$dir/other/tmp-dev-predict-00000-of-00001/settings"
out --out "$dir/other" 2>"$dir/err"
[ $? -eq 3 ] && grep -q 'other settings' "$dir/err"
report another_runs_chunks_are_refused $?

# --- neighbours, report -------------------------------------------------------------------------------
"$spt" neighbors "$dir/a" --model $model --json --quiet --k 3 >"$dir/neighbors"
json neighbors_of_label_rows "$dir/neighbors" 'd[0]["rows"] == 4 and all(len(r["cosine"]) == 3 and len(r["l2"]) == 3 and r["drift"] > 0 for r in d[0]["neighbors"]) and "account" in d[0]["neighbors"][0]["cosine"][0]["piece"]'
"$spt" neighbors "$dir/a" --model $model --start "$dir/a" --json --quiet >"$dir/neighbors0"
json no_drift_from_itself "$dir/neighbors0" 'all(r["drift"] == 0 for r in d[0]["neighbors"])'
"$spt" neighbors "$dir/a" --model $model --html "$dir/n.html" --quiet
"$spt" train --model $model --train $desk/train.tsv --eval "$dir/some.tsv" --length 4 --steps 6 --eval-every 2 --batch 8 --seed 1 --out "$dir/run" --quiet
"$spt" report "$dir/run" --quiet
python3 - "$dir" <<'EOF'
import html.parser, sys
class Strict(html.parser.HTMLParser):
    void = {"meta", "link", "br"}
    optional = {"tr", "td", "th", "tbody", "thead", "p", "li"}
    def __init__(self):
        super().__init__()
        self.open, self.seen, self.refs = [], {}, []
    def handle_starttag(self, tag, attrs):
        self.seen[tag] = self.seen.get(tag, 0) + 1
        self.refs += [v for k, v in attrs if k in ("src", "href")]
        if tag not in self.void:
            self.open.append(tag)
    def handle_endtag(self, tag):
        while self.open and self.open[-1] != tag and self.open[-1] in self.optional:
            self.open.pop()
        assert self.open and self.open.pop() == tag, tag
for name, svgs in (("n.html", 3), ("run/report.html", 8)):
    text = open(f"{sys.argv[1]}/{name}").read()
    p = Strict()
    p.feed(text)
    assert not p.refs and "http" not in text.replace("http-equiv", ""), name
    assert p.seen["svg"] >= svgs, (name, p.seen)
    assert not p.open, p.open
assert "Confusion" in text and "Sample predictions" in text and "Settings" in text and "Curves" in text
EOF
report pages_are_whole_and_self_contained $?
mv "$dir/some.tsv" "$dir/gone.tsv"
"$spt" report "$dir/run" --out "$dir/short.html" --quiet 2>"$dir/err"
[ $? -eq 0 ] && grep -q 'no confusion' "$dir/err" && grep -q Curves "$dir/short.html" && ! grep -q Confusion "$dir/short.html"
report report_without_its_data $?

# --- the pipe and the bytes ---------------------------------------------------------------------------
cut -f1 $desk/train.tsv | "$spt" infer --model $model --prompt "$dir/a" --decode greedy --quiet 2>"$dir/err" | head -1 >/dev/null
[ "${PIPESTATUS[1]}" -eq 0 ] && [ ! -s "$dir/err" ]
report closed_pipe_is_quiet $?
printf 'caf\xe9 bill\n\xff\xfe\n' >"$dir/bytes"
"$spt" tokenize --model $model "$dir/bytes" 2>/dev/null >"$dir/ids"
printf '916:\xe2\x96\x81ca 498:f 2:<unk> 805:\xe2\x96\x81bill\n70:\xe2\x96\x81 2:<unk>\n' | cmp - "$dir/ids"
report invalid_utf8_as_sentencepiece_encodes_it $?
"$spt" infer --model $model --prompt "$dir/a" --json --quiet "$dir/bytes" >"$dir/out"
json invalid_utf8_is_answered "$dir/out" 'len(d) == 2 and d[0]["inputs"] == "caf\ufffd bill"'
finish
