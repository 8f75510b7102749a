/* GF(256) with the polynomial x^8 + x^4 + x^3 + x + 1, as SLIP-0039 has it. No table is looked up
 * and no branch taken by what a byte is, so that neither time nor cache tells of it. */
#ifndef SSO_COMMON_GF256_H
#define SSO_COMMON_GF256_H

#include <stddef.h>
#include <stdint.h>

uint8_t gf256_multiply(uint8_t a, uint8_t b);
uint8_t gf256_invert(uint8_t a); /* 0 for 0 */

/* One point of a polynomial over vectors: its value at x. */
struct gf256_point {
    uint8_t x;
    const uint8_t *y;
};

/* The value at `x` of the polynomial of lowest degree through `points`, whose x differ from each
 * other. `out` takes `bytes`, as each y has, and is none of them. */
void gf256_interpolate(const struct gf256_point *points, size_t count, uint8_t x, size_t bytes,
                       uint8_t *out) __attribute__((nonnull(1, 5)));

#endif
