#!/usr/bin/env bash
# examples/plugin: built without a library of ours, loaded, its task cached, its task and initialiser
# trained with; and what shared objects that are no such plug-ins are told.
. tests/support/checks.sh
cc=${CC:-cc}
cp -r examples/plugin/shout "$dir/shout"
make -s -C examples/plugin CC="$cc" OUT="$dir/shout" >"$dir/make.err" 2>&1
expect builds test -f "$dir/shout/shout.so"
expect needs_no_library_of_ours bash -c '! nm -D --undefined-only "$1" | grep -q " spt_"' _ "$dir/shout/shout.so"
cd "$dir" || exit 1
plugin="--plugin shout/shout.so"
gin="--gin_search_paths=. --gin_file=shout/configs/corpus.gin"
export SPT_CONFIGS=$root/configs

# --- its tasks, cached -----------------------------------------------------------------------------
$spt cache shout_both shout_builtin --vocab bytes --out caches --shards 1 $plugin $gin 2>cache.err
expect caches test -f caches/shout_demo/COMPLETED -a -f caches/shout_plain/COMPLETED -a \
    -f caches/shout_builtin/COMPLETED
expect preprocessor_ran test "$(grep -a -c 'shout: ' caches/shout_demo/train.tfrecord-00000-of-00001)" -gt 0 \
    -a "$(grep -o '"examples": [0-9]*' caches/shout_demo/stats.train.json)" = '"examples": 12'
expect templates_ran grep -a -q 'is this loud: GO AWAY! NOW!' caches/shout_plain/train.tfrecord-00000-of-00001
expect plugin_is_named grep -q 'plug-in shout 1.0' cache.err

expect module_is_found test "$($spt find-module shout $plugin 2>find.err)" = . -a \
    "$(cd shout && $spt find-module shout --plugin shout.so 2>find.err)" = .. -a \
    "$($spt find-module shout --plugin "$dir/shout/shout.so" 2>find.err)" = "$dir"
expect tasks_are_listed test "$($spt tasks shout_ $plugin $gin 2>list.err | cut -f 1 | xargs)" = \
    'shout_builtin shout_demo shout_plain shout_both'
expect tasks_are_shown test "$($spt tasks show shout_demo --n 2 --vocab bytes $plugin $gin 2>show.err |
    grep -c '"inputs_pretokenized": "shout: ')" = 2

# --- refusals -----------------------------------------------------------------------------------------
refused() { # NAME EXIT-CODE TEXT OPTION...
    local name=$1 code=$2 text=$3
    shift 3
    $spt cache shout_demo --vocab bytes --out refused "$@" 2>"$name.err"
    local got=$?
    expect "$name" test $got -eq "$code" -a -n "$(grep -F -- "$text" "$name.err")"
}
object() { # NAME: C text from standard input
    $cc -shared -fPIC -I"$root/include" -o "$1.so" -x c - 2>"$1.cc.err" || cat "$1.cc.err"
}
object empty <<<'int nothing;'
object old <<'C'
#include <spt/plugin.h>
static spt_status init(const spt_plugin_host *h, spt_plugin_self *s, spt_err *e) { __builtin_trap(); }
SPT_PLUGIN_EXPORT const spt_plugin spt_plugin_entry = {SPT_PLUGIN_ABI + 7, sizeof(spt_plugin), "old", "1", init, 0};
C
object failing <<'C'
#include <spt/plugin.h>
static spt_status init(const spt_plugin_host *h, spt_plugin_self *s, spt_err *e)
{
    return h->fail(e, SPT_E_CONFIG, "the %s is missing", "licence");
}
SPT_PLUGIN("failing", "1", init)
C
object silent <<'C'
#include <spt/plugin.h>
static spt_status init(const spt_plugin_host *h, spt_plugin_self *s, spt_err *e) { return SPT_E_IO; }
SPT_PLUGIN("silent", "1", init)
C
object nameless <<'C'
#include <spt/plugin.h>
static spt_status init(const spt_plugin_host *h, spt_plugin_self *s, spt_err *e) { return SPT_OK; }
SPT_PLUGIN("two words", "1", init)
C
object foreign <<'C'
#include <spt/plugin.h>
static spt_status m(void *c, const spt_plugin_host *h, const spt_value *t, const spt_value *a, size_t n,
                    spt_scores *to, spt_err *e) { return SPT_OK; }
