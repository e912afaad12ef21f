/* The names that torch.save uses to describe tensors, and what a call of them describes. All others are foreign. */
#include <string.h>

#include "io/pickle.h"

typedef enum bf_torch_role {
    ROLE_FOREIGN,
    ROLE_ORDERED_DICT, /* OrderedDict(), of Python 2: OrderedDict([[key, value], ...]) */
    ROLE_SIZE,         /* torch.Size((2, 3)) */
    ROLE_STORAGE,      /* class of a storage */
    ROLE_DTYPE,
    ROLE_TENSOR,       /* (storage, offset, size, stride, requires_grad, hooks, metadata): later ones may be missing */
    ROLE_TENSOR_V3,    /* (storage, offset, size, stride, requires_grad, hooks, dtype, metadata) */
    ROLE_PARAMETER,    /* (data, ...) */
    ROLE_FROM_TYPE     /* (function, type, args, state): calls function(*args) */
} bf_torch_role;

static const struct {
    const char *module, *name;
    bf_torch_role role;
} functions[] = {
    {"collections", "OrderedDict", ROLE_ORDERED_DICT},
    {"torch", "Size", ROLE_SIZE},
    {"torch._utils", "_rebuild_tensor", ROLE_TENSOR},
    {"torch._utils", "_rebuild_tensor_v2", ROLE_TENSOR},
    {"torch._utils", "_rebuild_tensor_v3", ROLE_TENSOR_V3},
    {"torch._utils", "_rebuild_parameter", ROLE_PARAMETER},
    {"torch._utils", "_rebuild_parameter_with_state", ROLE_PARAMETER},
    {"torch._tensor", "_rebuild_from_type_v2", ROLE_FROM_TYPE},
};

static const bf_torch_type storages[] = {
    {"FloatStorage", BNFF_F32, 4}, {"DoubleStorage", BNFF_F64, 8},  {"HalfStorage", BNFF_F16, 2}, {"BFloat16Storage", BNFF_BF16, 2},
    {"LongStorage", BNFF_I64, 8},  {"IntStorage", BNFF_I32, 4},     {"ByteStorage", BNFF_U8, 1},  {"BoolStorage", BNFF_BOOL, 1},
    {"ShortStorage", -1, 2},       {"CharStorage", -1, 1},          {"ComplexFloatStorage", -1, 8}, {"ComplexDoubleStorage", -1, 16},
    {"QInt8Storage", -1, 1},       {"QUInt8Storage", -1, 1},        {"QInt32Storage", -1, 4},     {"QUInt4x2Storage", -1, 1},
    {"QUInt2x4Storage", -1, 1},    {"UntypedStorage", BNFF_U8, 1},
};

static const bf_torch_type dtypes[] = {
    {"float32", BNFF_F32, 4}, {"float64", BNFF_F64, 8},  {"float16", BNFF_F16, 2}, {"bfloat16", BNFF_BF16, 2},
    {"int64", BNFF_I64, 8},   {"int32", BNFF_I32, 4},    {"uint8", BNFF_U8, 1},    {"bool", BNFF_BOOL, 1},
    {"int16", -1, 2},         {"int8", -1, 1},           {"uint16", -1, 2},        {"uint32", -1, 4},
    {"uint64", -1, 8},        {"float8_e4m3fn", -1, 1},  {"float8_e5m2", -1, 1},   {"float8_e4m3fnuz", -1, 1},
    {"float8_e5m2fnuz", -1, 1}, {"float8_e8m0fnu", -1, 1},
};

static const bf_torch_type *find_type(const bf_torch_type *types, size_t count, bf_text_span name)
{
    for (size_t i = 0; i < count; i++)
        if (bf_text_is(name, types[i].name)) return &types[i];
    return NULL;
}

void bf_torch_resolve(bf_pickle_value *value)
{
    const bf_text_span module = value->class.module, name = value->class.name;
    for (size_t i = 0; i < sizeof functions / sizeof functions[0]; i++)
        if (bf_text_is(module, functions[i].module) && bf_text_is(name, functions[i].name)) value->class.role = (int)functions[i].role;
    if (!bf_text_is(module, "torch") && !bf_text_is(module, "torch.cuda") && !bf_text_is(module, "torch.storage")) return;
    if ((value->class.type = find_type(storages, sizeof storages / sizeof storages[0], name))) value->class.role = ROLE_STORAGE;
    else if ((value->class.type = find_type(dtypes, sizeof dtypes / sizeof dtypes[0], name))) value->class.role = ROLE_DTYPE;
}

static bf_pickle_value *broken(bf_pickle *p, const char *what)
{
    bf_pickle_broken(p, what);
    return NULL;
}

/* Argument i, or NULL when there are fewer or it is not of that kind. */
static const bf_pickle_value *argument(const bf_pickle_value *args, uint32_t i, bf_pickle_kind kind)
{
    return i < args->list.count && args->list.items[i]->kind == kind ? args->list.items[i] : NULL;
}

static bf_pickle_value *foreign_object(bf_pickle *p, const bf_pickle_value *class)
{
    bf_pickle_value *value = bf_pickle_new(p, BF_PICKLE_OPAQUE);
    if (value && (class->kind == BF_PICKLE_CLASS || class->kind == BF_PICKLE_OPAQUE)) value->class = class->class;
    if (value) value->class.role = ROLE_FOREIGN;
    return value;
}

