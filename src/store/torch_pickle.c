#include "store/torch_pickle.h"

#include <string.h>

#include "base/cursor.h"
#include "text/utf8.h"

enum {
    MAX_STACK = 100000,
    MAX_STRING = 4096,
    MAX_GLOBAL = 256,
    TAG_SHIFT = 56,
    SLACK = 4096, /* cells and memos that any pickle may have */
    MAX_INT_BITS = 54
};
#define PAYLOAD_MASK (((uint64_t)1 << TAG_SHIFT) - 1)

enum global {
    G_ORDERED_DICT,
    G_REBUILD_TENSOR,
    G_REBUILD_PARAMETER,
    G_STORAGE /* + dtype */
};

static const struct {
    const char *module, *name;
    unsigned id;
} globals[] = {
    {"collections", "OrderedDict", G_ORDERED_DICT},
    {"torch._utils", "_rebuild_tensor_v2", G_REBUILD_TENSOR},
    {"torch._utils", "_rebuild_parameter", G_REBUILD_PARAMETER},
    {"torch", "FloatStorage", G_STORAGE + DT_F32},
    {"torch", "DoubleStorage", G_STORAGE + DT_F64},
    {"torch", "HalfStorage", G_STORAGE + DT_F16},
    {"torch", "BFloat16Storage", G_STORAGE + DT_BF16},
    {"torch", "LongStorage", G_STORAGE + DT_I64},
    {"torch", "IntStorage", G_STORAGE + DT_I32},
    {"torch", "ShortStorage", G_STORAGE + DT_I16},
    {"torch", "CharStorage", G_STORAGE + DT_I8},
    {"torch", "ByteStorage", G_STORAGE + DT_U8},
    {"torch", "BoolStorage", G_STORAGE + DT_BOOL},
    {"torch.storage", "UntypedStorage", G_STORAGE + DT_U8},
};

/* --- values ------------------------------------------------------------------------------- */

static pickle_value make(enum pickle_tag tag, uint64_t payload)
{
    return (uint64_t)tag << TAG_SHIFT | (payload & PAYLOAD_MASK);
}

static uint64_t payload(pickle_value v)
{
    return v & PAYLOAD_MASK;
}

static pickle_value make_int(int64_t i)
{
    return make(PICKLE_INT, (uint64_t)i);
}

enum pickle_tag pickle_tag_of(pickle_value v)
{
    return (enum pickle_tag)(v >> TAG_SHIFT);
}

int64_t pickle_int(pickle_value v)
{
    /* Sign extension of the 56-bit payload. */
    const uint64_t sign = (uint64_t)1 << (TAG_SHIFT - 1);
    return (int64_t)((payload(v) ^ sign) - sign);
}

const char *pickle_tag_name(enum pickle_tag t)
{
    static const char *const names[] = {
        "None",   "a boolean", "an integer", "a float", "a string", "a tuple", "a list", "a dict",
        "a set", "a class",   "a storage",  "a tensor", "a mark",
    };
    return (size_t)t < sizeof names / sizeof names[0] ? names[t] : "?";
}

/* A string's payload is where its opcode stands. */
const char *pickle_string(const struct pickle *p, pickle_value v, size_t *len)
{
    const unsigned char *at = p->bytes + payload(v);
    if (*at == 'U') {
        *len = at[1];
        return (const char *)at + 2;
    }
    *len = (size_t)at[1] | (size_t)at[2] << 8 | (size_t)at[3] << 16 | (size_t)at[4] << 24;
    return (const char *)at + 5;
}

bool pickle_is(const struct pickle *p, pickle_value v, const char *text)
{
    size_t len;
    if (pickle_tag_of(v) != PICKLE_STRING)
        return false;
    const char *s = pickle_string(p, v, &len);
    return len == strlen(text) && !memcmp(s, text, len);
}

size_t pickle_tuple(const struct pickle *p, pickle_value v, const pickle_value **items)
{
    const size_t at = (size_t)payload(v);
    *items = p->cell + at + 1;
    return (size_t)p->cell[at];
}

/* A list or dict is {first chunk, last chunk}; a chunk is {count, next chunk, items...}; 0 is no
 * chunk (cell 0 is never used). */
