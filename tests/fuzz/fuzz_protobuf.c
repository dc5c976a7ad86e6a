/* codec/protobuf: what is accepted is written again and reads as the same fields; the first varint of the
 * input, written again, is its shortest form. */
#include "fuzz/fuzz.h"

#include "codec/protobuf.h"

static void put(buf *out, const pb_field *f)
{
    switch (f->wire) {
    case PB_VARINT: pb_put_varint(out, f->number, f->value); break;
    case PB_FIXED32: pb_put_float(out, f->number, pb_float(f)); break;
    case PB_FIXED64: pb_put_double(out, f->number, pb_double(f)); break;
    case PB_BYTES: pb_put_bytes(out, f->number, f->data, f->size); break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    pb_field f, g;
    size_t fields = 0, inner = 0;
    fuzz_begin();
    buf out;
    buf_init(&out, size + 16);
    cursor c = cursor_make(data, size);
    while (pb_next(&c, &f)) {
        FUZZ_CHECK(f.number >= 1 && f.number < 1u << 29);
        FUZZ_CHECK(f.wire != PB_BYTES || f.size == 0 || (f.data >= data && f.data + f.size <= data + size));
        put(&out, &f);
        fields++;
        if (f.wire == PB_BYTES) { /* as a message and as packed numbers */
            cursor m = pb_message(&f), n = pb_message(&f);
            while (pb_next(&m, &g))
                inner++;
            while (cursor_left(&n) && cursor_ok(&n))
                pb_varint(&n);
        }
    }
    if (cursor_ok(&c)) {
        FUZZ_CHECK(out.st == SPT_OK && out.len <= size && cursor_left(&c) == 0);
        cursor a = cursor_make(data, size), b = cursor_make(out.data, out.len);
        while (pb_next(&a, &f)) {
            FUZZ_CHECK(pb_next(&b, &g));
            FUZZ_CHECK(f.number == g.number && f.wire == g.wire && f.size == g.size);
            /* A signalling NaN may come back quiet. */
            FUZZ_CHECK(f.value == g.value || f.wire == PB_FIXED32 || f.wire == PB_FIXED64);
            FUZZ_CHECK(!f.size || !memcmp(f.data, g.data, f.size));
            fields--;
        }
        FUZZ_CHECK(!pb_next(&b, &g) && cursor_ok(&b) && fields == 0 && inner <= size);
    }
    buf_release(&out);
    fuzz_end(size, 0);
    return 0;
}
