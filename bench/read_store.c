/* Reads all tensors of a model, as loading it does, and prints "bytes peak-KiB": what bench/bucket times.
 *     read_store MODEL CACHE_DIR */
#include <stdio.h>
#include <sys/resource.h>

#include "base/mem.h"
#include "codec/hash.h"
#include "fs/fs.h"
#include "store/store.h"

static spt_status read_all(store *s, spt_err *err)
{
    const size_t n = store_count(s);
    size_t bytes = 0, sum = 0;
    size_t *index = mem_alloc(n, sizeof *index);
    if (!index)
        return err_nomem(err, n);
    for (size_t i = 0; i < n; i++)
        index[i] = i;
    spt_status st = store_expect(s, index, n, err);
    for (size_t i = 0; i < n && !st; i++) {
        struct store_data d = {0};
        st = store_load(s, i, &d, err);
        if (!st) { /* every page is touched */
            for (size_t k = 0; k < store_at(s, i)->bytes; k += 4096)
                sum += ((const unsigned char *)d.view.data)[k];
            bytes += store_at(s, i)->bytes;
        }
        store_release(s, &d);
    }
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    if (!st)
        printf("%zu %ld %zu\n", bytes, u.ru_maxrss, sum & 1);
    mem_free(index);
    return st;
}

int main(int argc, char **argv)
{
    spt_err err = {0};
    store *s = NULL;
    if (argc != 3)
        return 2;
    spt_status st = fs_set_cache(argv[2], NULL, &err);
    if (!st)
        st = store_open(argv[1], NULL, &s, &err);
    if (!st)
        st = read_all(s, &err);
    store_close(s);
    fs_release();
    if (st)
        fprintf(stderr, "%s\n", err.msg);
    return st != SPT_OK;
}
