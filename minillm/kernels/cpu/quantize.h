// Rounds activations to 8 bits, for products with weights of 8 or 4.
#pragma once
#include "simd.h"

// x ≈ scale * (a whole number from -127 to 127). Returns the scale, which is NaN if x holds an infinity or a NaN:
// otherwise they would vanish here, and whoever looks for a fault would look elsewhere.
INLINE float quantize(const float *x, long n, int8_t *to) {
  vf peaks = {0}, zeros = {0};
  for (long k = 0; k < n; k += LANES) {
    vf v = load_part(x + k, (n - k) * 4);
    peaks = larger(peaks, magnitude(v));
    zeros += v * 0;
  }
  float peak = largest(peaks), inverse = peak > 0 ? 127 / peak : 0;
  for (long k = 0; k < n; k++) to[k] = (int8_t)(int)(x[k] * inverse + (x[k] < 0 ? -0.5f : 0.5f));
  return peak / 127 + sum(zeros);
}
