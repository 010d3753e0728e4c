// Matrix products with 8-bit weights: out = x · weightᵀ + bias, where x is rounded to 8 bits as well, row by row.
//
// Each lane of a vector has an output of its own. A vector of weights holds, of OUTS outputs, the weights of the same
// four inputs (`interleave` in quantized.py lays them out like that), and is multiplied with these four numbers of x
// in every lane. So nothing is ever added up across lanes, which for rows of 576 bytes, nine vectors, would take as
// long as the products.
//
// Whole numbers are summed up exactly, so no order of the sums changes a bit.
#include "quantize.h"
#include "threads.h"

enum { OUTS = 16, INS = 4, VECTORS = OUTS * INS / BYTES };  // outputs in a group, inputs in a unit, vectors in both

// A tile, groups of outputs by rows of x, has as many sums as registers hold beside what they're made of.
#if BYTES == 64
enum { ROWS = 8, GROUPS = 3 };
#else
enum { ROWS = 4, GROUPS = 1 };
#endif

typedef struct {
  // What CPUKernels passes, eight bytes each and in this order.
  long n, in, out;
  const float *from;  // x: n rows of `in` numbers, from_stride numbers apart
  long from_stride;
  const char *data;   // [groups, units, OUTS, INS]: weight + 128, so that they're unsigned
  const float *scales, *bias;  // [out]; the bias may be NULL
  float *result;      // [n, out]
  long threads;
  long units, group_bytes;
  long piece_groups;  // groups of outputs in a piece of work
  int8_t *x;          // [n / ROWS, units, ROWS, INS]: whole numbers, and zeros where there's no row or no input
  float *x_scales;    // [n]
  int32_t *x_sums;    // [n], sum of the row's whole numbers
} Product;

static void pack_row(void *job, long row) {
  const Product *p = job;
  int8_t whole[p->units * INS];
  memset(whole, 0, sizeof whole);
  p->x_scales[row] = quantize(p->from + row * p->from_stride, p->in, whole);
  int8_t *to = p->x + (row / ROWS * p->units * ROWS + row % ROWS) * INS;
  int32_t sum = 0;
  for (long k = 0; k < p->in; k++) sum += whole[k];
  p->x_sums[row] = sum;
  for (long k = 0; k < p->units; k++) memcpy(to + k * ROWS * INS, whole + k * INS, INS);
}

// Scales and bias of one row's sums with one vector of outputs, and off they go.
INLINE void finish(const Product *p, vi sum, long out, long row) {
  long left = (p->out - out) * 4;
  if (left <= 0) return;
  vf found = __builtin_convertvector(sum, vf) * (load_part(p->scales + out, left) * p->x_scales[row]);
  if (p->bias) found += load_part(p->bias + out, left);
  memcpy(p->result + row * p->out + out, &found, MIN(BYTES, left));
}

// `groups` groups of outputs times `rows` rows of x. What lies at `ahead` is called into the cache meanwhile.
INLINE void tile(const Product *p, int groups, int rows, long group, long row, const char *ahead) {
  const char *w = p->data + group * p->group_bytes;
  const int8_t *x = p->x + (row / ROWS * p->units * ROWS + row % ROWS) * INS;
  vi sums[ROWS][GROUPS * VECTORS];
  // Unsigned weights are 128 too large: the sum begins with what takes that off again.
#pragma GCC unroll 8
  for (int j = 0; j < rows; j++)
#pragma GCC unroll 4
    for (int i = 0; i < groups * VECTORS; i++) sums[j][i] = -128 * p->x_sums[row + j] - (vi){0};
  for (long k = 0; k < p->units; k++, w += OUTS * INS, x += ROWS * INS) {
    vu8 weights[GROUPS * VECTORS];
#pragma GCC unroll 4
    for (int i = 0; i < groups * VECTORS; i++)
      weights[i] = (vu8)load(w + i / VECTORS * p->group_bytes + i % VECTORS * BYTES);
    __builtin_prefetch(ahead + k * OUTS * INS);
#pragma GCC unroll 8
    for (int j = 0; j < rows; j++) {
      int32_t unit;
      memcpy(&unit, x + j * INS, INS);
#pragma GCC unroll 4
      for (int i = 0; i < groups * VECTORS; i++)
        sums[j][i] = dot_bytes(sums[j][i], weights[i], (vi8)(unit - (vi){0}));
    }
  }
#pragma GCC unroll 8
  for (int j = 0; j < rows; j++)
#pragma GCC unroll 4
    for (int i = 0; i < groups * VECTORS; i++)
      finish(p, sums[j][i], (group * VECTORS + i) * LANES, row + j);
}

// Some groups of outputs times all rows of x. These groups stay in the first or second cache while the rows pass by,
// and each tile calls for another one of the groups that come next.
INLINE void column(const Product *p, int groups, long group) {
  const char *ahead = p->data + (group + groups) * p->group_bytes;
  long row = 0;
  for (; row + ROWS <= p->n; row += ROWS) tile(p, groups, ROWS, group, row, ahead + row / ROWS % groups * p->group_bytes);
  if (row + 4 <= p->n) tile(p, groups, 4, group, row, ahead), row += 4;
  if (row + 2 <= p->n) tile(p, groups, 2, group, row, ahead), row += 2;
  if (row < p->n) tile(p, groups, 1, group, row, ahead);
}

enum { PIECE_BYTES = 262144 };  // of weights: enough to be worth a thread's while

static void piece(void *job, long index) {
  const Product *p = job;
  long group = index * p->piece_groups, end = MIN(group + p->piece_groups, (p->out + OUTS - 1) / OUTS);
  for (; group + GROUPS <= end; group += GROUPS) column(p, GROUPS, group);
  for (; group < end; group++) column(p, 1, group);
}

// One argument that holds them all, since ctypes would take two microseconds to convert a dozen. Returns 0, or -1 if
// there is no memory.
int linear_int8(const void *arguments) {
  Product p;
  memcpy(&p, arguments, offsetof(Product, units));
  p.units = (p.in + INS - 1) / INS;
  p.group_bytes = p.units * OUTS * INS;
  long x_bytes = ROUND_UP(p.n, ROWS) * p.units * INS;
  p.x = aligned_alloc(BYTES, ROUND_UP(x_bytes + p.n * 8 + 1, BYTES));
  if (!p.x) return -1;
  p.x_scales = (float *)(p.x + x_bytes);
  p.x_sums = (int32_t *)(p.x_scales + p.n);
  int threads = p.n * p.in * p.out < 100000 ? 1 : p.threads;  // to wake the others takes microseconds
  in_parallel(p.n > 4 ? threads : 1, p.n, pack_row, &p);
  long groups = (p.out + OUTS - 1) / OUTS;
  p.piece_groups = ROUND_UP(MIN(PIECE_BYTES / p.group_bytes + 1, groups / (threads * 4L) + 1), GROUPS);
  in_parallel(threads, (groups + p.piece_groups - 1) / p.piece_groups, piece, &p);
  free(p.x);
  return 0;
}
