#!/usr/bin/env bash
# `spt check` on a deliberately messy spreadsheet export; README shows what it prints.
. tests/field/lib.sh
"$python" - "$dir/export.csv" <<'EOF'
import sys
things = ["invoice", "refund", "charge", "parcel", "courier", "delivery date", "kettle", "teapot", "lamp"]
say = {"billing": "the %s on my bill looks wrong, order %d", "delivery": "where is my %s, it is %d days late",
       "praise": "lovely %s, %d stars from me"}
rows = []
for i in range(60):
    label = list(say)[i % 3]
    rows.append([say[label] % (things[i // 3 % 9], i), label])
rows[4][1] = "delivery "                               # a space typed behind a label
rows[10][1] = "Delivery"                               # another spelling
rows[13][0] = ""                                       # no text
rows[17][0] = 'She said "lovely",\nand meant it'       # quotes, a comma and a line end in a cell
rows[23][0] = "thanks \U0001f642 caf\u00e9"
rows[28][0] = "very " * 600 + "long"
rows[30][1] = "billing + refund"                       # begins like another label
q = lambda s: '"' + s.replace('"', '""') + '"' if any(c in s for c in ';,"\r\n') else s
body = "".join(f"{i};{q(t)};{q(l)};\r\n" for i, (t, l) in enumerate(rows))
body = body.replace("\r\n20;", "\r\n\r\n;;;\r\n20;", 1)  # an empty line and an empty row
open(sys.argv[1], "wb").write(b"\xef\xbb\xbf" + ("id;text;label;\r\n" + body).encode())
EOF
refused delimiter_is_asked_for 4 "export.csv: line 1: .*--delimiter ';'" "$spt" check --model $model --train "$dir/export.csv"
check checked 0 '' "$spt" check --model $model --train "$dir/export.csv" --delimiter ';' --seed 1
told sixty_examples 'export.csv: 60 examples \(1 blank lines and 1 empty rows skipped\); .*1 cut, 1 empty'
told cut_input 'warning: .*1 of 60 inputs are longer than 512 ids'
told spaces 'warning: .*1 labels had spaces around them.*"delivery "'
told empty_input 'warning: .*1 of 60 inputs are empty'
told prefix 'warning: .*label "billing" .* begin those of label "billing \+ refund"'
told capitals 'warning: .*labels "Delivery" .* and "delivery" .* differ only in capitals'
told label_set 'labels \(the training data\): Delivery, billing, billing \+ refund, delivery, praise;'
told plan_steps 'steps: 300 of 32 examples'
told plan_time 'time: .* s a step'
told plan_memory 'memory: about'
told counted '5 warnings, no error'
check strict 1 '5 warnings \(--strict\)' "$spt" check --model $model --train "$dir/export.csv" --delimiter ';' --strict
check train_strict 1 'strict' train --train "$dir/export.csv" --delimiter ';' --strict --out "$dir/none"
expect train_strict_writes_nothing test ! -e "$dir/none"
check dry_run 0 'time: .* s a step' train --train "$dir/export.csv" --delimiter ';' --dry-run --out "$dir/none"
expect dry_run_writes_nothing test ! -e "$dir/none"
check trained 0 '' train --train "$dir/export.csv" --delimiter ';' --out "$dir/run"
check fine 0 '^fine$' "$spt" check --model $model --train $desk/train.tsv --eval $desk/dev.tsv --strict
finish
