#include "data/idx.h"

#include <string.h>

#include <zlib.h>

#include "base/error.h"
#include "base/files.h"
#include "base/memory.h"

/* Bytes that come straight from memory or through inflate. */
typedef struct stream {
    const char *name;
    bnff_error *error;
    const uint8_t *bytes;
    size_t left;
    z_stream z;
    bool gzip, done;
} stream;

static bnff_status cut_off(const stream *s) { return bf_fail(s->error, BNFF_E_FORMAT, "%s: cut off before its last item", s->name); }

static bnff_status inflate_bytes(stream *s, uint8_t *out, size_t count)
{
    while (count > 0) {
        const uInt in = s->left > 1u << 30 ? 1u << 30 : (uInt)s->left, want = count > 1u << 30 ? 1u << 30 : (uInt)count;
        s->z.next_in = (Bytef *)(uintptr_t)s->bytes, s->z.avail_in = in;
        s->z.next_out = out, s->z.avail_out = want;
        const int code = s->done ? Z_STREAM_END : inflate(&s->z, Z_NO_FLUSH);
        const size_t got = want - s->z.avail_out;
        s->bytes += in - s->z.avail_in, s->left -= in - s->z.avail_in;
        out += got, count -= got;
        if (code == Z_STREAM_END) s->done = true;
        if (code == Z_MEM_ERROR) return bf_fail(s->error, BNFF_E_MEMORY, "%s: no memory to decompress it", s->name);
        if (code != Z_OK && code != Z_STREAM_END && code != Z_BUF_ERROR)
            return bf_fail(s->error, BNFF_E_FORMAT, "%s: damaged gzip data: %s", s->name, s->z.msg ? s->z.msg : "unknown");
        if (count && (s->done || code == Z_BUF_ERROR)) return cut_off(s); /* Z_BUF_ERROR: no byte in or out */
    }
    return BNFF_OK;
}

static bnff_status take(stream *s, uint8_t *out, size_t count)
{
    if (s->gzip) return inflate_bytes(s, out, count);
    if (s->left < count) return cut_off(s);
    memcpy(out, s->bytes, count);
    s->bytes += count, s->left -= count;
    return BNFF_OK;
}

/* Nothing may follow; for gzip this also makes inflate compare the checksum. */
static bnff_status expect_end(stream *s)
{
    if (!s->gzip) return s->left ? bf_fail(s->error, BNFF_E_FORMAT, "%s: %zu bytes more than its header says", s->name, s->left) : BNFF_OK;
    uint8_t extra;
    s->z.next_in = (Bytef *)(uintptr_t)s->bytes, s->z.avail_in = (uInt)(s->left > 1u << 30 ? 1u << 30 : s->left);
    s->z.next_out = &extra, s->z.avail_out = 1;
    const int code = s->done ? Z_STREAM_END : inflate(&s->z, Z_NO_FLUSH);
    if (s->z.avail_out == 0) return bf_fail(s->error, BNFF_E_FORMAT, "%s: more bytes than its header says", s->name);
    if (code == Z_STREAM_END) return BNFF_OK;
    return code == Z_DATA_ERROR ? bf_fail(s->error, BNFF_E_FORMAT, "%s: damaged gzip data: %s", s->name, s->z.msg ? s->z.msg : "unknown") : cut_off(s);
}

static bnff_status read_header(stream *s, int rank, bf_idx *idx)
{
    uint8_t magic[4], dimension[4];
    BF_TRY(take(s, magic, 4));
    if (magic[0] || magic[1] || magic[2] != 8)
        return bf_fail(s->error, BNFF_E_FORMAT, "%s: not an idx file of bytes: begins with %02x%02x%02x%02x, not 0000080%d", s->name, magic[0],
                       magic[1], magic[2], magic[3], rank);
    if (magic[3] != rank)
        return bf_fail(s->error, BNFF_E_FORMAT, "%s: %d dimensions where %s have %d", s->name, magic[3], rank == 1 ? "labels" : "images", rank);
    idx->rank = rank;
    for (int i = 0; i < rank; i++) {
        BF_TRY(take(s, dimension, 4));
        idx->size[i] = (int64_t)dimension[0] << 24 | dimension[1] << 16 | dimension[2] << 8 | dimension[3];
        if (idx->size[i] < 1) return bf_fail(s->error, BNFF_E_FORMAT, "%s: dimension %d is 0", s->name, i);
    }
    return BNFF_OK;
}

static bnff_status read_all(stream *s, size_t file_size, int rank, bf_idx *idx)
{
    BF_TRY(read_header(s, rank, idx));
    if (rank == 3 && (idx->size[1] > 16384 || idx->size[2] > 16384))
        return bf_fail(s->error, BNFF_E_FORMAT, "%s: images of %lld x %lld pixels, at most 16384 a side", s->name, (long long)idx->size[2],
                       (long long)idx->size[1]);
    size_t bytes = 1;
    for (int i = 0; i < rank; i++)
        if (!bf_size_mul(bytes, (size_t)idx->size[i], &bytes)) return cut_off(s);
    if (bytes / (s->gzip ? 1032 : 1) > file_size) return cut_off(s); /* deflate shrinks 1032 times at most */
    if (!(idx->data = bf_alloc(bytes))) return bf_fail(s->error, BNFF_E_MEMORY, "%s: no memory for its %zu bytes", s->name, bytes);
    BF_TRY(take(s, idx->data, bytes));
    return expect_end(s);
}

bnff_status bf_idx_parse(const void *bytes, size_t size, const char *name, int rank, bf_idx *idx, bnff_error *error)
{
    *idx = (bf_idx){0};
    stream s = {.name = name, .error = error, .bytes = bytes, .left = size};
    s.gzip = size >= 2 && s.bytes[0] == 0x1F && s.bytes[1] == 0x8B;
    if (s.gzip && inflateInit2(&s.z, 16 + MAX_WBITS) != Z_OK) return bf_fail(error, BNFF_E_MEMORY, "%s: no memory to decompress it", name);
    const bnff_status status = read_all(&s, size, rank, idx);
    if (s.gzip) inflateEnd(&s.z);
    if (status != BNFF_OK) {
        bf_free(idx->data);
        *idx = (bf_idx){0};
    }
    return status;
}

bnff_status bf_idx_read(const char *path, int rank, bf_idx *idx, bnff_error *error)
{
    void *bytes;
    size_t size;
    *idx = (bf_idx){0};
    BF_TRY(bf_file_read(path, (size_t)4 << 30, &bytes, &size, error));
    const bnff_status status = bf_idx_parse(bytes, size, path, rank, idx, error);
    bf_free(bytes);
    return status;
}