static spt_status init(const spt_plugin_host *h, spt_plugin_self *s, spt_err *e)
{
    return h->add_metric(s, "shout.theirs", m, 0, e);
}
SPT_PLUGIN("foreign", "1", init)
C
object clash <<'C'
#include <spt/plugin.h>
static spt_status init(const spt_plugin_host *h, spt_plugin_self *s, spt_err *e)
{
    static const char *const train[] = {"train"}, *const file[] = {"x.tsv"};
    const spt_plugin_task t = {.size = sizeof t, .name = "glue_cola_v002", .split = train, .file = file,
                               .splits = 1, .input = "{1}", .target = "{2}"};
    return h->add_task(s, &t, e);
}
SPT_PLUGIN("clash", "1", init)
C
echo 'no shared object' >text.so
head -c 300 shout/shout.so >cut.so
refused absent 5 'nowhere.so' --plugin nowhere.so
refused no_object 4 'cannot be loaded' --plugin text.so
refused half_a_file 4 'cannot be loaded' --plugin cut.so
refused a_directory 4 'is no file' --plugin shout
refused no_symbol 4 'the symbol spt_plugin_entry is missing' --plugin empty.so
refused other_abi 4 'built for plug-in ABI 8, this spt has ABI 1' --plugin old.so
refused failing_init 3 'its init failed: the licence is missing' --plugin failing.so
refused silent_init 5 'its init failed: input/output error' --plugin silent.so
refused bad_name 4 'letters, digits and underscores' --plugin nameless.so
refused names_of_others 3 "must be 'foreign.' and a word" --plugin foreign.so
refused taken_task_name 3 "named 'glue_cola_v002' exists already" --plugin clash.so
refused loaded_twice 3 'was loaded already' $plugin $plugin $gin
refused without_plugin 3 'load that with --plugin FILE.so' $gin
expect nothing_was_written test ! -e refused
printf 'spt.plugin = "shout/shout.so"\n' >from_gin.gin
$spt cache shout_builtin --vocab bytes --out refused --gin_file=from_gin.gin 2>from_gin.err
expect never_from_gin test $? -ne 0 -a ! -e refused
echo 'shout.ramp.scael = 1' >typo.gin
$spt cache shout_builtin --vocab bytes --out refused $plugin --gin_file=typo.gin 2>typo.err
expect wrong_parameter test $? -eq 3 -a -n "$(grep scael typo.err)"

# --- plain options -----------------------------------------------------------------------------------
ln -s "$root/demo/t5-mini" model
plain() { # OUT OPTION...
    local to=$1
    shift
    $spt train $plugin --model model --train shout/data/train.tsv --eval shout/data/validation.tsv --out "$to" \
        --labels quiet,loud --steps 2 --batch 4 --length 3 --seed 1 --quiet "$@" 2>>plain.err
}
plain coded --init shout.ramp --gin.shout.ramp.scale=0.75 --preprocess shout.pairs --metric shout.agreement \
    --postprocess shout.loudness
expect plain_training test $? -eq 0
$spt init $plugin --model model --init shout.ramp --gin.shout.ramp.scale=0.75 --length 3 --out ramp.npy --quiet 2>init.err
expect plain_initialiser python3 - <<'PY'
import struct
rows = struct.unpack("<768f", open("ramp.npy", "rb").read()[-4 * 768:])
assert max(abs(a - 0.75 * (2 * i / 767 - 1)) for i, a in enumerate(rows)) < 1e-6, rows[:4]
PY
expect plain_metric_is_logged grep -q '"agreement": [0-9.]*, "no_label": 0,' coded/eval.jsonl
expect plain_best_is_by_it grep -q '"metric": "shout.agreement"' coded/best.json
expect plain_config_has_all_of_it test "$(grep -c 'shout' coded/config.gin)" -ge 5
$spt train $plugin --gin_file coded/config.gin --out again --quiet 2>again.err
expect plain_config_gives_it_back cmp coded/prompt-2.safetensors again/prompt-2.safetensors
$spt train --gin_file coded/config.gin --out never --quiet 2>never.err
expect plain_config_wants_the_plugin test $? -eq 3 -a ! -e never -a -n "$(grep -e '--plugin FILE.so' never.err)"
$spt eval $plugin --model model --prompt coded --data shout/data/validation.tsv --preprocess shout.pairs \
    --metric shout.agreement --postprocess shout.loudness --json >eval.json 2>eval.err
