/* JSON documents as trees, for tests that read expectations. */
#ifndef TESTS_SUPPORT_JSON_TREE_H
#define TESTS_SUPPORT_JSON_TREE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "text/json.h"

struct jnode {
    enum json_kind kind;
    char *key, *text; /* text: of strings, and of numbers as written */
    size_t len;
    struct jnode *child, *next;
    size_t children;
};

/* Fails the test on malformed text. */
struct jnode *json_tree(const char *text, size_t size);
void json_tree_free(struct jnode *n);
/* NULL when absent. */
const struct jnode *json_get(const struct jnode *object, const char *key);
const struct jnode *json_item(const struct jnode *array, size_t i);
double json_number(const struct jnode *n); /* "nan" is NaN; true is 1 */
int64_t json_int(const struct jnode *n);

#endif
