/* Little-endian integers at any alignment. */
#ifndef BF_BYTES_H
#define BF_BYTES_H

#include <stdint.h>

static inline uint16_t bf_le16(const unsigned char *p) { return (uint16_t)(p[0] | p[1] << 8); }
static inline uint32_t bf_le32(const unsigned char *p) { return bf_le16(p) | (uint32_t)bf_le16(p + 2) << 16; }
static inline uint64_t bf_le64(const unsigned char *p) { return bf_le32(p) | (uint64_t)bf_le32(p + 4) << 32; }

static inline void bf_put_le64(unsigned char *p, uint64_t value)
{
    for (int i = 0; i < 8; i++) p[i] = (unsigned char)(value >> 8 * i);
}

#endif
