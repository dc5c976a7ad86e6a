/* matmul_sum on every backend: the bits of a copy and an addition, whatever the shape. */
#include "support/test.h"

#include <stdlib.h>
#include <string.h>

#include "support/golden_model.h"

static void shapes_on(ops *o, const char *isa, void *ctx)
{
    const unsigned uses = OPS_FORWARD;
    static const int64_t shapes[][3] = {{1, 1, 1},   {3, 16, 20},    {130, 48, 17},
                                        {65, 7, 96}, {16, 200, 130}, {257, 33, 300}};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        const int64_t rows = shapes[i][0], K = shapes[i][1], N = shapes[i][2];
        spt_err err;
        uint64_t seed = i;
        float *v = malloc((size_t)(K * N) * sizeof *v);
        float *host = malloc((size_t)(rows * (K + N)) * sizeof *host);
        for (int64_t k = 0; k < K * N; k++)
            v[k] = (float)test_uniform(&seed);
        for (int64_t k = 0; k < rows * (K + N); k++)
            host[k] = (float)test_uniform(&seed);
        const struct ops_matrix m = {{DT_F32, shape_2d(K, N), v}, false, 0};
        ops_weight *w;
        EXPECT_OK(o->t->weight_new(o, &m, 1, uses, false, &w, &err), &err);
        const size_t e = o->t->elem;
        void *x = o->t->alloc(o, (size_t)(rows * K) * e),
             *base = o->t->alloc(o, (size_t)(rows * N) * e);
        void *one = o->t->alloc(o, (size_t)(rows * N) * e),
             *two = o->t->alloc(o, (size_t)(rows * N) * e);
        o->t->put(o, x, host, rows * K);
        o->t->put(o, base, host + rows * K, rows * N);
        o->t->matmul_sum(o, w, x, base, one, rows);
        o->t->copy(o, two, base, rows * N);
        o->t->matmul(o, w, x, two, rows, true);
        if (memcmp(one, two, (size_t)(rows * N) * e) != 0)
            fail_msg("%s: %lld x %lld x %lld", isa, (long long)rows, (long long)K, (long long)N);
        o->t->release(o, x), o->t->release(o, base), o->t->release(o, one), o->t->release(o, two);
        o->t->weight_free(o, w);
        free(v), free(host);
    }
}

static void every_shape(void **state)
{
    golden_every_isa(shapes_on, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_shape)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
