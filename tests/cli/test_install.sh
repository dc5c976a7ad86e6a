#!/usr/bin/env bash
# The installed tree, in a place of its own: the program finds its demo, gin files and manual there.
. tests/support/checks.sh
build=${SPT_BUILD:?}
case $build in *san-*|*fuzz*|*cov*) echo "skip install"; exit 0 ;; esac
make -s --no-print-directory install VARIANT="$(basename "$build")" DESTDIR="$dir/stage" PREFIX=/opt/spt >"$dir/out" 2>&1
expect make_install test $? = 0
mv "$dir/stage/opt/spt" "$dir/elsewhere" # not where it was installed
mkdir -p "$dir/bin" "$dir/empty"
ln -s "$dir/elsewhere/bin/spt" "$dir/bin/spt" # and called through a link
share=$dir/elsewhere/share
for f in man/man1/spt.1 man/man1/spt-train.1 man/man7/spt-prompts.7 bash-completion/completions/spt \
    zsh/site-functions/_spt fish/vendor_completions.d/spt.fish spt/configs/t5x/configs/runs/finetune.gin \
    spt/demo/t5-mini/model.safetensors doc/spt/README.md doc/spt/docs/reference/gin.md spt/examples/sst2-demo.sh \
    spt/examples/plugin/shout/shout.c; do
    expect "installed_$(basename $f)" test -s "$share/$f"
done
command -v man >/dev/null && expect man_finds_it grep -q spt-train.1 <(MANPATH=$share/man man -w spt-train 2>/dev/null)
expect example_scripts_run test -x "$share/spt/examples/sst2-demo-eval.sh" -a ! -x "$share/spt/examples/plugin/shout/shout.c"
# Every file that help speaks of is there.
spoken=$(cd "$dir/empty" && PATH=$dir/bin:$PATH && { for t in $(spt help | sed -n 's/^  \([a-z-]*\) .*/\1/p'); do spt help "$t"; done; } |
    grep -oE '(docs|examples)/[a-zA-Z0-9_/.-]*[a-z]' | sort -u)
absent=
for f in $spoken; do [ -e "$share/doc/spt/$f" ] || [ -e "$share/spt/$f" ] || absent="$absent $f"; done
expect files_of_the_help_are_installed test -n "$spoken" -a -z "$absent"
make -s -C "$share/spt/examples/plugin" INCLUDE="$dir/elsewhere/include" OUT="$dir/plug" >"$dir/out" 2>&1
expect installed_plugin_builds test -s "$dir/plug/shout.so"
where=$(cd "$dir/empty" && PATH=$dir/bin:$PATH spt find-module prompt_tuning 2>&1)
expect gin_files_found test "$where" = "$share/spt/configs"
(cd "$dir/empty" && TMPDIR=$dir/empty PATH=$dir/bin:$PATH spt demo --steps 2 >"$dir/demo" 2>"$dir/story")
expect demo test $? = 0
expect demo_before grep -qE 'no prompt [0-9]+\.[0-9]+, random prompt [0-9.]+$' "$dir/demo"
expect demo_after grep -qE 'random prompt [0-9.]+, trained prompt [0-9.]+$' "$dir/demo"
expect demo_answers test "$(grep -cE '^  (billing|delivery|account|product|cancel|praise) +[A-Z]' "$dir/demo")" = 5
expect demo_shows_commands test "$(grep -c '^\$ spt ' "$dir/demo")" = 4
expect demo_uses_its_own_tree grep -q "spt train --model $share/spt/demo/t5-mini" "$dir/demo"
expect demo_leaves_nothing test -z "$(ls -A "$dir/empty")"
# What it shows can be typed: the same numbers come out.
(cd "$dir/empty" && PATH=$dir/bin:$PATH && spt demo --steps 2 --out kept --quiet >"$dir/again" 2>&1 && eval "$(sed -n 's/^\$ \(spt eval.*--prompt.*\)/\1 --quiet/p' "$dir/again")" >"$dir/eval")
expect demo_out_is_kept test -s "$dir/empty/kept/best.json"
said=$(sed -n 's/.*trained prompt //p' "$dir/again")
expect shown_command_gives_the_number test "$said" = "$(grep -o '"accuracy": [0-9.]*' "$dir/eval" | head -n 1 | xargs printf '%s %.2f' | cut -d' ' -f2)"
expect same_numbers test "$(grep accuracy "$dir/demo")" = "$(grep accuracy "$dir/again")"
mv "$share/spt/demo" "$dir/demo-files"
mkdir "$dir/data" && mv "$dir/demo-files" "$dir/data/demo"
(cd "$dir/empty" && "$dir/bin/spt" demo --steps 1 >"$dir/out" 2>&1)
expect demo_not_installed grep -q "the demo's model is not installed: looked in .*$share/spt/demo" "$dir/out"
(cd "$dir/empty" && SPT_DATA_DIR=$dir/data "$dir/bin/spt" demo --steps 1 --quiet >"$dir/out" 2>&1)
expect demo_from_data_dir grep -q 'trained prompt' "$dir/out"
finish
