/* How data/ turns text into ids: plain callbacks, and the ones of a vocabulary. */
#ifndef SPT_DATA_ENCODER_H
#define SPT_DATA_ENCODER_H

#include "base/buf.h"
#include "base/status.h"
#include "vocab/vocab.h"

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
    /* Appends the text of the ids; NULL: labels are not read back. */
    spt_status (*decode)(void *ctx, const int32_t *ids, size_t n, buf *out, spt_err *err);
    /* Appends each character that becomes the unknown id, separated by spaces; NULL: only the
     * unknown ids are counted. */
    spt_status (*unwritable)(void *ctx, const char *text, size_t len, buf *out, spt_err *err);
    void *ctx;
    int32_t eos_id;     /* 1 */
    int32_t unk_id;     /* 2; -1: there is none (bytes) */
    int32_t pad_id;     /* 0; -1: not known */
    int64_t rows;       /* of the model's embedding: ids beyond are refused; 0: not known */
    bool no_second_eos; /* ids that end in EOS already get no other one (slow Hugging Face) */
};

/* SPT_E_FORMAT when one of ids[0 .. n) has no row in the model. */
spt_status encoder_check_ids(const struct data_encoder *e, const int32_t *ids, size_t n,
                             spt_err *err);

/* The encoder of a vocabulary, which must outlive it. Confined to one thread. */
spt_status data_encoder_of_vocab(const vocab *v, struct data_encoder *out, spt_err *err);
void data_encoder_release(struct data_encoder *e); /* only for data_encoder_of_vocab */

#endif
