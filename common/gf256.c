#include "common/gf256.h"

#include <string.h>

#define REDUCTION 0x1b /* x^8 = x^4 + x^3 + x + 1 */

uint8_t gf256_multiply(uint8_t a, uint8_t b)
{
    unsigned product = 0, shifted = a;
    for (unsigned bit = 0; bit < 8; bit++) {
        product ^= shifted & (0u - ((unsigned)(b >> bit) & 1u));
        unsigned carry = 0u - (shifted >> 7);
        shifted = ((shifted << 1) ^ (carry & REDUCTION)) & 0xffu;
    }
    return (uint8_t)product;
}

uint8_t gf256_invert(uint8_t a)
{
    /* a^254, since a^255 = 1 for every a but 0. */
    uint8_t result = 1, power = a;
    for (unsigned bit = 1; bit < 8; bit++) {
        power = gf256_multiply(power, power);
        result = gf256_multiply(result, power);
    }
    return result;
}

/* The Lagrange basis polynomial of point `i` at x. */
static uint8_t basis(const struct gf256_point *points, size_t count, size_t i, uint8_t x)
{
    uint8_t numerator = 1, denominator = 1;
    for (size_t j = 0; j < count; j++) {
        if (j == i)
            continue;
        numerator = gf256_multiply(numerator, x ^ points[j].x);
        denominator = gf256_multiply(denominator, points[i].x ^ points[j].x);
    }
    return gf256_multiply(numerator, gf256_invert(denominator));
}

void gf256_interpolate(const struct gf256_point *points, size_t count, uint8_t x, size_t bytes,
                       uint8_t *out)
{
    memset(out, 0, bytes);
    for (size_t i = 0; i < count; i++) {
        uint8_t factor = basis(points, count, i, x);
        for (size_t k = 0; k < bytes; k++)
            out[k] ^= gf256_multiply(factor, points[i].y[k]);
    }
}
