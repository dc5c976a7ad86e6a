/* A tree of dictionaries and sequences out of a list of paths. Keys are sorted, as in TFDS's own
 * files; the list need not be. */
#include "task/tfds_features.h"

#include <stdlib.h>
#include <string.h>

#include "text/json.h"

enum { MAX_FEATURES = 64, MAX_DEPTH = 8 };
#define MODULE "tensorflow_datasets.core.features."

static int by_path(const void *a, const void *b)
{
    const struct tfds_feature *x = *(const struct tfds_feature *const *)a;
    const struct tfds_feature *y = *(const struct tfds_feature *const *)b;
    return strcmp(x->path, y->path);
}

static void put_class(json_writer *j, const char *name)
{
    json_key(j, "pythonClassName");
    json_string(j, name);
}

static void put_leaf(json_writer *j, const struct tfds_feature *f)
{
    static const char *const dtype[] = {[FEATURE_STRING] = "string",
                                        [FEATURE_INT32] = "int32",
                                        [FEATURE_FLOAT32] = "float32",
                                        [FEATURE_BOOL] = "bool"};
    size_t classes = 0;
    buf count;
    json_begin_object(j);
    if (f->kind == FEATURE_TEXT) {
        put_class(j, MODULE "text_feature.Text");
        json_key(j, "text");
        json_begin_object(j);
        json_end_object(j);
    } else if (f->kind == FEATURE_CLASS) {
        while (f->classes[classes])
            classes++;
        buf_init(&count, 32);
        buf_addf(&count, "%zu", classes);
        json_key(j, "classLabel");
        json_begin_object(j);
        json_key(j, "numClasses");
        json_string(j, buf_str(&count));
        json_end_object(j);
        put_class(j, MODULE "class_label_feature.ClassLabel");
        buf_release(&count);
    } else {
        put_class(j, MODULE "tensor_feature.Tensor");
        json_key(j, "tensor");
        json_begin_object(j);
        json_key(j, "dtype");
        json_string(j, dtype[f->kind]);
        json_key(j, "encoding");
        json_string(j, "none");
        json_key(j, "shape");
        json_begin_object(j);
        json_end_object(j);
        json_end_object(j);
    }
    json_end_object(j);
}

static void put_dict(json_writer *j, const struct tfds_feature *const *f, size_t n, size_t skip,
                     int depth);

/* A node whose members are f[0 .. n): `rest` is what follows its name in the path. */
static void put_node(json_writer *j, const struct tfds_feature *const *f, size_t n, size_t skip,
                     int depth)
{
    const char *rest = f[0]->path + skip;
    if (*rest == '[') {
        const size_t digits = strspn(rest + 1, "0123456789");
        char length[16] = "-1";
        if (digits && digits < sizeof length) {
            memcpy(length, rest + 1, digits);
            length[digits] = 0;
        }
        json_begin_object(j);
        put_class(j, MODULE "sequence_feature.Sequence");
        json_key(j, "sequence");
        json_begin_object(j);
        json_key(j, "feature");
        put_node(j, f, n, skip + 2 + digits, depth);
        json_key(j, "length");
        json_string(j, length);
        json_end_object(j);
        json_end_object(j);
    } else if (*rest == '/') {
        put_dict(j, f, n, skip + 1, depth + 1);
    } else {
        put_leaf(j, f[0]);
    }
}

static void put_dict(json_writer *j, const struct tfds_feature *const *f, size_t n, size_t skip,
                     int depth)
{
    json_begin_object(j);
    json_key(j, "featuresDict");
    json_begin_object(j);
    json_key(j, "features");
    json_begin_object(j);
    for (size_t i = 0; i < n && depth < MAX_DEPTH;) {
        const char *name = f[i]->path + skip;
        const size_t len = strcspn(name, "/[");
        size_t k = i + 1;
        while (k < n && strncmp(f[k]->path + skip, name, len) == 0 &&
               strchr("/[", f[k]->path[skip + len]))
            k++;
        json_key_n(j, name, len);
        put_node(j, f + i, k - i, skip + len, depth);
        i = k;
    }
    json_end_object(j);
    json_end_object(j);
    put_class(j, MODULE "features_dict.FeaturesDict");
    json_end_object(j);
}

spt_status tfds_features_json(const struct tfds_feature *f, size_t n, buf *out, spt_err *err)
{
    const struct tfds_feature *sorted[MAX_FEATURES];
    json_writer j;
    if (n > MAX_FEATURES)
        return err_set(err, SPT_E_CONFIG, "more than %d features", MAX_FEATURES);
    for (size_t i = 0; i < n; i++)
        sorted[i] = &f[i];
    qsort(sorted, n, sizeof *sorted, by_path);
    json_write_init(&j, out, JSON_PYTHON);
    j.indent = 4;
    put_dict(&j, sorted, n, 0, 0);
    return buf_status(out, "features.json", err);
}
