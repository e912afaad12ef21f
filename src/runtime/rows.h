/* Rows of one channel block of an image, as a task that slides over them sees them: in storage, or computed by a prologue into a ring
 * that holds the last few, so that each row is computed once and stays near. */
#ifndef BF_ROWS_H
#define BF_ROWS_H

#include "runtime/plan.h"

typedef struct bf_rows {
    const bf_cell *cell;
    const bf_program *program;
    int block, capacity;   /* capacity: rows of the ring, or all rows in storage */
    size_t first, width;   /* pixel of the image's first row; pixels of a row */
    ptrdiff_t ld;
    float *at;             /* row r is at at + r % capacity * width * ld */
    int ready;             /* rows before this one have been there */
    float *temps;
} bf_rows;

/* Rows of `image` of block `block`. ring: room for `capacity` rows where the program is not empty. */
bf_rows bf_rows_of(const bf_cell *cell, const bf_program *program, int value, int block, int image, float *ring, int capacity, float *temps);
/* Make rows before `last` ready: the last `capacity` of them are there. */
void bf_rows_until(bf_rows *rows, int last);
static inline float *bf_row(const bf_rows *r, int row) { return r->at + (ptrdiff_t)((size_t)(row % r->capacity) * r->width) * r->ld; }

/* The lines of rows that come next, fetched while kernels work on those that are here. */
typedef struct bf_ahead {
    bf_prefetch prefetch;
    size_t fetched[2]; /* pixels of x, and of dy, that were asked for, of the block under way */
} bf_ahead;
/* Also fetch what load program `which` reads for pixels [first, last) of its input, but for those asked for before. */
void bf_ahead_rows(const bf_cell *cell, bf_ahead *ahead, int which, int block, size_t first, size_t last);
/* Spread the lines over so many steps of kernels: in bursts they would fill the miss buffers, and loads wait. None, where it would be a burst. */
void bf_ahead_pace(bf_ahead *ahead, size_t steps);

/* Divide `images` of `height` rows, and `units` channel blocks, among the plan's cells. */
void bf_divide_images(const bnff_plan *plan, bf_grid *grid, int images, int height, int units);

#endif
