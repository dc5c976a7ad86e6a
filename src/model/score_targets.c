/* Scores of given targets over one encoder pass.
 *
 * Labels begin alike: all with the start id, many with the same pieces. t5_score_labels makes one
 * decoder row of each distinct beginning (per example), so targets form a tree; a row attends the
 * list of rows above it. Its logits are formed once, and every target that continues there takes
 * its own entry. Each row is computed from its list alone, so the bits of a score do not depend on
 * which other targets were asked for. */
#include <string.h>

#include "model/model_internal.h"

static const struct t5_prompts no_prompts;

/* What both ways need first. */
static spt_status begin(const t5_model *m, t5_acts *a, const struct t5_prompts *p,
                        const struct t5_targets *g, spt_err *err)
{
    TRY(check_pass(m, a, p, NULL, err));
    if (!a->encoded)
        return err_set(err, SPT_E_INTERNAL, "scores without an encoder pass");
    for (int64_t i = 0; i < g->n; i++)
        if (g->example[i] < (i ? g->example[i - 1] : 0) || g->example[i] >= a->B)
            return err_set(err, SPT_E_INTERNAL, "target %lld belongs to example %d, not in order",
                           (long long)i, g->example[i]);
    a->ran_forward = a->has_drop = a->tree = false;
    a->P_dec = p->dec ? p->P_dec : 0;
    a->opts = (struct t5_loss_opts){0};
    return SPT_OK;
}

static spt_status grow(void *items, size_t *cap, int64_t need, size_t size, spt_err *err)
{
    return mem_grow(items, cap, (size_t)need, size, SIZE_MAX / 16, err);
}

/* Sums of weight * log p over each target; log_p is indexed by token. */
static void sum_scores(const struct t5_targets *g, const double *log_p, float *score,
                       float *token_score)
{
    for (int64_t s = 0; s < g->n; s++) {
        double sum = 0;
        for (int64_t i = g->off[s]; i < g->off[s + 1]; i++) {
            const float w = weight_at(g->weight, i);
            if (w != 0)
                sum += (double)w * log_p[i];
            if (token_score)
                token_score[i] = w != 0 ? (float)log_p[i] : 0;
        }
        score[s] = (float)sum;
    }
}

/* --- one row per token --------------------------------------------------------------------- */

static void example_offsets(t5_acts *a, const struct t5_targets *g)
{
    int64_t i = 0;
    for (int64_t b = 0; b <= a->B; b++) {
        while (i < g->n && g->example[i] < b)
            i++;
        a->cross_off[b] = a->dec_off[i];
    }
}

spt_status t5_score(const t5_model *m, const struct t5_prompts *prompts,
                    const struct t5_targets *targets, t5_acts *acts, float *score,
                    float *token_score, int32_t *argmax, spt_err *err)
{
    t5_acts *a = acts;
    prompts = prompts ? prompts : &no_prompts;
    const int64_t first = targets->off[0], last = targets->off[targets->n];
    TRY(begin(m, a, prompts, targets, err));
    TRY(place_sequences(a, targets->n, targets->off, targets->dec_in, targets->dec_target, err));
    TRY(grow(&a->token_log_p, &a->token_log_p_cap, last, sizeof *a->token_log_p, err));
    example_offsets(a, targets);
    place_heads(a);
    find_loss_rows(a, targets->off, targets->weight);
    for (int64_t i = 0; i < a->loss_rows; i++) {
        a->target[i] = targets->dec_target[a->loss_token[i]];
        a->weight[i] = 1;
    }
    decoder_embed(a, prompts, targets->dec_in + first);
    decoder_layers(a);
    head_forward(a, false);
    for (int64_t i = first; argmax && i < last; i++)
        argmax[i] = -1;
    for (int64_t i = 0; i < a->loss_rows; i++) {
        a->token_log_p[a->loss_token[i]] = a->log_p[i];
        if (argmax)
            argmax[a->loss_token[i]] = a->argmax[i];
    }
    sum_scores(targets, a->token_log_p, score, token_score);
    return model_check(m, err);
}

/* --- one row per beginning ----------------------------------------------------------------- */

/* Length of the common beginning of the inputs of targets i and k. */
static int64_t common(const struct t5_targets *g, int64_t i, int64_t k)
{
    const int64_t n = g->off[i + 1] - g->off[i], m = g->off[k + 1] - g->off[k];
    int64_t c = 0;
    while (c < n && c < m && g->dec_in[g->off[i] + c] == g->dec_in[g->off[k] + c])
        c++;
    return c;
}

