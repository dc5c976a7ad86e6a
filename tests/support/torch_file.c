#include "support/torch_file.h"

#include <stdlib.h>
#include <string.h>

#include "store/torch_bin.h"
#include "support/test.h"

void torch_put_le(buf *b, uint64_t v, size_t n)
{
    for (size_t i = 0; i < n; i++)
        buf_addc(b, (char)(i < 8 ? v >> (8 * i) : 0));
}

void torch_put_str(buf *b, const char *s)
{
    buf_addc(b, 'X');
    torch_put_le(b, strlen(s), 4);
    buf_adds(b, s);
}

static void put_int(buf *b, int64_t v)
{
    if (v >= 0 && v < 256) {
        buf_addc(b, 'K');
        torch_put_le(b, (uint64_t)v, 1);
    } else if (v >= INT32_MIN && v <= INT32_MAX) {
        buf_addc(b, 'J');
        torch_put_le(b, (uint64_t)v, 4);
    } else {
        buf_adds(b, "\x8a\x08");
        torch_put_le(b, (uint64_t)v, 8);
    }
}

/* (dims...) as TUPLEn or MARK ... TUPLE */
static void put_dims(buf *b, const int64_t *d, int n)
{
    buf_addc(b, '(');
    for (int i = 0; i < n; i++)
        put_int(b, d[i]);
    buf_addc(b, 't');
}

void torch_put_tensor(buf *b, const struct torch_desc *d)
{
    buf_adds(b, "ctorch._utils\n_rebuild_tensor_v2\n((");
    torch_put_str(b, "storage");
    buf_addf(b, "c%s\n", d->storage);
    torch_put_str(b, d->key);
    torch_put_str(b, "cpu");
    put_int(b, d->numel);
    buf_adds(b, d->sixth ? "NtQ" : "tQ");
    put_int(b, d->offset);
    put_dims(b, d->size, d->rank);
    put_dims(b, d->stride, d->rank);
    buf_adds(b, "\x89" "ccollections\nOrderedDict\n)RtR");
}

/* A dict with one tensor "w". */
void torch_put_pickle(buf *b, const struct torch_desc *d)
{
    buf_adds(b, "\x80\x02}q");
    torch_put_le(b, 0, 1);
    torch_put_str(b, "w");
    torch_put_tensor(b, d);
    buf_adds(b, "s.");
}

void torch_put_zip(buf *out, const struct torch_member *f, size_t n, enum torch_style style)
{
    uint64_t at[16];
    for (size_t i = 0; i < n; i++) {
        at[i] = out->len;
        const size_t pad = style == TORCH_AS_SAVED ? 64 - (out->len + 34 + strlen(f[i].name)) % 64 : 0;
        torch_put_le(out, 0x04034b50, 4);
        torch_put_le(out, 0, 2);
        torch_put_le(out, style == TORCH_AS_SAVED ? 0x0808 : 0, 2);
        torch_put_le(out, 0, 2 + 4 + 4);
        torch_put_le(out, style == TORCH_AS_SAVED ? 0 : f[i].size, 4);
        torch_put_le(out, style == TORCH_AS_SAVED ? 0 : f[i].size, 4);
        torch_put_le(out, strlen(f[i].name), 2);
        torch_put_le(out, style == TORCH_AS_SAVED ? 4 + pad : 0, 2);
        buf_adds(out, f[i].name);
        if (style == TORCH_AS_SAVED) {
            buf_adds(out, "FB");
            torch_put_le(out, pad, 2);
            for (size_t k = 0; k < pad; k++)
                buf_addc(out, 'Z');
        }
        buf_add(out, f[i].data, f[i].size);
        if (style == TORCH_AS_SAVED) {
            torch_put_le(out, 0x08074b50, 4);
            torch_put_le(out, 0, 4);
            torch_put_le(out, f[i].size, 4);
            torch_put_le(out, f[i].size, 4);
        }
    }
    const uint64_t dir = out->len;
    for (size_t i = 0; i < n; i++) {
        torch_put_le(out, 0x02014b50, 4);
        torch_put_le(out, 0, 2 + 2);
        torch_put_le(out, style == TORCH_AS_SAVED ? 0x0808 : 0, 2);
        torch_put_le(out, 0, 2 + 4 + 4);
        torch_put_le(out, f[i].size, 4);
        torch_put_le(out, f[i].size, 4);
        torch_put_le(out, strlen(f[i].name), 2);
        torch_put_le(out, 0, 2 + 2 + 2 + 2 + 4);
        torch_put_le(out, at[i], 4);
        buf_adds(out, f[i].name);
    }
    const uint64_t end = out->len;
    if (style == TORCH_AS_SAVED) {
        torch_put_le(out, 0x06064b50, 4);
        torch_put_le(out, 44, 8);
        torch_put_le(out, 0, 2 + 2 + 4 + 4);
        torch_put_le(out, n, 8);
        torch_put_le(out, n, 8);
        torch_put_le(out, end - dir, 8);
        torch_put_le(out, dir, 8);
        torch_put_le(out, 0x07064b50, 4);
        torch_put_le(out, 0, 4);
        torch_put_le(out, end, 8);
        torch_put_le(out, 1, 4);
    }
    torch_put_le(out, 0x06054b50, 4);
    torch_put_le(out, 0, 4);
    torch_put_le(out, n, 2);
    torch_put_le(out, n, 2);
    torch_put_le(out, end - dir, 4);
    torch_put_le(out, dir, 4);
    torch_put_le(out, 0, 2);
}

const float torch_data4[4] = {1, -2, 3.5f, 4};

/* The pickle with one storage "0" of 16 bytes. */
void torch_put_file(buf *out, const buf *pickle, enum torch_style style)
{
    const struct torch_member f[] = {
        {"archive/data.pkl", buf_str(pickle), pickle->len},
        {"archive/byteorder", "little", 6},
        {"archive/data/0", torch_data4, 16},
        {"archive/version", "3\n", 2},
    };
    torch_put_zip(out, f, 4, style);
}

spt_status torch_open_exact(const void *p, size_t n, spt_err *err)
{
    unsigned char *copy = malloc(n ? n : 1);
    memcpy(copy, p, n);
    store *s = NULL;
    const spt_status st = torch_bin_open_mem(copy, n, &s, err);
    for (size_t i = 0; !st && i < store_count(s); i++) {
        const size_t elements = store_at(s, i)->elements;
        float *out = malloc(elements * sizeof *out + 1);
        EXPECT_OK(store_read_f32(s, i, out, err), err);
        free(out);
    }
    store_close(s);
    free(copy);
    return st;
}
