/* Inside of the model: prepared weights, saved activations, and the blocks.
 *
 * A block is a residual sublayer y = x + Drop(f(norm(x))). Its file holds forward and backward.
 * Streams are [rows, E]; backward takes dx = gradient at y and turns it in place into the gradient
 * at x. Nothing frozen gets a gradient: activations kept are x (for the norm), q, k, v, lse and the
 * attention output, and the feed-forward pre-activations. Full training would add the products
 * x^T dy beside the two lines of each block that say matmul_t. */
#ifndef SPT_MODEL_INTERNAL_H
#define SPT_MODEL_INTERNAL_H

#include "comm/comm.h"
#include "model/model.h"

/* --- weights ------------------------------------------------------------------------------- */

struct self_block {
    void *norm;       /* [E] */
    ops_weight *qkv;  /* [E, 3J] */
    ops_weight *out;  /* [J, E] */
    const void *bias; /* relative bias by distance, not owned */
};

struct cross_block {
    void *norm;
    ops_weight *q;  /* [E, J] */
    ops_weight *kv; /* [E, 2J] */
    ops_weight *out;
    ops_weight **k_head, **v_head; /* [heads] of [E, D], or NULL */
};

struct mlp_block {
    void *norm;
    ops_weight *wi; /* [E, F] or wi_0 | wi_1 [E, 2F] */
    ops_weight *wo; /* [F, E] */
};

struct enc_layer {
    struct self_block self;
    struct mlp_block mlp;
};

struct dec_layer {
    struct self_block self;
    struct cross_block cross;
    struct mlp_block mlp;
};

/* --- split models -------------------------------------------------------------------------
 * K ranks hold one model together: each has some heads, feed-forward columns and vocabulary rows
 * (piece p of n begins at n p / K), and the whole of the small rest. A product that splits its
 * input gives every rank a share of the result, which split_sum adds up; all ranks then go on with
 * the same bits. One that splits its output needs no exchange, and the other way round backward.
 * Without a link every split_ function is local. */

struct split_link {
    comm *ranks;
    float *host; /* what is on its way */
    size_t cap;
    struct ops_loss_part *loss; /* [ranks, rows] */
    size_t loss_cap;
    size_t *n;     /* [ranks] */
    spt_status st; /* the first failure of a pass: sums after it are left out */
    spt_err err;
};

struct t5_model {
    ops *o;
    const struct ops_table *t;
    struct t5_config c;   /* of the whole */
    struct t5_config own; /* the same with the heads, ff and vocab that this rank holds */
    int64_t first_head, first_ff, first_id;
    struct split_link *link; /* NULL: not split */
    bool backward, absorb;
    int64_t J;         /* own.heads * head_dim */
    int64_t span;      /* of the biases by distance */
    ops_weight *embed; /* table [V, E] */
    ops_weight *head;  /* [E, V] */
    void *enc_norm, *dec_norm;
    void **bias; /* owned: one per stack, or one per layer */
    int64_t nbias;
    struct enc_layer *enc;
    struct dec_layer *dec;
};

/* Bias by distance of one stack, [heads, 2 * span + 1], from the table [heads, buckets]. */
void relpos_by_distance(const float *table, int64_t heads, int64_t buckets, int64_t max_distance,
                        bool bidirectional, int64_t span, float *out);
/* Distances beyond this fall into the last bucket. */
int64_t relpos_span(const struct t5_config *c);
int64_t relpos_bucket(int64_t distance, int64_t buckets, int64_t max_distance, bool bidirectional);