bool pickle_next(const struct pickle *p, pickle_value container, struct pickle_iter *it,
                 pickle_value *out)
{
    if (!it->started) {
        it->started = true;
        it->chunk = (size_t)p->cell[payload(container)];
    }
    while (it->chunk && it->at == p->cell[it->chunk]) {
        it->chunk = (size_t)p->cell[it->chunk + 1];
        it->at = 0;
    }
    if (!it->chunk)
        return false;
    *out = p->cell[it->chunk + 2 + it->at++];
    return true;
}

/* --- the machine's memory ----------------------------------------------------------------- */

struct vm {
    struct pickle *p;
    cursor c;
    size_t op_at; /* where the current opcode stands */
    spt_err *err;
};

static spt_status fail(const struct vm *vm, const char *what)
{
    return err_at(vm->err, SPT_E_FORMAT, vm->op_at, "pickle byte %zu: %s", vm->op_at, what);
}

static spt_status push(struct vm *vm, pickle_value v)
{
    struct pickle *p = vm->p;
    if (p->depth == MAX_STACK)
        return fail(vm, "the stack is too deep");
    TRY(mem_grow(&p->stack, &p->stack_cap, p->depth + 1, sizeof v, MAX_STACK, vm->err));
    p->stack[p->depth++] = v;
    return SPT_OK;
}

/* The topmost value, which must not be a mark. */
static spt_status top(struct vm *vm, pickle_value *out)
{
    const struct pickle *p = vm->p;
    if (!p->depth || pickle_tag_of(p->stack[p->depth - 1]) == PICKLE_MARK)
        return fail(vm, "the stack is empty");
    *out = p->stack[p->depth - 1];
    return SPT_OK;
}

static spt_status pop(struct vm *vm, pickle_value *out)
{
    TRY(top(vm, out));
    vm->p->depth--;
    return SPT_OK;
}

/* Index of the first value behind the topmost mark; everything from it on is then popped by the
 * caller, so the search is paid for by the pushes. */
static spt_status find_mark(struct vm *vm, size_t *first)
{
    const struct pickle *p = vm->p;
    for (size_t i = p->depth; i > 0; i--) {
        if (pickle_tag_of(p->stack[i - 1]) == PICKLE_MARK) {
            *first = i;
            return SPT_OK;
        }
    }
    return fail(vm, "no mark on the stack");
}

/* n fresh cells. A pickle byte justifies one cell: real ones use about a third of that. */
static spt_status new_cells(struct vm *vm, size_t n, size_t *at)
{
    struct pickle *p = vm->p;
    const size_t max = p->size + SLACK;
    if (n > max - p->cells)
        return fail(vm, "more values than its size justifies");
    TRY(mem_grow(&p->cell, &p->cell_cap, p->cells + n, sizeof *p->cell, max, vm->err));
    *at = p->cells;
    p->cells += n;
    return SPT_OK;
}

static spt_status new_container(struct vm *vm, enum pickle_tag tag, pickle_value *out)
{
    size_t at = 0;
    TRY(new_cells(vm, 2, &at));
    vm->p->cell[at] = vm->p->cell[at + 1] = 0;
    *out = make(tag, at);
    return SPT_OK;
}

static spt_status append(struct vm *vm, pickle_value container, const pickle_value *items, size_t n)
{
    size_t at = 0;
    if (!n)
        return SPT_OK;
    TRY(new_cells(vm, n + 2, &at));
    pickle_value *cell = vm->p->cell;
    const size_t head = (size_t)payload(container);
    cell[at] = n;
    cell[at + 1] = 0;
    memcpy(cell + at + 2, items, n * sizeof *items);
    if (cell[head])
        cell[cell[head + 1] + 1] = at;
    else
        cell[head] = at;
    cell[head + 1] = at;
    return SPT_OK;
}

/* --- opcodes ------------------------------------------------------------------------------ */

static spt_status op_tuple(struct vm *vm, size_t n)
{
    struct pickle *p = vm->p;
    size_t at = 0;
    for (size_t i = 0; i < n; i++)
        if (p->depth < n || pickle_tag_of(p->stack[p->depth - 1 - i]) == PICKLE_MARK)
            return fail(vm, "the stack is empty");
    TRY(new_cells(vm, n + 1, &at));
    p->cell[at] = n;
    p->depth -= n;
    if (n)
        memcpy(p->cell + at + 1, p->stack + p->depth, n * sizeof *p->stack);
    return push(vm, make(PICKLE_TUPLE, at));
}

