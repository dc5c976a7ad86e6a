#include "fuzz/fuzz_store.h"
#include "store/torch_bin.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    store *s = NULL;
    spt_err err = {0};
    fuzz_begin();
    const spt_status st = torch_bin_open_mem(data, size, &s, &err);
    FUZZ_CHECK(st == SPT_OK || (st == SPT_E_FORMAT && err.msg[0]));
    fuzz_check_peak(size, 0);
    if (!st)
        fuzz_round_trip(s);
    store_close(s);
    fuzz_check_leaks();
    return 0;
}
