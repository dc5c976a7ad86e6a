/* A small writer of files as torch.save makes them, for the tests of their readers. */
#ifndef TESTS_SUPPORT_TORCH_FILE_H
#define TESTS_SUPPORT_TORCH_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/status.h"

/* One tensor: a view of a storage, as _rebuild_tensor_v2 is given it. */
struct torch_desc {
    const char *storage, *key;
    int64_t numel, offset;
    int rank;
    int64_t size[9], stride[9];
    bool sixth; /* legacy: view metadata None */
};

struct torch_member {
    const char *name;
    const void *data;
    size_t size;
};
enum torch_style { TORCH_PLAIN, TORCH_AS_SAVED /* descriptors, ZIP64 end record, padding */ };

/* The lowest n bytes of v, little-endian (zeros beyond the eighth); a unicode string of a pickle. */
void torch_put_le(buf *b, uint64_t v, size_t n);
void torch_put_str(buf *b, const char *s);
/* What rebuilds a tensor; a whole pickle, a dict with the one tensor "w". */
void torch_put_tensor(buf *b, const struct torch_desc *d);
void torch_put_pickle(buf *b, const struct torch_desc *d);
/* A ZIP file of n (at most 16) members; one of the pickle and the storage "0", torch_data4. */
void torch_put_zip(buf *out, const struct torch_member *f, size_t n, enum torch_style style);
extern const float torch_data4[4];
/* A description of all of it. */
#define TORCH_WHOLE {"torch\nFloatStorage", "0", 4, 0, 1, {4}, {1}, false}
void torch_put_file(buf *out, const buf *pickle, enum torch_style style);
/* Opens a copy of exactly n bytes, reads every tensor, closes. */
spt_status torch_open_exact(const void *p, size_t n, spt_err *err);

#endif
