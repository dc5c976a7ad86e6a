#!/usr/bin/env bash
# Bar G3: exported symbols; a program sees the header alone, in C and in C++.
set -u
build=${SPT_BUILD:?}
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
bad=0
say() { if [ "$2" -eq 0 ]; then echo "ok $1"; else echo "not ok $1"; bad=1; fi; }
[ -e "$build/libspt.so" ] || { echo "skip exported_symbols"; exit 0; }
tools/check-symbols "$build"
say exported_symbols $?
case $build in *san-*|*fuzz*) echo "skip program_on_shared_library"; exit $bad ;; esac
cat >"$dir/p.c" <<'C'
#include <spt/spt.h>
#include <string.h>
int main(void)
{
    spt_err err;
    spt_session *s;
    return spt_session_open("no-such-model", 0, 0, &s, &err) == SPT_E_NOTFOUND &&
           strstr(err.msg, "no-such-model") && spt_version_num() == SPT_VERSION_NUM ? 0 : 1;
}
C
cp "$dir/p.c" "$dir/q.cc"
cp "$build/libspt.so" "$dir/libspt.so.0" && ln -s libspt.so.0 "$dir/libspt.so"
gcc -std=c99 -pedantic -Werror -Wall -Iinclude "$dir/p.c" -L"$dir" -lspt -o "$dir/p" && LD_LIBRARY_PATH=$dir "$dir/p"
say program_on_shared_library $?
g++ -Wall -Werror -Iinclude "$dir/q.cc" -L"$dir" -lspt -o "$dir/q" && LD_LIBRARY_PATH=$dir "$dir/q"
say program_in_cxx $?
exit $bad