static spt_status op_tuple_from_mark(struct vm *vm)
{
    size_t first = 0;
    TRY(find_mark(vm, &first));
    const size_t n = vm->p->depth - first;
    TRY(op_tuple(vm, n));
    vm->p->stack[first - 1] = vm->p->stack[first]; /* over the mark */
    vm->p->depth--;
    return SPT_OK;
}

/* Adds what lies from `first` on to the container below it. */
static spt_status op_extend(struct vm *vm, size_t first, size_t below, enum pickle_tag tag)
{
    struct pickle *p = vm->p;
    const size_t n = p->depth - first;
    if (!below || pickle_tag_of(p->stack[below - 1]) != tag || (tag == PICKLE_DICT && n % 2))
        return fail(vm, tag == PICKLE_DICT ? "items for something that is not a dict"
                                           : "items for something that is not a list");
    for (size_t i = first; i < p->depth; i++)
        if (pickle_tag_of(p->stack[i]) == PICKLE_MARK)
            return fail(vm, "a mark among items");
    for (size_t i = first; tag == PICKLE_DICT && i < p->depth; i += 2)
        if (pickle_tag_of(p->stack[i]) == PICKLE_DICT || pickle_tag_of(p->stack[i]) == PICKLE_LIST)
            return fail(vm, "a dict or a list as the key of a dict");
    TRY(append(vm, p->stack[below - 1], p->stack + first, n));
    p->depth = below;
    return SPT_OK;
}

static spt_status op_extend_from_mark(struct vm *vm, enum pickle_tag tag)
{
    size_t first = 0;
    TRY(find_mark(vm, &first));
    return op_extend(vm, first, first - 1, tag);
}

static spt_status op_extend_by(struct vm *vm, size_t n, enum pickle_tag tag)
{
    if (vm->p->depth < n + 1)
        return fail(vm, "the stack is empty");
    return op_extend(vm, vm->p->depth - n, vm->p->depth - n, tag);
}

static spt_status op_put(struct vm *vm, uint64_t index)
{
    struct pickle *p = vm->p;
    pickle_value v = 0;
    const size_t max = p->size / 2 + SLACK; /* a put takes two bytes */
    TRY(top(vm, &v));
    if (index > p->memos)
        return fail(vm, "memo entries are not in order");
    if (index == p->memos) {
        TRY(mem_grow(&p->memo, &p->memo_cap, p->memos + 1, sizeof v, max, vm->err));
        p->memos++;
    }
    p->memo[index] = v;
    return SPT_OK;
}

static spt_status op_get(struct vm *vm, uint64_t index)
{
    if (index >= vm->p->memos)
        return fail(vm, "a memo entry that does not exist");
    return push(vm, vm->p->memo[index]);
}

static spt_status op_string(struct vm *vm, size_t len_bytes)
{
    const uint64_t len = cursor_le(&vm->c, len_bytes);
    if (cursor_ok(&vm->c) && len > MAX_STRING)
        return fail(vm, "a string of more than 4,096 bytes");
    const unsigned char *s = cursor_take(&vm->c, (size_t)len);
    if (!s)
        return SPT_OK; /* the loop reports the end of the data */
    if (!utf8_valid(s, (size_t)len))
        return fail(vm, "a string is not valid UTF-8");
    return push(vm, make(PICKLE_STRING, vm->op_at));
}

static spt_status op_long1(struct vm *vm)
{
    const size_t n = cursor_u8(&vm->c);
    if (n > 8)
        return fail(vm, "an integer of more than 8 bytes");
    uint64_t v = cursor_le(&vm->c, n);
    if (n && n < 8 && v >> (8 * n - 1))
        v |= UINT64_MAX << (8 * n);
    const int64_t i = (int64_t)v, limit = (int64_t)1 << MAX_INT_BITS;
    if (i >= limit || i < -limit)
        return fail(vm, "an integer is too large");
    return push(vm, make_int(i));
}

