/* A SentencePiece model from anywhere: opened, then 64 fixed texts are encoded and decoded. The
 * library gets every 16th model that we accept, too: what we validated must not crash it. What both
 * encode and decode must agree. */
#include <string.h>

#include "fuzz/fuzz.h"
#include "fuzz/fuzz_texts.h"
#include "vocab/vocab.h"

static void use(const vocab *v, struct vocab_ids *ids, buf *text)
{
    for (size_t i = 0; i < 64; i++) {
        ids->count = 0;
        buf_clear(text);
        if (vocab_encode(v, fuzz_texts[i], strlen(fuzz_texts[i]), ids, NULL))
            continue;
        for (size_t k = 0; k < ids->count; k++) {
            size_t n;
            FUZZ_CHECK(ids->id[k] >= 0 && ids->id[k] < vocab_size(v));
            vocab_piece(v, ids->id[k], &n);
        }
        FUZZ_CHECK(vocab_decode(v, ids->id, ids->count, text, NULL) == SPT_OK);
    }
}

static void compare(const vocab *own, const void *data, size_t size)
{
    struct vocab_opts o;
    vocab *lib = NULL;
    struct vocab_ids a = {0}, b = {0};
    buf ta, tb;
    buf_init(&ta, 1 << 20);
    buf_init(&tb, 1 << 20);
    vocab_opts_init(&o);
    o.use_library = true;
    const bool have = !vocab_open_memory(data, size, "fuzz", &o, &lib, NULL);
    for (size_t i = 0; have && i < 64; i++) {
        const char *t = fuzz_texts[i];
        a.count = b.count = 0;
        FUZZ_CHECK(vocab_encode(own, t, strlen(t), &a, NULL) == SPT_OK);
        if (vocab_encode(lib, t, strlen(t), &b, NULL))
            continue;
        FUZZ_CHECK(a.count == b.count &&
                   (!a.count || !memcmp(a.id, b.id, a.count * sizeof *a.id)));
        buf_clear(&ta);
        buf_clear(&tb);
        FUZZ_CHECK(vocab_decode(own, a.id, a.count, &ta, NULL) == SPT_OK);
        if (!vocab_decode(lib, a.id, a.count, &tb, NULL))
            FUZZ_CHECK(!strcmp(buf_str(&ta), buf_str(&tb)));
    }
    buf_release(&ta);
    buf_release(&tb);
    vocab_ids_release(&a);
    vocab_ids_release(&b);
    vocab_close(lib);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static unsigned count;
    vocab *v = NULL;
    spt_err err = {0};
    fuzz_begin();
    const spt_status st = vocab_open_memory(data, size, "fuzz", NULL, &v, &err);
    if (!st) {
        struct vocab_ids ids = {0};
        buf text;
        buf_init(&text, 1 << 20);
        use(v, &ids, &text);
        if (count++ % 16 == 0)
            compare(v, data, size);
        buf_release(&text);
        vocab_ids_release(&ids);
    } else {
        FUZZ_CHECK(err.msg[0]);
    }
    vocab_close(v);
    fuzz_end(size, 0);
    return 0;
}
