/* Elementwise programs: what prologues, epilogues and sweeps do to one block's piece. */
#ifndef BF_PROGRAM_H
#define BF_PROGRAM_H

#include "runtime/plan.h"

enum { BF_PIECE_PIXELS = 64 }; /* most pixels of a piece: three temporaries of 32 lanes stay in L1 */

/* A stretch of one block for a program to run over. */
typedef struct bf_stretch {
    int block;
    size_t pixel, count;          /* of the task's `over` value */
    bool owner;                   /* nobody else stores these pixels */
    int skipped;                  /* steps at the beginning that are done elsewhere */
    float *tile;                  /* BF_TILE at `pixel`, or NULL */
    ptrdiff_t tile_ld;
    float *result;                /* BF_RESULT at `pixel`, or NULL */
    ptrdiff_t result_ld;
} bf_stretch;

/* Run `program` over a stretch, piece by piece. temps: program->temps * BF_PIECE_PIXELS * BF_BLOCK floats of scratch. */
void bf_program_run(const bf_cell *cell, const bf_program *program, const bf_stretch *stretch, float *temps);
static inline size_t bf_program_scratch(const bf_program *program) { return (size_t)program->temps * BF_PIECE_PIXELS * BF_BLOCK * sizeof(float); }

/* -- Sums of a cell: each STATS and SUMS value has, per cell, rows of doubles by lane -- */
enum { BF_STATS_COUNT, BF_STATS_PIVOT, BF_STATS_S1, BF_STATS_S2, BF_STATS_ROWS }; /* x counted from a pivot near the mean */
enum { BF_SUMS_DY, BF_SUMS_DYX, BF_SUMS_ROWS };
static inline double *bf_sums_at(const bnff_run *run, int value, int rows, int cell)
{
    const bf_layout *layout = &run->plan->layouts[value];
    return (double *)(run->arena + layout->arena) + (size_t)cell * (size_t)rows * (size_t)layout->lanes;
}
/* Clear the sums of this cell that `program` adds to: every cell does so before its share of a task. */
void bf_program_clear_sums(const bf_cell *cell, const bf_program *program);

/* -- What a cell does of a task whose grid divides tiles and channel units -- */
typedef struct bf_portion {
    int pixel_cell, channel_cell;
    int tile, tile_end, unit, unit_end;
} bf_portion;
/* Clear the cell's sums and say what it does: false if nothing. */
bool bf_begin_portion(const bf_cell *cell, bf_portion *portion);

/* -- Vectors of a coefficient value, by lane -- */
enum { BF_COEF_P, BF_COEF_S, BF_COEF_T, BF_COEF_R, BF_COEF_DM, BF_COEF_ROWS }; /* DM = mean - p */
enum { BF_GRAD_C0, BF_GRAD_C1, BF_GRAD_ROWS };
/* Block b of one row; the value may be a view of other vectors. */
static inline float *bf_row_at(const bnff_run *run, int value, int row, int b)
{
    const bf_block *block = &run->plan->layouts[value].blocks[b];
    const bf_layout *owner = &run->plan->layouts[block->owner];
    return (float *)(run->arena + owner->arena) + (size_t)row * (size_t)owner->lanes + block->offset;
}

#endif
