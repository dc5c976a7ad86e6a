/* What this build is made of and what this machine runs: `spt --version --json`. */
#include <string.h>

#include <spt/spt.h>

#include "base/buf.h"
#include "codec/gzip.h"
#include "codec/hash.h"
#include "fs/gs_auth.h"
#include "fs/http.h"
#include "ops/ops.h"
#include "text/json.h"
#include "text/regex.h"

static const char *compiler(void)
{
#if defined(__clang__)
    return "clang " __clang_version__;
#else
    return "gcc " __VERSION__;
#endif
}

static void put(json_writer *w, const char *key, const char *value)
{
    json_key(w, key);
    json_string(w, value);
}

static void put_machine(json_writer *w)
{
    static const char *const isa[] = {"ref", "avx2", "avx512"};
    const char *best = "ref";
    json_key(w, "isa");
    json_begin_object(w);
    json_key(w, "available");
    json_begin_array(w);
    for (size_t i = 0; i < sizeof isa / sizeof *isa; i++)
        if (ops_isa_available(isa[i])) {
            json_string(w, isa[i]);
            best = isa[i];
        }
    json_end_array(w);
    put(w, "best", best);
    json_end_object(w);
    json_key(w, "compute");
    json_begin_object(w);
    json_key(w, "types");
    json_begin_array(w);
    json_string(w, "float32");
    json_string(w, "bfloat16");
    json_end_array(w);
    json_key(w, "native_bfloat16");
    json_bool(w, ops_native_bfloat16());
    json_end_object(w);
}

static void put_libraries(json_writer *w)
{
    char text[32];
    json_key(w, "libraries");
    json_begin_object(w);
    put(w, "onednn", ops_library_version(text));
    put(w, "sentencepiece", SPT_SENTENCEPIECE_VERSION);
    put(w, "pcre2", regex_library_version(text));
    put(w, "zlib", gzip_library_version());
    put(w, "xxhash", hash_library_version(text));
    put(w, "libcurl", http_library_version());
    put(w, "openssl", gs_auth_library_version(text));
    json_end_object(w);
}

spt_status spt_build_info(char *out, size_t cap, spt_err *err)
{
    buf text;
    json_writer w;
    buf_init(&text, 65536);
    json_write_init(&w, &text, JSON_SPACED);
    json_begin_object(&w);
    put(&w, "version", spt_version());
    json_key(&w, "abi");
    json_u64(&w, spt_version_num());
    put(&w, "compiler", compiler());
    json_key(&w, "mpi");
#ifdef SPT_MPI
    json_bool(&w, true);
#else
    json_bool(&w, false);
#endif
    put_machine(&w);
    put_libraries(&w);
    json_end_object(&w);
    spt_status st = buf_status(&text, "build", err);
    if (!st && text.len >= cap)
        st = err_set(err, SPT_E_USAGE, "the text has %zu bytes, room is for %zu", text.len, cap);
    if (!st)
        memcpy(out, buf_str(&text), text.len + 1);
    buf_release(&text);
    return st;
}
