#!/usr/bin/env bash
# spt cache: what counts as a cache, bad directories and rows, and what killed commands leave.
. tests/support/checks.sh
cd "$dir" || exit 1
printf 'text\tlabel\nbad film\t0\ngood one\t1\nso so\t0\n' >small.tsv
printf 'text\tlabel\nbad film\t0\ngood one\t7\n' >wrong.tsv
awk 'BEGIN { print "text\tlabel"; for (i = 0; i < 300000; i++) print "row number " i "\t" i % 2 }' >big.tsv
cat >tasks.gin <<'G'
spt.Task:
  input = 'review: {text}'
  target = '{label}'
  words = {'0': 'negative', '1': 'positive'}
  labels = ['negative', 'positive']
small/spt.Task.train = 'small.tsv'
small/spt.Task.validation = 'small.tsv'
wrong/spt.Task.train = 'wrong.tsv'
big/spt.Task.train = 'big.tsv'
away/spt.Task.train = 'away.tsv'
both/spt.Mixture.tasks = ['small', 'big']
G
cache() { # OUT TASK OPTION...
    local out=$1 task=$2
    shift 2
    "$spt" cache "$task" --vocab bytes --out "$out" --gin_file=tasks.gin "$@" 2>"$task.err"
}
same() { diff -r "$1" "$2" >diff.err; }
refused() { # NAME EXIT-CODE TEXT FILE-OF-STDERR STATUS
    expect "$1" test "$5" -eq "$2" -a -n "$(grep -F -- "$3" "$4")"
}

cache clean small --shards 2
expect writes test $? -eq 0 -a -f clean/small/COMPLETED -a -f clean/small/info.train.json -a \
    -f clean/small/validation.tfrecord-00001-of-00002
cp -r clean before
cache clean small --shards 3
expect complete_is_kept test $? -eq 0 -a -n "$(grep 'complete already' small.err)"
expect complete_is_untouched same before clean

# --- bad requests and directories ------------------------------------------------------------------
touch file
cache file small; refused root_is_a_file 5 'file' small.err $?
cache file/below small; refused below_a_file 5 'file' small.err $?
cache /proc/caches small; refused cannot_be_made 5 '/proc/caches' small.err $?
cache x nothing; refused unknown_task 3 "no task or mixture is named 'nothing'" nothing.err $?
cache x away; refused absent_file 5 'away.tsv' away.err $?
cache x wrong; refused wrong_row 4 "wrong.tsv: line 3: the target '7' is none of the 2 labels" wrong.err $?
expect wrong_row_completes_nothing test ! -e x/wrong/COMPLETED
cache x small --splits train,dev; refused unknown_split 3 "no split 'dev'" small.err $?
cache x small --splits 'train[:1]'; refused slice 2 'whole splits' small.err $?
cache x pr:glue_sst2_v200_test_rc
refused rank_task 3 'cannot be cached' pr:glue_sst2_v200_test_rc.err $?
SPT_OFFLINE=1 cache x glue_sst2_v200_examples --tfds_data_dir=.
refused absent_data_set 5 'needs data set glue/sst2:2.0.0' glue_sst2_v200_examples.err $?
"$spt" cache small --vocab bytes --gin_file=tasks.gin 2>out.err; refused no_out 2 '--out' out.err $?
"$spt" cache small --out x --gin_file=tasks.gin 2>vocab.err; refused no_vocab 2 '--vocab' vocab.err $?
"$spt" cache --vocab bytes --out x --gin_file=tasks.gin 2>task.err; refused no_task 2 'which task' task.err $?

# --- half of a cache ---------------------------------------------------------------------------------
mkdir -p half/small
head -c 10 clean/small/train.tfrecord-00000-of-00002 >half/small/train.tfrecord-00000-of-00002
echo stale >half/small/train.tfrecord-00006-of-00064
echo '{"num_shards": 64}' >half/small/info.train.json
echo half >half/small/stats.train.json.tmp-0123456789abcdef
echo mine >half/small/notes.txt
cache half small --shards 2
expect half_is_made_again test $? -eq 0 -a -n "$(grep 'interrupted command left' small.err)"
expect foreign_files_stay test "$(cat half/small/notes.txt)" = mine
rm half/small/notes.txt
expect half_becomes_the_same same clean half

# --- killed, interrupted, two at once --------------------------------------------------------------
cache whole big --shards 4
expect big_writes test $? -eq 0
for wait in 0.02 0.1 0.3; do
    "$spt" cache big --vocab bytes --out killed --gin_file=tasks.gin --shards 4 2>killed.err &
    job=$!
    sleep $wait
    kill -9 $job 2>/dev/null
    wait $job 2>/dev/null
    [ -e killed/big/COMPLETED ] && echo "# it was done after $wait s"
done
cache killed big --shards 4
expect killed_becomes_the_same same whole killed
"$spt" cache big --vocab bytes --out stopped --gin_file=tasks.gin --shards 4 2>stopped.err &
job=$!
for _ in $(seq 500); do
    ls stopped/big/*.tmp-* >/dev/null 2>&1 && break
    sleep 0.01
done
kill -TERM $job
wait $job
refused stopped 75 'will be made again' stopped.err $?
expect stopped_leaves_no_temporaries test -z "$(ls stopped/big)"
mkdir -p locked/small
flock locked/small "$spt" cache small --vocab bytes --out locked --gin_file=tasks.gin 2>locked.err
refused two_writers 3 'another command is writing this cache' locked.err $?
cache mixed both --shards 2
expect mixture_caches_its_tasks test -f mixed/small/COMPLETED -a -f mixed/big/COMPLETED
finish