/* First of n things that rank p of K holds. */
int64_t split_first(int64_t n, int p, int K);
/* Fills own and first_, and the link when ranks is not NULL. */
spt_status split_open(t5_model *m, comm *ranks, spt_err *err);
void split_close(t5_model *m);
/* x becomes the sum of all ranks' x, n elements; failures wait for model_check. */
void split_sum(const t5_model *m, void *x, int64_t n);
void split_sum_host(const t5_model *m, float *x, int64_t n);
/* Rows of the embedding; zeros for ids of other ranks, so that a sum completes them. */
void split_gather(const t5_model *m, const int32_t *ids, int64_t n, void *out);
/* The loss of own logits [a->rows, own.vocab] among all; arguments as for ops.loss of all. */
void split_loss(const t5_model *m, void *logits, const struct ops_loss_args *a);
/* Logits of the whole vocabulary, [rows, V] of the host. */
void split_logits(const t5_model *m, const void *logits, int64_t rows, float *out);
/* The text with the lowest order of all ranks that have one becomes everybody's. */
void split_first_text(const t5_model *m, int64_t order, char *text, size_t cap);
/* What went wrong in the pass, in an operation or between ranks. */
spt_status model_check(const t5_model *m, spt_err *err);

/* --- activations --------------------------------------------------------------------------- */

/* Dropout multipliers: read them through mask_of, they are stale in a pass without dropout. */
struct self_acts {
    void *x; /* [rows, E] input stream */
    void *y; /* [rows, E] output stream, may be x */
    void *qkv, *lse, *att;
    float *drop_att; /* [sum of heads * keys] */
    float *drop_out; /* [B, E] */
};

/* Plain: q and att [rows, J], kv [enc rows, 2J]. Absorbed: q and att [rows * heads, E], no kv. */
struct cross_acts {
    void *x, *y;
    void *q, *kv, *lse, *att;
    float *drop_att, *drop_out;
};

struct mlp_acts {
    void *x, *y;
    void *h;
    float *drop_in; /* [B, F] */
    float *drop_out;
};

struct enc_acts {
    struct self_acts self;
    struct mlp_acts mlp;
};

struct dec_acts {
    struct self_acts self;
    struct cross_acts cross;
    struct mlp_acts mlp;
};

struct t5_acts {
    const t5_model *m;
    struct t5_acts_plan plan;
    void *device; /* one block for everything below that is void * */
    void *host;   /* one block for the host arrays */
    size_t host_bytes;

    /* The pass. */
    int64_t first, B, nseq; /* range of the batch, sequences of the decoder */
    int64_t rows, dec_rows;
    int64_t P, P_dec;  /* rows of the longest prompt, of the decoder's */
    int64_t prompt_rows; /* of all prompts */
    enum t5_combine combine;
    bool encoded, ran_forward, has_drop;
    bool absorb;        /* of the plan */
    bool share_prompt;  /* layer 0 computes equal prompt rows once */
    int64_t *enc_off;   /* [B + 1] encoder rows of example b */
    int64_t *prompt_at; /* [B] row of the stream where its prompt begins */
    int64_t *prompt_n;  /* [B] rows of the prompt that take part: all but for empty inputs */
    int64_t *prompt_row; /* [B] row of its prompt's beginning among the rows of all prompts */
    int64_t *dec_off;   /* [nseq + 1] decoder rows of sequence i */
    int64_t *cross_off; /* [B + 1] decoder rows of all sequences of example b */
    int64_t *index;     /* scratch [max rows] */
    int64_t *same;      /* [rows] for self_forward_shared */
    int32_t *ids;       /* scratch [max rows] */

    /* Loss rows: decoder rows whose weight is not zero and that are not prompt. */
    int64_t loss_rows;
    int64_t *loss_index; /* [loss_rows] decoder row */
    int64_t *loss_token; /* [loss_rows] position in the batch's decoder arrays */
    bool loss_all;       /* loss_index is the identity */
    int32_t *target, *argmax;
    float *weight;
    double *loss, *z, *log_p, *log_z;
    float *line; /* [LINE] gradients on their way to the host */
    struct t5_loss_opts opts;

    /* Streams and layers. */
    struct enc_acts *enc;
    struct dec_acts *dec;
    void *enc_last, *dec_last; /* residual stream behind the last layer */
    void *enc_out, *dec_out;   /* normed (and dropped) */
    float *drop_enc_in, *drop_enc_out, *drop_dec_in, *drop_dec_out;

