/* The first byte chooses whether |V2 counts as bfloat16; the rest is the file. */
#include "fuzz/fuzz_store.h"
#include "store/npy.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void round_trip_npy(store *s)
{
    struct store_data d = {0};
    store *again = NULL;
    buf out;
    buf_init(&out, SIZE_MAX / 4);
    FUZZ_CHECK(!store_load(s, 0, &d, NULL));
    const spt_status st = npy_encode(&d.view, &out, NULL);
    FUZZ_CHECK(d.view.dtype == DT_BF16 ? st == SPT_E_USAGE : st == SPT_OK);
    store_release(s, &d);
    if (!st) {
        FUZZ_CHECK(!npy_open_mem(buf_str(&out), out.len, NULL, &again, NULL));
        fuzz_same_store(s, again);
    }
    store_close(again);
    buf_release(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    store *s = NULL;
    spt_err err = {0};
    if (!size)
        return 0;
    const struct store_opts opts = {.npy_bf16 = data[0] & 1};
    fuzz_begin();
    const spt_status st = npy_open_mem(data + 1, size - 1, &opts, &s, &err);
    FUZZ_CHECK(st == SPT_OK || (st == SPT_E_FORMAT && err.msg[0]));
    fuzz_check_peak(size, 0);
    if (!st) {
        FUZZ_CHECK(store_count(s) == 1);
        round_trip_npy(s);
        fuzz_round_trip(s);
    }
    store_close(s);
    fuzz_check_leaks();
    return 0;
}
