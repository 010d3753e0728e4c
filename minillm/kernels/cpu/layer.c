// What a decoder layer computes per token beside matrix products and attention; all in float32, row by row.
#include "simd.h"

#define SMALL 16384  // numbers; to wake other threads for fewer would take longer

// x: [n, size], rows x_stride numbers apart. With `residual` [n, size], x is added to it, and the sum is normed.
void rms_norm(long n, long size, const float *x, long x_stride, float *residual, const float *weight, float eps,
              float *out, int threads) {
#pragma omp parallel for num_threads(threads) if (n * size > SMALL)
  for (long i = 0; i < n; i++) {
    const float *from = x + i * x_stride;
    if (residual) {
      float *stream = residual + i * size;
      for (long k = 0; k < size; k++) stream[k] += from[k];
      from = stream;
    }
    vf squares = {0};
    for (long k = 0; k < size; k += LANES) {
      vf v = load_part(from + k, (size - k) * 4);
      squares = fused(v, v, squares);
    }
    float scale = 1 / sqrtf(sum(squares) / size + eps);
    for (long k = 0; k < size; k++) out[i * size + k] = weight[k] * (from[k] * scale);
  }
}

// gate_up: [n, 2 * m] → silu(first half) * second half, [n, m], where silu(x) = x / (1 + e^-x).
void silu_and_mul(long n, long m, const float *gate_up, float *out, int threads) {
#pragma omp parallel for num_threads(threads) if (n * m > SMALL)
  for (long i = 0; i < n; i++) {
    const float *gate = gate_up + i * 2 * m, *up = gate + m;
    for (long k = 0; k < m; k += LANES) {
      vf x = load_part(gate + k, (m - k) * 4), y = load_part(up + k, (m - k) * 4);
      vf found = x / (1 + exp2_fast(x * -1.44269504f)) * y;
      memcpy(out + i * m + k, &found, MIN(LANES, m - k) * 4);
    }
  }
}
