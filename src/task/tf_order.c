/* TensorFlow's kernels, restated: shuffle_dataset_op, parallel interleave in its deterministic
 * form, sample_from_datasets (stateless multinomial over the stream of a random data set). */
#include "task/tf_order.h"

#include <math.h>
#include <string.h>

#include "base/mem.h"

enum { TF_CONSTANT = 87654321, MAX_BUFFER = 1 << 26 };

void tf_random_init(philox *p, int64_t seed)
{
    philox_init(p, TF_CONSTANT, (uint64_t)seed);
}

/* --- shuffle buffer ----------------------------------------------------------------------- */

struct tf_shuffle {
    philox seeds; /* hands out two numbers per epoch */
    philox random;
    const uint32_t *value; /* given ones */
    size_t values, value_at;
    size_t size;
    uint64_t start, end; /* counters of elements taken and put */
    uint64_t *slot;
};

void tf_shuffle_restart(tf_shuffle *s)
{
    const uint64_t a = philox_next(&s->seeds), b = philox_next(&s->seeds);
    philox_init(&s->random, a, b);
    s->start = s->end = 0;
}

spt_status tf_shuffle_new(size_t size, int64_t seed, tf_shuffle **out, spt_err *err)
{
    if (!size || size > MAX_BUFFER)
        return err_set(err, SPT_E_CONFIG, "a shuffle buffer of %zu examples (1 .. %d)", size,
                       MAX_BUFFER);
    tf_shuffle *s = mem_zalloc(1, sizeof *s);
    uint64_t *slot = mem_zalloc(size, sizeof *slot);
    if (!s || !slot) {
        mem_free(s);
        mem_free(slot);
        return err_nomem(err, size * sizeof *slot);
    }
    s->size = size;
    s->slot = slot;
    tf_random_init(&s->seeds, seed);
    tf_shuffle_restart(s);
    *out = s;
    return SPT_OK;
}

void tf_shuffle_free(tf_shuffle *s)
{
    if (!s)
        return;
    mem_free(s->slot);
    mem_free(s);
}

void tf_shuffle_use_values(tf_shuffle *s, const uint32_t *values, size_t n)
{
    s->value = values;
    s->values = n;
    s->value_at = 0;
}

bool tf_shuffle_wants(const tf_shuffle *s)
{
    return s->end - s->start < s->size;
}

void tf_shuffle_push(tf_shuffle *s, uint64_t element)
{
    s->slot[s->end++ % s->size] = element;
}

bool tf_shuffle_pop(tf_shuffle *s, uint64_t *element)
{
    const uint64_t filled = s->end - s->start;
    if (!filled)
        return false;
    const uint32_t r = s->value_at < s->values ? s->value[s->value_at++] : philox_next(&s->random);
    const size_t at = (size_t)((s->start + r % filled) % s->size);
    *element = s->slot[at];
    s->slot[at] = s->slot[s->start % s->size];
    s->start++;
    return true;
}

/* --- interleave --------------------------------------------------------------------------- */

struct open_file {
    size_t file;
    uint64_t at;
    bool used;
};

spt_status tf_interleave(const uint64_t *count, size_t files, size_t cycle, size_t block,
                         tf_interleave_fn fn, void *ctx, spt_err *err)
{
    if (!cycle || !block)
        return err_set(err, SPT_E_CONFIG, "interleave needs a cycle and a block of at least 1");
    if (cycle > files)
        cycle = files ? files : 1;
    struct open_file *slot = mem_zalloc(cycle, sizeof *slot);
    if (!slot)
        return err_nomem(err, cycle * sizeof *slot);
    size_t next = 0, idle = 0;
    spt_status st = SPT_OK;
    for (size_t i = 0; idle < cycle && !st; i = (i + 1) % cycle) {
        struct open_file *f = &slot[i];
        if (!f->used && next < files)
            *f = (struct open_file){next++, 0, true};
        idle = f->used ? 0 : idle + 1;
        for (size_t k = 0; k < block && f->used && !st; k++) {
            f->used = f->at < count[f->file];
            if (f->used)
                st = fn(ctx, f->file, f->at++, err);
        }
    }
    mem_free(slot);
    return st;
}

/* --- mixtures ----------------------------------------------------------------------------- */

void tf_choices_init(tf_choices *c, int64_t seed)
{
    tf_random_init(&c->random, seed);
}

size_t tf_choices_next(tf_choices *c, const double *weight, size_t n)
{
    static const uint32_t key[2] = {0x3ec8f720u, 0x02461e29u};
    const uint32_t a = philox_next(&c->random), b = philox_next(&c->random);
    const uint32_t counter[4] = {a, 0, b, 0};
    uint32_t mixed[4], x[4];
    philox_block(counter, key, mixed);
    const uint32_t inner[4] = {0, 0, mixed[2], mixed[3]};
    philox_block(inner, mixed, x);
    const uint64_t mantissa = (uint64_t)(x[0] & 0xfffffu) << 32 | x[1];
    const double u = (double)mantissa * 0x1p-52;
    double largest = -INFINITY, total = 0;
    for (size_t i = 0; i < n; i++)
        largest = fmax(largest, log(weight[i]));
    for (size_t i = 0; i < n; i++)
        total += exp(log(weight[i]) - largest);
    double sum = 0;
    for (size_t i = 0; i < n; i++) {
        sum += exp(log(weight[i]) - largest);
        if (sum > u * total)
            return i;
    }
    return n - 1;
}