expect plain_evaluation grep -q '"agreement": [0-9.]*, "no_label": 0[,.]' eval.json
# One example per sentence, not per row.
expect plain_preprocessor_ran python3 - <<'PY'
import json, re
rows = [l.split("\t")[0] for l in open("shout/data/validation.tsv").read().splitlines()[1:]]
sentences = sum(len([p for p in re.findall("[^.!?]+[.!?]?", r) if p.strip()]) for r in rows)
assert json.load(open("eval.json"))["examples"] == sentences, sentences
PY
told() { # NAME EXIT-CODE TEXT OPTION...
    local name=$1 code=$2 text=$3
    shift 3
    $spt train --model model --train shout/data/train.tsv --out refused --steps 1 "$@" 2>"$name.err"
    local got=$?
    expect "$name" test $got -eq "$code" -a -n "$(grep -F -- "$text" "$name.err")" -a ! -e refused
}
told plain_unknown_initialiser 3 'shout.slope: no plug-in that is loaded' $plugin --init shout.slope
told plain_initialiser_without_plugin 3 '--plugin FILE.so' --init shout.ramp
told plain_unknown_metric 3 '--metric shout.x' $plugin --metric shout.x --eval shout/data/validation.tsv
told plain_wrong_parameter 3 'scale must be a number above 0' $plugin --init shout.ramp --gin.shout.ramp.scale=-1
told plain_two_makers 2 'do not go together' $plugin --preprocess shout.pairs --input '{text}'

# --- the reference's training with its task, metric and initialiser -------------------------------
shared=${SPT_SHARED:-$root/../shared}
recorded=${SPT_GOLDEN:-$shared/golden}/run_of_reference/train_run/config.gin
if [ -f "$recorded" ] && [ -d "$shared/data/upstream" ]; then
    ln -s "$(realpath "$shared")/data/upstream" upstream
    grep -v sst_local "$recorded" >run.gin
    train() { # MODEL_DIR OPTION...
        local to=$1
        shift
        $spt train $plugin $gin --gin_file=run.gin --gin_file=shout/configs/ramp.gin \
            --gin.MODEL_DIR="'$to'" --gin.TRAIN_STEPS=5 --quiet "$@" 2>>train.err
    }
    train run --gin.MIXTURE_OR_TASK_NAME="'shout_both'"
    expect trains test $? -eq 0 -a -d run/checkpoint_5
    expect initialiser_ran python3 - <<'PY'
import struct
data = open("run/numpy_checkpoints/checkpoint_3/encoder.prompt.prompt.prompt", "rb").read()
at = 10 + struct.unpack_from("<H", data, 8)[0]
rows = struct.unpack("<20f", data[at:])
want = [0.25 * (2 * i / 19 - 1) for i in range(20)]
assert max(abs(a - b) for a, b in zip(rows, want)) < 1e-6, rows
PY
    expect metrics_ran grep -q '"agreement": 0.0, "no_label": 100.0' run/inference_eval/shout_demo-metrics.jsonl
    train cached --gin.MIXTURE_OR_TASK_NAME="'shout_plain'" --gin.USE_CACHED_TASKS=True \
        --seqio_additional_cache_dirs="$dir/t5caches"
    expect cache_is_demanded test $? -ne 0 -a -n "$(grep 'no offline cache' train.err)"
    vocab=$(sed -n "s/.*sentencepiece_model_file = '\(.*\)'/\1/p" run.gin)
    $spt cache shout_plain --vocab "$vocab" --out t5caches --shards 1 $plugin $gin --quiet
    train cached --gin.MIXTURE_OR_TASK_NAME="'shout_plain'" --gin.USE_CACHED_TASKS=True \
        --seqio_additional_cache_dirs="$dir/t5caches"
    expect trains_from_cache test $? -eq 0 -a -d cached/checkpoint_5
    train direct --gin.MIXTURE_OR_TASK_NAME="'shout_plain'"
    expect cache_gives_the_same_bits cmp {cached,direct}/numpy_checkpoints/checkpoint_5/encoder.prompt.prompt.prompt
    train absent --gin.MIXTURE_OR_TASK_NAME="'shout_nothing'"
    expect unknown_task_is_told test $? -eq 3
fi
finish
