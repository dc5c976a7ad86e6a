/* What our readers say to many inputs: verdicts FORMAT reads records (4 bytes of length, little endian,
 * then that many bytes) from standard input and answers each with a line: "no MESSAGE", or "yes" and the
 * content in a form that agree.py computes from the reference reader's result, too.
 *   npy, safetensors: NAME DTYPE SHAPE CRC32 of the values, per tensor, sorted by name
 *   json:             the document, written compactly with sorted keys of 1 level only: CRC32 of the events
 *   torch:            as safetensors
 *   spm:              the id that ends a text, how many there are, and the ids of fixed texts with what they
 *                     decode to: CRC32
 *   msgpack:          the tokens as text */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <zlib.h>

#include "codec/msgpack.h"
#include "store/npy.h"
#include "store/safetensors.h"
#include "store/torch_bin.h"
#include "text/json.h"
#include "vocab/vocab.h"

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static void say_store(store *s)
{
    const size_t n = store_count(s);
    char **line = calloc(n + 1, sizeof *line);
    for (size_t i = 0; i < n; i++) {
        const struct store_info *x = store_at(s, i);
        char shape[SHAPE_TEXT];
        struct store_data d = {0};
        if (store_load(s, i, &d, NULL))
            abort();
        if (!(line[i] = malloc(strlen(x->name) + 300)))
            abort();
        sprintf(line[i], "%s %s %s %08x", x->name, dtype_name(x->dtype), shape_text(&x->shape, shape),
                (unsigned)crc32(0, d.view.data, (unsigned)x->bytes));
        store_release(s, &d);
    }
    qsort(line, n, sizeof *line, by_name);
    fputs("yes", stdout);
    for (size_t i = 0; i < n; i++) {
        printf("|%s", line[i]);
        free(line[i]);
    }
    free(line);
    putchar('\n');
}

static void hex(const void *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        printf("%02x", ((const unsigned char *)p)[i]);
}

static void say_msgpack(const void *p, size_t n)
{
    msgpack_reader r = msgpack_read(p, n);
    msgpack_token t;
    while (msgpack_next(&r, &t))
        ;
    if (msgpack_status(&r, "input", NULL)) {
        puts("no");
        return;
    }
    fputs("yes", stdout);
    r = msgpack_read(p, n);
    while (msgpack_next(&r, &t)) {
        switch (t.type) {
        case MP_NIL: fputs(" n", stdout); break;
        case MP_BOOL: printf(" b%d", t.b); break;
        case MP_INT: printf(" i%lld", (long long)t.i); break;
        case MP_UINT: printf(" i%llu", (unsigned long long)t.u); break;
        case MP_FLOAT: printf(" f%a", t.f); break;
        case MP_STR: fputs(" s", stdout), hex(t.data, t.size); break;
        case MP_BIN: fputs(" x", stdout), hex(t.data, t.size); break;
        case MP_ARRAY: printf(" a%u", t.count); break;
        case MP_MAP: printf(" m%u", t.count); break;
        case MP_EXT: printf(" e%d:", t.ext), hex(t.data, t.size); break;
        }
    }
    putchar('\n');
}

static void say_json(const void *p, size_t n)
{
    json_reader r;
    struct json_event ev;
    spt_err err = {0};
    buf out;
    spt_status st;
    buf_init(&out, 1 << 24);
    json_open(&r, p, n, JSON_PYTHON_NAN);
    while (!(st = json_next(&r, &ev, &err)) && ev.kind != JSON_END) {
        double d;
        buf_addf(&out, " %d", (int)ev.kind);
        if (ev.kind == JSON_KEY || ev.kind == JSON_STRING)
            json_add_text(&ev, &out);
        else if (ev.kind == JSON_NUMBER && !json_to_f64(&ev, &d, NULL))
            buf_addf(&out, "%a", d);
    }
    json_close(&r);
    if (st)
        printf("no %s\n", err.msg);
    else
        printf("yes %08x\n", (unsigned)crc32(0, (const unsigned char *)buf_str(&out), (unsigned)out.len));
    buf_release(&out);
}

/* The same texts as in agree.py. */
static const char *const texts[] = {"", "a", "abc", "hello world", " two  spaces ", "\xc3\xa4\xe2\x82\xac",
                                    "xxxxxxxx", "the quick brown fox", "<unk></s>", "1234567890", "\xef\xac\x81ne",
                                    "\xe6\x97\xa5\xe6\x9c\xac", "ab ba ab", "-!?"};

static void say_model(const void *p, size_t n)
{
    struct vocab_opts o;
    struct vocab_ids ids = {0};
    vocab *v = NULL;
    spt_err err = {0};
    buf out;
    vocab_opts_init(&o);
    o.rule = VOCAB_PLAIN;
    o.extra_ids = 0;
    o.newer_ties = true;
    buf_init(&out, 1 << 24);
    spt_status st = vocab_open_memory(p, n, "model", &o, &v, &err);
    for (size_t i = 0; !st && i < sizeof texts / sizeof *texts; i++) {
        ids.count = 0;
        st = vocab_encode(v, texts[i], strlen(texts[i]), &ids, &err);
        for (size_t k = 0; k < ids.count; k++)
            buf_addf(&out, " %d", (int)ids.id[k]);
        buf_addc(&out, '|');
        if (!st)
            st = vocab_decode(v, ids.id, ids.count, &out, &err);
        buf_addc(&out, '\n');
    }
    if (st)
        printf("no %s\n", err.msg);
    else
        printf("yes %d %d %08x\n", (int)vocab_eos_id(v), (int)vocab_size(v), (unsigned)crc32(0, (const unsigned char *)buf_str(&out), (unsigned)out.len));
    if (getenv("VERDICTS_SHOW"))
        fputs(buf_str(&out), stderr);
    buf_release(&out);
    vocab_ids_release(&ids);
    vocab_close(v);
}

int main(int argc, char **argv)
{
    const char *format = argc > 1 ? argv[1] : "";
    unsigned char head[4];
    while (fread(head, 1, 4, stdin) == 4) {
        const size_t n = head[0] | (size_t)head[1] << 8 | (size_t)head[2] << 16 | (size_t)head[3] << 24;
        unsigned char *p = malloc(n + !n);
        if (!p || fread(p, 1, n, stdin) != n)
            return 1;
        store *s = NULL;
        spt_err err = {0};
        if (!strcmp(format, "msgpack"))
            say_msgpack(p, n);
        else if (!strcmp(format, "json"))
            say_json(p, n);
        else if (!strcmp(format, "spm"))
            say_model(p, n);
        else if (!strcmp(format, "npy")     ? npy_open_mem(p, n, NULL, &s, &err)
                 : !strcmp(format, "torch") ? torch_bin_open_mem(p, n, &s, &err)
                                            : safetensors_open_mem(p, n, &s, &err))
            printf("no %s\n", err.msg);
        else
            say_store(s);
        store_close(s);
        free(p);
    }
    return 0;
}