/* The earlier target (from `first` on) with the longest beginning of target i, and its length. */
static int64_t best_match(const struct t5_targets *g, int64_t first, int64_t i, int64_t *length)
{
    int64_t best = i;
    *length = 0;
    for (int64_t k = first; k < i; k++) {
        const int64_t c = common(g, i, k);
        if (c > *length) {
            *length = c;
            best = k;
        }
    }
    return best;
}

int64_t t5_label_rows(const struct t5_targets *targets, int64_t first, int64_t count)
{
    int64_t rows = 0, shared;
    for (int64_t i = first; i < first + count; i++) {
        best_match(targets, first, i, &shared);
        rows += targets->off[i + 1] - targets->off[i] - shared;
    }
    return rows;
}

static spt_status tree_storage(t5_acts *a, const struct t5_targets *g, spt_err *err)
{
    const int64_t tokens = g->off[g->n], limit = INT32_MAX;
    a->list_stride = 1;
    for (int64_t i = 0; i < g->n; i++)
        if (a->list_stride < a->P_dec + g->off[i + 1] - g->off[i])
            a->list_stride = a->P_dec + g->off[i + 1] - g->off[i];
    if (a->plan.dec_rows > limit / a->list_stride)
        return err_set(err, SPT_E_CONFIG, "%lld decoder rows of targets of %lld tokens: too many",
                       (long long)a->plan.dec_rows, (long long)a->list_stride);
    TRY(grow(&a->lists, &a->lists_cap, a->plan.dec_rows * a->list_stride, sizeof *a->lists, err));
    TRY(grow(&a->lens, &a->lens_cap, a->plan.dec_rows, sizeof *a->lens, err));
    TRY(grow(&a->row_of, &a->row_of_cap, tokens, sizeof *a->row_of, err));
    TRY(grow(&a->token_logit, &a->token_logit_cap, tokens, sizeof *a->token_logit, err));
    return grow(&a->token_log_p, &a->token_log_p_cap, tokens, sizeof *a->token_log_p, err);
}

/* A new row behind `parent` (-1: none). */
static spt_status add_row(t5_acts *a, int64_t parent, int32_t id, spt_err *err)
{
    const int64_t r = a->dec_rows;
    if (r >= a->plan.dec_rows)
        return err_set(err, SPT_E_CONFIG,
                       "the targets need more than the %lld decoder rows that were planned",
                       (long long)a->plan.dec_rows);
    int32_t *list = a->lists + r * a->list_stride;
    const int64_t n = parent < 0 ? 0 : a->lens[parent];
    if (n)
        memcpy(list, a->lists + parent * a->list_stride, (size_t)n * sizeof *list);
    list[n] = (int32_t)r;
    a->lens[r] = (int32_t)(n + 1);
    a->ids[r] = id;
    a->dec_rows++;
    return SPT_OK;
}

/* Rows of one example's targets [first, last): prompt, then the distinct beginnings. */
static spt_status place_tree(t5_acts *a, const struct t5_targets *g, int64_t first, int64_t last,
                             spt_err *err)
{
    int64_t root = -1;
    for (int64_t i = 0; i < a->P_dec && first < last; i++) {
        TRY(add_row(a, root, a->m->c.pad_id, err));
        root = a->dec_rows - 1;
    }
    for (int64_t i = first; i < last; i++) {
        int64_t shared, parent = root;
        const int64_t from = best_match(g, first, i, &shared);
        for (int64_t t = 0; t < g->off[i + 1] - g->off[i]; t++) {
            if (t < shared) {
                a->row_of[g->off[i] + t] = a->row_of[g->off[from] + t];
            } else {
                a->row_of[g->off[i] + t] = (int32_t)a->dec_rows;
                TRY(add_row(a, parent, g->dec_in[g->off[i] + t], err));
            }
            parent = a->row_of[g->off[i] + t];
        }
    }
    return SPT_OK;
}

static spt_status place_trees(t5_acts *a, const struct t5_targets *g, spt_err *err)
{
    int64_t i = 0;
    a->dec_rows = 0;
    for (int64_t b = 0; b < a->B; b++) {
        const int64_t first = i;
        a->cross_off[b] = a->dec_rows;
        while (i < g->n && g->example[i] == b)
            i++;
        TRY(place_tree(a, g, first, i, err));
    }
    a->cross_off[a->B] = a->dec_rows;
    a->nseq = a->B;
    memcpy(a->dec_off, a->cross_off, (size_t)(a->B + 1) * sizeof *a->dec_off);
    a->tree = true;
    return SPT_OK;
}

