#!/usr/bin/env bash
# Field case 09: two sets of weights in one directory; Git LFS pointers.
. tests/field/lib.sh
fixture 09
want=$dir/09/expected.json
for d in single_and_stale_index single_and_shards stray_shard shard_has_extra bin_is_a_pointer; do
    score_as $d "$dir/09/$d" "$want" "every directory but the last" 5e-5r
    told ${d}_is_named 'weights taken from model.safetensors'
done
S() { "$spt" score --model "$dir/09/$1" --data $fields/common/pairs.tsv; }
check single_over_stale_index 0 'taken from model.safetensors; not used: model.safetensors.index.json' S single_and_stale_index
check single_over_shards 0 'taken from model.safetensors; not used: model.safetensors.index.json' S single_and_shards
check index_is_named 0 'taken from model.safetensors.index.json' S stray_shard
refused only_a_pointer 4 'model.safetensors: .*Git LFS pointer.*not downloaded' S only_a_pointer

# Its kind: the pointer as a shard, as pytorch_model.bin, as vocabulary, as prompt, as data.
ptr=$dir/09/only_a_pointer/model.safetensors
cp -r "$dir/09/stray_shard" "$dir/09/shard_pointer"
cp "$ptr" "$dir/09/shard_pointer/model-00002-of-00002.safetensors"
refused shard_is_a_pointer 4 'model-00002-of-00002.safetensors: .*Git LFS pointer' S shard_pointer
cp -r "$dir/09/bin_is_a_pointer" "$dir/09/only_bin"
rm "$dir/09/only_bin/model.safetensors"
refused bin_is_a_pointer_alone 4 'pytorch_model.bin: .*Git LFS pointer' S only_bin
cp -r "$dir/09/single_and_shards" "$dir/09/vocab_pointer"
cp "$ptr" "$dir/09/vocab_pointer/spiece.model"
refused vocabulary_is_a_pointer 4 'spiece.model.*Git LFS pointer' S vocab_pointer
cp "$ptr" "$dir/p.npy"
refused prompt_is_a_pointer 4 'p.npy.*Git LFS pointer' "$spt" eval --model $model --prompt "$dir/p.npy" --data $desk/dev.tsv
cp "$ptr" "$dir/d.tsv"
refused data_is_a_pointer 4 'd.tsv.*Git LFS pointer' train --train "$dir/d.tsv" --out "$dir/run"
# A missing shard is named; a shard that lacks a tensor, too.
cp -r "$dir/09/stray_shard" "$dir/09/lost_shard"
rm "$dir/09/lost_shard/model-00001-of-00002.safetensors"
check shard_missing 5 'model-00001-of-00002.safetensors' S lost_shard
cp -r "$dir/09/stray_shard" "$dir/09/swapped"
cp "$dir/09/swapped/model-00001-of-00002.safetensors" "$dir/09/swapped/model-00002-of-00002.safetensors"
refused shard_lacks_a_tensor 4 'model-00002-of-00002.safetensors' S swapped
finish
