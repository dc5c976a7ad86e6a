#!/usr/bin/env bash
# What is made of the tables: help, manual pages, completion scripts, `make install`.
. tests/support/checks.sh

# --- version, help -------------------------------------------------------------------------------
"$spt" --version --json >"$dir/version"
python3 - "$dir/version" "$("$spt" --version)" <<'P'
import json, sys
v = json.load(open(sys.argv[1]))
assert "spt " + v["version"] == sys.argv[2], v
assert set(v["libraries"]) >= {"onednn", "sentencepiece", "pcre2", "zlib", "xxhash", "libcurl", "openssl"}, v
assert all(x[0].isdigit() for x in v["libraries"].values()), v
assert v["isa"]["best"] in v["isa"]["available"] and "ref" in v["isa"]["available"], v
assert v["compute"]["types"] == ["float32", "bfloat16"] and isinstance(v["mpi"], bool), v
assert v["compiler"].split()[0] in ("gcc", "clang"), v
P
equal version_json $? 0
"$spt" help >"$dir/help"
for t in prompts init checkpoints gin tasks models data buckets machines environment; do
    "$spt" help $t >"$dir/topic" 2>&1 && [ "$(wc -c <"$dir/topic")" -gt 400 ] && grep -q "^  $t " "$dir/help"
    equal "topic_$t" $? 0
done
# Every variable that the program asks for is told, but those by which MPI's processes know their number.
"$spt" help environment >"$dir/topic"
unsaid=
for v in $(grep -rhoE '"(SPT|HF|GCE|CLOUDSDK|GOOGLE|STORAGE|SSL|CURL|TRANSFORMERS|HUGGING|NO_GCE|XDG|TFDS|TMP)[A-Z_0-9]+"' src | tr -d '"' | sort -u); do
    grep -qE "(^|[ ,(])$v([ =,.]|\$)" "$dir/topic" || unsaid="$unsaid $v"
done
equal every_variable_is_told "$unsaid" ""
"$spt" help nonsense >"$dir/out" 2>"$dir/err"
equal unknown_topic "$? $(cat "$dir/out" "$dir/err")" '2 spt: help: no command and no topic "nonsense" (see `spt help`)'

# --- manual --------------------------------------------------------------------------------------
"$spt" help --man >"$dir/pages"
commands=$(sed -n '/^Usage/,/^Concepts/s/^  \([a-z-]*\) .*/\1/p' "$dir/help")
missing=0
for c in $commands; do grep -qx "spt-$c.1" "$dir/pages" || missing=1; done
equal a_page_for_every_command $missing 0
mkdir -p "$dir/man"
while read -r page; do "$spt" help --man "$page" >"$dir/man/$page" || echo "not ok page_$page"; done <"$dir/pages"
# Every option of the help is in the page, and the other way round.
wrong=
for c in $commands; do
    "$spt" help "$c" | sed -n '/^Options/,/^$/s/^  --\([a-z0-9-]*\).*/\1/p' | sort >"$dir/a"
    sed -n 's/^\\fB\\-\\-\([a-z0-9\\-]*\)\\fR\( .*\)\?$/\1/p' "$dir/man/spt-$c.1" | sed 's/\\-/-/g' |
        grep -vxE 'gin_.*|tfds_data_dir|seqio_.*|multiprocess_gpu|coordinator_address|process_.*|initialization_timeout|shard_id|run_mode|dry_run|undefok' | sort >"$dir/b"
    cmp -s "$dir/a" "$dir/b" || wrong="$wrong $c"
