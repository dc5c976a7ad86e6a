/* Bytes as a vocabulary (ByT5): id = byte + 3; 0 pad, 1 EOS, 2 unknown (spec/data.md section 3.4,
 * spec/interop.md section 4.6). */
#include <string.h>

#include "text/utf8.h"
#include "vocab/vocab_internal.h"

spt_status vocab_bytes_encode(const vocab *v, const char *text, size_t len, struct vocab_ids *out,
                              spt_err *err)
{
    (void)v;
    TRY(vocab_ids_reserve(out, len, err));
    for (size_t i = 0; i < len; i++)
        out->id[out->count++] = (unsigned char)text[i] + BYTE_OFFSET;
    return SPT_OK;
}

/* Appends bytes as text, leaving out what is no valid UTF-8 (Python's errors="ignore"). */
static void add_valid(buf *out, const char *bytes, size_t n)
{
    size_t i = 0;
    while (i < n) {
        const size_t good = utf8_valid_prefix(bytes + i, n - i);
        buf_add(out, bytes + i, good);
        i += good + (i + good < n);
    }
}

spt_status vocab_bytes_decode(const vocab *v, const int32_t *ids, size_t n, buf *out, spt_err *err)
{
    buf bytes;
    buf_init(&bytes, n);
    for (size_t i = 0; i < n; i++) {
        if (ids[i] < 0) {
            buf_release(&bytes);
            return err_set(err, SPT_E_USAGE, "id %d at position %zu is negative", ids[i], i);
        }
        if (ids[i] == v->eos && v->rule == VOCAB_BYTES)
            break;
        if (ids[i] >= BYTE_OFFSET && ids[i] < BYTE_BASE)
            buf_addc(&bytes, (char)(ids[i] - BYTE_OFFSET));
    }
    spt_status st = buf_status(&bytes, "text", err);
    if (!st) {
        add_valid(out, buf_str(&bytes), bytes.len);
        st = buf_status(out, "decoded text", err);
    }
    buf_release(&bytes);
    return st;
}

const char *vocab_bytes_piece(int32_t id, size_t *len)
{
    /* "<0x00>" .. "<0xFF>", written out once by the compiler */
#define HEX_ROW(h)                                                                             \
    "<0x" h "0>", "<0x" h "1>", "<0x" h "2>", "<0x" h "3>", "<0x" h "4>", "<0x" h "5>",        \
        "<0x" h "6>", "<0x" h "7>", "<0x" h "8>", "<0x" h "9>", "<0x" h "A>", "<0x" h "B>",    \
        "<0x" h "C>", "<0x" h "D>", "<0x" h "E>", "<0x" h "F>"
    static const char name[BYTE_BASE][8] = {
        "<pad>",      "</s>",       "<unk>",      HEX_ROW("0"), HEX_ROW("1"), HEX_ROW("2"),
        HEX_ROW("3"), HEX_ROW("4"), HEX_ROW("5"), HEX_ROW("6"), HEX_ROW("7"), HEX_ROW("8"),
        HEX_ROW("9"), HEX_ROW("A"), HEX_ROW("B"), HEX_ROW("C"), HEX_ROW("D"), HEX_ROW("E"),
        HEX_ROW("F")};
#undef HEX_ROW
    *len = strlen(name[id]);
    return name[id];
}
