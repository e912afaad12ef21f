#include "golden.h"

#include "support.h"

struct golden {
    char name[64];
    unsigned char *bytes; /* the whole file, its data section 8-byte aligned */
    size_t size, data;    /* offset of the data section */
    json_t *header, *cases;
    const char *current;  /* name of the current case */
};

static unsigned char *read_whole(const char *path, size_t *size)
{
    FILE *file = fopen(path, "rb");
    if (!file) fail_msg("cannot open %s", path);
    fseek(file, 0, SEEK_END);
    *size = (size_t)ftell(file);
    rewind(file);
    unsigned char *bytes = malloc(*size + 1);
    if (!bytes || fread(bytes, 1, *size, file) != *size) fail_msg("cannot read %s", path);
    fclose(file);
    return bytes;
}

golden *golden_open(const char *name)
{
    golden *file = calloc(1, sizeof *file);
    assert_non_null(file);
    char leaf[96];
    snprintf(file->name, sizeof file->name, "%s", name);
    snprintf(leaf, sizeof leaf, "%s.safetensors", name);
    file->bytes = read_whole(golden_path(leaf), &file->size);
    uint64_t header = 0;
    memcpy(&header, file->bytes, sizeof header);
    assert_true(header % 8 == 0 && header < file->size);
    file->data = 8 + (size_t)header;
    file->header = json_loadb((const char *)file->bytes + 8, (size_t)header, 0, NULL);
    assert_non_null(file->header);
    file->cases = json_loads(golden_string(json_object_get(file->header, "__metadata__"), "cases"), 0, NULL);
    assert_non_null(file->cases);
    return file;
}

void golden_close(golden **file)
{
    json_decref((*file)->header);
    json_decref((*file)->cases);
    free((*file)->bytes);
    free(*file);
    *file = NULL;
}

int golden_count(const golden *file) { return (int)json_array_size(file->cases); }

json_t *golden_case(golden *file, int index)
{
    json_t *parameters = json_array_get(file->cases, (size_t)index);
    file->current = golden_string(parameters, "name");
    test_case("golden %s %s", file->name, file->current);
    return parameters;
}

static json_t *entry(const golden *file, const char *tensor)
{
    char key[256];
    snprintf(key, sizeof key, "%s/%s", file->current, tensor);
    return json_object_get(file->header, key);
}

bool golden_has(const golden *file, const char *tensor) { return entry(file, tensor) != NULL; }

bool golden_has_f32(const golden *file, const char *tensor)
{
    json_t *found = entry(file, tensor);
    return found && !strcmp(golden_string(found, "dtype"), "F32");
}

static const void *find(const golden *file, const char *tensor, const char *dtype, size_t width, size_t *n, int shape[4])
{
    json_t *found = entry(file, tensor);
    if (!found || strcmp(golden_string(found, "dtype"), dtype)) fail_msg("golden %s: no %s tensor %s in %s", file->name, dtype, tensor, file->current);
    json_t *dims = json_object_get(found, "shape"), *offsets = json_object_get(found, "data_offsets");
    size_t count = 1;
    for (size_t i = 0; i < 4; i++) {
        const int dim = i < json_array_size(dims) ? (int)json_integer_value(json_array_get(dims, i)) : 1;
        if (shape) shape[i] = dim;
        count *= (size_t)dim;
    }
    const size_t begin = (size_t)json_integer_value(json_array_get(offsets, 0)), end = (size_t)json_integer_value(json_array_get(offsets, 1));
    assert_true(end - begin == count * width && file->data + end <= file->size);
    if (n) *n = count;
    return file->bytes + file->data + begin;
}

const float *golden_f32(const golden *file, const char *tensor, size_t *n, int shape[4]) { return find(file, tensor, "F32", 4, n, shape); }
const double *golden_f64(const golden *file, const char *tensor, size_t *n, int shape[4]) { return find(file, tensor, "F64", 8, n, shape); }
const int32_t *golden_i32(const golden *file, const char *tensor, size_t *n) { return find(file, tensor, "I32", 4, n, NULL); }
const uint8_t *golden_u8(const golden *file, const char *tensor, size_t *n, int shape[4]) { return find(file, tensor, "U8", 1, n, shape); }

static json_t *parameter(const json_t *parameters, const char *key)
{
    json_t *value = json_object_get(parameters, key);
    if (!value) fail_msg("no parameter %s", key);
    return value;
}

double golden_number(const json_t *parameters, const char *key) { return json_number_value(parameter(parameters, key)); }
bool golden_flag(const json_t *parameters, const char *key) { return json_is_true(parameter(parameters, key)); }
const char *golden_string(const json_t *parameters, const char *key)
{
    const char *text = json_string_value(parameter(parameters, key));
    if (!text) fail_msg("parameter %s is no string", key);
    return text;
}
void golden_pair(const json_t *parameters, const char *key, int pair[2])
{
    const json_t *list = parameter(parameters, key);
    for (size_t i = 0; i < 2; i++) pair[i] = (int)json_integer_value(json_array_get(list, i));
}