done
equal pages_have_the_options "$wrong" ""
lint() { # NAME COMMAND...: no output for any page
    local name=$1 said=
    shift
    command -v "$1" >/dev/null || { echo "skip $name"; return; }
    for p in "$dir"/man/*; do said="$said$("$@" "$p" 2>&1 >/dev/null)"; done
    equal "$name" "$said" ""
}
lint man_warnings man --warnings -E UTF-8 -l
lint groff_warnings groff -man -Tutf8 -ww -z
mandoc_lint() { mandoc -Tlint -W warning "$1" >&2; }
if command -v mandoc >/dev/null; then lint mandoc_lint mandoc_lint; else echo "skip mandoc_lint"; fi

# --- completion ----------------------------------------------------------------------------------
"$spt" completion bash >"$dir/spt.bash"
"$spt" completion zsh >"$dir/_spt"
"$spt" completion fish >"$dir/spt.fish"
"$spt" completion tcsh >"$dir/out" 2>"$dir/err"
equal unknown_shell "$? $(cat "$dir/out")" "2 "
mkdir -p "$dir/bin" "$dir/files/sub"
ln -s "$(realpath "$spt")" "$dir/bin/spt"
touch "$dir/files/train.tsv" "$dir/files/with space.tsv"
# The words that bash offers, on one line: complete_bash WORD... (the last one is being typed).
complete_bash() {
    (cd "$dir/files" && PATH=$dir/bin:$PATH bash --norc -c '
        source "$1"; shift
        COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
        _spt 2>/dev/null
        printf "%s\n" "${COMPREPLY[@]}" | LC_ALL=C sort | paste -sd" "' - "$dir/spt.bash" "$@")
}
equal bash_commands "$(complete_bash spt t)" "tasks tokenize train"
equal bash_options "$(complete_bash spt train --micro)" "--micro-batch --micro-rows"
equal bash_choices "$(complete_bash spt train --optimizer "")" "adafactor adamw"
equal bash_choices_behind_equals "$(complete_bash spt train --init = t)" "text"
equal bash_equals_alone "$(complete_bash spt train --optimizer =)" "adafactor adamw"
equal bash_files "$(complete_bash spt train --train tr)" "train.tsv"
equal bash_names_with_spaces "$(complete_bash spt train --train w)" "with space.tsv"
equal bash_directories "$(complete_bash spt train --out "")" "sub"
equal bash_no_switches "$(complete_bash spt train --no-rem)" "--no-remat"
equal bash_own_name_begins_with_no "$(complete_bash spt data --no)" "--no-verify"
equal bash_own_name_needs_no_hint "$(complete_bash spt eval --no)" "--no-repeat-ngram"
equal bash_negated_where_it_means_something "$(complete_bash spt data --no-)" "--no-json --no-quiet --no-verify"
equal bash_isa "$(complete_bash spt train --isa avx)" "avx2 avx512"
equal bash_data_sets "$(complete_bash spt data prepare glue/s)" "glue/sst2 glue/stsb"
equal bash_tasks "$(complete_bash spt tasks show taskless_glue_sst2_v200_)" "taskless_glue_sst2_v200_examples"
for switch in no-no-verify no-offline; do
    "$spt" data list --$switch >"$dir/out" 2>"$dir/err"
    equal refused_$switch "$? $(grep -c "unknown option --$switch" "$dir/err")" "2 1"
done
equal bash_free_text "$(complete_bash spt train --lr "")" ""
equal bash_reference_flags "$(complete_bash spt train --gin_f)" "--gin_file"
equal bash_help_topics "$(complete_bash spt help che)" "check checkpoints"
equal bash_shells "$(complete_bash spt completion "")" "bash fish zsh"
snapshot=$dir/hub/models--org--t5/snapshots/0123456789012345678901234567890123456789
mkdir -p "$snapshot" "$dir/hub/models--org--t5/refs"
ln -s "$PWD"/demo/t5-mini/* "$snapshot"
printf %s "${snapshot##*/}" >"$dir/hub/models--org--t5/refs/main"
equal bash_models "$(HF_HUB_CACHE=$dir/hub complete_bash spt eval --model org)" "org/t5"
equal bash_actions "$(complete_bash spt tasks sh)" "show"
equal bash_arguments "$(complete_bash spt inspect tr)" "train.tsv"
# The whole way, as a person at a terminal: a word, two tabs.
if command -v zsh >/dev/null; then
    cat >"$dir/zsh.zsh" <<Z
zmodload zsh/zpty
zpty z 'PATH=$dir/bin:\$PATH zsh -f -i'
zpty -w z 'PS1=; fpath=($dir \$fpath); autoload -Uz compinit; compinit -u -D; cd $dir/files; LISTMAX=999; print READY'
zpty -r z out '*READY*READY*'
zpty -n -w z \$1\$'\t\t'
all=
for i in {1..100}; do
    while zpty -r -t z out; do all+=\$out; done
    [[ \$all == *\$2* ]] && break
    sleep 0.1
done
zpty -d z
print -r -- \$all
Z
    zsh_offers() { zsh -f "$dir/zsh.zsh" "$@" 2>&1 | tr -d '\r' | sed 's/\x1b\[[0-9;?]*[a-zA-Z]//g'; }
    for t in 'spt train --optimizer=|adamw' 'spt train --micro|--micro-rows' 'spt to|tokenize' \
        'spt completion |fish' 'spt train --train=tr|train.tsv' 'spt help checkp|checkpoints' 'spt tasks sh|show'; do
        zsh_offers "${t%|*}" "${t#*|}" >"$dir/out"
        expect "zsh_${t#*|}" grep -qF -- "${t#*|}" "$dir/out"
    done
else
    echo "skip zsh"
fi
if command -v fish >/dev/null; then
    fish_offers() { (cd "$dir/files" && HOME=$dir PATH=$dir/bin:$PATH fish --no-config -c "source $dir/spt.fish; complete -C '$1'" 2>&1 | cut -f1 | LC_ALL=C sort | paste -sd" "); }
    equal fish_commands "$(fish_offers 'spt t')" "tasks tokenize train"
    equal fish_choices "$(fish_offers 'spt train --optimizer ')" "adafactor adamw"
    equal fish_options "$(fish_offers 'spt train --micro')" "--micro-batch --micro-rows"
    equal fish_files "$(fish_offers 'spt train --train tr')" "train.tsv"
    equal fish_topics "$(fish_offers 'spt help checkp')" "checkpoints"
else
    echo "skip fish"
fi
finish