/* Up to '\n', at most MAX_GLOBAL bytes. */
static const char *take_line(struct vm *vm, size_t *len)
{
    const char *s = (const char *)vm->c.p;
    const size_t left = cursor_left(&vm->c);
    const char *nl = left ? memchr(s, '\n', left < MAX_GLOBAL ? left : MAX_GLOBAL) : NULL;
    if (!nl) {
        cursor_fail(&vm->c);
        return NULL;
    }
    *len = (size_t)(nl - s);
    cursor_take(&vm->c, *len + 1);
    return s;
}

static bool same(const char *s, size_t len, const char *word)
{
    return strlen(word) == len && !memcmp(s, word, len);
}

static spt_status op_global(struct vm *vm)
{
    size_t module_len, name_len;
    const char *module = take_line(vm, &module_len);
    const char *name = module ? take_line(vm, &name_len) : NULL;
    if (!name)
        return SPT_OK;
    for (size_t i = 0; i < sizeof globals / sizeof globals[0]; i++)
        if (same(module, module_len, globals[i].module) && same(name, name_len, globals[i].name))
            return push(vm, make(PICKLE_GLOBAL, globals[i].id));
    return err_at(vm->err, SPT_E_FORMAT, vm->op_at,
                  "pickle byte %zu: refers to %.*s.%.*s, which is not part of a weights file; "
                  "nothing was executed",
                  vm->op_at, (int)module_len, module, (int)name_len, name);
}

static bool is_int(pickle_value v)
{
    return pickle_tag_of(v) == PICKLE_INT;
}

/* Persistent ids: ('storage', type, key, location, count[, None]). */
static spt_status op_persid(struct vm *vm)
{
    struct pickle *p = vm->p;
    pickle_value v = 0;
    const pickle_value *t;
    TRY(pop(vm, &v));
    if (pickle_tag_of(v) != PICKLE_TUPLE)
        return fail(vm, "a persistent id that is not a tuple");
    const size_t n = pickle_tuple(p, v, &t);
    if (n < 5 || n > 6 || !pickle_is(p, t[0], "storage") ||
        pickle_tag_of(t[1]) != PICKLE_GLOBAL || payload(t[1]) < G_STORAGE ||
        pickle_tag_of(t[2]) != PICKLE_STRING || !is_int(t[4]) || pickle_int(t[4]) < 0)
        return fail(vm, "a persistent id that is not a storage");
    if (n == 6 && pickle_tag_of(t[5]) != PICKLE_NONE)
        return fail(vm, "a view of another storage (very old torch), which is not supported");
    /* The tuple itself serves as the storage. */
    return push(vm, make(PICKLE_STORAGE, payload(v)));
}

static bool get_sizes(const struct pickle *p, pickle_value v, int *rank, int64_t *out)
{
    const pickle_value *t;
    if (pickle_tag_of(v) != PICKLE_TUPLE)
        return false;
    const size_t n = pickle_tuple(p, v, &t);
    if (n > TENSOR_MAX_RANK)
        return false;
    for (size_t i = 0; i < n; i++) {
        if (!is_int(t[i]) || pickle_int(t[i]) < 0)
            return false;
        out[i] = pickle_int(t[i]);
    }
    *rank = (int)n;
    return true;
}

static struct pickle_storage get_storage(const struct pickle *p, pickle_value v)
{
    const pickle_value *t;
    struct pickle_storage s;
    pickle_tuple(p, v, &t);
    s.dtype = (enum dtype)(payload(t[1]) - G_STORAGE);
    s.key = pickle_string(p, t[2], &s.key_len);
    s.count = (uint64_t)pickle_int(t[4]);
    return s;
}

/* The last element that the strides reach, +1, by checked arithmetic. */
static bool extent(const struct pickle_tensor *t, uint64_t *out)
{
    uint64_t end = t->offset;
    for (int i = 0; i < t->shape.rank; i++) {
        if (t->shape.dim[i] == 0) {
            *out = t->offset;
            return true;
        }
    }
    for (int i = 0; i < t->shape.rank; i++) {
        size_t span;
        if (!mul_size((size_t)(t->shape.dim[i] - 1), (size_t)t->stride[i], &span) ||
            span > UINT64_MAX - end)
            return false;
        end += span;
    }
    *out = end + 1;
    return end != UINT64_MAX;
}

