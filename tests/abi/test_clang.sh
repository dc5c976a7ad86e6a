#!/usr/bin/env bash
# What every test shares compiles with clang, too (with gcc the build itself shows it).
. tests/support/checks.sh
command -v clang >/dev/null || { echo "skip support_compiles_with_clang: clang is missing"; exit 0; }
object=build/release-clang/tests/support/test.o
words=$(make -n -B V=1 CC=clang SAN= DEBUG= $object | grep -- "-o $object " | sed 's/ -MMD.*//')
expect compilation_is_known test -n "$words"
for f in tests/support/*.c; do
    $words -fsyntax-only "$f" 2>>"$dir/err" || echo "$f" >>"$dir/refused"
done
expect support_compiles_with_clang test ! -e "$dir/refused"
finish