    /* Scratch, R = max(rows, dec_rows): wide_a [R, max(3J, width of h)], wide_b [R, max(3J, F)],
     * norm and tmp [R, E], dq [dec_rows, J] of cross-attention. wide_a, dq: only with backward. */
    void *wide_a, *wide_b, *norm, *tmp, *dq;
    /* Absorbed cross-attention, M = dec_rows: rows of a head side by side, as [heads, M, D] and
     * twice [heads, M, E] (or [M, heads, E]), [M, J]; and the two permutations between the orders.
     */
    void *head_d, *head_e, *head_e2, *joined;
    int64_t *by_head, *by_row;     /* [heads * M] */
    int64_t *head_off;             /* [B + 1] cross_off * heads */
    void *dx_enc, *dx_dec, *d_enc; /* backward: streams and gradient of the encoder output */
    void *d_loss;                  /* [loss rows, E] gradient of the head's input */
    void *logits;                  /* wide [head_chunk, V] */
    int64_t head_chunk;

    /* t5_score_labels: rows form trees. Row r attends the rows lists[r * list_stride + j], j <
     * lens[r]. Grown when needed. */
    bool tree;
    int32_t *lists, *lens, *row_of; /* [rows, stride], [rows], [tokens] row of a token */
    double *token_log_p;            /* [tokens] */
    float *token_logit;             /* [tokens] */
    int64_t list_stride;
    size_t lists_cap, lens_cap, row_of_cap, token_log_p_cap, token_logit_cap;

    /* Where a search for non-finite values writes its finding while passes run again. */
    char *bad_name;
    size_t bad_cap;
    int64_t bad_looked; /* tensors looked at so far: the same on all ranks of a split model */
};

enum { LINE = 4096 };

static inline const float *mask_of(const t5_acts *a, const float *mask)
{
    return a->has_drop ? mask : NULL;
}

/* Row `row` of p [.., width]. */
static inline void *row_at(const t5_model *m, const void *p, int64_t row, int64_t width)
{
    return (char *)(uintptr_t)p + (size_t)(row * width) * m->t->elem;
}

/* --- blocks -------------------------------------------------------------------------------- */

/* Offsets of the sequences whose rows a block works on, and what it may overwrite. */
struct rows_of {
    int64_t n;          /* sequences */
    const int64_t *off; /* [n + 1] */
    int64_t rows;       /* off[n] */
};

struct block_ctx {
    const t5_model *m;
    t5_acts *a;
    struct rows_of r;
    const char *name; /* for messages: "encoder/layers_3" */
};

void self_forward(const struct block_ctx *b, const struct self_block *w, struct self_acts *s,
                  bool causal);
/* The same for rows of which some are known to repeat: `from` [rows] names the first row with the
 * same input (itself for the others, and never a later row). */
void self_forward_shared(const struct block_ctx *b, const struct self_block *w, struct self_acts *s,
                         const int64_t *from);
void self_backward(const struct block_ctx *b, const struct self_block *w, const struct self_acts *s,
                   bool causal, void *dx);
/* The same where only the prompt rows, which begin each sequence, matter: the gradient at their
 * input goes to dprompt [prompt rows of all sequences, E]; dx keeps the gradient at the output. */
void self_backward_prompt(const struct block_ctx *b, const struct self_block *w,
                          const struct self_acts *s, const void *dx, void *dprompt);
/* enc: encoder output [enc rows, E]; e: its sequences, in line with the sequences of b. */
void cross_forward(const struct block_ctx *b, const struct cross_block *w, struct cross_acts *s,
                   const struct rows_of *e, const void *enc);
/* d_enc = (or += when add) the gradient at the encoder output; NULL: not needed. dx is left alone
 * unless need_x. */
void cross_backward(const struct block_ctx *b, const struct cross_block *w,
                    const struct cross_acts *s, const struct rows_of *e, bool need_x, void *dx,
                    void *d_enc, bool add);
void mlp_forward(const struct block_ctx *b, const struct mlp_block *w, struct mlp_acts *s);
void mlp_backward(const struct block_ctx *b, const struct mlp_block *w, const struct mlp_acts *s,
                  void *dx);