static bool read_tensor(const struct pickle *p, const pickle_value *args, struct pickle_tensor *out)
{
    int strides;
    if (pickle_tag_of(args[0]) != PICKLE_STORAGE || !is_int(args[1]) || pickle_int(args[1]) < 0 ||
        !get_sizes(p, args[2], &out->shape.rank, out->shape.dim) ||
        !get_sizes(p, args[3], &strides, out->stride) || strides != out->shape.rank)
        return false;
    out->storage = get_storage(p, args[0]);
    out->offset = (uint64_t)pickle_int(args[1]);
    return true;
}

static spt_status build_tensor(struct vm *vm, pickle_value args, size_t n, const pickle_value *a)
{
    struct pickle_tensor t = {0};
    size_t elements, bytes;
    uint64_t end;
    if (n < 6 || n > 7 || !read_tensor(vm->p, a, &t))
        return fail(vm, "a tensor is not described as torch does");
    TRY(tensor_size(t.storage.dtype, &t.shape, &elements, &bytes, vm->err));
    /* More elements than the storage has (a broadcast) would need memory that no file justifies. */
    if (!extent(&t, &end) || end > t.storage.count || elements > t.storage.count)
        return fail(vm, "a tensor reaches beyond its storage");
    return push(vm, make(PICKLE_TENSOR, payload(args)));
}

void pickle_tensor_get(const struct pickle *p, pickle_value v, struct pickle_tensor *out)
{
    const pickle_value *a;
    memset(out, 0, sizeof *out);
    pickle_tuple(p, v, &a);
    read_tensor(p, a, out);
}

/* OrderedDict() is empty; Python 2 wrote OrderedDict([[key, value], ...]). */
static spt_status build_dict(struct vm *vm, size_t n, const pickle_value *a)
{
    struct pickle *p = vm->p;
    pickle_value dict = 0, pair;
    const pickle_value list = n ? a[0] : 0;
    if (n > 1 || (n && pickle_tag_of(list) != PICKLE_LIST))
        return fail(vm, "an OrderedDict with arguments");
    TRY(new_container(vm, PICKLE_DICT, &dict));
    struct pickle_iter it = {0};
    while (n && pickle_next(p, list, &it, &pair)) {
        pickle_value kv[2];
        struct pickle_iter in = {0};
        const pickle_value *t;
        const enum pickle_tag tag = pickle_tag_of(pair);
        if (tag == PICKLE_TUPLE && pickle_tuple(p, pair, &t) == 2) {
            kv[0] = t[0];
            kv[1] = t[1];
        } else if (tag != PICKLE_LIST || !pickle_next(p, pair, &in, &kv[0]) ||
                   !pickle_next(p, pair, &in, &kv[1])) {
            return fail(vm, "an OrderedDict whose items are not pairs");
        }
        TRY(append(vm, dict, kv, 2));
    }
    return push(vm, dict);
}

static spt_status op_reduce(struct vm *vm)
{
    pickle_value args = 0, what = 0;
    const pickle_value *a;
    TRY(pop(vm, &args));
    TRY(pop(vm, &what));
    if (pickle_tag_of(args) != PICKLE_TUPLE || pickle_tag_of(what) != PICKLE_GLOBAL)
        return fail(vm, "a call of something that is not a known class");
    const size_t n = pickle_tuple(vm->p, args, &a);
    switch (payload(what)) {
    case G_ORDERED_DICT:
        return build_dict(vm, n, a);
    case G_REBUILD_TENSOR:
        return build_tensor(vm, args, n, a);
    case G_REBUILD_PARAMETER:
        if (n != 3 || pickle_tag_of(a[0]) != PICKLE_TENSOR)
            return fail(vm, "a parameter is not described as torch does");
        return push(vm, a[0]);
    default:
        return fail(vm, "a storage is called");
    }
}

/* Attributes of a state dict (_metadata) are dropped. */
static spt_status op_build(struct vm *vm)
{
    pickle_value state = 0, object = 0;
    TRY(pop(vm, &state));
    TRY(top(vm, &object));
    return pickle_tag_of(object) == PICKLE_DICT ? SPT_OK
                                                : fail(vm, "attributes for something not a dict");
}

static spt_status op_new(struct vm *vm, enum pickle_tag tag)
{
    pickle_value v = 0;
    TRY(new_container(vm, tag, &v));
    return push(vm, v);
}

