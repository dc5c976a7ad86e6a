/* How data/ turns text into ids, without knowing a vocabulary: plain callbacks. */
#ifndef SPT_DATA_ENCODER_H
#define SPT_DATA_ENCODER_H

#include "base/buf.h"
#include "base/status.h"

struct id_list { /* int32 ids that grow; release with id_list_release */
    int32_t *id;
    size_t len, cap;
};
spt_status id_list_add(struct id_list *l, const int32_t *ids, size_t n, spt_err *err);
void id_list_release(struct id_list *l);

struct data_encoder {
    /* Appends the ids of the text, no EOS. */
    spt_status (*encode)(void *ctx, const char *text, size_t len, struct id_list *out,
                         spt_err *err);
    /* Appends the text of the ids; NULL where nobody decodes. */
    spt_status (*decode)(void *ctx, const int32_t *ids, size_t n, buf *out, spt_err *err);
    void *ctx;
    int32_t eos_id; /* 1 */
    int32_t unk_id; /* 2; -1: there is none (bytes) */
};

#endif
