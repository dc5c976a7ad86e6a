#!/usr/bin/env bash
# From nothing to an answer: builds spt, trains a soft prompt of 20 rows on the embedded demo (a tiny
# frozen T5 and 480 customer messages for six desks), shows accuracy before and after, and routes
# five new messages. Under five minutes on two cores.
set -eu
cd "$(dirname "$0")"
tools/install-packages
make -j"$(nproc)" all
spt=build/release/spt
run=$(mktemp -d "${TMPDIR:-/tmp}/spt-quickstart-XXXXXX")
trap 'rm -rf "$run"' EXIT
model=demo/t5-mini data=demo/desk

accuracy() { "$spt" eval --model $model --data $data/test.tsv --json --quiet "$@" |
    sed -n 's/.*"accuracy": \([0-9]*\.[0-9]\{0,2\}\).*/\1/p'; }

echo
echo "== before: the frozen model without a prompt, and with a random one"
labels=billing,delivery,account,product,cancel,praise
none=$(accuracy --labels $labels)
"$spt" init --model $model --length 20 --init uniform --seed 1 --out "$run/random.safetensors" --quiet
random=$(accuracy --labels $labels --prompt "$run/random.safetensors")
echo "accuracy on $data/test.tsv in percent: no prompt $none, random prompt $random"

echo
echo "== training"
"$spt" train --model $model --train $data/train.tsv --eval $data/dev.tsv --out "$run/desk" \
    --length 20 --steps 360 --eval-every 30 --seed 1

echo
echo "== after"
after=$(accuracy --prompt "$run/desk")
echo "accuracy on $data/test.tsv in percent: no prompt $none, random prompt $random, trained prompt $after"

echo
echo "== five new messages"
printf '%s\n' \
    'I was charged twice for the same order last week.' \
    'The parcel says delivered but nothing is at my door.' \
    'I forgot my password and the reset mail never comes.' \
    'Does the tent have room for four people?' \
    'You people are wonderful, the kids love the swing!' >"$run/messages.txt"
"$spt" infer --model $model --prompt "$run/desk" --quiet "$run/messages.txt" |
    paste - "$run/messages.txt" | sed 's/^/  /'
ls -l "$run/desk"/best* "$run/desk"/prompt-*.safetensors | sed "s|$run/||" | awk '{print "  " $5 " bytes  " $9}'