static spt_status op_proto(struct vm *vm)
{
    const uint8_t version = cursor_u8(&vm->c);
    return version > 4 ? fail(vm, "a pickle protocol above 4") : SPT_OK;
}

static spt_status op_unknown(struct vm *vm, uint8_t op)
{
    return err_at(vm->err, SPT_E_FORMAT, vm->op_at,
                  "pickle byte %zu: operation 0x%02x does not occur in weights files", vm->op_at,
                  op);
}

static spt_status step(struct vm *vm, uint8_t op)
{
    cursor *c = &vm->c;
    switch (op) {
    case 0x80:
        return op_proto(vm);
    case 'c':
        return op_global(vm);
    case 'q':
        return op_put(vm, cursor_u8(c));
    case 'r':
        return op_put(vm, cursor_u32le(c));
    case 'h':
        return op_get(vm, cursor_u8(c));
    case 'j':
        return op_get(vm, cursor_u32le(c));
    case '(':
        return push(vm, make(PICKLE_MARK, 0));
    case ')':
        return op_tuple(vm, 0);
    case 0x85:
    case 0x86:
    case 0x87:
        return op_tuple(vm, (size_t)(op - 0x84));
    case 't':
        return op_tuple_from_mark(vm);
    case '}':
        return op_new(vm, PICKLE_DICT);
    case ']':
        return op_new(vm, PICKLE_LIST);
    case 0x8f:
        return push(vm, make(PICKLE_SET, 0));
    case 'N':
        return push(vm, make(PICKLE_NONE, 0));
    case 0x88:
    case 0x89:
        return push(vm, make(PICKLE_BOOL, op == 0x88));
    case 'J':
        return push(vm, make_int((int32_t)cursor_u32le(c)));
    case 'K':
        return push(vm, make_int(cursor_u8(c)));
    case 'M':
        return push(vm, make_int(cursor_u16le(c)));
    case 0x8a:
        return op_long1(vm);
    case 'G':
        cursor_take(c, 8);
        return push(vm, make(PICKLE_FLOAT, 0));
    case 'X':
        return op_string(vm, 4);
    case 'U':
        return op_string(vm, 1);
    case 'Q':
        return op_persid(vm);
    case 'R':
    case 0x81: /* NEWOBJ: cls.__new__(cls, *args) */
        return op_reduce(vm);
    case 'b':
        return op_build(vm);
    case 'u':
        return op_extend_from_mark(vm, PICKLE_DICT);
    case 's':
        return op_extend_by(vm, 2, PICKLE_DICT);
    case 'e':
        return op_extend_from_mark(vm, PICKLE_LIST);
    case 'a':
        return op_extend_by(vm, 1, PICKLE_LIST);
    default:
        return op_unknown(vm, op);
    }
}

static spt_status run(struct vm *vm)
{
    struct pickle *p = vm->p;
    size_t none;
    TRY(new_cells(vm, 1, &none)); /* cell 0 means "no chunk" */
    for (;;) {
        vm->op_at = cursor_offset(&vm->c);
        const uint8_t op = cursor_u8(&vm->c);
        if (cursor_ok(&vm->c) && op == '.')
            break;
        const spt_status st = cursor_ok(&vm->c) ? step(vm, op) : SPT_OK;
        if (!cursor_ok(&vm->c))
            return err_at(vm->err, SPT_E_FORMAT, vm->op_at,
                          "pickle byte %zu: cut short or a line is too long", vm->op_at);
        TRY(st);
    }
    TRY(pop(vm, &p->root));
    p->used = cursor_offset(&vm->c);
    return SPT_OK;
}

spt_status pickle_run(struct pickle *p, const void *bytes, size_t size, spt_err *err)
{
    memset(p, 0, sizeof *p);
    p->bytes = bytes;
    p->size = size;
    struct vm vm = {.p = p, .c = cursor_make(bytes, size), .err = err};
    const spt_status st = run(&vm);
    mem_free(p->stack);
    mem_free(p->memo);
    p->stack = p->memo = NULL;
    return st;
}

void pickle_release(struct pickle *p)
{
    mem_free(p->cell);
    mem_free(p->stack);
    mem_free(p->memo);
    memset(p, 0, sizeof *p);
}