static void embed_trees(t5_acts *a, const struct t5_prompts *p)
{
    const t5_model *m = a->m;
    const int64_t E = m->c.width;
    void *x = m->c.dec_layers ? a->dec[0].self.x : a->dec_last;
    split_gather(m, a->ids, a->dec_rows, x);
    split_sum(m, x, a->dec_rows * E);
    for (int64_t b = 0; a->P_dec && b < a->B; b++)
        if (a->dec_off[b + 1] > a->dec_off[b])
            m->t->put(m->o, row_at(m, x, a->dec_off[b], E), p->dec, a->P_dec * E);
}

/* The rows at which some token counts; a->target[i] is one of them, to satisfy the loss op. */
static void find_tree_loss_rows(t5_acts *a, const struct t5_targets *g)
{
    int64_t *position = a->loss_token; /* of a row among the loss rows, -1: none */
    for (int64_t r = 0; r < a->dec_rows; r++)
        position[r] = -1;
    for (int64_t i = g->off[0]; i < g->off[g->n]; i++)
        if (weight_at(g->weight, i) != 0)
            position[a->row_of[i]] = i;
    a->loss_rows = 0;
    for (int64_t r = 0; r < a->dec_rows; r++)
        if (position[r] >= 0) {
            a->target[a->loss_rows] = g->dec_target[position[r]];
            a->weight[a->loss_rows] = 1;
            a->loss_index[a->loss_rows] = r;
            position[r] = a->loss_rows++;
        }
    a->loss_all = a->loss_rows == a->dec_rows;
}

/* The logit of entry `id` in row `row` of the chunk at hand, 0 where another part holds it. */
static float logit_at(const t5_acts *a, int64_t row, int64_t id)
{
    const t5_model *m = a->m;
    const int64_t at = id - m->first_id;
    float x = 0;
    if (at >= 0 && at < m->own.vocab)
        m->t->get_wide(m->o, &x,
                       (const char *)a->logits +
                           (size_t)(row * m->own.vocab + at) * m->t->wide,
                       1);
    return x;
}

/* Every token takes its entry of its row's logits. */
static void tree_head(t5_acts *a, const struct t5_targets *g, int32_t *argmax)
{
    const int64_t *position = a->loss_token;
    const int64_t from = g->off[0], to = g->off[g->n];
    head_gather(a);
    for (int64_t i = from; i < to; i++)
        a->token_logit[i] = 0;
    for (int64_t at = 0; at < a->loss_rows; at += a->head_chunk) {
        const int64_t left = a->loss_rows - at, n = left < a->head_chunk ? left : a->head_chunk;
        head_chunk(a, at, n, false);
        for (int64_t i = from; i < to; i++) {
            const int64_t row = position[a->row_of[i]] - at;
            if (row >= 0 && row < n && weight_at(g->weight, i) != 0)
                a->token_logit[i] = logit_at(a, row, g->dec_target[i]);
        }
    }
    split_sum_host(a->m, a->token_logit + from, to - from);
    for (int64_t i = from; i < to; i++) {
        if (weight_at(g->weight, i) == 0)
            continue;
        const int64_t row = position[a->row_of[i]];
        a->token_log_p[i] = (double)a->token_logit[i] - a->log_z[row];
        if (argmax)
            argmax[i] = a->argmax[row];
    }
}

spt_status t5_score_labels(const t5_model *m, const struct t5_prompts *prompts,
                           const struct t5_targets *targets, t5_acts *acts, float *score,
                           float *token_score, int32_t *argmax, spt_err *err)
{
    t5_acts *a = acts;
    prompts = prompts ? prompts : &no_prompts;
    const int64_t first = targets->off[0], last = targets->off[targets->n];
    TRY(begin(m, a, prompts, targets, err));
    TRY(acts_check_ids(a, "decoder input", targets->dec_in + first, last - first, err));
    TRY(acts_check_ids(a, "target", targets->dec_target + first, last - first, err));
    TRY(tree_storage(a, targets, err));
    TRY(place_trees(a, targets, err));
    place_heads(a);
    find_tree_loss_rows(a, targets);
    embed_trees(a, prompts);
    decoder_layers(a);
    for (int64_t i = first; argmax && i < last; i++)
        argmax[i] = -1;
    tree_head(a, targets, argmax);
    sum_scores(targets, a->token_log_p, score, token_score);
    return model_check(m, err);
}
