// Matrix products with weights of 32 or 4 bits: out = x · weightᵀ + bias. See linear_packed.c for 16 and 8 bits.
//
// Here weights lie as the checkpoint has them: a row [in] of theirs is contiguous, and so is a row of x, so each number of the result
// is a dot product of two rows. With one row of x (decode), all time goes into reading the weights; with many rows
// (prefill), into multiplying. One loop serves both: it reads a vector of weights once for several rows of x.
//
// The numbers of a dot product are always added in the same order, whatever the number of rows and wherever in the
// batch a row stands: so a request's result doesn't depend on its neighbours, not even in the last bit.
#include "quantize.h"
#include "threads.h"

enum kind { INT4 = 4, F32 = 32 };

typedef struct {
  // What CPUKernels.linear passes, eight bytes each and in this order.
  long n, in, out;
  const float *from;  // x: n rows of `in` numbers, from_stride numbers apart
  long from_stride;
  const char *data;   // rows of weights, row_bytes each
  const bf16 *scales; // INT4: [out, groups], as are mins
  const float *bias;  // [out] or NULL
  float *result;      // [n, out]
  long threads, kind, row_bytes;
  const bf16 *mins;
  // Rows of x, converted to what the weights are multiplied with, padded with zeros to whole vectors.
  char *x;
  long x_bytes;       // of a row
  float *x_scales;    // INT4: see pack_int4
  long block_rows;    // rows of weights in a piece of work
} Product;

// A tile, rows of weights by rows of x, has as many dot products as a vector has lanes: so one sum_each finishes them
// all. Of rows of x it has this many, or 2 or 1 of the last ones.
#define TILE_ROWS (LANES / 4)
#define GROUP 32                       // INT4: weights that share a scale and a minimum
#define VECTOR_GROUPS (BYTES / GROUP)  // INT4: groups in a vector of bytes

// Bytes of weights that one step of the loop takes in; of x it's BYTES.
INLINE long w_step(enum kind kind) { return kind == INT4 ? BYTES / 2 : BYTES; }

// ---- Rows of x -----------------------------------------------------------------------------------------------------

// Each group has a scale and a sum of its own. They go into those lanes of two vectors in which dot_bytes will put
// this group's products: lane i belongs to group i / 4 % VECTOR_GROUPS, since the weights unfold (see unfold_int4) to
// the first halves of the groups, then their second halves.
static void pack_int4(const float *x, long n, int8_t *to, float *scales) {
  for (long g = 0; g * GROUP < n; g++) {
    int8_t whole[GROUP] = {0};
    long size = MIN(GROUP, n - g * GROUP);
    float scale = quantize(x + g * GROUP, size, whole), sum = 0;
    for (long k = 0; k < size; k++) sum += x[g * GROUP + k];
    float *lanes = scales + g / VECTOR_GROUPS * 2 * LANES;
    for (int i = 0; i < LANES; i++)
      if (i / 4 % VECTOR_GROUPS == g % VECTOR_GROUPS) {
        lanes[i] = scale;
        lanes[LANES + i] = sum / (LANES / VECTOR_GROUPS);  // all of a group's lanes are added up in the end
      }
    int8_t *first = to + g / VECTOR_GROUPS * BYTES + g % VECTOR_GROUPS * (GROUP / 2);
    memcpy(first, whole, GROUP / 2);
    memcpy(first + BYTES / 2, whole + GROUP / 2, GROUP / 2);
  }
}

static void pack_row(const Product *p, long row) {
  const float *x = p->from + row * p->from_stride;
  char *to = p->x + row * p->x_bytes;
  memset(to, 0, p->x_bytes);
  if (p->kind == F32)
    memcpy(to, x, p->in * 4);
  else
    pack_int4(x, p->in, (int8_t *)to, p->x_scales + row * (p->x_bytes / BYTES) * 2 * LANES);
}

// ---- Tiles ---------------------------------------------------------------------------------------------------------

INLINE vu8 unfold_int4(const char *from) {  // BYTES / 2 bytes: their lower halves, then their upper halves
#if BYTES == 64
  vu64 twice = (vu64)_mm512_broadcast_i64x4(_mm256_loadu_si256((const __m256i *)from));
  const vu64 shift = {0, 0, 0, 0, 4, 4, 4, 4};
#else
  uint64_t part[2];
  memcpy(part, from, 16);
  vu64 twice = {part[0], part[1], part[0], part[1]};
  const vu64 shift = {0, 0, 4, 4};
#endif
  return (vu8)(twice >> shift & 0x0f0f0f0f0f0f0f0full);
}

// Scales (or minimums) of a vector's groups, in the groups' lanes.
INLINE vf spread(const bf16 *from) {
#if BYTES == 64
  uint32_t both;
  memcpy(&both, from, 4);
  const vu shift = {16, 16, 16, 16, 0, 0, 0, 0, 16, 16, 16, 16, 0, 0, 0, 0};
  return (vf)((both - (vu){0}) << shift & 0xffff0000u);
#else
  return (vf)(((uint32_t)*from << 16) - (vu){0});
#endif
}

// Takes one vector of each row of weights, w, and one of each row of x. The tile's sides are constants wherever this is
// inlined, so that acc lies in registers.
INLINE void step(int outs, int rows, vf acc[LANES], const vf w[LANES], const char *x, long x_bytes) {
#pragma GCC unroll 16
  for (int i = 0; i < outs; i++)
#pragma GCC unroll 4
    for (int j = 0; j < rows; j++) acc[j * outs + i] = fused(w[i], load(x + j * x_bytes), acc[j * outs + i]);
}