static bf_pickle_value *ordered_dict(bf_pickle *p, const bf_pickle_value *args)
{
    bf_pickle_value *dict = bf_pickle_new(p, BF_PICKLE_DICT);
    const bf_pickle_value *pairs = argument(args, 0, BF_PICKLE_LIST);
    for (uint32_t i = 0; dict && pairs && i < pairs->list.count; i++) {
        const bf_pickle_value *pair = pairs->list.items[i];
        if ((pair->kind != BF_PICKLE_LIST && pair->kind != BF_PICKLE_TUPLE) || pair->list.count != 2)
            return broken(p, "an OrderedDict of what are no pairs");
        if (!bf_pickle_append(p, dict, pair->list.items[0]) || !bf_pickle_append(p, dict, pair->list.items[1])) return NULL;
    }
    return dict;
}

static bool is_true(const bf_pickle_value *value) { return value->kind == BF_PICKLE_BOOL && value->integer; }

/* metadata: {"conj": True} or {"neg": True} say that the values are still to be conjugated or negated. */
static bool is_lazy(const bf_pickle_value *metadata)
{
    if (!metadata) return false;
    for (uint32_t i = 0; i + 1 < metadata->list.count; i += 2)
        if (is_true(metadata->list.items[i + 1])) return true;
    return false;
}

static bf_pickle_value *tensor(bf_pickle *p, const bf_pickle_value *args, bool v3)
{
    const bf_pickle_value *storage = argument(args, 0, BF_PICKLE_STORAGE), *offset = argument(args, 1, BF_PICKLE_INT);
    const bf_pickle_value *sizes = argument(args, 2, BF_PICKLE_TUPLE), *strides = argument(args, 3, BF_PICKLE_TUPLE);
    const bf_pickle_value *dtype = v3 ? argument(args, 6, BF_PICKLE_CLASS) : NULL;
    if (!storage || !offset || !sizes || !strides) return broken(p, "a tensor without storage, offset, sizes and strides");
    if (v3 && (!dtype || dtype->class.role != ROLE_DTYPE)) return broken(p, "a tensor of unknown dtype");
    bf_pickle_value *value = bf_pickle_new(p, BF_PICKLE_TENSOR);
    if (!value) return NULL;
    value->tensor.storage = storage;
    value->tensor.offset = offset->integer;
    value->tensor.sizes = sizes;
    value->tensor.strides = strides;
    value->tensor.type = v3 ? dtype->class.type : storage->storage.type;
    value->tensor.lazy = is_lazy(argument(args, v3 ? 7 : 6, BF_PICKLE_DICT));
    return value;
}

/* A call within a call: its arguments are smaller than the pickle, but nothing else bounds their nesting. */
static bf_pickle_value *from_type(bf_pickle *p, const bf_pickle_value *args)
{
    const bf_pickle_value *function = argument(args, 0, BF_PICKLE_CLASS), *inner = argument(args, 2, BF_PICKLE_TUPLE);
    if (!function || !inner) return broken(p, "a tensor subclass without function and arguments");
    switch (function->class.role) {
    case ROLE_TENSOR: return tensor(p, inner, false);
    case ROLE_TENSOR_V3: return tensor(p, inner, true);
    default: return foreign_object(p, function);
    }
}

bf_pickle_value *bf_torch_call(bf_pickle *p, const bf_pickle_value *function, bf_pickle_value *args)
{
    if (function->kind != BF_PICKLE_CLASS) return foreign_object(p, function);
    switch ((bf_torch_role)function->class.role) {
    case ROLE_ORDERED_DICT: return ordered_dict(p, args);
    case ROLE_SIZE:
        if (!argument(args, 0, BF_PICKLE_TUPLE)) return broken(p, "a torch.Size of what is no tuple");
        return args->list.items[0];
    case ROLE_TENSOR: return tensor(p, args, false);
    case ROLE_TENSOR_V3: return tensor(p, args, true);
    case ROLE_PARAMETER:
        if (args->list.count == 0) return broken(p, "a parameter without data");
        return args->list.items[0];
    case ROLE_FROM_TYPE: return from_type(p, args);
    case ROLE_FOREIGN: case ROLE_STORAGE: case ROLE_DTYPE: break;
    }
    return foreign_object(p, function);
}

/* ("storage", class, key, location, elements) and in old files a sixth: None or (view key, first, elements).
 * ("module", class, source file, source) announces a pickled class: foreign. */
bf_pickle_value *bf_torch_persistent(bf_pickle *p, const bf_pickle_value *id)
{
    const bf_pickle_value *tag = id->kind == BF_PICKLE_TUPLE ? argument(id, 0, BF_PICKLE_TEXT) : NULL;
    if (!tag) return broken(p, "a persistent id that is no tuple");
    const bf_pickle_value *class = argument(id, 1, BF_PICKLE_CLASS);
    if (!bf_text_is(tag->text, "storage")) return class ? foreign_object(p, class) : broken(p, "an unknown persistent id");
    const bf_pickle_value *key = argument(id, 2, BF_PICKLE_TEXT), *elements = argument(id, 4, BF_PICKLE_INT);
    const bf_pickle_value *view = argument(id, 5, BF_PICKLE_TUPLE);
    if (!class || class->class.role != ROLE_STORAGE || !key || !elements) return broken(p, "a storage without type, key and size");
    bf_pickle_value *value = bf_pickle_new(p, BF_PICKLE_STORAGE);
    if (!value) return NULL;
    value->storage.key = key->text;
    value->storage.type = class->class.type;
    value->storage.elements = elements->integer;
    value->storage.next = p->storages;
    p->storages = value;
    if (!view) return value;
    const bf_pickle_value *first = argument(view, 1, BF_PICKLE_INT), *count = argument(view, 2, BF_PICKLE_INT);
    if (!first || !count || first->integer < 0 || count->integer < 0) return broken(p, "a view of a storage without bounds");
    value->storage.first = first->integer;
    value->storage.elements = count->integer;
    return value;
}
