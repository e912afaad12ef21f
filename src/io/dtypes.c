/* Element types of weight files: names, sizes, conversion to float32. */
#include <math.h>
#include <string.h>

#include "base/memory.h"
#include "io/bytes.h"
#include "io/weights.h"

static const struct {
    const char *name;
    size_t size;
} dtypes[] = {
    [BNFF_F32] = {"F32", 4}, [BNFF_F64] = {"F64", 8}, [BNFF_F16] = {"F16", 2}, [BNFF_BF16] = {"BF16", 2},
    [BNFF_I64] = {"I64", 8}, [BNFF_I32] = {"I32", 4}, [BNFF_U8] = {"U8", 1},   [BNFF_BOOL] = {"BOOL", 1},
};
enum { DTYPES = sizeof dtypes / sizeof dtypes[0] };

size_t bf_dtype_size(bnff_dtype dtype) { return dtypes[dtype].size; }
const char *bf_dtype_name(bnff_dtype dtype) { return dtypes[dtype].name; }

bool bf_dtype_find(const char *name, bnff_dtype *dtype)
{
    for (int i = 0; i < DTYPES; i++)
        if (!strcmp(name, dtypes[i].name)) return *dtype = (bnff_dtype)i, true;
    return false;
}

bool bf_shape_bytes(bnff_dtype dtype, int rank, const int64_t *shape, int64_t *elements, size_t *bytes)
{
    *elements = 1;
    for (int i = 0; i < rank; i++)
        if (shape[i] < 0 || __builtin_mul_overflow(*elements, shape[i], elements)) return false;
    return bf_size_mul((size_t)*elements, bf_dtype_size(dtype), bytes);
}

static float from_bits(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* IEEE binary16: sign, 5 bits of exponent (bias 15), 10 of fraction; every value is exact in float32. */
static float from_f16(uint16_t half)
{
    const uint32_t sign = (uint32_t)(half & 0x8000) << 16, exponent = half >> 10 & 31, fraction = half & 1023;
    if (exponent == 31) return from_bits(sign | 0x7F800000u | fraction << 13);
    if (exponent == 0) return from_bits(sign) + (sign ? -1.0f : 1.0f) * ldexpf((float)fraction, -24);
    return from_bits(sign | (exponent + 112) << 23 | fraction << 13);
}

static float from_f64(const unsigned char *bytes)
{
    const uint64_t bits = bf_le64(bytes);
    double value;
    memcpy(&value, &bits, sizeof value);
    return (float)value;
}

void bnff_weights_to_f32(const bnff_weights_entry *entry, float *dst)
{
    const unsigned char *p = entry->data;
    const int64_t n = entry->elements;
    switch (entry->dtype) {
    case BNFF_F32: for (int64_t i = 0; i < n; i++) dst[i] = from_bits(bf_le32(p + 4 * i)); break;
    case BNFF_F64: for (int64_t i = 0; i < n; i++) dst[i] = from_f64(p + 8 * i); break;
    case BNFF_F16: for (int64_t i = 0; i < n; i++) dst[i] = from_f16(bf_le16(p + 2 * i)); break;
    case BNFF_BF16: for (int64_t i = 0; i < n; i++) dst[i] = from_bits((uint32_t)bf_le16(p + 2 * i) << 16); break;
    case BNFF_I64: for (int64_t i = 0; i < n; i++) dst[i] = (float)(int64_t)bf_le64(p + 8 * i); break;
    case BNFF_I32: for (int64_t i = 0; i < n; i++) dst[i] = (float)(int32_t)bf_le32(p + 4 * i); break;
    case BNFF_U8: for (int64_t i = 0; i < n; i++) dst[i] = p[i]; break;
    case BNFF_BOOL: for (int64_t i = 0; i < n; i++) dst[i] = p[i] != 0; break;
    }
}