INLINE void step_int4(const Product *p, int outs, int rows, vf acc[LANES], const char *w, long group, long row_groups,
                      const char *x, const float *x_scales) {
#pragma GCC unroll 16
  for (int i = 0; i < outs; i++) {
    vu8 weights = unfold_int4(w + i * p->row_bytes);
    vf scale = spread(p->scales + group + i * row_groups), min = spread(p->mins + group + i * row_groups);
#pragma GCC unroll 4
    for (int j = 0; j < rows; j++) {
      const float *own = x_scales + j * (p->x_bytes / BYTES) * 2 * LANES;
      vi whole = dot_bytes((vi){0}, weights, (vi8)load(x + j * p->x_bytes));
      vf *sum = &acc[j * outs + i];
      *sum = fused(__builtin_convertvector(whole, vf), scale * load(own), *sum);
      *sum = fused(min, load(own + LANES), *sum);
    }
  }
}

// Adds up the tile's dot products, and the bias, and off they go.
INLINE void finish(const Product *p, int outs, int rows, vf acc[LANES], long out, long row) {
  float dots[LANES];
  store(dots, sum_each(acc));
  for (int j = 0; j < rows; j++)
    for (int i = 0; i < outs; i++)
      p->result[(row + j) * p->out + out + i] = p->bias ? dots[j * outs + i] + p->bias[out + i] : dots[j * outs + i];
}

// What is left of some rows of weights, less than a vector of each.
static void __attribute__((noinline)) load_ends(vf *to, int num, const char *w, long row_bytes, long left) {
  for (int i = 0; i < num; i++) to[i] = load_part(w + i * row_bytes, left);
}

// `outs` rows of weights times `rows` rows of x.
INLINE void tile(const Product *p, enum kind kind, int outs, int rows, long out, long row) {
  const char *w = p->data + out * p->row_bytes, *x = p->x + row * p->x_bytes;
  vf acc[LANES] = {0};
  if (kind == INT4) {
    long row_groups = p->row_bytes * 2 / GROUP;
    const float *scales = p->x_scales + row * (p->x_bytes / BYTES) * 2 * LANES;
    for (long s = 0; s < p->x_bytes / BYTES; s++, w += BYTES / 2, x += BYTES, scales += 2 * LANES)
      step_int4(p, outs, rows, acc, w, out * row_groups + s * VECTOR_GROUPS, row_groups, x, scales);
  } else {
    vf vectors[LANES];
    long left = p->row_bytes;
    for (; left >= BYTES; left -= BYTES, w += BYTES, x += BYTES) {
      for (int i = 0; i < outs; i++) vectors[i] = load(w + i * p->row_bytes);
      step(outs, rows, acc, vectors, x, p->x_bytes);
    }
    if (left) {
      load_ends(vectors, outs, w, p->row_bytes, left);
      step(outs, rows, acc, vectors, x, p->x_bytes);
    }
  }
  finish(p, outs, rows, acc, out, row);
}

// Tiles are LANES / rows wide as long as that many rows of weights are left, then 1 wide.
INLINE void tiles(const Product *p, enum kind kind, int rows, long row, long begin, long end) {
  for (; begin + LANES / rows <= end; begin += LANES / rows) tile(p, kind, LANES / rows, rows, begin, row);
  for (; begin < end; begin++) tile(p, kind, 1, rows, begin, row);
}

// Rows of weights begin:end times all rows of x. The few rows of x stay in the first cache, the weights in the second.
INLINE void block(const Product *p, enum kind kind, long begin, long end) {
  long row = 0;
  for (; row + TILE_ROWS <= p->n; row += TILE_ROWS) tiles(p, kind, TILE_ROWS, row, begin, end);
  if (TILE_ROWS > 2 && row + 2 <= p->n) tiles(p, kind, 2, row, begin, end), row += 2;
  if (row < p->n) tiles(p, kind, 1, row, begin, end);
}

enum { BLOCK_BYTES = 262144 };  // of weights: they stay in a core's second cache while all rows of x pass by

static void pack_piece(void *job, long index) { pack_row(job, index); }

static void block_piece(void *job, long index) {
  const Product *p = job;
  long begin = index * p->block_rows, end = MIN(begin + p->block_rows, p->out);
  p->kind == F32 ? block(p, F32, begin, end) : block(p, INT4, begin, end);
}

// One argument that holds them all, since ctypes would take two microseconds to convert a dozen. Returns 0, or -1 if
// there is no memory.
int linear(const void *arguments) {
  Product p;
  memcpy(&p, arguments, offsetof(Product, x));
  long steps = (p.row_bytes + w_step(p.kind) - 1) / w_step(p.kind);
  long scale_bytes = p.kind == INT4 ? steps * 2 * BYTES : 0;
  p.x_bytes = steps * BYTES;
  p.x = aligned_alloc(BYTES, ROUND_UP(p.n * (p.x_bytes + scale_bytes) + 1, BYTES));
  if (!p.x) return -1;
  p.x_scales = (float *)(p.x + p.n * p.x_bytes);
  memset(p.x_scales, 0, p.n * scale_bytes);
  int threads = p.n * p.in * p.out < 100000 ? 1 : p.threads;  // to wake the others takes microseconds
  in_parallel(p.n > 4 ? threads : 1, p.n, pack_piece, &p);
  long rows = MIN(BLOCK_BYTES / p.row_bytes + 1, p.out / (threads * 4L) + 1);
  p.block_rows = ROUND_UP(rows, LANES);
  in_parallel(threads, (p.out + p.block_rows - 1) / p.block_rows, block_piece, &p);
  free(p.x);
  return 0;
}