/* y = x + Drop(in W) and its backward: d_in = W^T Drop(dx). n rows of b. What is not direct goes
 * through a->tmp, from where residual_add makes y = x + Drop(sum of all ranks' tmp). */
bool residual_direct(const struct block_ctx *b, const float *drop);
void residual_add(const struct block_ctx *b, const float *drop, const void *x, void *y);
void residual_out(const struct block_ctx *b, const ops_weight *w, const void *in, const float *drop,
                  const void *x, void *y);
const void *residual_dropped(const struct block_ctx *b, const float *drop, const void *dx);
void residual_out_bwd(const struct block_ctx *b, const ops_weight *w, const float *drop,
                      const void *dx, void *d_in);

/* --- stacks -------------------------------------------------------------------------------- */

/* Offsets of the encoder rows of the range; refuses what does not fit, and more than `most` rows. */
spt_status acts_begin(t5_acts *a, const struct t5_prompts *p, const struct packed_batch *batch,
                      int64_t first, int64_t count, int64_t most, spt_err *err);
/* How many of the next `count` examples (one at least) make up `target` rows, or as many as one
 * pass holds. */
int64_t acts_fit(const t5_acts *a, const struct t5_prompts *p, const struct packed_batch *batch,
                 int64_t first, int64_t count, int64_t target);
spt_status acts_check_ids(const t5_acts *a, const char *what, const int32_t *ids, int64_t n,
                          spt_err *err);
/* Embeds tokens and prompts into the stream in front of layer 0, with input dropout. */
void encoder_embed(t5_acts *a, const struct t5_prompts *p, const struct packed_batch *batch);
void encoder_layers(t5_acts *a); /* up to a->enc_out */
/* Where the gradients of prompts go: by shards, or with a place for each example of the range. */
struct grad_to {
    const int32_t *shard_of;
    float *enc, *dec;
    float *const *enc_of, *const *dec_of;
};
/* From a->d_enc to the prompt rows, which it adds to their places in the order of examples. */
void encoder_backward(t5_acts *a, const struct grad_to *to);
/* dec_in: the input ids of the sequences that a->dec_off describes, without prompt rows. */
void decoder_embed(t5_acts *a, const struct t5_prompts *p, const int32_t *dec_in);
void decoder_layers(t5_acts *a); /* up to a->dec_out */
/* From a->d_loss to a->d_enc (when need_enc), and to the decoder prompt rows (when wanted). */
void decoder_backward(t5_acts *a, bool need_enc, const struct grad_to *to);
/* Brings the inputs of the head side by side, before head_chunk. */
void head_gather(t5_acts *a);
/* Logits [n, V] of the loss rows from `at` on, in a->logits, and what the loss op says of them. */
void head_chunk(t5_acts *a, int64_t at, int64_t n, bool backward);
/* Loss over the loss rows; with backward a->d_loss. */
void head_forward(t5_acts *a, bool backward);
/* The checks of every pass. */
spt_status check_pass(const t5_model *m, const t5_acts *a, const struct t5_prompts *p,
                      const struct t5_dropout *drop, spt_err *err);
/* Decoder offsets of n sequences with token offsets off[0..n]. */
spt_status place_sequences(t5_acts *a, int64_t n, const int64_t *off, const int32_t *dec_in,
                           const int32_t *target, spt_err *err);
void place_heads(t5_acts *a);
/* Rows whose token has a weight, in order. */
void find_loss_rows(t5_acts *a, const int64_t *off, const float *weight);
float weight_at(const float *w, int64_t i);

/* to[i] += d[i] for n elements of the backend. */
void add_to_host(t5_acts *a, const void *d, int64_t n, float *to);

/* Dropout multipliers of every site for the range in a, and a->has_drop. */
void dropout_masks(t5_acts *a, const struct t5_dropout *d, const struct packed_batch *batch);

/* Records `name part` as the first non-finite tensor when x has one and a search is on. */
bool bad_tensor(const struct block_ctx *b, const char *part, const void *x, int64_t n);

#endif
